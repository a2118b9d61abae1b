/*
 * The engine of a loop without io_uring: for where that is forbidden (kernel.io_uring_disabled, a container's seccomp
 * profile).
 *
 * Theory of operation
 * -------------------
 * What an operation does depends on its file, which is looked at once, when the loop is started:
 *
 *	ON_DISK    a regular file or block device: the worker, a second thread, does it, one operation after the other
 *	SOCKET     tried at once with MSG_DONTWAIT, and again each time when poll says so
 *	NONBLOCK   the same, of a file that has O_NONBLOCK: a tap; or a terminal or pipe that was opened anew with it
 *	BLOCKING   tried only when poll says so: eventfds; terminals and pipes that cannot be opened anew, which get no
 *	           more at once than they take without blocking
 *
 * Standard streams are shared with other processes, who would be surprised by O_NONBLOCK; and poll alone does not do: a
 * terminal with room for one byte polls writable and blocks on two. So such a file is opened again, through /proc, which
 * gives a description of our own.
 *
 * Requests are in a table. What is started is fresh; the turn gives all that is the worker's to it at once, tries the
 * rest, and sleeps in ppoll(2). Requests that wait for a file are in a list for each file, so that they keep their order,
 * and one pollfd does for all (ppoll takes no more of them than the process may have files). The worker puts what it has
 * done into a list, and signals done_fd when that was empty before.
 *
 * A request that the worker has begun cannot be cancelled, only waited for: as with a ring, its memory is the kernel's
 * until its op is done.
 *
 * System calls, for a guard. LOOP_THREAD_MAIN: ppoll, preadv2, pwritev2, recvmsg, sendmsg, read (of done_fd), futex.
 * LOOP_THREAD_WORKER: preadv2, pwritev2, fsync, fdatasync, fallocate, write (to done_fd), futex.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#define MF_LOG_MODULE "loop"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/engine.h"

/* More than all devices of a VM start: 16 drives with 256 each, 8 networks, 1023 vsock connections with 2. */
#define SYNC_REQUESTS_MAX 8192

#define FIRST_FILE 1 /* of polled: before it is done_fd */

struct sync_file {
	int fd;
	enum { ON_DISK, SOCKET, NONBLOCK, BLOCKING } kind;
	bool own;	    /* opened anew, to be closed by us */
	unsigned write_max; /* bytes at once, or 0: any number; of BLOCKING */
};

struct request {
	struct op *op; /* NULL: free */
	STAILQ_ENTRY(request) next;
	struct sync_file file;
	const void *addr;
	uint64_t offset;
	unsigned len;
	int flags;
	int opcode;
	short events; /* to wait for */
	enum { FRESH, WAITING, AT_WORKER } state;
	bool queued; /* AT_WORKER, and not begun; worker_lock's */
	int res;     /* worker's */
};

STAILQ_HEAD(requests, request);

struct sync_loop {
	struct loop loop;
	struct sync_file file[LOOP_FILES_MAX];
	struct request request[SYNC_REQUESTS_MAX];
	unsigned num_touched; /* the others were never used */
	struct requests free, fresh;
	unsigned at_worker;

	struct pollfd polled[SYNC_REQUESTS_MAX + FIRST_FILE];
	struct requests waiting[SYNC_REQUESTS_MAX + FIRST_FILE]; /* for the same files */
	unsigned num_polled;

	pthread_t worker;
	bool has_worker;
	int done_fd;
	pthread_mutex_t worker_lock; /* over what follows */
	pthread_cond_t work;
	struct requests queue, done;
	bool ends;
};

static struct sync_loop *to_sync(struct loop *loop)
{
	return MF_CONTAINER_OF(loop, struct sync_loop, loop);
}

/* Files. */

