/*
 * The monitor's client of init in the guest; see guest_client.h.
 *
 * Theory of operation. init connects by vsock. For each port that it may connect to, the
 * device has been lent one end of a socket pair. The other end of the control connection is
 * here (init_conn.c). Those of the streams of command 0 are in the relay (stdio_relay.c).
 * For each further command, `mayfly exec` connects to the control socket and receives its
 * ends of the streams as descriptors. Its data never passes through here:
 *
 *	mayfly exec -- INIT_MSG_RUN --> mayfly: pairs made, lent to the guest -- INIT_MSG_RUN --> init
 *	            <- INIT_MSG_RUN + ends of the streams --
 *	            <- INIT_MSG_STARTED, INIT_MSG_EXIT --               <- the same --           init
 *	            -- INIT_MSG_SIGNAL, INIT_MSG_SIZE -->               -- the same -->          init
 *
 * Between mayfly and `mayfly exec` a message is a packet (SOCK_SEQPACKET). A client that goes away hangs up: SIGHUP. The first
 * to notice closes it; hang_up tells the guest, of each command that runs without its client. Its number stays in use until
 * init says that the command is over.
 *
 * Command 0 is over when init has said so and all of its output is written; the streams and the control connection are
 * not ordered among each other.
 */
#include "vmm/guest/guest_client_parts.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/vsock.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/printable.h"
#include "vmm/base/unix_socket.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/guest/control.h"
#include "vmm/guest/init_conn.h"
#include "vmm/guest/stdio_relay.h"

#define NO_INIT "this VM was started without a command: its guest has an init of its own, which takes none"
#define ACCEPT_PAUSE_MS 1000 /* or until another client has gone */

int guest_client_send(struct guest_client *a, enum init_msg_type type, unsigned number, uint32_t value)
{
	const struct init_msg msg = { .type = type, .number = number, .value = value };
	int r = init_conn_send(&a->conn, &msg, NULL);

	if (r < 0)
		log_debug("message %d to init: %s", type, strerror(-r));
	return r;
}

/* Lends a descriptor, which is the device's or closed on return. */
static int lend(struct guest_client *a, uint32_t port, int fd, struct err *e)
{
	int r = vsock_lend(a->vsock, port, fd);

	if (r < 0)
		close(fd);
	return r < 0 ? err_neg(e, r, "lend the guest a socket") : 0;
}

int guest_client_lend_streams(struct guest_client *a, unsigned number, int others[STDIO_RELAY_STREAMS], struct err *e)
{
	int r = 0;

	for (unsigned i = 0; i < STDIO_RELAY_STREAMS; i++) {
		if (others[i] < 0)
			continue;
		if (r == 0)
			r = lend(a, INIT_STREAM_PORT(number, i), others[i], e);
		else
			close(others[i]);
	}
	return r;
}

static int start_relay(struct guest_client *a, bool tty, struct err *e)
{
	int fd[STDIO_RELAY_STREAMS], others[STDIO_RELAY_STREAMS], r;

	a->relay.guard = a->ops->guard;
	a->relay.on_output = a->ops->output;
	a->relay.ctx = a->ctx;
	if (a->until.when == CONFIG_UNTIL_TEXT)
		a->relay.until = &a->until;
	r = stdio_relay_make_pairs(fd, others, tty, e);
	if (!r)
		r = guest_claim_streams(a, fd, others, e);
	return r ? r : stdio_relay_start(&a->relay, tty, fd, e);
}

static int start_conn(struct guest_client *a, struct err *e)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return err_sys(e, "make a socket pair");
	if (init_conn_init(&a->conn, pair[0]) < 0) {
		close(pair[1]);
		return err_set(e, -ENOMEM, "out of memory");
	}
	return lend(a, INIT_CONTROL_PORT, pair[1], e);
}

static void close_client(struct control_client *c)
{
	control_client_close(c);
	guest_run_free(mf_take_ptr(&c->run));
}

