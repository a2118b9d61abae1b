/*
 * A member of a pool whose guest runs before it has a client.
 *
 * Theory of operation. init hears that its machine was restored, and that a command comes. With that, the snapshot's own
 * command goes on without its streams. Then init is given a command that does not exist: its end says that init has done all
 * that it does after a restore, and the guest has touched what it needs to start one. From there on the guest is idle.
 *
 * A client's command is number 0, of which the streams and the relay's threads are there. init gets it behind a second
 * INIT_MSG_RESTORED, which it carries out first: the clock, random numbers, the host name, and the hook of the root.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "virtio/vsock.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/guest/guest_client_parts.h"

/* As init reads it: an argument, and there is no such program. */
static const char trial[] = "a/" INIT_DIR "/none";

int guest_claim_init(struct guest_client *a, const struct config *c, struct err *e)
{
	a->claim = (struct guest_claim){ .fd = { -1, -1, -1 }, .others = { -1, -1, -1 }, .trial_fd = { -1, -1, -1 } };
	if (!c->pool_runs)
		return 0;
	a->claim.waits = true;
	if (getrandom(a->claim.random, sizeof(a->claim.random), GRND_NONBLOCK) != (ssize_t)sizeof(a->claim.random))
		return err_sys(e, "getrandom");
	return 0;
}

int guest_claim_streams(struct guest_client *a, const int fd[STDIO_RELAY_STREAMS], int others[STDIO_RELAY_STREAMS],
			struct err *e)
{
	if (!a->claim.waits)
		return guest_client_lend_streams(a, 0, others, e);
	a->relay.later = true;
	memcpy(a->claim.fd, fd, sizeof(a->claim.fd));
	memcpy(a->claim.others, others, sizeof(a->claim.others));
	return 0;
}

void guest_claim_hello(struct guest_client *a)
{
	struct control_client *c = guest_client_free_number(a);
	int others[STDIO_RELAY_STREAMS];
	struct err e;

	if (!a->claim.waits || a->claim.tried || !c)
		return;
	a->claim.tried = true;
	if (stdio_relay_make_pairs(a->claim.trial_fd, others, false, &e) < 0 ||
	    guest_client_run(a, c, others, trial, sizeof(trial), &e) < 0) {
		a->ops->failed(a->ctx, e.text);
		return;
	}
	a->claim.trial = c;
	c->hung_up = true; /* it has no client whose end would be one */
}

void guest_claim_ended(struct guest_client *a, const struct control_client *c)
{
	if (c != a->claim.trial)
		return;
	for (unsigned i = 0; i < STDIO_RELAY_STREAMS; i++)
		close(mf_take_fd(&a->claim.trial_fd[i]));
	a->claim.trial = NULL;
	a->ops->warm(a->ctx);
}

void guest_client_claim_fds(const struct guest_client *a, int *ret_from, int *ret_to)
{
	*ret_from = a->claim.fd[0];
	*ret_to = a->claim.fd[1];
}

int guest_client_claim(struct guest_client *a, const struct config *c, struct unix_socket *control, struct err *e)
{
	const bool tty = c->command.terminal;
	int r;

	a->claim.waits = false;
	unix_socket_move(&a->name, control);
	if (c->control && init_text_defaults_init(&a->defaults, &c->command) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	for (unsigned i = 1; tty && i < STDIO_RELAY_STREAMS; i++)
		close(mf_take_fd(&a->claim.others[i])); /* a terminal's goes both ways */
	r = guest_client_lend_streams(a, 0, a->claim.others, e);
	if (r < 0)
		return r;
	r = restored_claim(&a->restored, c, a->claim.random, &a->conn);
	explicit_bzero(a->claim.random, sizeof(a->claim.random));
	stdio_relay_open(&a->relay, tty);
	return r < 0 ? err_neg(e, r, "the guest's init does not listen") : 0;
}
