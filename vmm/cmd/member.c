/*
 * A member of a pool; see member.h.
 *
 * Theory of operation. It waits at POOL_MEMBER_FD for a byte of the pool, which brings the connection of a client, and then for
 * the client's claim. EOF at either means that nobody will claim it, and it leaves: the pool has ended, or the client.
 *
 * Without a jail, the VM's process does that. With one, the process outside does: it opens what has a name, and passes the
 * claim on. Both add the claim to their copies of the configuration.
 *
 *	pool -- connection --> outside -- claim, log, control socket --> inside
 *	     <------ ready ---         <------------------------- ready --
 */
#include "vmm/cmd/member.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdio.h"
#include "vmm/base/report.h"
#include "vmm/base/unix_socket.h"
#include "vmm/base/util.h"
#include "vmm/cmd/member_claim.h"
#include "vmm/cmd/restore.h"
#include "vmm/cmd/run.h"
#include "vmm/config/config.h"
#include "vmm/guest/control.h"
#include "vmm/helper/helpers.h"
#include "vmm/jail/jail_group.h"
#include "vmm/jail/parent.h"
#include "vmm/pool/claim.h"
#include "vmm/pool/serve.h"
#include "vmm/process/ending.h"
#include "vmm/records/record.h"

#define CLAIM_WAIT_S 5 /* for the claim of a client that has connected */

enum { OUTSIDE, INSIDE };

static struct member {
	struct jail_member hooks; /* first */
	bool on;
	struct config *config;
	struct jail_parent *parent;
	int (*reopen_log)(const struct config *c, struct err *e);
	char **shared; /* our own options, which are the pool's */
	unsigned num_shared;
	int pool_fd, pair[2];
	struct pool_claim claim;
} the_member = { .hooks.client_fd = -1, .pool_fd = POOL_MEMBER_FD, .pair = { -1, -1 } };

static struct member *member_of(struct jail_member *hooks)
{
	return MF_CONTAINER_OF(hooks, struct member, hooks);
}

static void tell_ready(int fd)
{
	(void)send(fd, "", 1, MSG_NOSIGNAL); /* if it has gone, the next receive says so */
}

/* Waits for a client. Returns its connection, or -ECANCELED: there will be none. */
static int await_client(const struct member *m)
{
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = sizeof(byte) };
	unsigned num = 1;
	int client = -1;

	return fdio_receive_packet(m->pool_fd, &iov, 1, &client, &num) == 1 && num == 1 ? client : -ECANCELED;
}

static int note_claim(const struct member *m, struct err *e)
{
	const struct jail_group *g = m->parent->group;

	if (record_claimed(m->parent->record, m->config, e) < 0)
		return err_wrap(e, "name '%s'", m->config->name);
	if (g->made)
		record_add_text(m->parent->record, "cgroup", g->cgroup.dir);
	return 0;
}

/*
 * Reads the claim of the client that has come, and makes it that of this process. Returns 0, or -errno with e set, and then the
 * client knows why, if it is still there.
 */
static int take_claim(struct member *m, int client, struct err *e)
{
	const struct timeval limit = { .tv_sec = CLAIM_WAIT_S };
	int r;

	(void)setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)); /* cannot fail on a socket */
	r = pool_claim_receive(client, &m->claim, 0, e);
	if (r == 0)
		return err_set(e, -ECANCELED, "the client has gone");
	if (r > 0)
		r = member_claim_check(m->config, &m->claim, m->shared, m->num_shared, e);
	if (!r)
		r = member_claim_apply(m->config, &m->claim, &m->parent->limit_ms, e);
	if (!r)
		r = m->reopen_log(m->config, e);
	if (!r)
		r = note_claim(m, e);
	if (r < 0)
		pool_answer_send(client, POOL_REFUSED, 0, e->text);
	return r;
}

/* From here on its end is the client's affair. */
static void be_taken(struct member *m, int client)
{
	pool_answer_send(client, POOL_TAKEN, 0, NULL);
	m->hooks.client_fd = client;
	pool_claim_done(&m->claim);
}

/* The pool may start another now. */
static void let_go(struct jail_member *hooks)
{
	struct member *m = member_of(hooks);

	if (m->pool_fd >= 0)
		close(mf_take_fd(&m->pool_fd));
}

/* Nobody has claimed it. There is no other thread yet. */
static void __attribute__((noreturn)) leave(const struct member *m)
{
	helpers_end(m->parent->helpers);
	record_drop(m->parent->record);
	_exit(STATUS_OK);
}

static int settle(struct jail_member *hooks, struct err *e)
{
	struct member *m = member_of(hooks);
	int client;

	tell_ready(m->pool_fd);
	client = await_client(m);
	if (client < 0 || take_claim(m, client, e) < 0 || member_claim_store(m->config, &m->claim, e) < 0)
		leave(m);
	be_taken(m, client);
	return 0;
}

/* In a jail. */