int guest_client_new(struct guest_client **ret, struct virtio_dev *vsock, const struct config *c, int snapshot_fd,
		     const struct guest_client_ops *ops, void *ctx, struct err *e)
{
	struct guest_client *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return err_set(e, -ENOMEM, "command: out of memory");
	*a = (struct guest_client){ .vsock = vsock, .ops = ops, .ctx = ctx, .conn.fd = -1, .name = UNIXNAME_INIT };
	a->alone = c->command.args.num == 0;
	a->num_live = c->num_live;
	a->relay.changed_fd = -1;
	for (unsigned i = 0; i < MF_ARRAY_SIZE(a->client); i++)
		a->client[i] = (struct control_client){ .fd = -1, .number = i + 1 };
	if (snapshot_fd >= 0) {
		a->snapper = &a->client[MF_ARRAY_SIZE(a->client) - 1];
		a->snapper->fd = snapshot_fd;
		until_init(&a->until, c, clock_now_ms());
	}
	*ret = a;
	r = guest_hold_init(a, c) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
	if (!r && !a->alone)
		r = start_conn(a, e);
	if (!r)
		r = restored_init(&a->restored, c, e) < 0 ? e->code : guest_claim_init(a, c, e);
	if (!r && !a->alone)
		r = start_relay(a, c->command.terminal, e);
	if (r < 0)
		return err_wrap(e, "command");
	if (!c->control && !c->api && snapshot_fd < 0 && !a->claim.waits)
		return 0;
	/* Before there is a filter, which allows no mmap. */
	a->payload = malloc(INIT_COMMAND_MAX + 1);
	if (!a->payload || init_text_defaults_init(&a->defaults, &c->command) < 0)
		return err_set(e, -ENOMEM, "command: out of memory");
	r = c->control ? control_listen(&a->name, c->control, e) : 0;
	return r < 0 ? err_wrap(e, "control '%s'", c->control) : 0;
}

void guest_client_free(struct guest_client *a)
{
	if (!a)
		return;
	init_conn_done(&a->conn);
	restored_done(&a->restored);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(a->client); i++)
		close_client(&a->client[i]);
	unix_socket_done(&a->name);
	free(a->payload);
	a->payload = NULL;
	init_text_defaults_done(&a->defaults);
	free(a->held);
	a->held = NULL;
	/* The relay's threads use a until the process ends, so it is not freed. */
}

static void tell_if_over(struct guest_client *a)
{
	if (!a->exited || a->told || !stdio_relay_is_done(&a->relay))
		return;
	a->told = true;
	a->ops->exited(a->ctx, a->status, a->flags, a->text);
}

static void take_exit(struct guest_client *a, const struct init_msg *msg, const char *text)
{
	if (a->exited)
		return;
	a->exited = true;
	a->status = msg->value & 0xff;
	a->flags = msg->flags;
	printable_guest(a->text, sizeof(a->text), text);
	/* Of a restored guest, whose command had closed it before the snapshot: nobody else ends that stream. */
	vsock_revoke(a->vsock, INIT_STREAM_PORT(0, 0), STDIO_RELAY_STREAMS);
	tell_if_over(a);
}

static struct control_client *client_of(struct guest_client *a, uint32_t number)
{
	return number >= 1 && number <= MF_ARRAY_SIZE(a->client) ? &a->client[number - 1] : NULL;
}

/* A command of `mayfly exec` has started or ended. */
static void take_of_client(struct guest_client *a, const struct init_msg *msg, const char *payload)
{
	struct control_client *c = client_of(a, msg->number);

	if (!c || !c->running)
		return; /* the guest invents a command */
	if (!c->run)
		control_client_tell(c, msg, payload);
	if (msg->type == INIT_MSG_EXIT) {
		if (c->run)
			guest_run_exited(c->run, msg, payload);
		vsock_revoke(a->vsock, INIT_STREAM_PORT(c->number, 0), STDIO_RELAY_STREAMS);
		c->running = c->hung_up = false;
		guest_claim_ended(a, c);
	}
}

