/*
 * The engine of a loop without io_uring: for hosts that forbid it
 * (kernel.io_uring_disabled, a container's seccomp profile).
 *
 * Theory of operation
 *
 * Each operation is in one list at a time. An operation starts in the list "fresh". The
 * turn hands those on disk to a worker, another thread, which performs them in order. Each
 * file on disk has a worker, so one that does not answer holds up no other. (Those in
 * memory and those beyond SYNC_WORKERS_MAX share the first.) For the others (sync_io.h has the kinds of files), the turn performs those that cannot
 * block. It polls for those that would have blocked, and for those that must be polled
 * before the first try. Then it sleeps in ppoll(2).
 *
 * Waiting operations are in one list for each file. They keep their order and share one
 * pollfd, because ppoll accepts no more pollfds than the process may have files. The
 * workers put finished operations into a list, and signal done_fd if that list was
 * empty.
 *
 * Once a worker has begun an operation, it cannot be cancelled. The loop waits for it.
 * As with a ring, its memory belongs to the kernel until it is done.
 *
 * The system calls of these threads are in vmm/filters/rules.h.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/engine.h"
#include "vmm/core/sync_io.h"

/*
 * More than all devices of a VM start: 16 drives with 256 each, 8 networks, 1023 vsock
 * connections with 2.
 */
#define SYNC_OPS_MAX 8192

#define SYNC_WORKERS_MAX 32

#define FIRST_FILE 1 /* index in polled: done_fd comes first */

/* op.state. An operation that has ended, or was never started, is in no list. */
enum { ENDED, FRESH, WAITING, AT_WORKER };

struct worker {
	pthread_t thread;
	pthread_cond_t work;
	struct op_list queue;
};

struct sync_loop {
	struct loop loop;
	struct sync_file file[LOOP_FILES_MAX];
	uint8_t worker_of[LOOP_FILES_MAX];
	unsigned num_ops; /* in the lists, or begun by a worker */
	struct op_list fresh;

	struct pollfd polled[SYNC_OPS_MAX + FIRST_FILE];
	struct op_list waiting[SYNC_OPS_MAX + FIRST_FILE]; /* for the same files */
	unsigned num_polled;

	struct worker worker[SYNC_WORKERS_MAX];
	unsigned num_workers;
	pthread_mutex_t worker_lock; /* over what follows, and the workers' queues */
	struct op_list done;	     /* an operation that a worker has begun is between its queue and this */
	bool ends;
};

static struct sync_loop *to_sync(struct loop *loop)
{
	return MF_CONTAINER_OF(loop, struct sync_loop, loop);
}

/* The workers. */

static void *worker(void *arg)
{
	struct loop *loop = arg;
	struct sync_loop *s = to_sync(loop);
	struct worker *w = &s->worker[s->num_workers]; /* which does not change until this thread has begun */
	struct op *op;

	if (engine_thread_begin(loop, LOOP_THREAD_WORKER, 0) < 0)
		return NULL;
	pthread_mutex_lock(&s->worker_lock);
	while (!s->ends) {
		op = STAILQ_FIRST(&w->queue);
		if (!op) {
			pthread_cond_wait(&w->work, &s->worker_lock);
			continue;
		}
		STAILQ_REMOVE_HEAD(&w->queue, next);
		pthread_mutex_unlock(&s->worker_lock);
		op->res = sync_io(&s->file[op->file], op);
		pthread_mutex_lock(&s->worker_lock);
		if (STAILQ_EMPTY(&s->done))
			fdio_event_signal(s->loop.done_fd);
		STAILQ_INSERT_TAIL(&s->done, op, next);
	}
	pthread_mutex_unlock(&s->worker_lock);
	return NULL;
}

static struct worker *worker_of(struct sync_loop *s, const struct op *op)
{
	return &s->worker[s->worker_of[op->file]];
}

/* On the loop's thread, as are all functions below. */

static bool sync_start(struct loop *loop, struct op *op)
{
	struct sync_loop *s = to_sync(loop);

	if (s->num_ops == SYNC_OPS_MAX)
		return false;
	s->num_ops++;
	op->state = FRESH;
	STAILQ_INSERT_TAIL(&s->fresh, op, next);
	return true;
}

static void finish(struct sync_loop *s, struct op *op, int res)
{
	s->num_ops--;
	op->state = ENDED;
	engine_complete(&s->loop, op, res);
}

static int fd_of(const struct sync_loop *s, const struct op *op)
{
	return s->loop.kind == LOOP_SOCKETS ? op->file : s->file[op->file].fd;
}

static short events_of(const struct op *op)
{
	return op->kind == OP_POLL ? (short)op->flags : op->kind == OP_WRITE ? POLLOUT : POLLIN;
}

/*
 * The index of a file in the polled ones. If add is set, a file that is not there gets
 * the next index.
 */
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

/*
 * Sets the events to poll for. If there are none left, the last file takes over this
 * index.
 */
