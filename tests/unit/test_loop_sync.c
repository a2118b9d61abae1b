/* The loop without io_uring: what may not block it, what it may not change, and its table. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/loop.h"
#include "vmm/core/sync_io.h"

#define OPS 64
#define BIG (4 * MIB) /* a request that takes the worker a while */
#define MANY 8192     /* requests of the table */

static struct loop *loop;
static struct op op[OPS];
static int res[OPS];
static unsigned inflight;
static int fd[2];   /* of what the test is about */
static int file[2]; /* on the loop */
static char buf[BIG];
static struct err err;
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
	memset(res, 0x55, sizeof(res));
	inflight = 0;
	fd[0] = fd[1] = -1;
	assert_int_equal(loop_new(&loop, "sync", LOOP_ENGINE_SYNC, LOOP_FIXED, &err), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	loop_free(loop);
	for (unsigned i = 0; i < 2; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	return 0;
}

static void start(void)
{
	for (unsigned i = 0; i < 2; i++)
		if (fd[i] >= 0)
			file[i] = loop_add_file(loop, fd[i]);
	assert_int_equal(loop_start(loop, &err), 0);
}

static int get_inflight(void *arg)
{
	(void)arg;
	return (int)inflight;
}

/* Until at most num are in flight. */
static void wait_inflight(int num)
{
	for (int tries = 0; tries < 2000 && loop_call(loop, get_inflight, NULL) > num; tries++)
		usleep(5000);
	assert_true(loop_call(loop, get_inflight, NULL) <= num);
}

static int drain(void *arg)
{
	(void)arg;
	loop_drain(loop, &inflight);
	return 0;
}

static int cancel_all(void *arg)
{
	for (unsigned i = 0; i < OPS; i++)
		loop_cancel(loop, &op[i]); /* those that were never started, too */
	return drain(arg);
}

/* Writes PIPE_BUF bytes per operation to fd[0], more than goes in. */
static int write_all(void *arg)
{
	(void)arg;
	for (inflight = 0; inflight < OPS; inflight++) {
		memset(buf + inflight * PIPE_BUF, (int)inflight, PIPE_BUF);
		assert_true(
			loop_write(loop, &op[inflight], file[0], buf + inflight * PIPE_BUF, PIPE_BUF, LOOP_NO_OFFSET));
	}
	return 0;
}

/* What fd[0] has no room for waits, while the loop continues, and comes in order; fd[0] is as blocking as before. */
static void check_full(void)
{
	int flags = fcntl(fd[0], F_GETFL), last = -1;
	size_t total = 0, want = 0;
	ssize_t n;

	start();
	loop_call(loop, write_all, NULL);
	usleep(20000);
	assert_true(loop_call(loop, get_inflight, NULL) > 0);
	assert_false(flags & O_NONBLOCK);
	assert_int_equal(fcntl(fd[0], F_GETFL), flags);
	fcntl(fd[1], F_SETFL, O_NONBLOCK);
	for (int tries = 0; tries < 2000 && loop_call(loop, get_inflight, NULL) > 0; tries++) {
		while ((n = read(fd[1], buf, sizeof(buf))) > 0) {
			total += (size_t)n;
			for (ssize_t i = 0; i < n; i++) {
				assert_true(buf[i] >= last);
				last = buf[i];
			}
		}
		usleep(1000);
	}
	while ((n = read(fd[1], buf, sizeof(buf))) > 0)
		total += (size_t)n;
	for (unsigned i = 0; i < OPS; i++) {
		assert_in_range(res[i], 1, PIPE_BUF);
		want += (size_t)res[i];
	}
	assert_int_equal(total, want);
}

static void test_full_pipe(void **state)
{
	int ends[2];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fd[0] = ends[1];
	fd[1] = ends[0];
	check_full();
}

static void test_full_terminal(void **state)
{
	struct termios raw;

	(void)state;
	assert_int_equal(openpty(&fd[1], &fd[0], NULL, NULL, NULL), 0);
	tcgetattr(fd[0], &raw);
	cfmakeraw(&raw);
	tcsetattr(fd[0], TCSANOW, &raw);
	check_full();
}

static void test_full_socket(void **state)
{
	int size = 16384;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	check_full();
}

static void test_full_pipe_and_cancel(void **state)
{
	int ends[2];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fd[0] = ends[1];
	fd[1] = ends[0];
	start();
	loop_call(loop, write_all, NULL);
	wait_inflight(OPS - 16); /* what a pipe holds */
	loop_call(loop, cancel_all, NULL);
	assert_int_equal(res[0], PIPE_BUF);
	assert_int_equal(res[OPS - 1], -ECANCELED);
}

static void test_files(void **state)
{
	struct iovec text = { .iov_base = (char[]){ "text" }, .iov_len = 4 };
	const struct op write = { .kind = OP_WRITE, .iov = &text, .num = 1 };
	struct rlimit limit, none = { 0 };
	struct sync_file f;
	char name[] = "/tmp/test-loop-sync-XXXXXX";
	int fds[2], other;

	(void)state;
	fd[0] = mkstemp(name);
	unlink(name);
	assert_int_equal(sync_file_of(fd[0]).kind, SYNC_DISK);
	fd[1] = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(sync_file_of(fd[1]).kind, SYNC_BLOCKING);
	assert_int_equal(sync_file_of(fd[1]).write_max, 0);
	assert_int_equal(sync_file_of(-1).kind, SYNC_BLOCKING);
	other = open("/dev/null", O_RDWR);
	assert_int_equal(sync_file_of(other).kind, SYNC_BLOCKING);
	fcntl(other, F_SETFL, O_NONBLOCK);
	assert_int_equal(sync_file_of(other).kind, SYNC_NONBLOCK);
	close(other);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(sync_file_of(fds[0]).kind, SYNC_SOCKET);
	close(fds[0]);
	close(fds[1]);

	/* A description of our own, which does not block; the one that was given is left as it is. */
	assert_int_equal(openpty(&fds[0], &fds[1], NULL, NULL, NULL), 0);
	f = sync_file_of(fds[1]);
	assert_true(f.own && f.fd != fds[1] && f.kind == SYNC_NONBLOCK);
	assert_true(fcntl(f.fd, F_GETFL) & O_NONBLOCK);
	assert_false(fcntl(fds[1], F_GETFL) & O_NONBLOCK);
	close(f.fd);
	/* Where it cannot be reopened: as much as certainly fits. */
	getrlimit(RLIMIT_NOFILE, &limit);
	none.rlim_max = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	f = sync_file_of(fds[1]);
	setrlimit(RLIMIT_NOFILE, &limit);
	assert_true(!f.own && f.fd == fds[1] && f.kind == SYNC_BLOCKING);
	assert_int_equal(f.write_max, 1);
	assert_int_equal(sync_io(&f, &write), 1);
	close(fds[0]);
	close(fds[1]);
}

/* Operations on disk: the worker has one of them, the others wait. */
static int read_all(void *arg)
{
	(void)arg;
	for (inflight = 0; inflight < OPS; inflight++)
		assert_true(loop_read(loop, &op[inflight], file[0], buf, sizeof(buf), 0));
	return 0;
}

static void open_big(void)
{
	fd[0] = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd[0], sizeof(buf)), 0);
}