static int settle_inside(struct jail_member *hooks, struct err *e)
{
	struct member *m = member_of(hooks);
	int r;

	tell_ready(m->pair[INSIDE]);
	if (pool_claim_receive(m->pair[INSIDE], &m->claim, POOL_LOG | POOL_CONTROL, e) <= 0)
		_exit(STATUS_OK); /* the process outside says why, if there is something to say */
	close(mf_take_fd(&m->pair[INSIDE]));
	r = member_claim_apply(m->config, &m->claim, &m->parent->limit_ms, e);
	if (!r)
		r = member_claim_store(m->config, &m->claim, e);
	pool_claim_done(&m->claim);
	return r;
}

/*
 * Waits until there is something to read at fd. Returns 0; or -ECANCELED if the end was asked for, or the jail has ended. SIGCHLD
 * comes again later: a program that serves the VM may have ended.
 */
static int await_outside(const struct member *m, int fd)
{
	struct pollfd fds[] = {
		{ .fd = fd, .events = POLLIN },
		{ .fd = m->parent->signal_fd, .events = POLLIN },
		{ .fd = m->pair[OUTSIDE], .events = POLLIN },
	};
	bool child = false;

	while (!ending_was_asked() && !fds[0].revents && !fds[2].revents) {
		if (poll(fds, MF_ARRAY_SIZE(fds), -1) < 0)
			fds[0].revents = fds[1].revents = fds[2].revents = 0; /* EINTR */
		if (fds[1].revents)
			child |= ending_take(m->parent->signal_fd) == SIGCHLD;
	}
	if (child)
		(void)kill(getpid(), SIGCHLD); /* cannot fail */
	return !ending_was_asked() && fds[0].revents & POLLIN ? 0 : -ECANCELED;
}

/* Until the VM's process in the jail is ready. */
static int await_inside(const struct member *m)
{
	char byte;

	if (await_outside(m, m->pair[OUTSIDE]) < 0 || recv(m->pair[OUTSIDE], &byte, sizeof(byte), MSG_DONTWAIT) != 1)
		return -ECANCELED;
	tell_ready(m->pool_fd);
	return 0;
}

static int pass_on(struct member *m, struct unix_socket *control, struct err *e)
{
	const struct config *c = m->config;

	if (c->control && control_listen(control, c->control, e) < 0)
		return err_wrap(e, "control '%s'", c->control);
	if (member_claim_pass(m->pair[OUTSIDE], c, &m->claim, c->control ? control->fd : -1, e) < 0)
		return e->code;
	if (control->fd >= 0)
		close(mf_take_fd(&control->fd)); /* its name stays ours */
	close(mf_take_fd(&m->pair[OUTSIDE]));
	return 0;
}

static int settle_outside(struct jail_member *hooks, struct unix_socket *control, struct err *e)
{
	struct member *m = member_of(hooks);
	int client;

	close(mf_take_fd(&m->pair[INSIDE]));
	if (await_inside(m) < 0 || await_outside(m, m->pool_fd) < 0 || (client = await_client(m)) < 0)
		return err_set(e, -ECANCELED, "nobody has claimed it");
	if (take_claim(m, client, e) < 0)
		return err_set(e, -ECANCELED, "it was refused"); /* the client says why */
	if (pass_on(m, control, e) < 0) {
		pool_answer_send(client, POOL_REFUSED, 0, e->text);
		return err_set(e, -ECANCELED, "it was refused");
	}
	be_taken(m, client);
	return 0;
}

/* For run.c. */

int member_begin(struct config *c, struct jail_parent *parent, int (*reopen_log)(const struct config *c, struct err *e),
		 struct err *e)
{
	struct member *m = &the_member;

	if (!m->on)
		return 0;
	m->config = c;
	m->parent = parent;
	m->reopen_log = reopen_log;
	m->hooks.settle = c->jail.on ? settle_inside : settle;
	m->hooks.settle_outside = settle_outside;
	m->hooks.running = let_go;
	if (pool_claim_init(&m->claim) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	if (c->jail.on && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, m->pair) < 0)
		return err_sys(e, "make a socket pair");
	parent->member = &m->hooks;
	return 0;
}

int member_kept_fd(void)
{
	return the_member.pair[INSIDE];
}

void member_tell_end(int status)
{
	if (the_member.hooks.client_fd >= 0)
		pool_answer_send(the_member.hooks.client_fd, POOL_ENDED, status, NULL);
}

int member_command(int argc, char **argv)
{
	struct member *m = &the_member;
	int type = 0;
	socklen_t len = sizeof(type);
	struct err e;

	if (argc < 3 || getsockopt(POOL_MEMBER_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET) {
		err_set(&e, -EINVAL, "only `mayfly pool` starts a member of a pool");
		return report_err(&e);
	}
	(void)fcntl(POOL_MEMBER_FD, F_SETFD, FD_CLOEXEC); /* cannot fail */
	(void)prctl(PR_SET_NAME, "mayfly");
	m->on = true;
	m->shared = argv + 2;
	m->num_shared = (unsigned)argc - 3;
	return run_vm(restore_parse_member, argc, argv);
}
