/*
 * The loop of `mayfly pool`.
 *
 * Theory of operation. A member is a process of its own (vmm/cmd/member.h), and waits at one end of a socket pair. Its first
 * byte there says that it is ready. A client that connects is never read from: once its claim is there, its connection goes to
 * the member that has waited for longest, as a descriptor. From then on the two talk by themselves (claim.h). When the guest
 * runs, the member closes its end of the pair, and the pool forgets it. So no client can make the pool wait, and the end of
 * the pool is none of theirs. A member that nobody has claimed ends when it reads EOF: the pool has told it to leave, or has
 * ended, however that was.
 *
 * Clients come first in each turn, and one member is started in a turn at most. The loop wakes up for clients, signals,
 * members, and changes of the snapshot; by the clock only for --max-age, and after many deaths.
 */
#include "vmm/pool/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/pool/claim.h"
#include "vmm/pool/pool.h"
#include "vmm/process/ending.h"
#include "vmm/process/notify.h"

#define CLIENTS_AT_ONCE 16  /* in one turn */
#define CLIENTS_MAX 32	    /* that have connected, and sent nothing yet */
#define ACCEPT_PAUSE_MS 100 /* without a descriptor for a client */
#define STATUS_MAX 96
#define DIR_EVENTS (IN_MOVE_SELF | IN_DELETE_SELF | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ONLYDIR)

extern char **environ;

enum {
	FD_SIGNAL,
	FD_LISTEN,
	FD_WATCH,
	FD_CLIENTS,
	FD_MEMBERS = FD_CLIENTS + CLIENTS_MAX,
	FD_NUM = FD_MEMBERS + POOL_PLACES
};

struct server {
	const struct pool_serve *params;
	struct pool pool;
	char identity[POOL_IDENTITY_MAX]; /* of the snapshot; "": there is none */
	int inotify_fd, watch;		  /* on its directory; or -1: it is looked at when a client comes */
	int client[CLIENTS_MAX];	  /* or -1 */
	unsigned next_client;
	bool runs;	    /* guests of members run before they have a client */
	uint64_t accept_ms; /* not before; or 0 */
	char status[STATUS_MAX];
	int asked; /* the signal that asks for the end, or 0 */
};

/* The snapshot. */

static void look(struct server *s)
{
	char now[POOL_IDENTITY_MAX] = "";

	(void)pool_identity(now,
			    s->params->dir); /* "": it is gone; one that comes in its place is found by the next client */
	if (!strcmp(now, s->identity))
		return;
	if (s->pool.started)
		log_info("the snapshot '%s' %s; its members leave", s->params->dir, *now ? "was replaced" : "is gone");
	snprintf(s->identity, sizeof(s->identity), "%s", now);
	pool_replace(&s->pool);
	if (s->watch >= 0)
		(void)inotify_rm_watch(s->inotify_fd, s->watch); /* it may be gone */
	s->watch = s->inotify_fd < 0 ? -1 : inotify_add_watch(s->inotify_fd, s->params->dir, DIR_EVENTS);
}

static void take_changes(struct server *s)
{
	char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));

	while (read(s->inotify_fd, events, sizeof(events)) > 0)
		; /* that there are any is enough */
	look(s);
}

/* Members. */

