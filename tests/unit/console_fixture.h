/* A console on a serial port, with a loop whose operations the test completes. Include it once, in a test. */
#ifndef MF_TESTS_UNIT_CONSOLE_FIXTURE_H
#define MF_TESTS_UNIT_CONSOLE_FIXTURE_H

#include "tests/unit/mock_loop.h"

#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#include "vmm/base/log.h"
#include "vmm/platform/console.h"
#include "vmm/platform/serial.h"

enum { RBR, IER, IIR, LCR, MCR, LSR, SCR = 7, THR = 0 };

static struct console_test {
	struct serial *serial;
	struct console *console;
	int master, slave; /* a terminal, for the tests that want one */
	struct op *read_op, *write_op, *poll_op;
	unsigned quits, foregrounds;
	bool floods; /* the guest writes whenever an interrupt says that there is room */
	size_t seen;
} t;

/* Of what is started: one read, one write and one poll at a time. */
static inline struct op **slot_of(const struct op *op)
{
	return op->kind == OP_READ ? &t.read_op : op->kind == OP_WRITE ? &t.write_op : &t.poll_op;
}

static inline void check(const struct op *op)
{
	assert_null(*slot_of(op));
	assert_true(op->kind == OP_POLL || op->offset == LOOP_NO_OFFSET);
	assert_true(op->kind == OP_POLL || (op->num == 1 && op->iov->iov_len > 0 && op->iov->iov_len <= 4096));
	*slot_of(op) = (struct op *)(uintptr_t)op;
}

static inline void turn(void)
{
	(void)mock_poll_watches();
	mock_run_tasks();
}

static inline void complete(struct op **slot, int res)
{
	unsigned i = 0;

	assert_non_null(*slot);
	while (mock.io[i].op != *slot)
		i++;
	*slot = NULL;
	mock_complete(i, res);
}

static inline void type(const char *text, unsigned len)
{
	assert_true(t.read_op && len <= t.read_op->iov->iov_len);
	memcpy(t.read_op->iov->iov_base, text, len);
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
static bool (*is_ours)(void *ctx);

static inline void on_foreground(void *ctx)
{
	assert_ptr_equal(ctx, &t);
	t.foregrounds++;
}

static inline void make(int in_fd, int out_fd)
{
	struct console_params params = {
		.in_fd = in_fd,
		.out_fd = out_fd,
		.muted = start_muted,
		.on_quit = on_quit,
		.is_ours = is_ours,
		.on_foreground = on_foreground,
		.on_output = on_output,
		.ctx = &t,
	};
	struct err e;

	mock_init();
	mock.check = check;
	assert_int_equal(serial_new(&t.serial, mock.loop, &ops, NULL, SERIAL_STALL_MS, &e), 0);
	assert_int_equal(console_new(&t.console, t.serial, mock.loop, &params, &e), 0);
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

/* The time for the next look at output, if one is due. */
static inline void pass_look(void)
{
	struct timers *timers = &mock.loop->timers;

	if (timers->first && timers->first->deadline_ns <= mock.now_ns + SERIAL_TX_LOOK_NS)
		mock_time(timers->first->deadline_ns);
}

static inline void print(const char *text)
{
	for (; *text; text++)
		out(THR, (uint8_t)*text);
	turn();
	pass_look();
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
		mock_time(mock.now_ns + SERIAL_RX_PAUSE_MAX_MS * 1000000ULL);
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
	assert_int_equal(t.write_op->iov->iov_len, strlen(text));
	assert_memory_equal(t.write_op->iov->iov_base, text, strlen(text));
}

#define PIPE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TTY(f) cmocka_unit_test_setup_teardown(f, setup_tty, teardown)

#endif
