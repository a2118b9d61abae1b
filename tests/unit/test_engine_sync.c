/* The engine without io_uring: the order of one file's operations, what is the worker's, and files that are exchanged. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/core/loop.h"

#define OPS 3

static struct loop *loop;
static struct op op[OPS];
static int res[OPS];
static unsigned inflight;
static int fd[2];   /* of what the test is about */
static int file[2]; /* on the loop */
static char buf[PIPE_BUF];
static struct err err;
static pthread_t blocked_on[2]; /* threads of the last fallocate and fdatasync */

int fallocate(int f, int mode, off_t offset, off_t len)
{
	(void)f;
	(void)mode;
	(void)offset;
	(void)len;
	blocked_on[0] = pthread_self();
	return 0;
}

int fdatasync(int f)
{
	(void)f;
	blocked_on[1] = pthread_self();
	return 0;
}

static int is_blocked_on(void *arg)
{
	(void)arg;
	return pthread_equal(blocked_on[0], pthread_self()) || pthread_equal(blocked_on[1], pthread_self());
}

static void on_done(struct op *o, int r)
{
	res[o - op] = r;
	inflight--;
}

static int setup(void **state)
{
	(void)state;
	for (unsigned i = 0; i < OPS; i++)
		op[i] = (struct op){ .done = on_done };
	return loop_new(&loop, "sync", LOOP_ENGINE_SYNC, LOOP_EXCHANGEABLE, &err);
}

static int teardown(void **state)
{
	(void)state;
	loop_free(loop);
	close(fd[0]);
	close(fd[1]);
	return 0;
}

static void start(void)
{
	for (unsigned i = 0; i < 2; i++)
		file[i] = loop_add_file(loop, fd[i]);
	assert_int_equal(loop_start(loop, &err), 0);
}

static int get_inflight(void *arg)
{
	(void)arg;
	return (int)inflight;
}

static int drain(void *arg)
{
	(void)arg;
	loop_drain(loop, &inflight);
	return 0;
}

/* With room for one page: the first fits, the second does not, and the third would. */
static int write_three(void *arg)
{
	(void)arg;
	inflight = 3;
	assert_true(loop_write(loop, &op[0], file[0], buf, PIPE_BUF / 2, LOOP_NO_OFFSET));
	assert_true(loop_write(loop, &op[1], file[0], buf, PIPE_BUF, LOOP_NO_OFFSET));
	assert_true(loop_write(loop, &op[2], file[0], "c", 1, LOOP_NO_OFFSET));
	return 0;
}

static void test_small_stays_behind_large(void **state)
{
	char page[PIPE_BUF], last = 0;
	int ends[2], size;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fd[0] = ends[1];
	fd[1] = ends[0];
	size = fcntl(fd[0], F_GETPIPE_SZ);
	for (int left = size; left > 0; left -= PIPE_BUF)
		assert_int_equal(write(fd[0], buf, PIPE_BUF), PIPE_BUF);
	start();
	loop_call(loop, write_three, NULL);
	assert_int_equal(loop_call(loop, get_inflight, NULL), 3);
	assert_int_equal(read(fd[1], page, PIPE_BUF), PIPE_BUF);
	for (int i = 0; i < 2000 && loop_call(loop, get_inflight, NULL) == 3; i++)
		usleep(1000);
	assert_int_equal(loop_call(loop, get_inflight, NULL), 2);
	for (int left = size - PIPE_BUF / 2; left > 0; left -= PIPE_BUF / 2)
		assert_int_equal(read(fd[1], page, PIPE_BUF / 2), PIPE_BUF / 2);
	loop_call(loop, drain, NULL);
	assert_int_equal(res[1], PIPE_BUF);
	assert_int_equal(read(fd[1], page, PIPE_BUF), PIPE_BUF);
	assert_int_equal(read(fd[1], &last, 1), 1);
	assert_int_equal(last, 'c');
}

static int allocate_and_sync(void *arg)
{
	inflight = 2;
	assert_true(loop_fallocate(loop, &op[0], file[0], 0, 0, 4096));
	assert_true(loop_fsync(loop, &op[1], file[0], true));
	return drain(arg);
}

static void test_worker_does_what_blocks(void **state)
{
	(void)state;
	fd[0] = memfd_create("disk", MFD_CLOEXEC);
	fd[1] = dup(fd[0]);
	start();
	loop_call(loop, allocate_and_sync, NULL);
	assert_int_equal(res[0], 0);
	assert_int_equal(res[1], 0);
	assert_true(pthread_equal(blocked_on[0], blocked_on[1]));
	assert_false(pthread_equal(blocked_on[0], pthread_self()));
	assert_int_equal(loop_call(loop, is_blocked_on, NULL), 0);
}

/* A file that is exchanged leaves no descriptor behind, of those that the loop opened itself. */
static int exchange(void *arg)
{
	return loop_replace_file(loop, file[0], *(int *)arg);
}

static void test_exchange_leaks_nothing(void **state)
{
	int next;

	(void)state;
	assert_int_equal(openpty(&fd[0], &fd[1], NULL, NULL, NULL), 0);
	start();
	next = dup(fd[0]);
	close(next);
	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_call(loop, exchange, &fd[i & 1]), 0);
	assert_int_equal(dup(fd[0]), next);
	close(next);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_small_stays_behind_large),
		T(test_worker_does_what_blocks),
		T(test_exchange_leaks_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
