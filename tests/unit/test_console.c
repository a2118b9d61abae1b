/* The console's host side on pipes: short, failing and stalled writes, backpressure, end of input. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "tests/unit/console_fixture.h"

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

/* Writes the rest of a burst, which wakes nobody, and returns whether the loop was signalled. */
static bool print_signals(const char *text)
{
	for (; *text; text++)
		out(THR, (uint8_t)*text);
	return poll(&(struct pollfd){ .fd = serial_event_fd(t.serial), .events = POLLIN }, 1, 0) == 1;
}

/*
 * The first byte after a pause appears at once, and what follows within a millisecond with the next look. An interrupt-
 * driven driver, which waits for room, is never made to wait for that; and after a look that found nothing, all is as before.
 */
static void test_bursts(void **state)
{
	struct timers *timers = &mock.loop->timers;

	(void)state;
	assert_true(print_signals("a"));
	turn();
	assert_written("a");
	complete(&t.write_op, 1);
	assert_false(print_signals("bcdefgh"));
	turn();
	assert_null(t.write_op);
	assert_non_null(timers->first);
	assert_int_equal(timers->first->deadline_ns, mock.now_ns + SERIAL_TX_LOOK_NS);
	mock_time(timers->first->deadline_ns);
	assert_written("bcdefgh");
	complete(&t.write_op, 7);
	out(IER, 2);
	turn();
	assert_true(print_signals("i"));
	turn();
	assert_written("i");
	complete(&t.write_op, 1);
	out(IER, 0);
	turn();
	while (timers->first)
		mock_time(timers->first->deadline_ns);
	assert_true(print_signals("j"));
	turn();
	assert_written("j");
	/* The end does not wait for a look. */
	complete(&t.write_op, 1);
	assert_false(print_signals("k"));
	assert_false(serial_drain(t.serial, 0));
	turn();
	assert_written("k");
	complete(&t.write_op, 1);
	assert_true(serial_drain(t.serial, 0));
}