/* Tells a client that the guest takes commands, once it does. */
static void answer_waiting(struct guest_client *a, struct control_client *c)
{
	static const struct init_msg ready = { .type = INIT_MSG_HELLO };

	c->waits = !a->hello && !a->exited && !a->alone;
	if (a->alone)
		control_client_refuse(c, NO_INIT);
	else if (a->exited)
		control_client_refuse(c, "the guest is about to end");
	else if (a->hello)
		control_client_tell(c, &ready, NULL);
}

/* Messages that the channel has no room for are sent when there is room. */
static void hang_up(struct guest_client *a)
{
	for (unsigned i = 0; i < MF_ARRAY_SIZE(a->client); i++) {
		struct control_client *c = &a->client[i];

		if (c->running && c->fd < 0 && !c->hung_up)
			c->hung_up = guest_client_send(a, INIT_MSG_SIGNAL, c->number, SIGHUP) != -ENOBUFS;
	}
}

/* The command runs, or has run; or all is ready for it. */
static void start(struct guest_client *a)
{
	if (!a->started && !a->claim.waits) /* or the guest invents it */
		a->ops->started(a->ctx);
	a->started = !a->claim.waits;
	guest_client_resize(a);
}

static void take_message(void *ctx, const struct init_msg *msg, const char *payload)
{
	struct guest_client *a = ctx;

	switch (msg->type) {
	case INIT_MSG_HELLO:
		a->ops->mark(a->ctx, INIT_MARK_INIT); /* one of a restored guest sends no mark of its own */
		/* Before the commands of clients. */
		if (!restored_tell(&a->restored, msg, &a->conn))
			a->ops->failed(a->ctx,
				       "its snapshot was taken before its init had started: restore it without a "
				       "COMMAND");
		a->hello = true;
		guest_claim_hello(a);
		for (unsigned i = 0; i < MF_ARRAY_SIZE(a->client); i++)
			if (a->client[i].waits)
				answer_waiting(a, &a->client[i]);
		break;
	case INIT_MSG_WARM:
		start(a);
		a->until.warm = true;
		break;
	case INIT_MSG_HELD:
		guest_snapshot_held(a);
		break;
	case INIT_MSG_MARK:
		if (msg->value <= INIT_MARK_WAITS)
			a->ops->mark(a->ctx, (enum init_mark)msg->value);
		break;
	case INIT_MSG_STARTED:
		if (msg->number) {
			take_of_client(a, msg, payload);
		} else {
			start(a);
		}
		break;
	case INIT_MSG_EXIT:
		if (msg->number)
			take_of_client(a, msg, payload);
		else
			take_exit(a, msg, payload);
		break;
	case INIT_MSG_FAILED:
		if (a->exited)
			break; /* the command has run: its status stands, whenever its output ends */
		printable_guest(a->text, sizeof(a->text), payload);
		a->ops->failed(a->ctx, a->text);
		break;
	default:
		log_debug("init sent a message of type %u", msg->type);
	}
}

int guest_client_run(struct guest_client *a, struct control_client *c, int others[STDIO_RELAY_STREAMS],
		     const char *text, size_t len, struct err *e)
{
	const struct init_msg run = { .type = INIT_MSG_RUN, .number = c->number, .len = (uint32_t)len };
	int r = guest_client_lend_streams(a, c->number, others, e);

	if (!r && init_conn_send(&a->conn, &run, text) < 0)
		r = err_set(e, -ENOBUFS, "the guest does not listen");
	if (r < 0)
		vsock_revoke(a->vsock, INIT_STREAM_PORT(c->number, 0), STDIO_RELAY_STREAMS);
	c->running = r == 0;
	c->hung_up = false;
	return r;
}

