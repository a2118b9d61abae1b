/* The loop, on a real io_uring and without: operations, watches, calls, tasks, cancel, drain. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/core/loop.h"
#include "vmm/core/timer.h"

struct fixture {
	struct loop *loop;
	int tmp_fd, pipe_fd[2], event_fd;
	int tmp, pipe_r, pipe_w;
	struct watch watch;
	unsigned fired;
	struct op op[4];
	int res[4];
	unsigned inflight;
	struct iovec iov[2];
	char buf[2][16];
	struct task task;
	unsigned task_runs;
};

static enum loop_engine engine; /* every test runs on each */

static struct fixture *owner; /* callbacks have no other way to the fixture's arrays */

static void on_watch(struct watch *watch)
{
	MF_CONTAINER_OF(watch, struct fixture, watch)->fired++;
}

static void on_done(struct op *op, int res)
{
	owner->res[op - owner->op] = res;
	owner->inflight--;
}

static int setup(void **state)
{
	static struct fixture f;
	struct err e;

	f = (struct fixture){ .tmp_fd = -1 };
	owner = &f;
	*state = &f;
	assert_int_equal(loop_new(&f.loop, "test", engine, LOOP_FIXED, &e), 0);
	f.tmp_fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	assert_true(f.tmp_fd >= 0);
	assert_int_equal(pipe2(f.pipe_fd, O_CLOEXEC), 0);
	f.event_fd = eventfd(0, EFD_CLOEXEC);
	f.tmp = loop_add_file(f.loop, f.tmp_fd);
	f.pipe_r = loop_add_file(f.loop, f.pipe_fd[0]);
	f.pipe_w = loop_add_file(f.loop, f.pipe_fd[1]);
	f.watch.fire = on_watch;
	assert_int_equal(loop_watch(f.loop, &f.watch, f.event_fd), 0);
	for (size_t i = 0; i < MF_ARRAY_SIZE(f.op); i++)
		f.op[i].done = on_done;
	assert_int_equal(loop_start(f.loop, &e), 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	loop_free(f->loop);
	close(f->tmp_fd);
	close(f->pipe_fd[0]);
	close(f->pipe_fd[1]);
	close(f->event_fd);
	return 0;
}

/* Each test does its work on the loop's thread, and the checks on the test's. */

static int write_then_read(void *arg)
{
	struct fixture *f = arg;

	f->iov[0] = (struct iovec){ .iov_base = (void *)(uintptr_t) "hello ", .iov_len = 6 };
	f->iov[1] = (struct iovec){ .iov_base = (void *)(uintptr_t) "world", .iov_len = 5 };
	f->inflight = 1;
	assert_true(loop_writev(f->loop, &f->op[0], f->tmp, f->iov, 2, 100));
	loop_drain(f->loop, &f->inflight);
	f->inflight = 2;
	assert_true(loop_read(f->loop, &f->op[1], f->tmp, f->buf[0], sizeof(f->buf[0]), 106));
	assert_true(loop_fsync(f->loop, &f->op[2], f->tmp, true));
	loop_drain(f->loop, &f->inflight);
	f->iov[0] = (struct iovec){ .iov_base = f->buf[1], .iov_len = 4 };
	f->iov[1] = (struct iovec){ .iov_base = f->buf[1] + 8, .iov_len = 7 };
	f->inflight = 1;
	assert_true(loop_readv(f->loop, &f->op[3], f->tmp, f->iov, 2, 100));
	loop_drain(f->loop, &f->inflight);
	return 42;
}

static void test_read_write_fsync(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(loop_call(f->loop, write_then_read, f), 42);
	assert_int_equal(f->res[0], 11);
	assert_int_equal(f->res[1], 5);
	assert_memory_equal(f->buf[0], "world", 5);
	assert_int_equal(f->res[2], 0);
	assert_int_equal(f->res[3], 11);
	assert_memory_equal(f->buf[1], "hell", 4);
	assert_memory_equal(f->buf[1] + 8, "o world", 7);
}

static int write_then_punch(void *arg)
{
	struct fixture *f = arg;

	memset(f->buf[0], 'x', sizeof(f->buf[0]));
	f->inflight = 1;
	assert_true(loop_write(f->loop, &f->op[0], f->tmp, f->buf[0], 16, 0));
	loop_drain(f->loop, &f->inflight);
	f->inflight = 1;
	assert_true(loop_fallocate(f->loop, &f->op[1], f->tmp, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4, 8));
	loop_drain(f->loop, &f->inflight);
	f->inflight = 1;
	assert_true(loop_read(f->loop, &f->op[2], f->tmp, f->buf[1], 16, 0));
	loop_drain(f->loop, &f->inflight);
	return 0;
}

static void test_fallocate(void **state)
{
	struct fixture *f = *state;

	loop_call(f->loop, write_then_punch, f);
	assert_int_equal(f->res[1], 0);
	assert_int_equal(f->res[2], 16);
	assert_memory_equal(f->buf[1], "xxxx\0\0\0\0\0\0\0\0xxxx", 16);
}

static int nothing(void *arg)
{
	(void)arg;
	return 0;
}

static void test_watch_fires_for_each_wake(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 1; i <= 100; i++) {
		fdio_event_signal(f->event_fd);
		/* Signals that come together count as one; a call later each has been seen. */
		for (int tries = 0; tries < 1000 && __atomic_load_n(&f->fired, __ATOMIC_SEQ_CST) < i; tries++)
			loop_call(f->loop, nothing, NULL);
		assert_int_equal(__atomic_load_n(&f->fired, __ATOMIC_SEQ_CST), i);
	}
}

