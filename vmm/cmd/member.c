/*
 * A member of a pool; see member.h.
 *
 * Theory of operation. It waits at POOL_MEMBER_FD for a byte of the pool, which brings the connection of a client, and then for
 * the client's claim. EOF at either means that nobody will claim it, and it leaves: the pool has ended, or the client.
 *
 * Without a jail, the VM's process does that: before there is another thread, or on a thread, if the guest runs meanwhile. That
 * one hands the outcome to the main thread, and ends. With a jail, the process outside does: it opens what has a name, and passes the
 * claim on. Both add the claim to their copies of the configuration.
 *
 *	pool -- connection --> outside -- claim, log, control socket --> inside
 *	     <------ ready ---         <------------------------- ready --
 */
#include "vmm/cmd/member.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/report.h"
#include "vmm/base/unix_socket.h"
#include "vmm/base/util.h"
#include "vmm/cmd/member_claim.h"
#include "vmm/cmd/restore.h"
#include "vmm/cmd/run.h"
#include "vmm/config/config.h"
#include "vmm/guest/control.h"
#include "vmm/helper/helpers.h"
#include "vmm/jail/jail_files.h"
#include "vmm/jail/jail_group.h"
#include "vmm/jail/parent.h"
#include "vmm/pool/claim.h"
#include "vmm/pool/serve.h"
#include "vmm/process/confine.h"
#include "vmm/process/crash.h"
#include "vmm/process/ending.h"
#include "vmm/records/record.h"

#define CLAIM_WAIT_S 5 /* for the claim of a client that has connected */

enum { OUTSIDE, INSIDE };

static struct member {
	struct jail_member hooks; /* first */
	bool on;
	struct config *config;
	struct jail_parent *parent;
	int (*choose_log)(const struct config *c, struct err *e);
	bool cold;     /* its guest does not run before there is a client */
	char **shared; /* our own options, which are the pool's */
	unsigned num_shared;
	int pool_fd, pair[2];
	struct pool_claim claim;
	/* Of one that runs: */
	pthread_t thread;
	struct jail_await await;
	bool taken; /* or there is no client, and will be none */
	int client; /* its connection, or -1: the process outside has it */
	struct unix_socket control;
	struct unix_socket vsock; /* without a jail: its name alone */
} the_member = { .hooks.client_fd = -1,
		 .hooks.taken_fd = -1,
		 .pool_fd = POOL_MEMBER_FD,
		 .pair = { -1, -1 },
		 .client = -1,
		 .control = { .fd = -1, .dir_fd = -1 },
		 .vsock = { .fd = -1, .dir_fd = -1 } };

static struct member *member_of(struct jail_member *hooks)
{
	return MF_CONTAINER_OF(hooks, struct member, hooks);
}

/* To the pool: it is ready; or the same to the process outside. */
static void tell_ready(int fd, enum pool_word word)
{
	const char byte = (char)word;

	(void)!write(fd, &byte, sizeof(byte)); /* if it has gone, the next receive says so */
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

/* To the client's stderr. In a VM that runs, the descriptor stays, since the threads' filters know no other. */
static int move_log(const struct member *m, struct err *e)
{
	int fd = m->choose_log(m->config, e), r = 0;

	if (fd < 0)
		return fd;
	if (!m->config->pool_runs) {
		log_setup(m->config->log_level, fd);
		return 0;
	}
	if (dup3(fd, log_fd(), O_CLOEXEC) < 0)
		r = err_sys(e, "take the client's stderr for the log");
	if (fd != STDERR_FILENO)
		close(fd);
	return r;
}

/* What the main thread of a VM that runs could not make behind its filter. */
static int complete(const struct member *m, struct err *e)
{
	const struct config *c = m->config;
	const int vsock = member_claim_vsock(&m->claim);

	if (m->await.configured(m->await.ctx, e) < 0)
		return e->code;
	if (vsock >= 0 && dup3(vsock, m->await.vsock_fd, O_CLOEXEC) < 0)
		return err_sys(e, "take the socket of the vsock");
	if (c->command.terminal && dup3(m->await.tty_from, m->await.tty_to, O_CLOEXEC) < 0)
		return err_sys(e, "connect the terminal");
	return 0;
}

static int open_names(struct member *m, struct err *e)
{
	const struct config *c = m->config;

	if (c->control && control_listen(&m->control, c->control, e) < 0)
		return err_wrap(e, "control '%s'", c->control);
	return complete(m, e);
}

/*
 * Reads the claim of the client that has come, and makes it that of this process; *vsock gets a name. Returns 0, or -errno with e
 * set, and then the client knows why, if it is still there.
 */
static int take_claim(struct member *m, int client, struct unix_socket *vsock, struct err *e)
{
	const struct timeval limit = { .tv_sec = CLAIM_WAIT_S };
	int r;

	(void)setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)); /* cannot fail on a socket */
	r = pool_claim_receive(client, &m->claim, POOL_COLD, e);
	if (r == 0)
		return err_set(e, -ECANCELED, "the client has gone");
	if (r > 0)
		r = member_claim_check(m->config, &m->claim, m->shared, m->num_shared, e);
	if (!r)
		r = member_claim_apply(m->config, &m->claim, e);
	if (!r)
		r = member_claim_adopt(m->config, &m->claim, vsock, e);
	if (!r)
		r = move_log(m, e);
	if (!r)
		r = note_claim(m, e);
	if (!r && m->config->pool_runs && !m->config->jail.on)
		r = open_names(m, e);
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