/* Makes the streams of a client's command, and asks the guest to run it. */
static void run_for_client(struct guest_client *a, struct control_client *c, const struct init_msg *msg)
{
	int fd[STDIO_RELAY_STREAMS], others[STDIO_RELAY_STREAMS];
	ssize_t len;
	struct err e;
	int r;

	if (!a->hello || a->exited) {
		control_client_refuse(c, a->alone  ? NO_INIT :
					 a->exited ? "the guest is about to end" :
						     "the guest is not ready yet (--wait waits for it)");
		return;
	}
	len = init_text_complete(a->payload, msg->len, INIT_COMMAND_MAX, &a->defaults);
	r = len < 0 ? err_neg(&e, (int)len, "add the environment of the first command") :
		      stdio_relay_make_pairs(fd, others, msg->value, &e);
	if (r < 0) {
		control_client_refuse(c, e.text);
		return;
	}
	if (guest_client_run(a, c, others, a->payload, (size_t)len, &e) < 0)
		control_client_refuse(c, e.text);
	else
		control_client_accept(c, fd);
	for (unsigned i = 0; i < STDIO_RELAY_STREAMS; i++)
		if (fd[i] >= 0)
			close(fd[i]);
}

static void serve_client(struct guest_client *a, struct control_client *c)
{
	struct init_msg msg;
	int r = c->run ? -EPIPE : control_client_receive(c, &msg, a->payload);

	if (r == -EAGAIN)
		return;
	if (r < 0) {
		close_client(c);
		if (c == a->snapper)
			a->ops->snapper_left(a->ctx);
		guest_snapshot_over(a, c, false);
		a->accept_after_ms = 0; /* a descriptor is free */
	} else if (msg.type == CONTROL_MSG_INFO && a->ops->info) {
		r = a->ops->info(a->ctx, a->payload, CONTROL_INFO_MAX);
		control_client_inform(c, a->payload, r);
	} else if (msg.type == CONTROL_MSG_SNAPSHOT) {
		guest_snapshot_take(a, c, msg.value);
	} else if (msg.type == CONTROL_MSG_STOP && !c->snaps) {
		guest_snapshot_over(a, c, true);
	} else if (msg.type == CONTROL_MSG_START) {
		guest_hold_start(a, c);
	} else if (msg.type == CONTROL_MSG_SIGNAL) {
		guest_hold_signal(a, c, msg.value);
	} else if (msg.type == CONTROL_MSG_WAIT && !c->running) {
		answer_waiting(a, c);
	} else if (msg.type == INIT_MSG_RUN && !c->running) {
		run_for_client(a, c, &msg);
	} else if ((msg.type == INIT_MSG_SIGNAL || msg.type == INIT_MSG_SIZE) && c->running) {
		(void)guest_client_send(a, (enum init_msg_type)msg.type, c->number, msg.value);
	}
}

struct control_client *guest_client_free_number(struct guest_client *a)
{
	for (unsigned i = 0; i < MF_ARRAY_SIZE(a->client); i++)
		if (a->client[i].fd < 0 && !a->client[i].running)
			return &a->client[i];
	return NULL;
}

static void accept_client(struct guest_client *a)
{
	struct control_client *free_one = guest_client_free_number(a);
	int r;

	r = free_one ? control_client_open(free_one, a->name.fd) : control_turn_away(a->name.fd);
	if (r != -EMFILE && r != -ENFILE && r != -ENOMEM && r != -ENOBUFS)
		return; /* with any other error, the client has disconnected already */
	if (!a->accept_warned)
		log_warn("a client of the control socket has to wait: %s; continuing", strerror(-r));
	a->accept_warned = true;
	a->accept_after_ms = clock_now_ms() + ACCEPT_PAUSE_MS;
}

static uint64_t accept_pause_ms(const struct guest_client *a)
{
	uint64_t now = a->accept_after_ms ? clock_now_ms() : 0;

	return a->accept_after_ms > now ? a->accept_after_ms - now : 0;
}