static int signal_and_drain(void *arg)
{
	struct fixture *f = arg;

	for (unsigned i = 0; i < 5; i++) {
		fdio_event_signal(f->event_fd);
		f->inflight = 1;
		assert_true(loop_fsync(f->loop, &f->op[0], f->tmp, false));
		loop_drain(f->loop, &f->inflight);
	}
	return 0;
}

/* Signals that an engine finds while a callback drains, and again before the watch was served; the loop ends all the same. */
static void test_watch_signalled_in_a_drain(void **state)
{
	struct fixture *f = *state;
	unsigned fired;

	for (unsigned i = 0; i < 20; i++) {
		fired = f->fired;
		loop_call(f->loop, signal_and_drain, f);
		for (int tries = 0; tries < 1000 && __atomic_load_n(&f->fired, __ATOMIC_SEQ_CST) == fired; tries++)
			loop_call(f->loop, nothing, NULL);
		assert_true(__atomic_load_n(&f->fired, __ATOMIC_SEQ_CST) > fired);
	}
}

static int start_pipe_read(void *arg)
{
	struct fixture *f = arg;

	f->inflight = 1;
	assert_true(loop_read(f->loop, &f->op[0], f->pipe_r, f->buf[0], 4, LOOP_NO_OFFSET));
	return 0;
}

static int cancel_pipe_read(void *arg)
{
	struct fixture *f = arg;

	loop_cancel(f->loop, &f->op[0]);
	loop_drain(f->loop, &f->inflight);
	return 0;
}

static void test_cancel_ends_a_blocked_read(void **state)
{
	struct fixture *f = *state;

	loop_call(f->loop, start_pipe_read, f);
	loop_call(f->loop, cancel_pipe_read, f);
	assert_int_equal(f->res[0], -ECANCELED);
	assert_int_equal(f->inflight, 0);
}

static void test_stop_cancels_what_is_in_flight(void **state)
{
	struct fixture *f = *state;

	loop_call(f->loop, start_pipe_read, f);
	loop_stop(f->loop);
	assert_int_equal(f->res[0], -ECANCELED);
}

static void run_task(struct task *task)
{
	struct fixture *f = MF_CONTAINER_OF(task, struct fixture, task);

	if (++f->task_runs < 3)
		loop_defer(f->loop, task);
}

static int defer_twice(void *arg)
{
	struct fixture *f = arg;

	f->task.run = run_task;
	loop_defer(f->loop, &f->task);
	loop_defer(f->loop, &f->task);
	return (int)f->task_runs;
}

