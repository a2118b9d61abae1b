/* A console on a serial port, with a loop whose operations the test completes. Include it once, in a test. */
#ifndef MF_TESTS_UNIT_CONSOLE_FIXTURE_H
#define MF_TESTS_UNIT_CONSOLE_FIXTURE_H

#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/core/loop.h"
#include "vmm/core/timer.h"
#include "vmm/platform/console.h"
#include "vmm/platform/serial.h"

enum { RBR, IER, IIR, LCR, MCR, LSR, THR = 0 };

static struct console_test {
	struct serial *serial;
	struct console *console;
	struct watch *watch;
	int fd;
	int master, slave; /* a terminal, for the tests that want one */
	bool full;	   /* the submission queue is */
	struct task *task;
	struct op *read_op, *write_op, *poll_op;
	short poll_events;
	uint8_t *in;
	unsigned in_len, out_len;
	const uint8_t *out;
	unsigned quits;
	bool floods; /* the guest writes whenever an interrupt says that there is room */
	size_t seen;
	struct timers timers;
} t;

/* The loop: operations wait to be completed by the test. Files are their fds. */
int loop_add_file(struct loop *loop, int fd)
{
	(void)loop;
	return fd;
}

struct timers *loop_timers(struct loop *loop)
{
	(void)loop;
	return &t.timers;
}

int loop_watch(struct loop *loop, struct watch *watch, int eventfd)
{
	(void)loop;
	t.watch = watch;
	t.fd = eventfd;
	return 0;
}

bool loop_read(struct loop *loop, struct op *op, int file, void *buf, unsigned len, uint64_t offset)
{
	(void)loop;
	assert_null(t.read_op);
	assert_true(file >= 0 && len > 0 && offset == LOOP_NO_OFFSET);
	if (t.full)
		return false;
	t.read_op = op;
	t.in = buf;
	t.in_len = len;
	return true;
}

bool loop_write(struct loop *loop, struct op *op, int file, const void *buf, unsigned len, uint64_t offset)
{
	(void)loop;
	assert_null(t.write_op);
	assert_true(file >= 0 && len > 0 && len <= 4096 && offset == LOOP_NO_OFFSET);
	if (t.full)
		return false;
	t.write_op = op;
	t.out = buf;
	t.out_len = len;
	return true;
}

bool loop_poll(struct loop *loop, struct op *op, int file, short events)
{
	(void)loop;
	assert_null(t.poll_op);
	assert_true(file >= 0);
	if (t.full)
		return false;
	t.poll_op = op;
	t.poll_events = events;
	return true;
}

void loop_defer(struct loop *loop, struct task *task)
{
	(void)loop;
	t.task = task;
}

int loop_call(struct loop *loop, int (*fn)(void *arg), void *arg)
{
	(void)loop;
	return fn(arg);
}

static inline void turn(void)
{
	struct pollfd p = { .fd = t.fd, .events = POLLIN };
	struct task *task = t.task;
	uint64_t count;

	t.task = NULL;
	if (poll(&p, 1, 0) == 1) {
		assert_int_equal(read(t.fd, &count, sizeof(count)), sizeof(count));
		t.watch->fire(t.watch);
	}
	if (task)
		task->run(task);
}

static inline void complete(struct op **slot, int res)
{
	struct op *op = *slot;

	assert_non_null(op);
	*slot = NULL;
	op->done(op, res);
}

static inline void type(const char *text, unsigned len)
{
	assert_true(t.read_op && len <= t.in_len);
	memcpy(t.in, text, len);
	complete(&t.read_op, (int)len);
}

static inline void out(unsigned reg, uint8_t value)
{
	serial_access(t.serial, reg, true, &value, 1);
}

static inline uint8_t in(unsigned reg)
{
	uint8_t value = 0xff;

	serial_access(t.serial, reg, false, &value, 1);
	return value;
}

static inline void on_raise(void *ctx)
{
	(void)ctx;
	if (!t.floods)
		return;
	in(IIR);
	while (in(LSR)&0x20)
		out(THR, 'f');
}

static inline void on_quit(void *ctx)
{
	assert_ptr_equal(ctx, &t);
	t.quits++;
}

static inline void on_output(void *ctx, const uint8_t *data, size_t len)
{
	assert_true(ctx == &t && data);
	t.seen += len;
}

static const struct serial_ops ops = { .raise = on_raise };

static bool start_muted;

static inline void make(int in_fd, int out_fd)
{
	struct console_params params = {
		.in_fd = in_fd,
		.out_fd = out_fd,
		.muted = start_muted,
		.on_quit = on_quit,
		.on_output = on_output,
		.ctx = &t,
	};
	struct err e;

	assert_int_equal(serial_new(&t.serial, NULL, &ops, NULL, SERIAL_STALL_MS, &e), 0);
	assert_int_equal(console_new(&t.console, t.serial, NULL, &params, &e), 0);
	assert_null(t.read_op); /* nothing before the loop runs */
	turn();
}

/* In the place of the one of setup. */
static inline void remake(int in_fd, int out_fd)
{
	console_free(t.console);
	serial_free(t.serial);
	memset(&t, 0, sizeof(t));
	t.master = t.slave = -1;
	make(in_fd, out_fd);
}

static inline int setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	t.master = t.slave = -1;
	make(100, 101); /* no terminals, for sure */
	return 0;
}

static inline int setup_tty(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	assert_int_equal(openpty(&t.master, &t.slave, NULL, NULL, NULL), 0);
	make(t.slave, 101);
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	console_stop(t.console);
	console_free(t.console);
	serial_free(t.serial);
	console_free(NULL);
	console_stop(NULL);
	if (t.master >= 0) {
		close(t.master);
		close(t.slave);
	}
	log_setup(LOG_LEVEL_WARN, -1);
	return 0;
}

static inline void print(const char *text)
{
	for (; *text; text++)
		out(THR, (uint8_t)*text);
	turn();
}

/* What the guest reads, slowly, until there is nothing; a break shows as '!'. */
static inline unsigned guest_reads(char *to, unsigned max)
{
	unsigned n = 0;
	uint8_t lsr;

	out(IER, 1);
	while (n < max && ((lsr = in(LSR)) & 1)) {
		to[n] = (char)in(RBR);
		if (lsr & 0x10)
			to[n] = '!';
		n++;
		turn();
		timers_run(&t.timers, t.timers.now_ns + SERIAL_RX_PAUSE_MAX_MS * 1000000ULL);
	}
	return n;
}

static inline void assert_guest_reads(const char *text)
{
	char got[256];
	unsigned n = guest_reads(got, sizeof(got));

	assert_int_equal(n, strlen(text));
	assert_memory_equal(got, text, n);
}

static inline void assert_written(const char *text)
{
	assert_non_null(t.write_op);
	assert_int_equal(t.out_len, strlen(text));
	assert_memory_equal(t.out, text, t.out_len);
}

#define PIPE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TTY(f) cmocka_unit_test_setup_teardown(f, setup_tty, teardown)

#endif