static int spawn(const struct pool_serve *p, int fd)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t all, none;
	pid_t pid;
	int r;

	sigfillset(&all);
	sigemptyset(&none);
	/* Fail for lack of memory only, and then the spawn does. */
	(void)posix_spawn_file_actions_init(&files);
	(void)posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	(void)posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	(void)posix_spawn_file_actions_adddup2(&files, fd, POOL_MEMBER_FD);
	(void)posix_spawnattr_init(&attr);
	(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
	(void)posix_spawnattr_setsigdefault(&attr, &all);
	(void)posix_spawnattr_setsigmask(&attr, &none);
	r = posix_spawn(&pid, "/proc/self/exe", &files, &attr, p->member, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return -r;
}

static void end_one(struct server *s, unsigned i)
{
	if (s->pool.member[i].fd >= 0)
		close(s->pool.member[i].fd);
	pool_ended(&s->pool, i, clock_now_ms());
}

static void start_one(struct server *s, unsigned i)
{
	int pair[2] = { -1, -1 };
	int r = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : spawn(s->params, pair[1]);

	if (pair[1] >= 0)
		close(pair[1]);
	pool_started(&s->pool, i, pair[0]); /* one that could not start is one that has died: it counts */
	if (r < 0) {
		log_warn("start a member: %s; continuing", strerror(-r));
		end_one(s, i);
	}
}

/* It reads EOF, and leaves. Its end of the socket says when it has. */
static void tell_to_leave(struct server *s, unsigned i)
{
	(void)shutdown(s->pool.member[i].fd, SHUT_WR); /* fails if it has ended */
	pool_leaves(&s->pool, i);
}

static void take_word(struct server *s, unsigned i)
{
	char byte;
	ssize_t n = recv(s->pool.member[i].fd, &byte, sizeof(byte), MSG_DONTWAIT);

	if (n > 0)
		s->runs = byte == POOL_RUNS;
	if (n > 0)
		pool_ready(&s->pool, i, clock_now_ms());
	else if (n == 0 || errno != EAGAIN)
		end_one(s, i);
}

/* Clients. */

/* Hands the connection to a member. Returns whether there was one. */
static bool hand_over(struct server *s, int client)
{
	const struct iovec byte = { .iov_base = &(char){ 0 }, .iov_len = 1 };
	int i;

	while ((i = pool_oldest(&s->pool)) >= 0) {
		int fd = s->pool.member[i].fd;

		if (fdio_send_packet(fd, &byte, 1, &client, 1, MSG_DONTWAIT) == 0) {
			pool_claimed(&s->pool, (unsigned)i);
			return true;
		}
		end_one(s, (unsigned)i); /* it has just died */
	}
	return false;
}

static void serve_client(struct server *s, int client, bool cold)
{
	const bool unfit = cold && s->runs;
	struct err e;
	char byte;

	look(s);
	if (!unfit && hand_over(s, client))
		return;
	s->pool.missed++;
	(void)!recv(client, &byte, sizeof(byte), MSG_DONTWAIT); /* its claim: unread, it would reset the connection */
	pool_answer_send(client, POOL_EMPTY, 0, unfit ? "has VMs that run already, " POOL_RUNS_TEXT : NULL);
	if (pool_claim_send(client, s->params->plain, &e) < 0)
		log_debug("%s", e.text); /* it has gone */
}

/*
 * Serves one that has sent its claim, which stays unread. A client that connects and sends nothing, or hangs up, is worth no
 * member. Returns whether that was it.
 */
static bool took_client(struct server *s, int client)
{
	bool cold;
	int r = pool_claim_peek(client, &cold);

	if (r < 0)
		return false;
	if (r > 0)
		serve_client(s, client, cold);
	close(client);
	return true;
}

/* It has not sent its claim yet. Of too many of these, the one that has been here for longest goes. */
static void keep_client(struct server *s, int client)
{
	int *place = &s->client[s->next_client++ % CLIENTS_MAX];

	if (*place >= 0)
		close(*place);
	*place = client;
}

static void accept_clients(struct server *s)
{
	for (unsigned i = 0; i < CLIENTS_AT_ONCE; i++) {
		int fd = accept4(s->params->listen_fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0) {
			if (!took_client(s, fd))
				keep_client(s, fd);
			continue;
		}
		/* With any other error there is no client, or not any more. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			s->accept_ms = clock_now_ms() + ACCEPT_PAUSE_MS;
		return;
	}
}

/* The loop. */

static void tell_status(struct server *s)
{
	const struct pool *p = &s->pool;
	char text[STATUS_MAX];

	snprintf(text, sizeof(text), "%u of %u wait; %llu claimed, %llu missed, %llu died", pool_count(p, POOL_WAITING),
		 p->size, (unsigned long long)p->claimed, (unsigned long long)p->missed, (unsigned long long)p->died);
	if (!strcmp(text, s->status))
		return;
	memcpy(s->status, text, sizeof(text));
	notify_status(text);
	log_debug("%s", text);
}

static void close_pool(struct server *s)
{
	s->pool.closed = true;
	ending_step("a member of the pool", NULL);
	s->params->closed(s->params->ctx);
	for (unsigned i = 0; i < POOL_PLACES; i++)
		if (s->pool.member[i].state == POOL_STARTING || s->pool.member[i].state == POOL_WAITING)
			tell_to_leave(s, i);
}

static void take_signal(struct server *s)
{
	int signo = ending_take(s->params->signal_fd);

	if (ending_is_request(signo) && !s->asked) {
		s->asked = signo;
		close_pool(s);
	}
}

static int wait_ms(struct server *s, uint64_t now_ms)
{
	int ms = *s->identity || s->pool.closed ? pool_timeout(&s->pool, now_ms) : -1;

	if (s->accept_ms && now_ms >= s->accept_ms)
		s->accept_ms = 0;
	if (s->accept_ms)
		ms = ms < 0 ? ACCEPT_PAUSE_MS : MF_MIN(ms, ACCEPT_PAUSE_MS);
	return ms;
}

static void wait_for_events(struct server *s, struct pollfd fds[FD_NUM])
{
	int ms = wait_ms(s, clock_now_ms());

	fds[FD_SIGNAL] = (struct pollfd){ .fd = s->params->signal_fd, .events = POLLIN };
	fds[FD_LISTEN] = (struct pollfd){ .fd = s->pool.closed || s->accept_ms ? -1 : s->params->listen_fd,
					  .events = POLLIN };
	fds[FD_WATCH] = (struct pollfd){ .fd = s->inotify_fd, .events = POLLIN };
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		fds[FD_CLIENTS + i] = (struct pollfd){ .fd = s->client[i], .events = POLLIN };
	for (unsigned i = 0; i < POOL_PLACES; i++)
		fds[FD_MEMBERS + i] = (struct pollfd){ .fd = s->pool.member[i].fd, .events = POLLIN };
	if (poll(fds, FD_NUM, ms) > 0)
		return;
	for (unsigned i = 0; i < FD_NUM; i++)
		fds[i].revents = 0;
}

static void do_due(struct server *s)
{
	int i;

	while ((i = pool_outdated(&s->pool, clock_now_ms())) >= 0)
		tell_to_leave(s, (unsigned)i);
	i = *s->identity ? pool_wants(&s->pool, clock_now_ms()) : -1;
	if (i >= 0)
		start_one(s, (unsigned)i);
	if (pool_count(&s->pool, POOL_WAITING) >= s->pool.size)
		notify_ready();
	tell_status(s);
}

static void serve_fds(struct server *s, const struct pollfd fds[FD_NUM])
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (s->client[i] >= 0 && fds[FD_CLIENTS + i].revents && took_client(s, s->client[i]))
			s->client[i] = -1;
	if (fds[FD_LISTEN].revents)
		accept_clients(s);
	if (fds[FD_SIGNAL].revents)
		take_signal(s);
	if (fds[FD_WATCH].revents)
		take_changes(s);
	for (unsigned i = 0; i < POOL_PLACES; i++) {
		const struct pollfd *fd = &fds[FD_MEMBERS + i];

		/* One that a client got in this turn is none of ours. */
		if (fd->fd >= 0 && fd->revents && s->pool.member[i].fd == fd->fd)
			take_word(s, i);
	}
}

/* That have to leave: those of clients live on. */
static bool has_members(const struct pool *p)
{
	return pool_count(p, POOL_STARTING) + pool_count(p, POOL_WAITING) + pool_count(p, POOL_LEAVING) > 0;
}

int pool_serve(const struct pool_serve *p, struct err *e)
{
	static struct pollfd fds[FD_NUM];
	static struct server s;

	s = (struct server){ .params = p, .watch = -1, .inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK) };
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		s.client[i] = -1;
	pool_init(&s.pool, p->size, p->max_age_ms);
	look(&s);
	do_due(&s);
	while (!s.asked || has_members(&s.pool)) {
		wait_for_events(&s, fds);
		serve_fds(&s, fds);
		if (s.pool.died && !s.pool.ready)
			return err_set(e, -ECHILD, "no member gets ready; its message is above");
		do_due(&s);
	}
	return s.asked;
}