static void test_task_runs_at_the_end_of_the_turn(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(loop_call(f->loop, defer_twice, f), 0);
	for (int tries = 0; tries < 1000 && __atomic_load_n(&f->task_runs, __ATOMIC_SEQ_CST) < 3; tries++)
		loop_call(f->loop, nothing, NULL);
	assert_int_equal(f->task_runs, 3);
}

/* More reads at once than the submission queue holds: it is handed over on the way, and none is lost. */
static struct op many[LOOP_ENTRIES * 3];
static unsigned many_ok;

static void on_many(struct op *op, int res)
{
	(void)op;
	many_ok += res == 0; /* the file is empty */
	owner->inflight--;
}

static int start_many(void *arg)
{
	struct fixture *f = arg;

	for (size_t i = 0; i < MF_ARRAY_SIZE(many); i++) {
		many[i].done = on_many;
		f->inflight++;
		assert_true(loop_read(f->loop, &many[i], f->tmp, f->buf[0], 1, 0));
	}
	loop_drain(f->loop, &f->inflight);
	return 0;
}

static void test_more_operations_than_entries(void **state)
{
	struct fixture *f = *state;

	many_ok = 0;
	loop_call(f->loop, start_many, f);
	assert_int_equal(many_ok, MF_ARRAY_SIZE(many));
}

static void *call_many(void *arg)
{
	struct fixture *f = arg;
	long sum = 0;

	for (int i = 0; i < 1000; i++)
		sum += loop_call(f->loop, nothing, NULL);
	return (void *)sum;
}