static void test_nonblocking_output_is_polled(void **state)
{
	(void)state;
	print("abc");
	complete(&t.write_op, -EAGAIN);
	assert_null(t.write_op);
	assert_int_equal(t.poll_op->flags, POLLOUT);
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

/* Nor does a guest that writes as fast as its output is dropped keep the loop: a turn has an end. */
static void test_dropped_output_has_a_budget(void **state)
{
	(void)state;
	log_setup(LOG_LEVEL_ERROR, -1);
	print("abc");
	complete(&t.write_op, -EPIPE);
	t.floods = true;
	out(IER, 2);
	for (size_t turns = 1; turns < 10; turns++) {
		print("x");
		assert_true(mock_has_tasks());
		assert_true(t.seen <= 2 * turns * 3 * SERIAL_TX_SIZE); /* print makes two turns */
	}
	t.floods = false;
	while (mock_has_tasks())
		turn();
	assert_true(serial_drain(t.serial, 0));
}

/* A regular file gets output at once, a ring of it in a turn; one that cannot be written loses it. */
static void test_output_to_a_file(void **state)
{
	char got[16] = "";
	FILE *file = tmpfile();
	int fd = fileno(file), read_only;
	struct stat st;

	(void)state;
	remake(100, fd);
	print("hello");
	assert_null(t.write_op);
	assert_true(serial_drain(t.serial, 0));
	assert_int_equal(pread(fd, got, sizeof(got), 0), 5);
	assert_string_equal(got, "hello");
	t.floods = true;
	out(IER, 2);
	for (unsigned turns = 1; turns < 10; turns++) {
		turn();
		assert_int_equal(fstat(fd, &st), 0);
		assert_in_range(st.st_size, turns * SERIAL_TX_SIZE / 2, turns * 3 * SERIAL_TX_SIZE);
		assert_true(mock_has_tasks());
	}
	t.floods = false;

	read_only = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	remake(100, read_only);
	log_setup(LOG_LEVEL_ERROR, -1);
	print("lost");
	assert_true(serial_drain(t.serial, 0));
	close(read_only);
	fclose(file);
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
	complete(&t.write_op, 0); /* no error and nothing written: would repeat without end */
	assert_null(t.write_op);
	assert_true(serial_drain(t.serial, 0));
}

static void test_full_queue_is_retried(void **state)
{
	(void)state;
	complete(&t.read_op, -EINTR);
	assert_non_null(t.read_op);
	mock.room = 0;
	print("abc");
	complete(&t.read_op, -EINTR);
	assert_null(t.write_op);
	turn();
	assert_null(t.write_op);
	mock.room = MOCK_IO_MAX;
	turn();
	assert_written("abc");
	assert_non_null(t.read_op);
	mock.room = 0;
	complete(&t.write_op, -EAGAIN);
	assert_null(t.poll_op);
	mock.room = MOCK_IO_MAX;
	turn();
	assert_written("abc");
}

/* Writes what is read, a pattern of which taken bytes are gone. Returns how many then are. */
static unsigned type_all(unsigned taken)
{
	char piece[SERIAL_RX_SIZE];

	while (t.read_op) {
		for (unsigned i = 0; i < sizeof(piece); i++)
			piece[i] = (char)((taken + i) % 251);
		taken += t.read_op->iov->iov_len;
		type(piece, t.read_op->iov->iov_len);
		assert_true(taken < 10000);
	}
	return taken;
}

/* The FIFO and as much again is taken from a pipe while the guest reads nothing, then as many as it reads. */
static void test_input_backpressure(void **state)
{
	unsigned taken = 0, n = 0;
	char got = 0;

	(void)state;
	taken = type_all(taken);
	assert_int_equal(taken, 2 * SERIAL_RX_SIZE);
	while (n < 5000) {
		assert_int_equal(guest_reads(&got, 1), 1);
		assert_int_equal((uint8_t)got, n++ % 251);
		taken = type_all(taken);
		assert_true(taken <= n + 2 * SERIAL_RX_SIZE);
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
	assert_int_equal(t.poll_op->flags, POLLIN);
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

static void test_stop(void **state)
{
	(void)state;
	print("abc");
	console_stop(t.console);
	complete(&t.write_op, -EAGAIN);
	assert_null(t.poll_op);
	type("x", 1);
	turn();
	assert_null(t.write_op);
	assert_null(t.read_op);
	assert_false(mock_has_tasks());
}

static void test_cancelled(void **state)
{
	(void)state;
	print("abc");
	console_stop(t.console);
	complete(&t.read_op, -ECANCELED);
	complete(&t.write_op, -ECANCELED);
	turn();
	assert_null(t.write_op);
	assert_null(t.read_op);
	assert_null(mock.loop->timers.first); /* it was us, and not a lack of threads */
}

/* io_uring may start no thread: output waits, in order, and is not tried at once again; input has ended. */
static void test_cancelled_by_the_kernel(void **state)
{
	(void)state;
	log_setup(LOG_LEVEL_ERROR, -1);
	print("abc");
	complete(&t.write_op, -ECANCELED);
	assert_null(t.write_op);
	print("def");
	assert_false(serial_drain(t.serial, 0)); /* has the loop look */
	turn();
	assert_null(t.write_op);
	timers_run(&mock.loop->timers, 1000000);
	assert_null(t.write_op);
	timers_run(&mock.loop->timers, 20000000);
	assert_written("abc");
	complete(&t.write_op, 3);
	assert_written("def");
	complete(&t.write_op, 3);
	complete(&t.read_op, -ECANCELED);
	turn();
	assert_null(t.read_op);
	print("more");
	complete(&t.write_op, -ECANCELED);
	console_stop(t.console);
	timers_run(&mock.loop->timers, 60000000);
	assert_null(t.write_op);
}

static void test_muted(void **state)
{
	(void)state;
	start_muted = true;
	remake(100, 101);
	start_muted = false;
	serial_set_muted(t.serial);
	assert_int_equal(in(SCR), SERIAL_MUTED);
	out(SCR, 1);
	assert_int_equal(in(SCR), 1);
	print("dropped");
	assert_null(t.write_op);
	assert_true(serial_drain(t.serial, 0));
	assert_int_equal(t.seen, 7);
	console_unmute(t.console);
	print("shown");
	assert_written("shown");
}

/*
 * A ring gives a file up late, so the loop never gets a muted console's pipe. Unmuted, a full pipe stops the console and
 * nothing else, and all that was printed arrives.
 */
static void test_muted_pipe(void **state)
{
	char got[8192];
	int pair[2];

	(void)state;
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	assert_int_equal(fcntl(pair[1], F_SETPIPE_SZ, 4096), 4096);
	start_muted = true;
	remake(100, pair[1]);
	start_muted = false;
	for (unsigned i = 0; i < mock.loop->num_files; i++)
		assert_int_not_equal(mock.loop->file[i], pair[1]);
	assert_int_equal(console_plain_fd(t.console), pair[1]);
	print("dropped");
	assert_null(t.poll_op);
	console_unmute(t.console);
	print("shown");
	assert_null(t.write_op);
	assert_int_equal(t.poll_op->flags, POLLIN);
	assert_int_equal(poll(&(struct pollfd){ .fd = mock.loop->file[t.poll_op->file], .events = POLLIN }, 1, 0), 1);
	complete(&t.poll_op, POLLIN);
	assert_null(t.poll_op);
	assert_true(serial_drain(t.serial, 0));
	print(" more");
	assert_int_equal(poll(&(struct pollfd){ .fd = mock.loop->file[t.poll_op->file], .events = POLLIN }, 1, 0), 0);
	assert_false(serial_drain(t.serial, 0));
	assert_int_equal(read(pair[0], got, sizeof(got)), 5);
	assert_memory_equal(got, "shown", 5);
	complete(&t.poll_op, POLLIN);
	assert_int_equal(read(pair[0], got, sizeof(got)), 5);
	assert_memory_equal(got, " more", 5);
	log_setup(LOG_LEVEL_ERROR, -1);
	close(pair[0]);
	print("gone");
	complete(&t.poll_op, POLLIN | POLLERR);
	assert_true(serial_drain(t.serial, 0));
	print("dropped again");
	assert_null(t.poll_op);
	assert_true(serial_drain(t.serial, 0));
	assert_false(console_has_lost(t.console));
	close(pair[1]);
}

static void test_without_files(void **state)
{
	(void)state;
	remake(-1, -1);
	print("abc");
	assert_true(serial_drain(t.serial, 0));
	assert_int_equal(t.seen, 3);
	assert_null(t.read_op);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PIPE(test_output_and_short_writes),
		PIPE(test_bursts),
		PIPE(test_nonblocking_output_is_polled),
		PIPE(test_broken_output_is_dropped),
		PIPE(test_dropped_output_has_a_budget),
		PIPE(test_output_to_a_file),
		PIPE(test_full_disk_is_tried_again),
		PIPE(test_full_queue_is_retried),
		PIPE(test_input_backpressure),
		PIPE(test_end_of_input),
		PIPE(test_nonblocking_input_is_polled),
		PIPE(test_pipe_is_binary),
		PIPE(test_stop),
		PIPE(test_cancelled),
		PIPE(test_cancelled_by_the_kernel),
		PIPE(test_muted),
		PIPE(test_muted_pipe),
		PIPE(test_without_files),
	};

	alarm(60);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