int guest_client_timeout(const struct guest_client *a, int max_ms)
{
	uint64_t pause = a ? accept_pause_ms(a) : 0;

	if (a && a->snapper && a->snapper->later && !a->hold_sent && !a->exited)
		max_ms = until_timeout(&a->until, clock_now_ms(), max_ms);
	for (unsigned i = 0; a && i < MF_ARRAY_SIZE(a->client); i++)
		if (a->client[i].run)
			max_ms = guest_run_timeout(a->client[i].run, max_ms);
	return pause && (max_ms < 0 || pause < (uint64_t)max_ms) ? (int)pause : max_ms;
}

unsigned guest_client_poll_fds(const struct guest_client *a, struct pollfd *fds)
{
	/* A client that cannot be accepted would keep poll(2) from waiting: it waits instead. */
	bool paused = accept_pause_ms(a) > 0;
	unsigned n = 0;

	fds[n++] = (struct pollfd){ .fd = a->conn.fd, .events = init_conn_events(&a->conn) };
	fds[n++] = (struct pollfd){ .fd = a->relay.changed_fd, .events = POLLIN };
	fds[n++] = (struct pollfd){ .fd = paused ? -1 : a->name.fd, .events = POLLIN };
	for (unsigned i = 0; i < MF_ARRAY_SIZE(a->client); i++) {
		const struct control_client *c = &a->client[i];

		if (c->fd >= 0) /* of one with a run, only the end matters */
			fds[n++] = (struct pollfd){ .fd = c->fd, .events = c->run ? 0 : POLLIN };
		if (c->run)
			n += guest_run_poll_fds(c->run, fds + n);
	}
	return n;
}

static void serve_relay(struct guest_client *a)
{
	uint64_t count;

	if (read(a->relay.changed_fd, &count, sizeof(count)) != sizeof(count))
		return;
	if (atomic_exchange(&a->relay.foreground, false) && a->relay.tty)
		a->ops->foreground(a->ctx);
	if (atomic_load(&a->relay.left))
		a->ops->left(a->ctx);
	tell_if_over(a);
}

void guest_client_serve(struct guest_client *a, const struct pollfd *fds, unsigned num)
{
	if (fds[0].revents && init_conn_serve(&a->conn, take_message, a) == -EPROTO)
		log_warn("init in the guest sent what is no message; continuing without it");
	if (fds[1].revents)
		serve_relay(a);
	for (unsigned i = 3; i < num; i++) {
		for (unsigned j = 0; fds[i].revents && j < MF_ARRAY_SIZE(a->client); j++) {
			if (a->client[j].fd == fds[i].fd) {
				serve_client(a, &a->client[j]);
				break;
			}
		}
	}
	for (unsigned i = 0; i < MF_ARRAY_SIZE(a->client); i++)
		if (a->client[i].run)
			guest_run_serve(a, &a->client[i], fds + 3, num - 3);
	/* Last, so that no descriptor in fds has been reused. */
	if (fds[2].revents)
		accept_client(a);
	hang_up(a);
	guest_snapshot_check(a);
}

bool guest_client_signal(struct guest_client *a, int signo)
{
	return a->started && !a->exited && guest_client_send(a, INIT_MSG_SIGNAL, 0, (uint32_t)signo) == 0;
}

void guest_client_resize(struct guest_client *a)
{
	if (a->relay.tty && a->started)
		(void)guest_client_send(a, INIT_MSG_SIZE, 0, stdio_relay_tty_size());
}

bool guest_client_stop(struct guest_client *a, int signo, unsigned ms)
{
	return a->hello && guest_client_send(a, INIT_MSG_STOP, (unsigned)signo, ms) == 0;
}

bool guest_client_finish(struct guest_client *a, unsigned timeout_ms)
{
	stdio_relay_end(&a->relay, timeout_ms);
	return !atomic_load(&a->relay.lost);
}