/* Nobody has claimed it. There is no other thread yet, or the guest ends with all of them. */
static void __attribute__((noreturn)) leave(const struct member *m)
{
	if (m->config->jail.on)
		_exit(STATUS_OK); /* the rest is outside */
	helpers_end(m->parent->helpers);
	record_drop(m->parent->record);
	_exit(STATUS_OK);
}

static int settle(struct jail_member *hooks, struct err *e)
{
	struct member *m = member_of(hooks);
	int client;

	tell_ready(m->pool_fd, POOL_WAITS);
	client = await_client(m);
	if (client < 0 || take_claim(m, client, &m->vsock, e) < 0 || member_claim_store(m->config, &m->claim, e) < 0)
		leave(m);
	member_claim_limit(m->config, &m->parent->limit_ms);
	be_taken(m, client);
	return 0;
}

/* While its guest runs. */

/* In a jail: the claim comes from the process outside, with the log and the control socket. Returns whether there is one. */
static bool take_passed(struct member *m, struct err *e)
{
	const struct pool_claim *claim = &m->claim;
	unsigned next;

	if (pool_claim_receive(m->pair[INSIDE], &m->claim, POOL_LOG | POOL_CONTROL, e) <= 0)
		return false; /* the process outside says why, if there is something to say */
	if (member_claim_apply(m->config, claim, e) < 0 || complete(m, e) < 0)
		return false;
	next = POOL_STREAMS + pool_claim_files(claim);
	if (claim->extras & POOL_LOG && dup3(claim->fd[next++], log_fd(), O_CLOEXEC) < 0)
		return false;
	m->control.path = m->config->control;
	if (claim->extras & POOL_CONTROL)
		m->control.fd = fcntl(claim->fd[next], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	return true;
}

/* Without a jail. Returns whether there is one. */
static bool take_own(struct member *m, struct err *e)
{
	int client = await_client(m);

	if (client < 0 || take_claim(m, client, &m->vsock, e) < 0)
		return false;
	m->client = client;
	return true;
}

static void *await_thread(void *arg)
{
	struct member *m = arg;
	struct confine_own own = CONFINE_OWN_NONE;
	struct err e;

	(void)pthread_setname_np(pthread_self(), "claim"); /* for people only */
	log_set_thread("claim");
	crash_thread();
	own.to = m->await.tty_to;
	own.listen = m->await.vsock_fd;
	if (confine_thread(m->await.confine, THREAD_CLAIM, &own, &e) < 0)
		log_error("%s", e.text);
	else
		m->taken = m->config->jail.on ? take_passed(m, &e) : take_own(m, &e);
	fdio_event_signal(m->hooks.taken_fd); /* what it has made is read behind this */
	return NULL;
}

static int await(struct jail_member *hooks, const struct jail_await *a, struct err *e)
{
	struct member *m = member_of(hooks);
	pthread_attr_t attr;
	int r;

	m->await = *a;
	m->hooks.taken_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->hooks.taken_fd < 0)
		return err_sys(e, "make an eventfd");
	(void)mallopt(M_MMAP_MAX, 0);	/* no thread may map later; what is large then grows the heap */
	(void)pthread_attr_init(&attr); /* cannot fail on Linux */
	ending_block_all(&attr);
	r = pthread_create(&m->thread, &attr, await_thread, m);
	pthread_attr_destroy(&attr);
	return r ? err_neg(e, -r, "start the thread that waits for a client") : 0;
}

static void warm(struct jail_member *hooks)
{
	struct member *m = member_of(hooks);

	if (m->config->jail.on) {
		tell_ready(m->pair[INSIDE], POOL_RUNS);
	} else {
		record_waits(m->parent->record);
		tell_ready(m->pool_fd, POOL_RUNS);
	}
}

