/*
 * A command's streams, with pipes as mayfly's stdin, stdout and stderr: what ends each of them, readers that are slow or
 * gone, and the keys that leave a terminal session, on a clock that the test sets.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/open_fds.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/guest/stdio_relay.h"
#include "vmm/process/confine.h"
#include "vmm/process/crash.h"

#define WAIT_MS 5000
#define KEY "\x1d"

static atomic_long fake_ms; /* or 0: the time is the true one */
static struct stdio_relay relay;
static int saved[STDIO_RELAY_STREAMS]; /* the test's own stdin, stdout and stderr */
static int user[STDIO_RELAY_STREAMS];  /* the user's ends of those of mayfly */
static int guest[STDIO_RELAY_STREAMS]; /* the guest's ends of the streams */
static unsigned fds_before;
static atomic_uint first_outputs;
static bool outputs_joined;

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	long ms = atomic_load(&fake_ms);

	if (clock != CLOCK_MONOTONIC || !ms)
		return (int)syscall(SYS_clock_gettime, clock, ts);
	*ts = (struct timespec){ ms / 1000, (ms % 1000) * 1000000 };
	return 0;
}

/* What the last thread was confined to. */
static struct {
	unsigned crash_threads;
	enum thread_kind kind;
	struct confine_own own;
	bool fails;
} confined;

void crash_thread(void)
{
	confined.crash_threads++;
}

int confine_thread(const struct confine *c, enum thread_kind kind, const struct confine_own *own, struct err *e)
{
	(void)c;
	assert_int_equal(confined.crash_threads, 1); /* otherwise its crash would go unreported */
	confined.kind = kind;
	confined.own = *own;
	return confined.fails ? err_set(e, -EPERM, "no filter") : 0;
}

static void on_output(void *ctx)
{
	(void)ctx;
	atomic_fetch_add(&first_outputs, 1);
}

static int setup(void **state)
{
	int pair[2];

	(void)state;
	log_setup(LOG_LEVEL_ERROR, -1);
	fds_before = open_fds();
	atomic_store(&first_outputs, 0);
	outputs_joined = false;
	relay = (struct stdio_relay){ .changed_fd = -1, .on_output = on_output };
	for (int i = 0; i < STDIO_RELAY_STREAMS; i++) {
		saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 3);
		assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
		assert_int_equal(dup2(pair[i == 0 ? 0 : 1], i), i);
		close(pair[i == 0 ? 0 : 1]);
		user[i] = pair[i == 0 ? 1 : 0];
		guest[i] = -1;
	}
	return 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* All threads end when both sides have closed. */
static int teardown(void **state)
{
	(void)state;
	atomic_store(&fake_ms, 0);
	for (int i = 0; i < STDIO_RELAY_STREAMS; i++) {
		close_fd(&user[i]);
		close_fd(&guest[i]);
	}
	for (int i = 0; i < STDIO_RELAY_STREAMS; i++) {
		struct stdio_relay_pump *p = &relay.pump[i];

		if (p->started && (p->is_input || !outputs_joined))
			assert_int_equal(pthread_join(p->thread, NULL), 0);
		if (p->started)
			close(p->is_input ? p->to : p->from);
		assert_int_equal(dup2(saved[i], i), i);
		close(saved[i]);
	}
	close_fd(&relay.changed_fd);
	assert_int_equal(open_fds(), fds_before);
	return 0;
}

static void start(bool tty)
{
	int fd[STDIO_RELAY_STREAMS];
	struct err e;

	assert_int_equal(stdio_relay_make_pairs(fd, guest, tty, &e), 0);
	assert_int_equal(stdio_relay_start(&relay, tty, fd, &e), 0);
}

static void end(unsigned timeout_ms)
{
	stdio_relay_end(&relay, timeout_ms);
	outputs_joined = stdio_relay_is_done(&relay);
}

static void wait_for(int fd, short events)
{
	struct pollfd wait = { .fd = fd, .events = events };

	assert_int_equal(poll(&wait, 1, WAIT_MS), 1);
}

