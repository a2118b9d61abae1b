/* The console on a terminal: escapes, raw mode, and whose terminal it is. */
#include "tests/unit/console_fixture.h"
#include "vmm/process/tty.h"

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

static bool ours;

static bool says_ours(void *ctx)
{
	assert_ptr_equal(ctx, &t);
	return ours;
}

/* Time goes on until the terminal is looked at again. */
static void look_again(void)
{
	assert_true(!t.poll_op && !t.read_op);
	mock_time(mock.now_ns + 1000000000);
}

/* In the background nothing is read: a poll waits for keys, and a timer for the program that they are for. */
static void test_background(void **state)
{
	const int slave = t.slave, master = t.master;

	(void)state;
	is_ours = says_ours;
	ours = false;
	remake(slave, 101);
	t.slave = slave;
	t.master = master;
	for (unsigned i = 0; i < 3; i++) {
		assert_null(t.read_op);
		complete(&t.poll_op, POLLIN);
		look_again();
	}
	assert_int_equal(t.foregrounds, 0);
	ours = true;
	complete(&t.poll_op, POLLIN);
	assert_int_equal(t.foregrounds, 0); /* the foreground may have changed before the read */
	type("ab", 2);
	assert_int_equal(t.foregrounds, 1);
	assert_guest_reads("ab");
	type("b", 1);
	assert_int_equal(t.foregrounds, 1);
	assert_guest_reads("b");
	/* As in a jail: only a read shows it. */
	complete(&t.read_op, -EIO);
	look_again();
	complete(&t.poll_op, POLLIN);
	complete(&t.read_op, -EIO); /* it is another's after all */
	look_again();
	complete(&t.poll_op, POLLIN);
	assert_int_equal(t.foregrounds, 1);
	type("c", 1);
	assert_int_equal(t.foregrounds, 2);
	assert_guest_reads("c");
	/* A terminal that has gone is the end, and not waited for. */
	complete(&t.read_op, -EIO);
	look_again();
	complete(&t.poll_op, POLLIN | POLLHUP);
	complete(&t.read_op, -EIO);
	mock_time(mock.now_ns + 1000000000);
	assert_true(!t.poll_op && !t.read_op);
	is_ours = NULL;
}

static void test_help_between_pieces(void **state)
{
	(void)state;
	print("abc");
	type("\x01h", 2);
	complete(&t.write_op, 1);
	assert_non_null(t.write_op);
	assert_non_null(memmem(t.write_op->iov->iov_base, t.write_op->iov->iov_len, "Ctrl-A x", 8));
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
		n = t.read_op->iov->iov_len;
		type(keys, n);
		taken += n;
	}
	assert_true(taken <= 4096 + SERIAL_RX_SIZE); /* bounded, all the same */
	assert_int_equal(guest_reads(got, sizeof(got)), taken);
}

/* The last read ahead fills the keys to the last, since the one before it ended with an escape that was none. */
static void test_read_ahead_is_full(void **state)
{
	char piece[SERIAL_RX_SIZE], got[8192];
	unsigned taken = 0, n;

	(void)state;
	while (t.read_op) {
		n = t.read_op->iov->iov_len;
		memset(piece, 'k', n);
		if (taken + n <= 4096)
			piece[n - 1] = 0x01;
		type(piece, n);
		taken += n;
	}
	assert_int_equal(guest_reads(got, sizeof(got)), taken);
	assert_int_equal(got[0], 'k');
	assert_int_equal(got[taken - 1], 'k');
}

static void test_raw_mode(void **state)
{
	struct termios before, raw, after;
	int pipes[2];

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_false(tty_raw(pipes[0]));
	close(pipes[0]);
	close(pipes[1]);
	tty_restore(); /* nothing to restore */
	tcgetattr(t.slave, &before);
	assert_true(tty_raw(t.slave));
	tcgetattr(t.slave, &raw);
	assert_false(raw.c_lflag & (ICANON | ECHO | ISIG));
	assert_false(raw.c_oflag & OPOST);
	errno = ENOTUNIQ;
	tty_restore();
	assert_int_equal(errno, ENOTUNIQ);
	tcgetattr(t.slave, &after);
	assert_int_equal(after.c_lflag, before.c_lflag);
	assert_int_equal(after.c_iflag, before.c_iflag);
	assert_int_equal(after.c_oflag, before.c_oflag);
	/* Idempotent: a mode set later by somebody else stays. */
	after.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(t.slave, TCSANOW, &after);
	tty_restore();
	tcgetattr(t.slave, &after);
	assert_false(after.c_lflag & ECHO);
}

/* In a child of its own session, the terminal's foreground is not ours: 0 if it is then left alone. */
static int background_child(void)
{
	int status;
	pid_t pid;

	if (setsid() < 0 || ioctl(t.slave, TIOCSCTTY, 0) < 0)
		return 2;
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		if (tty_raw(t.slave))
			_exit(3);
		_exit(tty_is_ours(t.slave) ? 5 : 0);
	}
	if (waitpid(pid, &status, WUNTRACED) != pid || !WIFEXITED(status))
		return 6;
	if (WEXITSTATUS(status))
		return WEXITSTATUS(status);
	return tty_raw(t.slave) ? 0 : 7; /* we are in its foreground */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TTY(test_escapes),
		TTY(test_background),
		TTY(test_help_between_pieces),
		TTY(test_quit_when_the_guest_does_not_read),
		TTY(test_read_ahead_is_full),
		TTY(test_raw_mode),
		TTY(test_background_leaves_the_terminal_alone),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
