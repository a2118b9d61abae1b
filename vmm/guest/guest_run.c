/*
 * Commands whose output is collected; see guest_run.h. The guest decides how much it writes, and when it ends: each stream is
 * closed when it has more than EXEC_OUTPUT_MAX bytes, and what is waited for has a limit of time: first the guest, or the end of
 * its command; after SIGKILL, that again; then EOF of the streams, which are not ordered with init's messages.
 */
#include "vmm/guest/guest_run.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtio/vsock.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/printable.h"
#include "vmm/base/util.h"
#include "vmm/guest/guest_client_parts.h"

#define GRACE_MS 600  /* after SIGKILL, as in `mayfly exec` */
#define DRAIN_MS 1000 /* for EOF */

struct guest_run {
	bool over; /* the command, as init says */
	uint64_t end_ms;
	int fd[STDIO_RELAY_STREAMS]; /* non-blocking; or -1: closed */
	char *input;
	size_t sent; /* of it */
	struct exec_result result;
};

static void close_stream(struct guest_run *r, unsigned i)
{
	if (r->fd[i] >= 0)
		close(mf_take_fd(&r->fd[i]));
}

void guest_run_free(struct guest_run *r)
{
	for (unsigned i = 0; r && i < STDIO_RELAY_STREAMS; i++)
		close_stream(r, i);
	if (r)
		free(r->input);
	free(r);
}

/* The command's text, with what it has of the first one, as init gets it. Returns its length or -errno. */
static ssize_t make_text(const struct guest_client *a, const struct config_command *command, char **ret)
{
	size_t len, max;
	char *text = init_text_command(command, NULL, &len), *whole;

	*ret = text;
	max = text ? len + a->defaults.len : 0;
	whole = realloc(text, max + 1);
	if (!text || !whole)
		return -ENOMEM;
	*ret = whole;
	return init_text_complete(whole, len, MF_MIN(max, (size_t)INIT_COMMAND_MAX), &a->defaults);
}

static int start(struct guest_client *a, struct control_client *c, const struct exec_request *request, struct err *e)
{
	int others[STDIO_RELAY_STREAMS];
	MF_FREE char *text = NULL;
	ssize_t len = make_text(a, request->command, &text);

	c->run->input = strdup(request->input ? request->input : "");
	if (len < 0 || !c->run->input)
		return err_neg(e, len < 0 ? (int)len : -ENOMEM, "command");
	if (stdio_relay_make_pairs(c->run->fd, others, false, e) < 0)
		return e->code;
	return guest_client_run(a, c, others, text, (size_t)len, e);
}

int guest_client_exec(struct guest_client *a, int fd, const struct exec_request *request, struct err *e)
{
	struct control_client *c = guest_client_free_number(a);
	unsigned num = 0;

	for (unsigned i = 0; i < MF_ARRAY_SIZE(a->client); i++)
		num += a->client[i].run != NULL;
	if (a->exited || (request->command && !a->hello))
		return err_set(e, -EAGAIN, "%s",
			       a->exited ? "the guest is about to end" : "the guest is not ready yet");
	if (!c || num == EXEC_AT_ONCE)
		return err_set(e, -EBUSY, "%u requests wait already", num);
	c->run = calloc(1, sizeof(*c->run));
	if (!c->run)
		return err_set(e, -ENOMEM, "out of memory");
	*c->run = (struct guest_run){ .end_ms = clock_now_ms() + request->timeout_ms, .fd = { -1, -1, -1 } };
	c->run->result.command = request->command;
	if (request->command && start(a, c, request, e) < 0) {
		guest_run_free(mf_take_ptr(&c->run));
		return e->code;
	}
	c->fd = fd;
	return 0;
}

static void tell(struct guest_client *a, struct control_client *c)
{
	a->ops->ran(a->ctx, mf_take_fd(&c->fd), &c->run->result);
	c->hung_up = true; /* it has what it waited for, or SIGKILL */
	guest_run_free(mf_take_ptr(&c->run));
}

void guest_run_exited(struct guest_run *r, const struct init_msg *msg, const char *payload)
{
	r->over = true;
	r->end_ms = clock_now_ms() + DRAIN_MS;
	r->result.status = msg->value & 0xff;
	r->result.signalled = msg->flags & INIT_SIGNALLED && !r->result.timed_out; /* that one is ours */
	r->result.oom = msg->flags & INIT_OOM;
	printable_guest(r->result.text, sizeof(r->result.text), payload);
}

unsigned guest_run_poll_fds(const struct guest_run *r, struct pollfd *fds)
{
	unsigned n = 0;

	for (unsigned i = 0; i < STDIO_RELAY_STREAMS; i++)
		if (r->fd[i] >= 0)
			fds[n++] = (struct pollfd){ .fd = r->fd[i], .events = i ? POLLIN : POLLOUT };
	return n;
}

int guest_run_timeout(const struct guest_run *r, int max_ms)
{
	uint64_t now = clock_now_ms(), left = r->end_ms > now ? r->end_ms - now : 0;

	return max_ms < 0 || left < (uint64_t)max_ms ? (int)left : max_ms;
}

/* Its end is that of the stream, which the guest does not write to. */
static void send_input(struct guest_run *r)
{
	ssize_t n = write(r->fd[0], r->input + r->sent, strlen(r->input + r->sent));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	r->sent += n > 0 ? (size_t)n : 0;
	if (n < 0 || !r->input[r->sent])
		close_stream(r, 0);
}

static void take_output(struct guest_run *r, unsigned i)
{
	struct exec_output *o = &r->result.output[i - 1];
	ssize_t n = read(r->fd[i], o->data + o->len, sizeof(o->data) - o->len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	o->len += n > 0 ? (size_t)n : 0;
	o->cut = o->len > EXEC_OUTPUT_MAX;
	o->len -= o->cut;
	if (n <= 0 || o->cut)
		close_stream(r, i);
}

void guest_run_serve(struct guest_client *a, struct control_client *c, const struct pollfd *fds, unsigned num)
{
	struct guest_run *r = c->run;
	const bool late = clock_now_ms() >= r->end_ms;

	for (unsigned k = 0; k < num; k++)
		for (unsigned i = 0; fds[k].revents && i < STDIO_RELAY_STREAMS; i++)
			if (r->fd[i] == fds[k].fd) {
				i ? take_output(r, i) : send_input(r);
				break;
			}
	if (r->result.command ? r->over && (late || (r->fd[1] < 0 && r->fd[2] < 0)) : a->hello) {
		tell(a, c);
	} else if (late && r->result.command && !r->result.timed_out) {
		r->result.timed_out = true;
		r->end_ms = clock_now_ms() + GRACE_MS;
		(void)guest_client_send(a, INIT_MSG_SIGNAL, c->number, SIGKILL); /* if it fails, GRACE_MS ends it */
	} else if (late) {
		r->result.timed_out = true;
		tell(a, c);
	}
}