static void test_calls_from_many_threads(void **state)
{
	struct fixture *f = *state;
	pthread_t thread[8];

	for (size_t i = 0; i < MF_ARRAY_SIZE(thread); i++)
		assert_int_equal(pthread_create(&thread[i], NULL, call_many, f), 0);
	for (size_t i = 0; i < MF_ARRAY_SIZE(thread); i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
}

static void test_call_runs_here_when_the_loop_does_not(void **state)
{
	struct loop *loop = NULL;
	struct err e;

	(void)state;
	assert_int_equal(loop_new(&loop, "idle", engine, LOOP_FIXED, &e), 0);
	assert_int_equal(loop_call(loop, nothing, NULL), 0);
	loop_free(loop);
}

static void test_too_many_files(void **state)
{
	struct loop *loop = NULL;
	struct err e;

	(void)state;
	assert_int_equal(loop_new(&loop, "full", engine, LOOP_FIXED, &e), 0);
	for (int i = 0; i < LOOP_FILES_MAX; i++)
		assert_int_equal(loop_add_file(loop, 0), i);
	assert_int_equal(loop_add_file(loop, 0), -EMFILE);
	assert_int_equal(loop_start(loop, &e), -EMFILE);
	assert_non_null(strstr(e.text, "full"));
	loop_free(loop);
}

/* A loop for sockets: a file that nobody has added can be polled, and the poll cancelled; watches and calls work. */
static int poll_late_pipe(void *arg)
{
	struct fixture *f = arg;

	f->inflight = 2;
	assert_true(loop_poll(f->loop, &f->op[0], f->pipe_fd[0], POLLIN));
	assert_true(loop_poll(f->loop, &f->op[1], f->pipe_fd[1], POLLOUT));
	loop_cancel(f->loop, &f->op[0]);
	loop_drain(f->loop, &f->inflight);
	return 0;
}

static void test_socket_loop(void **state)
{
	struct fixture f = { .event_fd = eventfd(0, EFD_CLOEXEC), .watch.fire = on_watch };
	struct err e;

	(void)state;
	owner = &f;
	assert_int_equal(loop_new(&f.loop, "sockets", engine, LOOP_SOCKETS, &e), 0);
	assert_int_equal(loop_watch(f.loop, &f.watch, f.event_fd), 0);
	assert_int_equal(loop_start(f.loop, &e), 0);
	assert_int_equal(pipe2(f.pipe_fd, O_CLOEXEC), 0);
	for (size_t i = 0; i < MF_ARRAY_SIZE(f.op); i++)
		f.op[i].done = on_done;
	assert_int_equal(loop_call(f.loop, poll_late_pipe, &f), 0);
	assert_int_equal(f.res[0], -ECANCELED);
	assert_int_equal(f.res[1], POLLOUT);
	fdio_event_signal(f.event_fd);
	for (int tries = 0; tries < 1000 && __atomic_load_n(&f.fired, __ATOMIC_SEQ_CST) < 1; tries++)
		loop_call(f.loop, nothing, NULL);
	assert_int_equal(f.fired, 1);
	loop_free(f.loop);
	close(f.event_fd);
	close(f.pipe_fd[0]);
	close(f.pipe_fd[1]);
}

static struct {
	struct timer timer;
	uint64_t fired_ns;
	struct loop *loop;
} timed;

static void on_timer(struct timer *timer)
{
	(void)timer;
	__atomic_store_n(&timed.fired_ns, timers_clock_ns(), __ATOMIC_SEQ_CST);
}

static int set_timer(void *deadline_ns)
{
	timer_set(loop_timers(timed.loop), &timed.timer, *(uint64_t *)deadline_ns);
	return 0;
}

/* The loop sleeps until its timer, no less, with nothing else to wake it. */
static void test_timer(void **state)
{
	struct fixture *f = *state;
	uint64_t deadline_ns = timers_clock_ns() + 20000000;

	timed.loop = f->loop;
	timed.timer.fire = on_timer;
	timed.fired_ns = 0;
	loop_call(f->loop, set_timer, &deadline_ns);
	for (int tries = 0; tries < 2000 && !__atomic_load_n(&timed.fired_ns, __ATOMIC_SEQ_CST); tries++)
		usleep(10000);
	assert_true(timed.fired_ns >= deadline_ns);
	assert_true(timed.fired_ns < deadline_ns + 10000000000);
}

static int replace_tmp(void *arg)
{
	struct fixture *f = arg;
	int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	int r = loop_replace_file(f->loop, f->tmp, fd);

	f->inflight = 1;
	assert_true(loop_write(f->loop, &f->op[0], f->tmp, "new", 3, 0));
	loop_drain(f->loop, &f->inflight);
	f->buf[0][0] = 0;
	assert_int_equal(pread(fd, f->buf[0], 3, 0), r ? 0 : 3);
	close(fd);
	return r;
}

static void test_replace_needs_leave(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(loop_call(f->loop, replace_tmp, f), -EACCES);
}

static void test_replace(void **state)
{
	struct fixture *f = *state;
	struct err e;

	/* The same loop again, which may. */
	loop_free(f->loop);
	assert_int_equal(loop_new(&f->loop, "test", engine, LOOP_EXCHANGEABLE, &e), 0);
	f->tmp = loop_add_file(f->loop, f->event_fd);
	assert_int_equal(loop_replace_file(f->loop, f->tmp, f->tmp_fd), 0);
	assert_int_equal(loop_start(f->loop, &e), 0);
	assert_int_equal(loop_call(f->loop, replace_tmp, f), 0);
	assert_memory_equal(f->buf[0], "new", 3);
	assert_int_equal(pread(f->tmp_fd, f->buf[1], 3, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_read_write_fsync, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fallocate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch_fires_for_each_wake, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch_signalled_in_a_drain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_ends_a_blocked_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stop_cancels_what_is_in_flight, setup, teardown),
		cmocka_unit_test_setup_teardown(test_task_runs_at_the_end_of_the_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_more_operations_than_entries, setup, teardown),
		cmocka_unit_test_setup_teardown(test_calls_from_many_threads, setup, teardown),
		cmocka_unit_test(test_call_runs_here_when_the_loop_does_not),
		cmocka_unit_test_setup_teardown(test_timer, setup, teardown),
		cmocka_unit_test(test_too_many_files),
		cmocka_unit_test_setup_teardown(test_replace_needs_leave, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replace, setup, teardown),
		cmocka_unit_test(test_socket_loop),
	};

	int failed = cmocka_run_group_tests_name("ring", tests, NULL, NULL);

	engine = LOOP_ENGINE_SYNC;
	return failed + cmocka_run_group_tests_name("sync", tests, NULL, NULL);
}