static void place_update(struct sync_loop *s, unsigned at)
{
	const struct op *op;

	s->polled[at].events = 0;
	STAILQ_FOREACH(op, &s->waiting[at], next)
	s->polled[at].events |= events_of(op);
	if (!STAILQ_EMPTY(&s->waiting[at]) || at == --s->num_polled)
		return;
	s->polled[at] = s->polled[s->num_polled];
	STAILQ_INIT(&s->waiting[at]);
	STAILQ_CONCAT(&s->waiting[at], &s->waiting[s->num_polled]);
}

/*
 * The file reports revents: performs what does not block, but nothing before an earlier
 * operation in the same direction.
 */
static void place_serve(struct sync_loop *s, unsigned at, short revents)
{
	struct op_list all = STAILQ_HEAD_INITIALIZER(all);
	struct op *op;
	short held = 0;

	STAILQ_CONCAT(&all, &s->waiting[at]);
	while ((op = STAILQ_FIRST(&all))) {
		short events = events_of(op), ready = revents & (events | POLLERR | POLLHUP | POLLNVAL);
		bool is_poll = op->kind == OP_POLL;
		int res = -EAGAIN;

		STAILQ_REMOVE_HEAD(&all, next);
		if (ready && (is_poll || !(events & held)))
			res = ready & POLLNVAL ? -EBADF : is_poll ? ready : sync_io(&s->file[op->file], op);
		if (!is_poll && (res == -EAGAIN || s->file[op->file].kind == SYNC_BLOCKING))
			held |= events;
		if (res == -EAGAIN)
			STAILQ_INSERT_TAIL(&s->waiting[at], op, next);
		else
			finish(s, op, res);
	}
	place_update(s, at);
}

static void begin_waiting(struct sync_loop *s, struct op *op)
{
	unsigned at = place_of(s, fd_of(s, op), true);
	short events = events_of(op);

	op->state = WAITING;
	STAILQ_INSERT_TAIL(&s->waiting[at], op, next);
	if (op->kind == OP_POLL || s->file[op->file].kind == SYNC_BLOCKING || s->polled[at].events & events)
		s->polled[at].events |= events;
	else
		place_serve(s, at, events);
}

static bool is_for_worker(const struct sync_loop *s, const struct op *op)
{
	if (op->kind == OP_READ || op->kind == OP_WRITE)
		return s->file[op->file].kind == SYNC_DISK;
	return op->kind != OP_POLL;
}

static void hand_over(struct sync_loop *s, struct op *op)
{
	struct worker *w = worker_of(s, op);

	op->state = AT_WORKER;
	if (STAILQ_EMPTY(&w->queue))
		pthread_cond_signal(&w->work);
	STAILQ_INSERT_TAIL(&w->queue, op, next);
}

static void begin_fresh(struct sync_loop *s)
{
	struct op_list disk = STAILQ_HEAD_INITIALIZER(disk);
	struct op *op;

	while ((op = STAILQ_FIRST(&s->fresh))) {
		STAILQ_REMOVE_HEAD(&s->fresh, next);
		if (is_for_worker(s, op))
			STAILQ_INSERT_TAIL(&disk, op, next);
		else
			begin_waiting(s, op);
	}
	if (STAILQ_EMPTY(&disk))
		return;
	pthread_mutex_lock(&s->worker_lock);
	while ((op = STAILQ_FIRST(&disk))) {
		STAILQ_REMOVE_HEAD(&disk, next);
		hand_over(s, op);
	}
	pthread_mutex_unlock(&s->worker_lock);
}

static void take_done(struct sync_loop *s)
{
	struct op_list done = STAILQ_HEAD_INITIALIZER(done);
	struct op *op;
	uint64_t count;

	/*
	 * Read before taking the list: a later completion signals again. Non-blocking,
	 * and possibly empty.
	 */
	(void)!read(s->loop.done_fd, &count, sizeof(count));
	pthread_mutex_lock(&s->worker_lock);
	STAILQ_CONCAT(&done, &s->done);
	pthread_mutex_unlock(&s->worker_lock);
	while ((op = STAILQ_FIRST(&done))) {
		STAILQ_REMOVE_HEAD(&done, next);
		finish(s, op, op->res);
	}
}

static int poll_files(struct sync_loop *s, enum engine_wait wait)
{
	struct __kernel_timespec sleep;
	struct timespec ts = { 0 };
	bool forever = wait == ENGINE_WAIT;

	if (!STAILQ_EMPTY(&s->loop.completed))
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
	/*
	 * From the end: when a file leaves, the one that takes its index was handled
	 * already.
	 */
	for (unsigned at = s->num_polled; n > 0 && at-- > FIRST_FILE;)
		if (s->polled[at].revents)
			place_serve(s, at, s->polled[at].revents);
	if (n > 0 && s->polled[0].revents)
		take_done(s);
}