static int open_anew(int fd)
{
	char path[sizeof("/proc/self/fd/") + 12];
	int flags = fcntl(fd, F_GETFL);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return flags < 0 ? -1 : open(path, (flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static struct sync_file file_of(int fd)
{
	struct sync_file f = { .fd = fd, .kind = BLOCKING };
	struct stat st;
	bool is_tty;
	int anew;

	if (fstat(fd, &st) < 0) /* its operations will tell */
		return f;
	is_tty = S_ISCHR(st.st_mode) && isatty(fd);
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) {
		f.kind = ON_DISK;
	} else if (S_ISSOCK(st.st_mode)) {
		f.kind = SOCKET;
	} else if (is_tty || S_ISFIFO(st.st_mode)) {
		anew = open_anew(fd);
		f.write_max = is_tty ? 1 : PIPE_BUF;
		if (anew >= 0)
			f = (struct sync_file){ .fd = anew, .kind = NONBLOCK, .own = true };
	} else if (fcntl(fd, F_GETFL) & O_NONBLOCK) {
		f.kind = NONBLOCK;
	}
	return f;
}

/* Operations. On either thread. */

static int result(ssize_t n)
{
	return n < 0 ? -errno : (int)n;
}

/* Moves what the file takes or has without blocking, or on disk, all of it. */
static int transfer(const struct request *r)
{
	struct iovec one = { .iov_base = (void *)(uintptr_t)r->addr, .iov_len = r->len };
	bool vector = r->opcode == IORING_OP_READV || r->opcode == IORING_OP_WRITEV, out = r->events == POLLOUT;
	const struct iovec *iov = vector ? r->addr : &one;
	struct msghdr msg = { 0 };
	int num = vector ? (int)r->len : 1;

	if (r->file.kind == SOCKET) {
		msg.msg_iov = (struct iovec *)(uintptr_t)iov;
		msg.msg_iovlen = (size_t)num;
		return result(out ? sendmsg(r->file.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) :
				    recvmsg(r->file.fd, &msg, MSG_DONTWAIT));
	}
	if (out && r->file.write_max && num > 0) {
		one = iov[0];
		one.iov_len = MF_MIN(one.iov_len, r->file.write_max);
		iov = &one;
		num = 1;
	}
	return result(out ? pwritev2(r->file.fd, iov, num, (off_t)r->offset, 0) :
			    preadv2(r->file.fd, iov, num, (off_t)r->offset, 0));
}

static int operate(const struct request *r)
{
	switch (r->opcode) {
	case IORING_OP_FSYNC:
		return result(r->flags & IORING_FSYNC_DATASYNC ? fdatasync(r->file.fd) : fsync(r->file.fd));
	case IORING_OP_FALLOCATE: /* as io_uring has it, the mode is in len and the length in addr */
		return result(fallocate(r->file.fd, (int)r->len, (off_t)r->offset, (off_t)(uintptr_t)r->addr));
	default:
		return transfer(r);
	}
}

/* The worker. */

static void *worker(void *arg)
{
	struct loop *loop = arg;
	struct sync_loop *s = to_sync(loop);
	struct request *r;

	if (engine_thread_begin(loop, LOOP_THREAD_WORKER, 0) < 0)
		return NULL;
	pthread_mutex_lock(&s->worker_lock);
	while (!s->ends) {
		r = STAILQ_FIRST(&s->queue);
		if (!r) {
			pthread_cond_wait(&s->work, &s->worker_lock);
			continue;
		}
		STAILQ_REMOVE_HEAD(&s->queue, next);
		r->queued = false;
		pthread_mutex_unlock(&s->worker_lock);
		r->res = operate(r);
		pthread_mutex_lock(&s->worker_lock);
		if (STAILQ_EMPTY(&s->done))
			fdio_event_signal(s->done_fd);
		STAILQ_INSERT_TAIL(&s->done, r, next);
	}
	pthread_mutex_unlock(&s->worker_lock);
	return NULL;
}

/* Requests. On the loop's thread, as all that follows. */

static bool sync_start(struct loop *loop, struct op *op, int opcode, int file, const void *addr, unsigned len,
		       uint64_t offset, int flags)
{
	struct sync_loop *s = to_sync(loop);
	struct request *r = STAILQ_FIRST(&s->free);
	bool out = opcode == IORING_OP_WRITEV || opcode == IORING_OP_WRITE;

	if (r)
		STAILQ_REMOVE_HEAD(&s->free, next);
	else if (s->num_touched < SYNC_REQUESTS_MAX)
		r = &s->request[s->num_touched++];
	else
		return false;
	*r = (struct request){ .op = op, .opcode = opcode, .addr = addr, .len = len, .offset = offset, .flags = flags };
	r->file = loop->kind == RING_SOCKETS ? (struct sync_file){ .fd = file, .kind = BLOCKING } : s->file[file];
	if (r->file.kind != ON_DISK)
		r->offset = LOOP_NO_OFFSET;
	r->events = opcode == IORING_OP_POLL_ADD ? (short)flags : out ? POLLOUT : POLLIN;
	op->res = (int)(r - s->request); /* for sync_cancel */
	STAILQ_INSERT_TAIL(&s->fresh, r, next);
	return true;
}

static void finish(struct sync_loop *s, struct request *r, int res)
{
	engine_complete(&s->loop, r->op, res);
	r->op = NULL;
	STAILQ_INSERT_HEAD(&s->free, r, next);
}

/* The place of a file among those that are polled. One that is not there gets the next place if add. */
static unsigned place_of(struct sync_loop *s, int fd, bool add)
{
	unsigned at = FIRST_FILE;

	while (at < s->num_polled && s->polled[at].fd != fd)
		at++;
	if (at == s->num_polled && add) {
		s->polled[at] = (struct pollfd){ .fd = fd };
		STAILQ_INIT(&s->waiting[at]);
		s->num_polled++;
	}
	return at;
}

/* Polls for what is waited for; if that is nothing any more, gives the place to the last file. */
static void place_update(struct sync_loop *s, unsigned at)
{
	struct request *r;

	s->polled[at].events = 0;
	STAILQ_FOREACH(r, &s->waiting[at], next)
	s->polled[at].events |= r->events;
	if (!STAILQ_EMPTY(&s->waiting[at]) || at == --s->num_polled)
		return;
	s->polled[at] = s->polled[s->num_polled];
	STAILQ_INIT(&s->waiting[at]);
	STAILQ_CONCAT(&s->waiting[at], &s->waiting[s->num_polled]);
}

/* The file says revents: does what can be done now, but nothing before what came earlier in the same direction. */
static void place_serve(struct sync_loop *s, unsigned at, short revents)
{
	struct requests all = STAILQ_HEAD_INITIALIZER(all);
	struct request *r;
	short held = 0;

	STAILQ_CONCAT(&all, &s->waiting[at]);
	while ((r = STAILQ_FIRST(&all))) {
		short ready = revents & (r->events | POLLERR | POLLHUP | POLLNVAL);
		bool is_poll = r->opcode == IORING_OP_POLL_ADD;
		int res = -EAGAIN;

		STAILQ_REMOVE_HEAD(&all, next);
		if (ready && (is_poll || !(r->events & held)))
			res = ready & POLLNVAL ? -EBADF : is_poll ? ready : transfer(r);
		if (!is_poll && (res == -EAGAIN || r->file.kind == BLOCKING))
			held |= r->events;
		if (res == -EAGAIN)
			STAILQ_INSERT_TAIL(&s->waiting[at], r, next);
		else
			finish(s, r, res);
	}
	place_update(s, at);
}

static bool is_for_worker(const struct request *r)
{
	if (r->opcode == IORING_OP_FSYNC || r->opcode == IORING_OP_FALLOCATE)
		return true;
	return r->file.kind == ON_DISK && r->opcode != IORING_OP_POLL_ADD;
}

/* Begins what was started. */
static void begin_fresh(struct sync_loop *s)
{
	struct requests disk = STAILQ_HEAD_INITIALIZER(disk);
	struct request *r;
	unsigned at;

	while ((r = STAILQ_FIRST(&s->fresh))) {
		STAILQ_REMOVE_HEAD(&s->fresh, next);
		if (is_for_worker(r)) {
			r->state = AT_WORKER;
			r->queued = true;
			s->at_worker++;
			STAILQ_INSERT_TAIL(&disk, r, next);
			continue;
		}
		r->state = WAITING;
		at = place_of(s, r->file.fd, true);
		STAILQ_INSERT_TAIL(&s->waiting[at], r, next);
		if (r->file.kind == BLOCKING || r->opcode == IORING_OP_POLL_ADD || s->polled[at].events & r->events)
			s->polled[at].events |= r->events;
		else
			place_serve(s, at, r->events);
	}
	if (STAILQ_EMPTY(&disk))
		return;
	pthread_mutex_lock(&s->worker_lock);
	STAILQ_CONCAT(&s->queue, &disk);
	pthread_cond_signal(&s->work);
	pthread_mutex_unlock(&s->worker_lock);
}

static void take_done(struct sync_loop *s)
{
	struct requests done = STAILQ_HEAD_INITIALIZER(done);
	struct request *r;
	uint64_t count;

	if (!s->at_worker)
		return;
	(void)!read(s->done_fd, &count, sizeof(count)); /* first; it is non-blocking, and may have nothing to say */
	pthread_mutex_lock(&s->worker_lock);
	STAILQ_CONCAT(&done, &s->done);
	pthread_mutex_unlock(&s->worker_lock);
	while ((r = STAILQ_FIRST(&done))) {
		STAILQ_REMOVE_HEAD(&done, next);
		s->at_worker--;
		finish(s, r, r->res);
	}
}

static int poll_files(struct sync_loop *s, enum engine_wait wait)
{
	struct __kernel_timespec sleep;
	struct timespec ts = { 0 };
	bool forever = wait == ENGINE_WAIT;

	if (s->loop.completed)
		wait = ENGINE_NO_WAIT;
	else if (wait == ENGINE_WAIT_TIMERS)
		forever = !timers_sleep(&s->loop.timers, timers_clock_ns(), &sleep);
	if (wait == ENGINE_WAIT_TIMERS && !forever)
		ts = (struct timespec){ .tv_sec = sleep.tv_sec, .tv_nsec = sleep.tv_nsec };
	return ppoll(s->polled, s->num_polled, wait != ENGINE_NO_WAIT && forever ? NULL : &ts, NULL);
}

static void sync_turn(struct loop *loop, enum engine_wait wait)
{
	struct sync_loop *s = to_sync(loop);
	int n;

	begin_fresh(s);
	n = poll_files(s, wait);
	if (n < 0 && errno != EINTR)
		log_warn("ppoll: %s, continuing", strerror(errno));
	/* From the end: a file that goes leaves its place to one that was there already. */
	for (unsigned at = s->num_polled; n > 0 && at-- > FIRST_FILE;)
		if (s->polled[at].revents)
			place_serve(s, at, s->polled[at].revents);
	take_done(s);
}

static void sync_cancel(struct loop *loop, struct op *op)
{
	struct sync_loop *s = to_sync(loop);
	struct request *r = &s->request[(unsigned)op->res % SYNC_REQUESTS_MAX];
	bool taken = false;
	unsigned at;

	if (r->op != op) /* it has ended, and res is its result */
		return;
	switch (r->state) {
	case FRESH:
		STAILQ_REMOVE(&s->fresh, r, request, next);
		break;
	case WAITING:
		at = place_of(s, r->file.fd, false);
		STAILQ_REMOVE(&s->waiting[at], r, request, next);
		place_update(s, at);
		break;
	case AT_WORKER:
		pthread_mutex_lock(&s->worker_lock);
		taken = !r->queued;
		if (!taken)
			STAILQ_REMOVE(&s->queue, r, request, next);
		pthread_mutex_unlock(&s->worker_lock);
		s->at_worker -= !taken;
		break;
	}
	if (!taken)
		finish(s, r, -ECANCELED);
}

static void sync_cancel_all(struct loop *loop)
{
	struct sync_loop *s = to_sync(loop);

	for (unsigned i = 0; i < s->num_touched; i++)
		if (s->request[i].op)
			sync_cancel(loop, s->request[i].op);
}

static int sync_replace(struct loop *loop, int file, int fd)
{
	struct sync_file *f = &to_sync(loop)->file[file];

	if (f->own)
		close(f->fd);
	*f = file_of(fd);
	return 0;
}

/* Life. */

static int sync_thread_fd(const struct loop *loop, enum loop_thread which, unsigned i)
{
	const struct sync_loop *s = (const struct sync_loop *)loop;

	if (i == 0)
		return s->done_fd;
	for (unsigned n = 0; n < loop->num_files; n++)
		if ((s->file[n].kind == ON_DISK) == (which == LOOP_THREAD_WORKER) && --i == 0)
			return s->file[n].fd;
	return -1;
}

static int sync_begin(struct loop *loop)
{
	(void)loop;
	return 0;
}

static int sync_make(struct loop *loop, struct err *e)
{
	struct sync_loop *s = to_sync(loop);

	STAILQ_INIT(&s->free);
	STAILQ_INIT(&s->fresh);
	STAILQ_INIT(&s->queue);
	STAILQ_INIT(&s->done);
	/* With default attributes these cannot fail. */
	(void)pthread_mutex_init(&s->worker_lock, NULL);
	(void)pthread_cond_init(&s->work, NULL);
	for (unsigned i = 0; i < loop->num_files; i++)
		s->file[i] = file_of(loop->file[i]);
	s->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->polled[0] = (struct pollfd){ .fd = s->done_fd, .events = POLLIN };
	s->num_polled = FIRST_FILE;
	if (s->done_fd < 0)
		return err_sys(e, "make an eventfd of the %s loop", loop->name);
	s->has_worker = loop->kind != RING_SOCKETS && engine_thread_start(loop, &s->worker, worker, e) == 0;
	return s->has_worker || loop->kind == RING_SOCKETS ? 0 : e->code;
}

static void sync_done(struct loop *loop)
{
	struct sync_loop *s = to_sync(loop);

	if (s->has_worker) {
		pthread_mutex_lock(&s->worker_lock);
		s->ends = true;
		pthread_cond_signal(&s->work);
		pthread_mutex_unlock(&s->worker_lock);
		pthread_join(s->worker, NULL);
	}
	for (unsigned i = 0; i < loop->num_files; i++)
		if (s->file[i].own)
			close(s->file[i].fd);
	if (s->num_polled && s->done_fd >= 0)
		close(s->done_fd);
}

const struct engine_ops engine_sync = {
	.size = sizeof(struct sync_loop),
	.make = sync_make,
	.begin = sync_begin,
	.start = sync_start,
	.cancel = sync_cancel,
	.cancel_all = sync_cancel_all,
	.turn = sync_turn,
	.replace = sync_replace,
	.thread_fd = sync_thread_fd,
	.done = sync_done,
};
