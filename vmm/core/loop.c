/*
 * Theory of operation.
 *
 * The set-up thread makes the ring, disabled and restricted (ring.c); the loop's own thread enables it, which with
 * IORING_SETUP_SINGLE_ISSUER makes that thread the only one that may submit.
 *
 * A turn: submit and wait in one io_uring_enter(2); move all completions to a list; fire timers, run the completions'
 * callbacks, then calls from other threads, then the deferred tasks. Callbacks never run while the ring is being read, so
 * they may start operations, drain, and recurse no further.
 *
 * Other threads reach the loop through loop_call: a list under a mutex and the wake eventfd, which the ring reads like
 * any other. Calls do not run inside loop_drain: a reset that waits for its requests must not meet another device's
 * activation half-way.
 */
#include "vmm/core/loop.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#define MF_LOG_MODULE "loop"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/ring.h"
#include "vmm/core/timer.h"

#define LOOP_NAME_MAX 16
#define LOOP_STACK_SIZE (256 * KIB)

struct call {
	int (*fn)(void *arg);
	void *arg;
	int result;
	bool done;
	struct call *next;
};

struct loop {
	char name[LOOP_NAME_MAX];
	enum ring_kind kind;
	uint8_t sqe_flags; /* of every operation */
	struct io_uring ring;
	bool ring_made;
	int file[LOOP_FILES_MAX];
	unsigned num_files;
	struct watch *watches;
	unsigned inflight; /* operations of ours in the ring, cancels not counted */

	struct op *completed, **completed_tail;
	struct task *tasks, **tasks_tail;
	struct timers timers;

	pthread_t thread;
	bool running;
	bool stop; /* loop's thread, as is woken: calls may have come */
	bool woken;
	int start_result;
	int (*guard)(void *ctx); /* or NULL */
	void *guard_ctx;
	struct watch wake;
	int wake_fd;

	pthread_mutex_t lock; /* over calls and their results */
	pthread_cond_t changed;
	struct call *calls;
};

int loop_new(struct loop **ret, const char *name, enum ring_kind kind, struct err *e)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return err_neg(e, -ENOMEM, "make the %s loop", name);
	strncpy(loop->name, name, sizeof(loop->name) - 1);
	loop->kind = kind;
	loop->sqe_flags = kind != RING_SOCKETS ? IOSQE_FIXED_FILE : 0;
	loop->completed_tail = &loop->completed;
	loop->tasks_tail = &loop->tasks;
	/* With default attributes these cannot fail. */
	(void)pthread_mutex_init(&loop->lock, NULL);
	(void)pthread_cond_init(&loop->changed, NULL);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (loop->wake_fd >= 0) {
		*ret = loop;
		return 0;
	}
	err_sys(e, "make the %s loop's eventfd", name);
	loop_free(loop);
	return e->code;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	loop_stop(loop);
	if (loop->ring_made)
		io_uring_queue_exit(&loop->ring);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	pthread_cond_destroy(&loop->changed);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

int loop_add_file(struct loop *loop, int fd)
{
	assert(!loop->running);
	if (loop->num_files == LOOP_FILES_MAX)
		return -EMFILE;
	loop->file[loop->num_files] = fd;
	return (int)loop->num_files++;
}

int loop_replace_file(struct loop *loop, int file, int fd)
{
	int r = 1;

	if (loop->kind != RING_EXCHANGEABLE)
		return -EACCES;
	if (loop->running)
		r = io_uring_register_files_update(&loop->ring, (unsigned)file, &fd, 1);
	if (r == 1)
		loop->file[file] = fd;
	return MF_MIN(r, 0);
}

static struct io_uring_sqe *get_sqe(struct loop *loop)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);

	if (sqe)
		return sqe;
	/* The queue is full of what this turn started: hand it over now. What fails shows in the next get. */
	(void)io_uring_submit(&loop->ring);
	return io_uring_get_sqe(&loop->ring);
}