static void take(struct jail_member *hooks, struct unix_socket *control)
{
	struct member *m = member_of(hooks);

	if (!m->taken)
		leave(m);
	(void)pthread_join(m->thread, NULL); /* cannot fail; the thread is about to end */
	member_claim_limit(m->config, &m->parent->limit_ms);
	unix_socket_move(control, &m->control);
	if (m->client >= 0)
		be_taken(m, m->client);
	else
		pool_claim_done(&m->claim);
}

/* In a jail. */

static int settle_inside(struct jail_member *hooks, struct err *e)
{
	struct member *m = member_of(hooks);
	int r;

	tell_ready(m->pair[INSIDE], POOL_WAITS);
	if (pool_claim_receive(m->pair[INSIDE], &m->claim, POOL_LOG | POOL_CONTROL, e) <= 0)
		_exit(STATUS_OK); /* the process outside says why, if there is something to say */
	close(mf_take_fd(&m->pair[INSIDE]));
	r = member_claim_apply(m->config, &m->claim, e);
	if (!r)
		r = member_claim_store(m->config, &m->claim, e);
	member_claim_limit(m->config, &m->parent->limit_ms);
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
	if (byte == POOL_RUNS)
		record_waits(m->parent->record);
	tell_ready(m->pool_fd, byte);
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

static int settle_outside(struct jail_member *hooks, struct jail_names *names, struct err *e)
{
	struct member *m = member_of(hooks);
	int client;

	close(mf_take_fd(&m->pair[INSIDE]));
	if (await_inside(m) < 0 || await_outside(m, m->pool_fd) < 0 || (client = await_client(m)) < 0)
		return err_set(e, -ECANCELED, "nobody has claimed it");
	if (take_claim(m, client, &names->vsock, e) < 0)
		return err_set(e, -ECANCELED, "it was refused"); /* the client says why */
	if (pass_on(m, &names->control, e) < 0) {
		pool_answer_send(client, POOL_REFUSED, 0, e->text);
		return err_set(e, -ECANCELED, "it was refused");
	}
	member_claim_limit(m->config, &m->parent->limit_ms);
	be_taken(m, client);
	return 0;
}

/* For run.c. */

/* Whether all that a client can ask for can be given to a VM that runs. */
static bool can_run(const struct member *m, const struct config *c)
{
	for (unsigned i = 0; i < c->num_drives; i++)
		if (c->drive[i].awaited)
			return false;
	for (unsigned i = 0; i < c->num_nets; i++)
		if (c->net[i].awaited)
			return false;
	return !m->cold && c->command.args.num > 0;
}

int member_begin(struct config *c, struct jail_parent *parent, int (*choose_log)(const struct config *c, struct err *e),
		 struct err *e)
{
	struct member *m = &the_member;

	if (!m->on)
		return 0;
	m->config = c;
	m->parent = parent;
	m->choose_log = choose_log;
	c->pool_runs = can_run(m, c);
	m->hooks.settle = c->jail.on ? settle_inside : settle;
	m->hooks.settle_outside = settle_outside;
	m->hooks.running = let_go;
	m->hooks.await = await;
	m->hooks.ready = warm;
	m->hooks.take = take;
	if (pool_claim_init(&m->claim) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	if (c->jail.on && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, m->pair) < 0)
		return err_sys(e, "make a socket pair");
	parent->member = &m->hooks;
	return 0;
}

int member_log_fd(int fd)
{
	const struct member *m = &the_member;
	int own = m->on && m->config->pool_runs && fd == STDERR_FILENO ? fcntl(fd, F_DUPFD_CLOEXEC, fd + 1) : fd;

	return own < 0 ? fd : own;
}

int member_kept_fd(void)
{
	return the_member.pair[INSIDE];
}

void member_tell_end(int status)
{
	unix_socket_remove(&the_member.vsock);
	if (the_member.hooks.client_fd >= 0)
		pool_answer_send(the_member.hooks.client_fd, POOL_ENDED, status, NULL);
}

int member_command(int argc, char **argv)
{
	struct member *m = &the_member;
	int type = 0;
	socklen_t len = sizeof(type);
	struct err e;

	if (argc < 4 || getsockopt(POOL_MEMBER_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET) {
		err_set(&e, -EINVAL, "only `mayfly pool` starts a member of a pool");
		return report_err(&e);
	}
	(void)fcntl(POOL_MEMBER_FD, F_SETFD, FD_CLOEXEC); /* cannot fail */
	m->on = true;
	m->cold = strcmp(argv[2], POOL_MEMBER_RUNS) != 0;
	m->shared = argv + 3;
	m->num_shared = (unsigned)argc - 4;
	return run_vm(restore_parse_member, argc, argv);
}
