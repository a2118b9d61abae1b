/*
 * The engine of a loop without io_uring: for where that is forbidden (kernel.io_uring_disabled, a container's seccomp
 * profile).
 *
 * Theory of operation
 * -------------------
 * Requests are in a table. What is started is fresh; the turn gives to the worker, a second thread, at once all that is on
 * disk, which it does one after the other. Of the rest (sync_io.h has the kinds of files) the turn tries what cannot block,
 * and polls for what had to wait, or must not even be tried before. Then it sleeps in ppoll(2). Requests that wait are in a
 * list for each file, so that they keep their order, and one pollfd does for all: ppoll takes no more of them than the
 * process may have files. The worker puts what it has done into a list, and signals done_fd when that was empty before.
 *
 * A request that the worker has begun cannot be cancelled, only waited for: as with a ring, its memory is the kernel's
 * until its op is done.
 *
 * The system calls of both threads are in vmm/filters/rules.h.
 */
#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#define MF_LOG_MODULE "loop"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/engine.h"
#include "vmm/core/sync_io.h"

/* More than all devices of a VM start: 16 drives with 256 each, 8 networks, 1023 vsock connections with 2. */
#define SYNC_REQUESTS_MAX 8192

#define FIRST_FILE 1 /* of polled: before it is done_fd */

struct request {
	struct op *op; /* NULL: free */
	STAILQ_ENTRY(request) next;
	struct sync_io io; /* its events are what it waits for */
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
	pthread_mutex_t worker_lock; /* over what follows */
	pthread_cond_t work;
	struct requests queue, done;
	bool ends;
};

static struct sync_loop *to_sync(struct loop *loop)
{
	return MF_CONTAINER_OF(loop, struct sync_loop, loop);
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
		r->res = sync_io(&r->io);
		pthread_mutex_lock(&s->worker_lock);
		if (STAILQ_EMPTY(&s->done))
			fdio_event_signal(s->loop.done_fd);
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
	*r = (struct request){ .op = op, .io.opcode = opcode, .io.addr = addr, .io.len = len };
	r->io.offset = offset;
	r->io.flags = flags;
	r->io.file = loop->kind == LOOP_SOCKETS ? (struct sync_file){ .fd = file, .kind = SYNC_BLOCKING } :
						  s->file[file];
	r->io.events = opcode == IORING_OP_POLL_ADD ? (short)flags : out ? POLLOUT : POLLIN;
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
	s->polled[at].events = 0;
	for (struct request *r = STAILQ_FIRST(&s->waiting[at]); r; r = STAILQ_NEXT(r, next))
		s->polled[at].events |= r->io.events;
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
		short ready = revents & (r->io.events | POLLERR | POLLHUP | POLLNVAL);
		bool is_poll = r->io.opcode == IORING_OP_POLL_ADD;
		int res = -EAGAIN;

		STAILQ_REMOVE_HEAD(&all, next);
		if (ready && (is_poll || !(r->io.events & held)))
			res = ready & POLLNVAL ? -EBADF : is_poll ? ready : sync_io(&r->io);
		if (!is_poll && (res == -EAGAIN || r->io.file.kind == SYNC_BLOCKING))
			held |= r->io.events;
		if (res == -EAGAIN)
			STAILQ_INSERT_TAIL(&s->waiting[at], r, next);
		else
			finish(s, r, res);
	}
	place_update(s, at);
}

static bool is_for_worker(const struct request *r)
{
	if (r->io.opcode == IORING_OP_FSYNC || r->io.opcode == IORING_OP_FALLOCATE)
		return true;
	return r->io.file.kind == SYNC_DISK && r->io.opcode != IORING_OP_POLL_ADD;
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
		at = place_of(s, r->io.file.fd, true);
		STAILQ_INSERT_TAIL(&s->waiting[at], r, next);
		if (r->io.file.kind == SYNC_BLOCKING || r->io.opcode == IORING_OP_POLL_ADD ||
		    s->polled[at].events & r->io.events)
			s->polled[at].events |= r->io.events;
		else
			place_serve(s, at, r->io.events);
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

	if (!s->at_worker)
		return;
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
	uint64_t count;
	int n;

	begin_fresh(s);
	n = poll_files(s, wait);
	if (n < 0 && errno != EINTR)
		log_warn("ppoll: %s, continuing", strerror(errno));
	/* From the end: a file that goes leaves its place to one that was there already. */
	for (unsigned at = s->num_polled; n > 0 && at-- > FIRST_FILE;)
		if (s->polled[at].revents)
			place_serve(s, at, s->polled[at].revents);
	/* Before the list is taken: what is done after that signals anew. Non-blocking, it may have nothing to say. */
	if (n > 0 && s->polled[0].revents)
		(void)!read(s->loop.done_fd, &count, sizeof(count));
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
		at = place_of(s, r->io.file.fd, false);
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
	*f = sync_file_of(fd);
	return 0;
}

/* Life. */

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
		s->file[i] = sync_file_of(loop->file[i]);
	s->loop.done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->polled[0] = (struct pollfd){ .fd = s->loop.done_fd, .events = POLLIN };
	s->num_polled = FIRST_FILE;
	if (s->loop.done_fd < 0)
		return err_sys(e, "make an eventfd of the %s loop", loop->name);
	s->has_worker = loop->kind != LOOP_SOCKETS && engine_thread_start(loop, &s->worker, worker, e) == 0;
	return s->has_worker || loop->kind == LOOP_SOCKETS ? 0 : e->code;
}

static void sync_end(struct loop *loop)
{
	(void)loop;
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
	if (s->loop.done_fd >= 0)
		close(s->loop.done_fd);
}

const struct engine_ops engine_sync = {
	.size = sizeof(struct sync_loop),
	.suffix = "-sync",
	.make = sync_make,
	.begin = sync_begin,
	.start = sync_start,
	.cancel = sync_cancel,
	.cancel_all = sync_cancel_all,
	.turn = sync_turn,
	.replace = sync_replace,
	.end = sync_end,
	.done = sync_done,
};
