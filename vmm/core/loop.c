/*
 * Theory of operation.
 *
 * The loop's engine moves the data (engine.h). In a turn, the engine begins what was
 * started, waits, and puts what has ended into a list. Then the loop fires timers, and
 * runs the completions' callbacks, calls from other threads, and the deferred tasks.
 * Callbacks never run inside the engine, so they may start operations and drain; they
 * recurse no further.
 *
 * Other threads reach the loop through loop_call (loop_call.c). Calls do not run inside
 * loop_drain: a reset that waits for its requests must not meet another device's
 * activation half-way.
 */
#include "vmm/core/loop.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/engine.h"
#include "vmm/core/timer.h"

#define LOOP_STACK_SIZE (256 * KIB)

int loop_new(struct loop **ret, const char *name, enum loop_engine engine, enum loop_kind kind, struct err *e)
{
	return loop_new_on(ret, name, engine == LOOP_ENGINE_SYNC ? &engine_sync : &engine_ring, kind, e);
}

int loop_new_on(struct loop **ret, const char *name, const struct engine_ops *engine, enum loop_kind kind,
		struct err *e)
{
	struct loop *loop = calloc(1, engine->size);
	int r;

	if (!loop)
		return err_neg(e, -ENOMEM, "make the %s loop", name);
	loop->engine = engine;
	strncpy(loop->name, name, sizeof(loop->name) - 1);
	snprintf(loop->thread_name[LOOP_THREAD_MAIN], LOOP_NAME_MAX, "%.8s%.7s", name, engine->suffix);
	snprintf(loop->thread_name[LOOP_THREAD_WORKER], LOOP_NAME_MAX, "%.8s-worker", name);
	loop->kind = kind;
	loop->ring_fd = loop->done_fd = loop->epoll_fd = -1;
	STAILQ_INIT(&loop->completed);
	STAILQ_INIT(&loop->tasks);
	/* With default attributes these cannot fail. */
	(void)pthread_mutex_init(&loop->lock, NULL);
	(void)pthread_cond_init(&loop->changed, NULL);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC);
	r = loop->wake_fd < 0 ? err_sys(e, "make the %s loop's eventfd", name) : 0;
	if (!r && engine->open)
		r = engine->open(loop, e);
	if (r < 0)
		loop_free(loop);
	else
		*ret = loop;
	return r;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	loop_stop(loop);
	loop->engine->done(loop);
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
	int r;

	if (loop->kind != LOOP_EXCHANGEABLE)
		return -EACCES;
	r = loop->engine->replace(loop, file, fd);
	if (r)
		return r;
	loop->file[file] = fd;
	loop->access[file] = LOOP_ACCESS_ENGINE;
	for (unsigned i = 0; i < loop->num_in_memory; i++)
		if (loop->in_memory[i] == file)
			loop->in_memory[i] = -1;
	return 0;
}

int loop_memory_fd(const struct loop *loop, unsigned i)
{
	return i < loop->num_in_memory && loop->in_memory[i] >= 0 ? loop->file[loop->in_memory[i]] : -1;
}

/* Completion. */

static void run_completed(struct loop *loop)
{
	struct op *op;

	while ((op = STAILQ_FIRST(&loop->completed))) {
		STAILQ_REMOVE_HEAD(&loop->completed, next);
		loop->inflight--;
		op->done(op, op->res);
	}
}

void loop_drain(struct loop *loop, const unsigned *counter)
{
	run_completed(loop);
	while (*counter) {
		loop->engine->turn(loop, ENGINE_WAIT); /* timers wait for the next turn */
		run_completed(loop);
	}
}

/* Watches. */

static void watch_done(struct op *op, int res);

static bool watch_start(struct watch *watch)
{
	struct loop *loop = watch->loop;

	if (loop->engine->watches)
		return loop_start_op(loop, &watch->op, OP_WATCH, watch->file);
	if (loop->kind == LOOP_SOCKETS)
		return loop_poll(loop, &watch->op, watch->file, POLLIN);
	return loop_read(loop, &watch->op, watch->file, &watch->count, sizeof(watch->count), 0);
}

static void watch_arm(struct watch *watch)
{
	watch->op.done = watch_done;
	/*
	 * After a turn there is room, unless the kernel is out of memory. In that case
	 * signals stay in the eventfd.
	 */
	while (!watch_start(watch))
		watch->loop->engine->turn(watch->loop, ENGINE_NO_WAIT);
}

/* An engine without OP_WATCH. Returns whether the eventfd was signalled, or -errno. */
static int watch_take(struct watch *watch, int res)
{
	/* A poll has reported a count. No other thread takes it, so this read does not wait. */
	if (res > 0 && watch->loop->kind == LOOP_SOCKETS) {
		res = (int)read(watch->file, &watch->count, sizeof(watch->count));
		res = res < 0 ? -errno : res;
	}
	return res < 0 ? res : res == (int)sizeof(watch->count);
}

static void watch_done(struct op *op, int res)
{
	struct watch *watch = MF_CONTAINER_OF(op, struct watch, op);
	bool armed = op->kind == OP_WATCH && op->flags;

	op->state = 0; /* the engine may report it again */
	if (watch->loop->stop)
		return;
	if (op->kind != OP_WATCH)
		res = watch_take(watch, res);
	if (res < 0 && res != -EINTR && res != -EAGAIN) {
		/*
		 * Do not poll again: an error that persists would keep the loop busy. An
		 * eventfd cannot report one.
		 */
		log_error("an eventfd of the %s loop cannot be read: %s", watch->loop->name, strerror(-res));
		return;
	}
	if (!armed)
		watch_arm(watch);
	if (res > 0)
		watch->fire(watch);
}

