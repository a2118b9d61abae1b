/* The console's host side: short, failing and stalled writes, backpressure and end of input, escapes, the terminal. */
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
#include "vmm/console.h"
#include "vmm/core/loop.h"
#include "vmm/serial.h"

enum { RBR, IER, IIR, LCR, MCR, LSR, THR = 0 };

static struct {
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
	size_t seen;
} t;

/* The loop: operations wait to be completed by the test. Files are their fds. */
int loop_add_file(struct loop *loop, int fd)
{
	(void)loop;
	return fd;
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

static void turn(void)
{
	struct pollfd p = { .fd = t.fd, .events = POLLIN };
	struct task *task = t.task;
	uint64_t count;

	if (poll(&p, 1, 0) == 1) {
		assert_int_equal(read(t.fd, &count, sizeof(count)), sizeof(count));
		t.watch->fire(t.watch);
	}
	t.task = NULL;
	if (task)
		task->run(task);
}

static void complete(struct op **slot, int res)
{
	struct op *op = *slot;

	assert_non_null(op);
	*slot = NULL;
	op->done(op, res);
}

static void type(const char *text, unsigned len)
{
	assert_true(t.read_op && len <= t.in_len);
	memcpy(t.in, text, len);
	complete(&t.read_op, (int)len);
}

static void on_raise(void *ctx)
{
	(void)ctx;
}

static void on_quit(void *ctx)
{
	assert_ptr_equal(ctx, &t);
	t.quits++;
}

static void on_output(void *ctx, const uint8_t *data, size_t len)
{
	assert_true(ctx == &t && data);
	t.seen += len;
}

static const struct serial_ops ops = { .raise = on_raise };

static void make(int in_fd, int out_fd)
{
	struct console_params params = {
		.in_fd = in_fd,
		.out_fd = out_fd,
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

static int setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	t.master = t.slave = -1;
	make(100, 101); /* no terminals, for sure */
	return 0;
}

static int setup_tty(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	assert_int_equal(openpty(&t.master, &t.slave, NULL, NULL, NULL), 0);
	make(t.slave, 101);
	return 0;
}

static int teardown(void **state)
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

static void out(unsigned reg, uint8_t value)
{
	serial_access(t.serial, reg, true, &value, 1);
}

static uint8_t in(unsigned reg)
{
	uint8_t value = 0xff;

	serial_access(t.serial, reg, false, &value, 1);
	return value;
}

static void print(const char *text)
{
	for (; *text; text++)
		out(THR, (uint8_t)*text);
	turn();
}

/* What the guest reads, until there is nothing; a break shows as '!'. */
static unsigned guest_reads(char *to, unsigned max)
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
	}
	return n;
}

static void assert_guest_reads(const char *text)
{
	char got[256];
	unsigned n = guest_reads(got, sizeof(got));

	assert_int_equal(n, strlen(text));
	assert_memory_equal(got, text, n);
}

static void assert_written(const char *text)
{
	assert_non_null(t.write_op);
	assert_int_equal(t.out_len, strlen(text));
	assert_memory_equal(t.out, text, t.out_len);
}

static void test_output_and_short_writes(void **state)
{
	(void)state;
	print("hello");
	assert_written("hello");
	print(", world");
	assert_int_equal(t.seen, 5);
	assert_false(serial_drain(t.serial, 0)); /* has the loop look */
	turn();
	assert_int_equal(t.seen, 12);
	complete(&t.write_op, 2);
	assert_written("llo, world");
	complete(&t.write_op, -EINTR);
	assert_written("llo, world");
	complete(&t.write_op, 10);
	assert_null(t.write_op);
	assert_true(serial_drain(t.serial, 0));
}

static void test_nonblocking_output_is_polled(void **state)
{
	(void)state;
	print("abc");
	complete(&t.write_op, -EAGAIN);
	assert_null(t.write_op);
	assert_int_equal(t.poll_events, POLLOUT);
	print("d");
	assert_null(t.write_op);
	complete(&t.poll_op, POLLOUT);
	assert_written("abc"); /* the piece stays as it is */
	complete(&t.write_op, 3);
	assert_written("d");
	complete(&t.write_op, -EAGAIN);
	complete(&t.poll_op, POLLERR);
	log_setup(LOG_LEVEL_ERROR, -1);
	complete(&t.write_op, -EPIPE);
	assert_true(serial_drain(t.serial, 0));
}

