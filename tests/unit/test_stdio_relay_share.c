/* Streams that share a thread: none waits for another one, and the thread sleeps while nothing happens. */
#include "tests/unit/stdio_relay_fixture.h"

/* Opens a path as one of mayfly's own streams; the user's end, if it was a pipe, is closed. */
static void use(int stream, const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(dup2(fd, stream), stream);
	close(fd);
	close_fd(&user[stream]);
}

static unsigned threads(void)
{
	unsigned n = 0;

	for (int i = 0; i < STDIO_RELAY_STREAMS; i++)
		n += relay.thread[i].started;
	return n;
}

/* Pipes, files and /dev/null: no call on them waits for another program. */
static void test_one_thread(void **state)
{
	(void)state;
	use(0, "/dev/null", O_RDONLY);
	start(false);
	assert_int_equal(threads(), 1);
	assert_int_equal(next_byte(guest[0]), -1);
	assert_int_equal(write(guest[1], "o", 1), 1);
	assert_int_equal(next_byte(user[1]), 'o');
}

/* A slow reader of one stream stops that one, whichever shares its thread; what it did not read is not lost. */
static void test_streams_do_not_wait_for_each_other(void **state)
{
	size_t said;

	(void)state;
	start(false);
	assert_int_equal(threads(), 1);
	said = say_all(guest[1]);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(write(guest[2], "e", 1), 1);
		assert_int_equal(next_byte(user[2]), 'e');
		type("k");
	}
	read_all(user[1], said);
	close_fd(&guest[1]);
	close_fd(&guest[2]);
	end(WAIT_MS);
	assert_true(stdio_relay_is_done(&relay));
	assert_false(atomic_load(&relay.lost));
}

/* stdout and stderr are one pipe that is full: stdin continues. */
static void test_one_pipe_for_both(void **state)
{
	size_t said;

	(void)state;
	assert_int_equal(dup2(STDOUT_FILENO, STDERR_FILENO), STDERR_FILENO);
	start(false);
	said = say_all(guest[1]);
	said += say_all(guest[2]);
	type("keys");
	close_fd(&guest[1]);
	close_fd(&guest[2]);
	read_all(user[1], said);
	end(WAIT_MS);
	assert_false(atomic_load(&relay.lost));
}

/* A command that does not read its input stops that alone. */
static void test_input_that_is_not_read(void **state)
{
	size_t said;

	(void)state;
	start(false);
	said = say_all(user[0]);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(write(guest[1], "o", 1), 1);
		assert_int_equal(next_byte(user[1]), 'o');
	}
	close_fd(&user[0]);
	read_all(guest[0], said);
	assert_int_equal(next_byte(guest[0]), -1);
}

/* While nothing happens the thread sleeps, also when a reader is slow, and when both of its outputs have ended. */
static void test_thread_does_not_spin(void **state)
{
	struct timespec before, after;
	clockid_t clock;
	size_t said;

	(void)state;
	start(false);
	said = say_all(guest[1]);
	close_fd(&guest[2]);
	assert_int_equal(pthread_getcpuclockid(relay.thread[0].thread, &clock), 0);
	(void)poll(NULL, 0, 50);
	assert_int_equal(clock_gettime(clock, &before), 0);
	(void)poll(NULL, 0, 300);
	assert_int_equal(clock_gettime(clock, &after), 0);
	assert_true((after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec < 30000000L);
	close_fd(&guest[1]);
	read_all(user[1], said);
	end(WAIT_MS);
	assert_true(stdio_relay_is_done(&relay));
}

/* Regular files, in both directions, with more than a buffer in them and a command that reads slowly. */
static void test_files(void **state)
{
	enum { SIZE = 300000 };
	char in[] = "/tmp/mf-relay-XXXXXX", out[] = "/tmp/mf-relay-XXXXXX";
	int in_fd = mkstemp(in), out_fd = mkstemp(out);
	struct stat st;

	(void)state;
	assert_true(in_fd >= 0 && out_fd >= 0);
	assert_int_equal(ftruncate(in_fd, SIZE), 0);
	use(0, in, O_RDONLY);
	use(1, out, O_WRONLY | O_APPEND);
	start(false);
	assert_int_equal(threads(), 1);
	(void)poll(NULL, 0, 50);
	read_all(guest[0], SIZE);
	assert_int_equal(next_byte(guest[0]), -1);
	for (int i = 0; i < SIZE / 1000; i++) {
		char piece[1000] = "";

		wait_for(guest[1], POLLOUT);
		assert_int_equal(write(guest[1], piece, sizeof(piece)), sizeof(piece));
	}
	close_fd(&guest[1]);
	close_fd(&guest[2]);
	end(WAIT_MS);
	assert_false(atomic_load(&relay.lost));
	assert_int_equal(fstat(out_fd, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	assert_int_equal(unlink(in) | unlink(out), 0);
	close(in_fd);
	close(out_fd);
}

/* A call on a socket may wait for its other end, so it has a thread of its own; the others share theirs. */
static void test_socket(void **state)
{
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(dup2(pair[0], STDOUT_FILENO), STDOUT_FILENO);
	close(pair[0]);
	close_fd(&user[1]);
	user[1] = pair[1];
	start(false);
	assert_int_equal(threads(), 2);
	assert_true(relay.thread[0].shared && !relay.thread[1].shared);
	(void)say_all(guest[1]);
	assert_int_equal(write(guest[2], "e", 1), 1);
	assert_int_equal(next_byte(user[2]), 'e');
	type("k");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_one_thread),
		T(test_streams_do_not_wait_for_each_other),
		T(test_one_pipe_for_both),
		T(test_input_that_is_not_read),
		T(test_thread_does_not_spin),
		T(test_files),
		T(test_socket),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