int loop_watch(struct loop *loop, struct watch *watch, int eventfd)
{
	int file = loop_add_file(loop, eventfd);

	if (file < 0)
		return file;
	if (loop->kind == LOOP_SOCKETS)
		file = eventfd;
	watch->loop = loop;
	watch->file = file;
	watch->next = loop->watches;
	loop->watches = watch;
	return 0;
}

/* Tasks. */

void loop_defer(struct loop *loop, struct task *task)
{
	if (task->queued)
		return;
	task->queued = true;
	STAILQ_INSERT_TAIL(&loop->tasks, task, next);
}

struct timers *loop_timers(struct loop *loop)
{
	return &loop->timers;
}

static void run_tasks(struct loop *loop)
{
	struct task_list now = STAILQ_HEAD_INITIALIZER(now);
	struct task *task;

	STAILQ_CONCAT(&now, &loop->tasks);
	while ((task = STAILQ_FIRST(&now))) {
		STAILQ_REMOVE_HEAD(&now, next);
		task->queued = false;
		task->run(task);
	}
}

/* Calls do not run here: this may be inside loop_drain. */
static void wake_fire(struct watch *watch)
{
	watch->loop->woken = true;
}

/* The thread. */

void loop_set_guard(struct loop *loop, int (*guard)(void *ctx, enum loop_thread which), void *ctx)
{
	loop->guard = guard;
	loop->guard_ctx = ctx;
}

int loop_ring_fd(const struct loop *loop)
{
	return loop->ring_fd;
}

int loop_done_fd(const struct loop *loop)
{
	return loop->done_fd;
}

int loop_epoll_fd(const struct loop *loop)
{
	return loop->epoll_fd;
}

int loop_wake_fd(const struct loop *loop)
{
	return loop->wake_fd;
}

int loop_file(const struct loop *loop, unsigned index)
{
	return index < loop->num_files ? loop->file[index] : -1;
}

void loop_begin(struct loop *loop)
{
	for (struct watch *w = loop->watches; w; w = w->next)
		watch_arm(w);
}

uint64_t loop_this_turn(const struct loop *loop)
{
	return loop->turns;
}

void loop_turn(struct loop *loop)
{
	bool busy = !STAILQ_EMPTY(&loop->tasks) || !STAILQ_EMPTY(&loop->completed) || loop->woken;

	loop->turns++;
	loop->engine->turn(loop, busy ? ENGINE_NO_WAIT : ENGINE_WAIT_TIMERS);
	timers_run(&loop->timers, timers_clock_ns());
	run_completed(loop);
	loop_run_calls(loop);
	run_tasks(loop);
	loop_run_awaits(loop);
}

static void *loop_thread(void *arg)
{
	struct loop *loop = arg;

	if (engine_thread_begin(loop, LOOP_THREAD_MAIN, loop->engine->begin ? loop->engine->begin(loop) : 0) < 0)
		return NULL;
	loop_begin(loop);
	while (!loop->stop)
		loop_turn(loop);
	loop->engine->cancel_all(loop);
	loop_drain(loop, &loop->inflight);
	if (loop->engine->end)
		loop->engine->end(loop);
	return NULL;
}

int engine_thread_begin(struct loop *loop, enum loop_thread which, int r)
{
	const char *name = loop->thread_name[which];

	(void)pthread_setname_np(pthread_self(), name); /* for ps(1); the name is short enough */
	log_set_thread(name);
	if (r >= 0 && loop->guard)
		r = loop->guard(loop->guard_ctx, which);
	pthread_mutex_lock(&loop->lock);
	loop->start_result = r < 0 ? r : 1;
	pthread_cond_broadcast(&loop->changed);
	pthread_mutex_unlock(&loop->lock);
	return MF_MIN(r, 0);
}

int engine_thread_start(struct loop *loop, pthread_t *ret, void *(*run)(void *loop), struct err *e)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	loop->start_result = 0;
	/* The main thread handles signals. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	(void)pthread_attr_init(&attr); /* cannot fail on Linux; nor can a valid size */
	(void)pthread_attr_setstacksize(&attr, LOOP_STACK_SIZE);
	r = pthread_create(&thread, &attr, run, loop);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return err_neg(e, -r, "start a thread of the %s loop", loop->name);

	pthread_mutex_lock(&loop->lock);
	while (!loop->start_result)
		pthread_cond_wait(&loop->changed, &loop->lock);
	r = loop->start_result;
	pthread_mutex_unlock(&loop->lock);
	if (r < 0) {
		pthread_join(thread, NULL);
		return err_neg(e, r, "start the %s loop", loop->name);
	}
	*ret = thread;
	return 0;
}

int loop_start(struct loop *loop, struct err *e)
{
	int r;

	loop->wake.fire = wake_fire;
	r = loop_watch(loop, &loop->wake, loop->wake_fd);
	if (r < 0)
		return err_neg(e, r, "the %s loop has more than %d files", loop->name, LOOP_FILES_MAX);
	r = loop->engine->make(loop, e);
	if (!r)
		r = engine_thread_start(loop, &loop->thread, loop_thread, e);
	loop->running = !r;
	return r;
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

const char *loop_strerror(int res)
{
	return res == -ECANCELED ? "io_uring may not start a thread (raise pids.max or RLIMIT_NPROC)" : strerror(-res);
}
