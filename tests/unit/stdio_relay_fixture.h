/* A command's streams, with pipes as mayfly's stdin, stdout and stderr. Include it once, in a test. */
#ifndef MF_TESTS_UNIT_STDIO_RELAY_FIXTURE_H
#define MF_TESTS_UNIT_STDIO_RELAY_FIXTURE_H

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
#include <sys/stat.h>
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

static inline void on_output(void *ctx)
{
	(void)ctx;
	atomic_fetch_add(&first_outputs, 1);
}

static inline int setup(void **state)
{
	int pair[2];

	(void)state;
	log_setup(LOG_LEVEL_ERROR, -1);
	fds_before = open_fds();
	atomic_store(&first_outputs, 0);
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

static inline void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* All threads end when both sides have closed. */
static inline int teardown(void **state)
{
	(void)state;
	atomic_store(&fake_ms, 0);
	for (int i = 0; i < STDIO_RELAY_STREAMS; i++) {
		close_fd(&user[i]);
		close_fd(&guest[i]);
	}
	for (int i = 0; i < STDIO_RELAY_STREAMS; i++) {
		struct stdio_relay_pump *p = &relay.pump[i];

		if (relay.thread[i].started)
			assert_int_equal(pthread_join(relay.thread[i].thread, NULL), 0);
		if (p->relay && !(relay.tty && i > 0))
			close(p->is_input ? p->to : p->from);
		assert_int_equal(dup2(saved[i], i), i);
		close(saved[i]);
	}
	close_fd(&relay.changed_fd);
	free(relay.bufs);
	assert_int_equal(open_fds(), fds_before);
	return 0;
}

static inline void start(bool tty)
{
	int fd[STDIO_RELAY_STREAMS];
	struct err e;

	assert_int_equal(stdio_relay_make_pairs(fd, guest, tty, &e), 0);
	assert_int_equal(stdio_relay_start(&relay, tty, fd, &e), 0);
}

static inline void end(unsigned timeout_ms)
{
	stdio_relay_end(&relay, timeout_ms);
}

static inline void wait_for(int fd, short events)
{
	struct pollfd wait = { .fd = fd, .events = events };

	assert_int_equal(poll(&wait, 1, WAIT_MS), 1);
}

/* One byte that arrives, or -1: the end. */
static inline int next_byte(int fd)
{
	unsigned char byte;
	ssize_t n;

	wait_for(fd, POLLIN);
	n = read(fd, &byte, 1);
	assert_true(n >= 0);
	return n ? byte : -1;
}

static inline void type(const char *keys)
{
	for (; *keys; keys++) {
		assert_int_equal(write(user[0], keys, 1), 1);
		assert_int_equal(next_byte(guest[0]), *keys);
	}
}

/* Says as much as fits while nobody reads; returns how much. */
static inline size_t say_all(int fd)
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

static inline void read_all(int fd, size_t said)
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

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

#endif