/* Takes op off its worker's queue. False: the worker has begun it. */
static bool unqueue(struct sync_loop *s, struct op *op)
{
	struct worker *w = worker_of(s, op);
	struct op *at;

	pthread_mutex_lock(&s->worker_lock);
	STAILQ_FOREACH(at, &w->queue, next)
	if (at == op)
		break;
	if (at)
		STAILQ_REMOVE(&w->queue, op, op, next);
	pthread_mutex_unlock(&s->worker_lock);
	return at;
}

static void sync_cancel(struct loop *loop, struct op *op)
{
	struct sync_loop *s = to_sync(loop);
	unsigned at;

	switch (op->state) {
	case FRESH:
		STAILQ_REMOVE(&s->fresh, op, op, next);
		break;
	case WAITING:
		at = place_of(s, fd_of(s, op), false);
		STAILQ_REMOVE(&s->waiting[at], op, op, next);
		place_update(s, at);
		break;
	case AT_WORKER:
		if (!unqueue(s, op))
			return;
		break;
	default:
		return;
	}
	finish(s, op, -ECANCELED);
}

static void sync_cancel_all(struct loop *loop)
{
	struct sync_loop *s = to_sync(loop);
	struct op *op;

	pthread_mutex_lock(&s->worker_lock);
	for (unsigned i = 0; i < s->num_workers; i++)
		STAILQ_CONCAT(&s->fresh, &s->worker[i].queue);
	pthread_mutex_unlock(&s->worker_lock);
	while ((op = STAILQ_FIRST(&s->fresh))) {
		STAILQ_REMOVE_HEAD(&s->fresh, next);
		finish(s, op, -ECANCELED);
	}
	while (s->num_polled > FIRST_FILE)
		sync_cancel(loop, STAILQ_FIRST(&s->waiting[FIRST_FILE]));
}

static int sync_replace(struct loop *loop, int file, int fd)
{
	struct sync_file *f = &to_sync(loop)->file[file];

	if (loop->done_fd < 0) /* not made */
		return 0;
	if (f->own)
		close(f->fd);
	*f = sync_file_of(fd);
	return 0;
}

/* Life. */

static int start_worker(struct sync_loop *s, struct err *e)
{
	struct worker *w = &s->worker[s->num_workers];

	STAILQ_INIT(&w->queue);
	(void)pthread_cond_init(&w->work, NULL); /* with default attributes it cannot fail */
	if (engine_thread_start(&s->loop, &w->thread, worker, e) < 0)
		return e->code;
	s->num_workers++;
	return 0;
}

/* The first worker exists also without files: an exchange may bring one. */
static int start_workers(struct sync_loop *s, struct err *e)
{
	unsigned own = 0; /* files that have one */
	int r = start_worker(s, e);

	for (unsigned i = 0; i < s->loop.num_files && !r; i++) {
		if (s->file[i].kind != SYNC_DISK || s->loop.access[i] == LOOP_ACCESS_MEMORY || own == SYNC_WORKERS_MAX)
			continue;
		if (own == s->num_workers)
			r = start_worker(s, e);
		s->worker_of[i] = (uint8_t)own++;
	}
	return r;
}

static int sync_make(struct loop *loop, struct err *e)
{
	struct sync_loop *s = to_sync(loop);

	STAILQ_INIT(&s->fresh);
	STAILQ_INIT(&s->done);
	(void)pthread_mutex_init(&s->worker_lock, NULL); /* with default attributes it cannot fail */
	for (unsigned i = 0; i < loop->num_files; i++)
		s->file[i] = sync_file_of(loop->file[i]);
	s->loop.done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->polled[0] = (struct pollfd){ .fd = s->loop.done_fd, .events = POLLIN };
	s->num_polled = FIRST_FILE;
	if (s->loop.done_fd < 0)
		return err_sys(e, "make an eventfd of the %s loop", loop->name);
	return loop->kind != LOOP_SOCKETS ? start_workers(s, e) : 0;
}

static void sync_done(struct loop *loop)
{
	struct sync_loop *s = to_sync(loop);

	if (s->num_workers > 0) {
		pthread_mutex_lock(&s->worker_lock);
		s->ends = true;
		for (unsigned i = 0; i < s->num_workers; i++)
			pthread_cond_signal(&s->worker[i].work);
		pthread_mutex_unlock(&s->worker_lock);
	}
	for (unsigned i = 0; i < s->num_workers; i++)
		pthread_join(s->worker[i].thread, NULL);
	for (unsigned i = 0; i < loop->num_files; i++)
		if (s->file[i].own)
			close(s->file[i].fd);
	if (s->loop.done_fd >= 0)
		close(s->loop.done_fd);
}

const struct engine_ops engine_sync = {
	.size = sizeof(struct sync_loop),
	.hands_over = true,
	.suffix = "-sync",
	.make = sync_make,
	.start = sync_start,
	.cancel = sync_cancel,
	.cancel_all = sync_cancel_all,
	.turn = sync_turn,
	.replace = sync_replace,
	.done = sync_done,
};