/* One byte that arrives, or -1: the end. */
static int next_byte(int fd)
{
	unsigned char byte;
	ssize_t n;

	wait_for(fd, POLLIN);
	n = read(fd, &byte, 1);
	assert_true(n >= 0);
	return n ? byte : -1;
}

static void type(const char *keys)
{
	for (; *keys; keys++) {
		assert_int_equal(write(user[0], keys, 1), 1);
		assert_int_equal(next_byte(guest[0]), *keys);
	}
}

/* Types the key that is the last of three. */
static void type_last(void)
{
	assert_false(atomic_load(&relay.left));
	assert_int_equal(write(user[0], KEY, 1), 1);
	wait_for(relay.changed_fd, POLLIN);
	assert_true(atomic_load(&relay.left));
}

static void test_keys_in_a_row(void **state)
{
	(void)state;
	start(true);
	atomic_store(&fake_ms, 1000);
	type(KEY KEY "x" KEY KEY "y" KEY KEY);
	type_last();
}

static void test_keys_within_a_second(void **state)
{
	(void)state;
	start(true);
	atomic_store(&fake_ms, 1000);
	type(KEY);
	atomic_store(&fake_ms, 2001);
	type(KEY KEY);
	atomic_store(&fake_ms, 3001);
	type_last(); /* a second after the first of the three */
}

static void test_keys_without_a_terminal(void **state)
{
	(void)state;
	start(false);
	type(KEY KEY KEY KEY);
	assert_false(atomic_load(&relay.left));
}

/* The end of stdin is the command's, and its output continues. */
static void test_end_of_input(void **state)
{
	(void)state;
	start(false);
	type("word");
	close_fd(&user[0]);
	assert_int_equal(next_byte(guest[0]), -1);
	for (int i = 1; i < STDIO_RELAY_STREAMS; i++) {
		assert_int_equal(write(guest[i], "o", 1), 1);
		assert_int_equal(next_byte(user[i]), 'o');
		assert_int_equal(write(guest[i], "k", 1), 1);
		assert_int_equal(next_byte(user[i]), 'k');
		assert_false(stdio_relay_is_done(&relay));
		close_fd(&guest[i]);
	}
	end(WAIT_MS);
	assert_true(stdio_relay_is_done(&relay));
	assert_false(atomic_load(&relay.lost));
	assert_int_equal(atomic_load(&first_outputs), 1);
}

/* A stdin that its other users have switched to non-blocking has no end because nothing is typed. */
static void test_input_that_does_not_block(void **state)
{
	(void)state;
	assert_int_equal(fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK), 0);
	start(false);
	type("one key after the other, each of them when all before have arrived");
	close_fd(&user[0]);
	assert_int_equal(next_byte(guest[0]), -1);
}

/* Says as much as fits while nobody reads; returns how much. */
static size_t say_all(int fd)
{
	static const char bytes[4096];
	struct pollfd wait = { .fd = fd, .events = POLLOUT };
	size_t said = 0;

	while (poll(&wait, 1, 50) == 1) {
		ssize_t n = write(fd, bytes, sizeof(bytes));

		assert_true(n > 0);
		said += (size_t)n;
	}
	return said;
}

static void read_all(int fd, size_t said)
{
	char bytes[4096];

	while (said > 0) {
		ssize_t n;

		wait_for(fd, POLLIN);
		n = read(fd, bytes, sizeof(bytes));
		assert_true(n > 0);
		said -= (size_t)n;
	}
}

/* A slow reader, and a stdout that its other users have switched to non-blocking: all arrives. */
static void test_output_that_does_not_block(void **state)
{
	size_t said;

	(void)state;
	assert_int_equal(fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK), 0);
	start(false);
	said = say_all(guest[1]);
	close_fd(&guest[1]);
	close_fd(&guest[2]);
	read_all(user[1], said);
	end(WAIT_MS);
	assert_false(atomic_load(&relay.lost));
}