static void test_broken_output_is_dropped(void **state)
{
	(void)state;
	log_setup(LOG_LEVEL_ERROR, -1);
	print("abc");
	complete(&t.write_op, -EPIPE);
	assert_true(serial_drain(t.serial, 0));
	for (unsigned i = 0; i < SERIAL_TX_SIZE; i++)
		print("de");
	assert_null(t.write_op);
	assert_true(serial_drain(t.serial, 0));
	assert_int_equal(t.seen, 3 + 2 * SERIAL_TX_SIZE);
	assert_int_equal(serial_dropped(t.serial), 0);
	/* Input still works. */
	type("x", 1);
	assert_guest_reads("x");
}

static void test_full_disk_is_tried_again(void **state)
{
	(void)state;
	log_setup(LOG_LEVEL_ERROR, -1);
	print("lost");
	complete(&t.write_op, -ENOSPC);
	assert_null(t.write_op);
	print("kept");
	assert_written("kept");
	complete(&t.write_op, 0); /* no error and nothing written: would be for ever */
	assert_null(t.write_op);
	assert_true(serial_drain(t.serial, 0));
}

static void test_full_queue_is_retried(void **state)
{
	(void)state;
	complete(&t.read_op, -EINTR);
	assert_non_null(t.read_op);
	t.full = true;
	print("abc");
	complete(&t.read_op, -EINTR);
	assert_null(t.write_op);
	turn();
	assert_null(t.write_op);
	t.full = false;
	turn();
	assert_written("abc");
	assert_non_null(t.read_op);
	t.full = true;
	complete(&t.write_op, -EAGAIN);
	assert_null(t.poll_op);
	t.full = false;
	turn();
	assert_written("abc");
}

/* 64 bytes at most are taken from a pipe while the guest reads nothing, then as many as it reads. */
static void test_input_backpressure(void **state)
{
	char got[8192], byte;
	unsigned taken = 0, n = 0;

	(void)state;
	while (t.read_op && taken < 10000) {
		byte = (char)(taken++ % 251);
		type(&byte, 1);
	}
	assert_int_equal(taken, SERIAL_RX_SIZE);
	while (n < 5000) {
		n += guest_reads(got, 1);
		assert_int_equal((uint8_t)got[0], (n - 1) % 251);
		while (t.read_op) {
			byte = (char)(taken++ % 251);
			type(&byte, 1);
		}
		assert_true(taken <= n + SERIAL_RX_SIZE);
	}
}

static void test_end_of_input(void **state)
{
	(void)state;
	type("last", 4);
	complete(&t.read_op, 0);
	assert_guest_reads("last");
	assert_null(t.read_op);
	turn();
	assert_null(t.read_op);
	print("still here");
	assert_written("still here");
}

static void test_nonblocking_input_is_polled(void **state)
{
	(void)state;
	complete(&t.read_op, -EAGAIN);
	assert_null(t.read_op);
	assert_int_equal(t.poll_events, POLLIN);
	turn();
	complete(&t.poll_op, POLLIN);
	type("a", 1);
	assert_guest_reads("a");
	complete(&t.read_op, -EIO);
	turn();
	assert_null(t.read_op);
}

static void test_pipe_is_binary(void **state)
{
	(void)state;
	type("\x01x\x01"
	     "c\x01",
	     5);
	assert_guest_reads("\x01x\x01"
			   "c\x01");
	assert_int_equal(t.quits, 0);
}

static void test_escapes(void **state)
{
	(void)state;
	type("a\x01", 2);
	assert_guest_reads("a");
	type("ab", 2);
	assert_guest_reads("\x01"
			   "b");
	type("\x01z\x01\x01\x01"
	     "cs",
	     7);
	assert_guest_reads("\x01z\x01!s");
	assert_int_equal(t.quits, 0);
	type("\x01x", 2);
	assert_int_equal(t.quits, 1);
	assert_guest_reads("");
}

static void test_help_between_pieces(void **state)
{
	(void)state;
	print("abc");
	type("\x01h", 2);
	complete(&t.write_op, 1);
	assert_non_null(t.write_op);
	assert_non_null(memmem(t.out, t.out_len, "Ctrl-A x", 8));
	print("def");
	complete(&t.write_op, 10);
	assert_written("bcdef");
	complete(&t.write_op, 5);
	assert_true(serial_drain(t.serial, 0));
}