/* flags: those of the operation; they share a place in the entry. */
static bool start(struct loop *loop, struct op *op, int opcode, int file, const void *addr, unsigned len,
		  uint64_t offset, int flags)
{
	struct io_uring_sqe *sqe = get_sqe(loop);

	if (!sqe)
		return false;
	io_uring_prep_rw(opcode, sqe, file, addr, len, offset);
	sqe->rw_flags = flags;
	sqe->flags |= loop->sqe_flags;
	io_uring_sqe_set_data(sqe, op);
	loop->inflight++;
	return true;
}

bool loop_readv(struct loop *loop, struct op *op, int file, const struct iovec *iov, unsigned num, uint64_t offset)
{
	return start(loop, op, IORING_OP_READV, file, iov, num, offset, 0);
}

bool loop_writev(struct loop *loop, struct op *op, int file, const struct iovec *iov, unsigned num, uint64_t offset)
{
	return start(loop, op, IORING_OP_WRITEV, file, iov, num, offset, 0);
}

bool loop_read(struct loop *loop, struct op *op, int file, void *buf, unsigned len, uint64_t offset)
{
	return start(loop, op, IORING_OP_READ, file, buf, len, offset, 0);
}

bool loop_write(struct loop *loop, struct op *op, int file, const void *buf, unsigned len, uint64_t offset)
{
	return start(loop, op, IORING_OP_WRITE, file, buf, len, offset, 0);
}

bool loop_fsync(struct loop *loop, struct op *op, int file, bool data_only)
{
	return start(loop, op, IORING_OP_FSYNC, file, NULL, 0, 0, data_only ? IORING_FSYNC_DATASYNC : 0);
}

bool loop_fallocate(struct loop *loop, struct op *op, int file, int mode, uint64_t offset, uint64_t len)
{
	/* The length goes where others have an address, and the mode where they have a length. */
	return start(loop, op, IORING_OP_FALLOCATE, file, (const void *)(uintptr_t)len, (unsigned)mode, offset, 0);
}

bool loop_poll(struct loop *loop, struct op *op, int file, short events)
{
	return start(loop, op, IORING_OP_POLL_ADD, file, NULL, 0, 0, events);
}

static void entered(struct loop *loop, int n);

void loop_cancel(struct loop *loop, struct op *op)
{
	struct io_uring_sqe *sqe;

	/* A cancel that cannot be queued now would be lost; taking completions off the ring makes room, so this ends. */
	while (!(sqe = get_sqe(loop)))
		entered(loop, io_uring_submit_and_get_events(&loop->ring));
	io_uring_prep_cancel(sqe, op, 0);
	sqe->flags |= loop->sqe_flags;
	io_uring_sqe_set_data(sqe, NULL);
}

/* Completion. */

/* Takes every completion off the ring, without running any. */
static void reap(struct loop *loop)
{
	struct io_uring_cqe *cqe;
	unsigned head, num = 0;

	io_uring_for_each_cqe(&loop->ring, head, cqe) {
		struct op *op = io_uring_cqe_get_data(cqe);

		num++;
		if (!op) /* a cancel: its target reports */
			continue;
		op->res = cqe->res;
		op->next = NULL;
		*loop->completed_tail = op;
		loop->completed_tail = &op->next;
	}
	io_uring_cq_advance(&loop->ring, num);
}

static void run_completed(struct loop *loop)
{
	struct op *op;

	while ((op = loop->completed)) {
		loop->completed = op->next;
		if (!loop->completed)
			loop->completed_tail = &loop->completed;
		loop->inflight--;
		op->done(op, op->res);
	}
}

/* Submits, and waits for a completion or for the next timer: a timeout of io_uring_enter itself, not an operation. */
static int submit_and_sleep(struct loop *loop)
{
	struct __kernel_timespec ts;
	struct io_uring_cqe *cqe;

	if (!timers_sleep(&loop->timers, timers_clock_ns(), &ts))
		return io_uring_submit_and_wait(&loop->ring, 1);
	return io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, &ts, NULL);
}