static void test_cancel_what_the_worker_has(void **state)
{
	unsigned cancelled = 0;

	(void)state;
	open_big();
	start();
	loop_call(loop, read_all, NULL);
	loop_call(loop, cancel_all, NULL);
	assert_int_equal(inflight, 0);
	for (unsigned i = 0; i < OPS; i++) {
		cancelled += res[i] == -ECANCELED;
		assert_true(res[i] == -ECANCELED || res[i] == (int)sizeof(buf));
	}
	assert_true(cancelled > 0);
	assert_int_equal(res[OPS - 1], -ECANCELED);
	/* And all continues. */
	loop_call(loop, read_all, NULL);
	loop_call(loop, drain, NULL);
	for (unsigned i = 0; i < OPS; i++)
		assert_int_equal(res[i], sizeof(buf));
}

static int start_and_cancel(void *arg)
{
	read_all(arg);
	return cancel_all(arg);
}

static void test_cancel_what_is_fresh(void **state)
{
	(void)state;
	open_big();
	start();
	loop_call(loop, start_and_cancel, NULL);
	for (unsigned i = 0; i < OPS; i++)
		assert_int_equal(res[i], -ECANCELED);
}

static void test_stop_with_a_busy_worker(void **state)
{
	(void)state;
	open_big();
	start();
	loop_call(loop, read_all, NULL);
	loop_stop(loop);
	assert_int_equal(inflight, 0);
	assert_int_equal(res[OPS - 1], -ECANCELED);
}