/* A reader that has gone: the command hears of it, as it would without mayfly between them, and nothing is lost. */
static void test_reader_that_has_gone(void **state)
{
	ssize_t n = 0;

	(void)state;
	start(false);
	close_fd(&user[1]);
	assert_int_equal(write(guest[1], "x", 1), 1);
	for (int i = 0; i < WAIT_MS && n >= 0; i++) {
		(void)poll(NULL, 0, 1);
		n = send(guest[1], "x", 1, MSG_NOSIGNAL);
	}
	assert_int_equal(errno, EPIPE);
	close_fd(&guest[2]);
	end(WAIT_MS);
	assert_true(stdio_relay_is_done(&relay));
	assert_false(atomic_load(&relay.lost));
}

static void test_output_that_cannot_be_written(void **state)
{
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(dup2(full, STDOUT_FILENO), STDOUT_FILENO);
	close(full);
	start(false);
	assert_int_equal(write(guest[1], "x", 1), 1);
	close_fd(&guest[1]);
	close_fd(&guest[2]);
	end(WAIT_MS);
	assert_true(stdio_relay_is_done(&relay));
	assert_true(atomic_load(&relay.lost));
}

/* At the end a reader has its time, and then what it did not read is lost. */
static void test_reader_that_is_too_slow(void **state)
{
	size_t said;

	(void)state;
	start(false);
	said = say_all(guest[1]);
	close_fd(&guest[1]);
	close_fd(&guest[2]);
	end(20);
	assert_false(stdio_relay_is_done(&relay));
	assert_true(atomic_load(&relay.lost));
	read_all(user[1], said); /* nobody is harmed who reads on */
}

/* What cannot be made whole leaves nothing. */
static void test_pairs(void **state)
{
	int fd[STDIO_RELAY_STREAMS], others[STDIO_RELAY_STREAMS], spare = fcntl(0, F_DUPFD_CLOEXEC, 3);
	unsigned before;
	struct rlimit limit;
	struct err e;

	(void)state;
	close(spare);
	before = open_fds();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (rlim_t room = 0; room < 2 * STDIO_RELAY_STREAMS; room++) {
		int r;

		assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ (rlim_t)spare + room, limit.rlim_max }), 0);
		r = stdio_relay_make_pairs(fd, others, false, &e);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		assert_int_equal(r, -EMFILE);
		assert_int_equal(open_fds(), before);
	}
	assert_int_equal(stdio_relay_make_pairs(fd, others, true, &e), 0);
	for (int i = 1; i < STDIO_RELAY_STREAMS; i++)
		assert_true(fd[i] == -1 && others[i] == -1);
	close(fd[0]);
	close(others[0]);
}

/* A thread of a stream has its own descriptors, and no others. */
static void test_confinement(void **state)
{
	struct stdio_relay s = { .changed_fd = 9 };
	const struct stdio_relay_pump pump = { .relay = &s, .from = 7, .to = 8 };
	const struct confine confine = { 0 };
	struct err e;

	(void)state;
	assert_int_equal(stdio_relay_confine(&pump, &confine, &e), 0);
	assert_int_equal(confined.kind, THREAD_PUMP);
	assert_int_equal(confined.own.own, 7);
	assert_int_equal(confined.own.to, 8);
	assert_int_equal(confined.own.changed, 9);
	assert_int_equal(confined.own.listen, -1);
	assert_int_equal(confined.own.epoll, -1);
	confined.fails = true;
	confined.crash_threads = 0;
	assert_int_equal(stdio_relay_confine(&pump, &confine, &e), -EPERM);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_keys_in_a_row),
		T(test_keys_within_a_second),
		T(test_keys_without_a_terminal),
		T(test_end_of_input),
		T(test_input_that_does_not_block),
		T(test_output_that_does_not_block),
		T(test_reader_that_has_gone),
		T(test_output_that_cannot_be_written),
		T(test_reader_that_is_too_slow),
		T(test_pairs),
		T(test_confinement),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