/* After io_uring_enter, which returned n. */
static void entered(struct loop *loop, int n)
{
	/* -EINTR: a signal; -EBUSY, -EAGAIN: completions must be taken first; -ETIME: a timer. The turn goes on. */
	if (n < 0 && n != -EINTR && n != -EBUSY && n != -EAGAIN && n != -ETIME)
		log_warn("io_uring_enter: %s, continuing", strerror(-n));
	reap(loop);
}

void loop_drain(struct loop *loop, const unsigned *counter)
{
	run_completed(loop);
	while (*counter) {
		entered(loop, io_uring_submit_and_wait(&loop->ring, 1)); /* timers wait for the next turn */
		run_completed(loop);
	}
}

/* Watches. */

static void watch_done(struct op *op, int res);

static void watch_arm(struct watch *watch)
{
	watch->op.done = watch_done;
	/* The queue has room after a flush, unless the kernel is out of memory: then its signals stay in the eventfd. */
	while (!loop_read(watch->loop, &watch->op, watch->file, &watch->count, sizeof(watch->count), 0))
		(void)io_uring_submit_and_get_events(&watch->loop->ring);
}

static void watch_done(struct op *op, int res)
{
	struct watch *watch = MF_CONTAINER_OF(op, struct watch, op);

	if (watch->loop->stop)
		return;
	if (res < 0 && res != -EINTR && res != -EAGAIN) {
		/* Not armed again, or an error that stays would keep the loop busy. It cannot happen to an eventfd. */
		log_error("an eventfd of the %s loop cannot be read: %s", watch->loop->name, strerror(-res));
		return;
	}
	watch_arm(watch);
	if (res == (int)sizeof(watch->count))
		watch->fire(watch);
}

int loop_watch(struct loop *loop, struct watch *watch, int eventfd)
{
	int file = loop_add_file(loop, eventfd);

	if (file < 0)
		return file;
	if (loop->kind == RING_SOCKETS)
		file = eventfd;
	watch->loop = loop;
	watch->file = file;
	watch->next = loop->watches;
	loop->watches = watch;
	return 0;
}

/* Tasks and calls. */

void loop_defer(struct loop *loop, struct task *task)
{
	if (task->queued)
		return;
	task->queued = true;
	task->next = NULL;
	*loop->tasks_tail = task;
	loop->tasks_tail = &task->next;
}

struct timers *loop_timers(struct loop *loop)
{
	return &loop->timers;
}

static void run_tasks(struct loop *loop)
{
	struct task *task = loop->tasks;

	loop->tasks = NULL;
	loop->tasks_tail = &loop->tasks;
	while (task) {
		struct task *next = task->next;

		task->queued = false;
		task->run(task);
		task = next;
	}
}

static void run_calls(struct loop *loop)
{
	struct call *call;

	if (!loop->woken)
		return;
	loop->woken = false;
	pthread_mutex_lock(&loop->lock);
	while ((call = loop->calls)) {
		loop->calls = call->next;
		pthread_mutex_unlock(&loop->lock);
		call->result = call->fn(call->arg);
		pthread_mutex_lock(&loop->lock);
		call->done = true;
		pthread_cond_broadcast(&loop->changed);
	}
	pthread_mutex_unlock(&loop->lock);
}

/* Not the place to run the calls: this may be inside loop_drain. */
static void wake_fire(struct watch *watch)
{
	watch->loop->woken = true;
}