static int read_few(void *arg)
{
	(void)arg;
	for (inflight = 0; inflight < 3; inflight++)
		assert_true(loop_read(loop, &op[inflight], file[0], buf, 1, 0));
	return 0;
}

/* An idle loop sleeps, whatever its worker has done before. */
static void test_idle_is_idle(void **state)
{
	struct timespec before, after;
	long used_ms;

	(void)state;
	open_big();
	start();
	for (int i = 0; i < 500; i++) {
		loop_call(loop, read_few, NULL);
		loop_call(loop, drain, NULL);
		if (i % 100 != 0)
			continue;
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
		usleep(100000);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
		used_ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
		assert_in_range(used_ms, 0, 20);
	}
}

static struct op many[MANY];
static unsigned num_many;

static void on_many(struct op *o, int r)
{
	(void)o;
	assert_int_equal(r, -ECANCELED);
	inflight--;
}

/* Fills the table, which has room again when something has ended. */
static int fill_table(void *arg)
{
	(void)arg;
	for (inflight = 0; inflight < MANY; inflight++) {
		many[inflight].done = on_many;
		if (!loop_poll(loop, &many[inflight], file[0], POLLIN))
			break;
	}
	num_many = inflight;
	loop_cancel(loop, &many[7]);
	assert_true(loop_poll(loop, &op[0], file[0], POLLOUT));
	assert_false(loop_poll(loop, &op[1], file[0], POLLOUT));
	for (unsigned i = 0; i < num_many; i++)
		loop_cancel(loop, &many[i]);
	inflight++;
	return drain(NULL);
}

static void test_full_table(void **state)
{
	(void)state;
	fd[0] = eventfd(0, EFD_CLOEXEC);
	start();
	loop_call(loop, fill_table, NULL);
	assert_int_equal(num_many, MANY - 1); /* the loop's own watch has one */
	assert_int_equal(res[0], POLLOUT);
}

static int pipes[OPS / 2][2];

static int poll_twice(void *arg)
{
	(void)arg;
	for (inflight = 0; inflight < OPS; inflight++)
		assert_true(loop_poll(loop, &op[inflight], pipes[inflight / 2][0], inflight % 2 ? POLLPRI : POLLIN));
	return 0;
}

/* ppoll(2) refuses more files than the process may have; so each is one, however often it is polled. */
static void test_files_limit(void **state)
{
	struct rlimit limit, less;

	(void)state;
	loop_free(loop);
	assert_int_equal(loop_new(&loop, "sockets", LOOP_ENGINE_SYNC, LOOP_SOCKETS, &err), 0);
	start();
	for (unsigned i = 0; i < OPS / 2; i++)
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pipes[i]), 0);
	getrlimit(RLIMIT_NOFILE, &limit);
	less = limit;
	less.rlim_cur = OPS / 2 + 2;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &less), 0);
	loop_call(loop, poll_twice, NULL);
	assert_int_equal(write(pipes[3][1], "x", 1), 1);
	wait_inflight(OPS - 1);
	assert_int_equal(res[6], POLLIN);
	close(pipes[4][1]); /* both of its polls end */
	wait_inflight(OPS - 3);
	assert_int_equal(res[8], POLLIN | POLLHUP);
	assert_int_equal(res[9], POLLHUP);
	loop_call(loop, cancel_all, NULL);
	setrlimit(RLIMIT_NOFILE, &limit);
	assert_int_equal(res[0], -ECANCELED);
	for (unsigned i = 0; i < OPS / 2; i++) {
		close(pipes[i][0]);
		if (i != 4)
			close(pipes[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_full_pipe, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_terminal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_socket, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_pipe_and_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_what_the_worker_has, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_what_is_fresh, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stop_with_a_busy_worker, setup, teardown),
		cmocka_unit_test_setup_teardown(test_idle_is_idle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_table, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files_limit, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