static void test_quit_when_the_guest_does_not_read(void **state)
{
	char keys[SERIAL_RX_SIZE];
	unsigned taken = 0, n;
	char got[8192];

	(void)state;
	memset(keys, 'k', sizeof(keys));
	for (; taken < 1000; taken += sizeof(keys))
		type(keys, sizeof(keys));
	type("\x01x", 2);
	assert_int_equal(t.quits, 1);
	while (t.read_op && taken < 100000) {
		n = t.in_len;
		type(keys, n);
		taken += n;
	}
	assert_true(taken <= 4096 + SERIAL_RX_SIZE); /* bounded, all the same */
	assert_int_equal(guest_reads(got, sizeof(got)), taken);
}

static void test_stop(void **state)
{
	(void)state;
	print("abc");
	console_stop(t.console);
	complete(&t.write_op, 1);
	complete(&t.read_op, -ECANCELED);
	turn();
	assert_null(t.write_op);
	assert_null(t.read_op);
	assert_null(t.task);
}

static void test_cancelled(void **state)
{
	(void)state;
	print("abc");
	complete(&t.write_op, -ECANCELED);
	complete(&t.read_op, -EAGAIN);
	turn();
	assert_null(t.write_op);
	assert_null(t.poll_op);
}

static void test_without_files(void **state)
{
	(void)state;
	console_free(t.console);
	serial_free(t.serial);
	memset(&t, 0, sizeof(t));
	t.master = t.slave = -1;
	make(-1, -1);
	print("abc");
	assert_true(serial_drain(t.serial, 0));
	assert_int_equal(t.seen, 3);
	assert_null(t.read_op);
}

static void test_raw_mode(void **state)
{
	struct termios before, raw, after;
	int pipes[2];

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_false(console_tty_raw(pipes[0]));
	close(pipes[0]);
	close(pipes[1]);
	console_tty_restore(); /* nothing to restore */
	tcgetattr(t.slave, &before);
	assert_true(console_tty_raw(t.slave));
	tcgetattr(t.slave, &raw);
	assert_false(raw.c_lflag & (ICANON | ECHO | ISIG));
	assert_false(raw.c_oflag & OPOST);
	errno = ENOTUNIQ;
	console_tty_restore();
	assert_int_equal(errno, ENOTUNIQ);
	tcgetattr(t.slave, &after);
	assert_int_equal(after.c_lflag, before.c_lflag);
	assert_int_equal(after.c_iflag, before.c_iflag);
	assert_int_equal(after.c_oflag, before.c_oflag);
	/* Idempotent: a mode set later by somebody else stays. */
	after.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(t.slave, TCSANOW, &after);
	console_tty_restore();
	tcgetattr(t.slave, &after);
	assert_false(after.c_lflag & ECHO);
}

/* In a child of its own session, the terminal's foreground is not ours: 0 if it is then left alone. */
static int background_child(void)
{
	struct console_params params = { .in_fd = t.slave, .out_fd = -1 };
	struct console *console = NULL;
	struct err e;
	int status;
	pid_t pid;

	if (setsid() < 0 || ioctl(t.slave, TIOCSCTTY, 0) < 0)
		return 2;
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		if (console_tty_raw(t.slave))
			_exit(3);
		if (console_new(&console, t.serial, NULL, &params, &e) < 0)
			_exit(4);
		t.read_op = NULL;
		turn();
		_exit(t.read_op ? 5 : 0);
	}
	if (waitpid(pid, &status, WUNTRACED) != pid || !WIFEXITED(status))
		return 6;
	if (WEXITSTATUS(status))
		return WEXITSTATUS(status);
	return console_tty_raw(t.slave) ? 0 : 7; /* we are in its foreground */
}

static void test_background_leaves_the_terminal_alone(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(background_child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define PIPE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TTY(f) cmocka_unit_test_setup_teardown(f, setup_tty, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PIPE(test_output_and_short_writes),
		PIPE(test_nonblocking_output_is_polled),
		PIPE(test_broken_output_is_dropped),
		PIPE(test_full_disk_is_tried_again),
		PIPE(test_full_queue_is_retried),
		PIPE(test_input_backpressure),
		PIPE(test_end_of_input),
		PIPE(test_nonblocking_input_is_polled),
		PIPE(test_pipe_is_binary),
		TTY(test_escapes),
		TTY(test_help_between_pieces),
		TTY(test_quit_when_the_guest_does_not_read),
		PIPE(test_stop),
		PIPE(test_cancelled),
		PIPE(test_without_files),
		TTY(test_raw_mode),
		TTY(test_background_leaves_the_terminal_alone),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