int loop_call(struct loop *loop, int (*fn)(void *arg), void *arg)
{
	struct call call = { .fn = fn, .arg = arg }, **tail;

	if (!loop->running)
		return fn(arg);
	assert(!pthread_equal(pthread_self(), loop->thread));
	pthread_mutex_lock(&loop->lock);
	for (tail = &loop->calls; *tail; tail = &(*tail)->next)
		;
	*tail = &call;
	fdio_event_signal(loop->wake_fd);
	while (!call.done)
		pthread_cond_wait(&loop->changed, &loop->lock);
	pthread_mutex_unlock(&loop->lock);
	return call.result;
}

/* The thread. */

void loop_set_guard(struct loop *loop, int (*guard)(void *ctx), void *ctx)
{
	loop->guard = guard;
	loop->guard_ctx = ctx;
}

int loop_ring_fd(const struct loop *loop)
{
	return loop->ring.ring_fd;
}

int loop_wake_fd(const struct loop *loop)
{
	return loop->wake_fd;
}

static void cancel_all(struct loop *loop)
{
	struct io_uring_sqe *sqe = get_sqe(loop);

	if (sqe) {
		io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
		sqe->flags |= loop->sqe_flags;
		io_uring_sqe_set_data(sqe, NULL);
	}
	loop_drain(loop, &loop->inflight);
}

static void *loop_thread(void *arg)
{
	struct loop *loop = arg;
	int r = io_uring_enable_rings(&loop->ring);

	(void)pthread_setname_np(pthread_self(), loop->name); /* for ps; the name is short enough */
	log_set_thread(loop->name);
	if (r >= 0 && loop->guard)
		r = loop->guard(loop->guard_ctx);
	pthread_mutex_lock(&loop->lock);
	loop->start_result = r < 0 ? r : 1;
	pthread_cond_broadcast(&loop->changed);
	pthread_mutex_unlock(&loop->lock);
	if (r < 0)
		return NULL;

	for (struct watch *w = loop->watches; w; w = w->next)
		watch_arm(w);
	while (!loop->stop) {
		bool busy = loop->tasks || loop->woken;

		entered(loop, busy ? io_uring_submit_and_get_events(&loop->ring) : submit_and_sleep(loop));
		timers_run(&loop->timers, timers_clock_ns());
		run_completed(loop);
		run_calls(loop);
		run_tasks(loop);
	}
	cancel_all(loop);
	return NULL;
}

static int thread_start(struct loop *loop, struct err *e)
{
	sigset_t all, old;
	pthread_attr_t attr;
	int r;

	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	(void)pthread_attr_init(&attr); /* cannot fail on Linux, nor can a valid size */
	(void)pthread_attr_setstacksize(&attr, LOOP_STACK_SIZE);
	r = pthread_create(&loop->thread, &attr, loop_thread, loop);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return err_neg(e, -r, "start the %s thread", loop->name);

	pthread_mutex_lock(&loop->lock);
	while (!loop->start_result)
		pthread_cond_wait(&loop->changed, &loop->lock);
	r = loop->start_result;
	pthread_mutex_unlock(&loop->lock);
	loop->running = r > 0;
	if (r > 0)
		return 0;
	pthread_join(loop->thread, NULL);
	return err_neg(e, r, "start the %s loop", loop->name);
}

int loop_start(struct loop *loop, struct err *e)
{
	int r;

	loop->wake.fire = wake_fire;
	r = loop_watch(loop, &loop->wake, loop->wake_fd);
	if (r < 0)
		return err_neg(e, r, "the %s loop has more than %d files", loop->name, LOOP_FILES_MAX);
	r = ring_make(&loop->ring, loop->name, loop->kind, LOOP_ENTRIES, loop->file, loop->num_files, e);
	if (r < 0)
		return r;
	loop->ring_made = true;
	return thread_start(loop, e);
}

static int stop_call(void *arg)
{
	((struct loop *)arg)->stop = true;
	return 0;
}

void loop_stop(struct loop *loop)
{
	if (!loop->running)
		return;
	(void)loop_call(loop, stop_call, loop); /* returns 0 */
	pthread_join(loop->thread, NULL);
	loop->running = false;
}
