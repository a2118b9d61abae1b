/*
 * A command's streams, with pipes as mayfly's stdin, stdout and stderr: what ends each of them, readers that are slow or
 * gone, and the keys that leave a terminal session, on a clock that the test sets.
 */
#include "tests/unit/stdio_relay_fixture.h"

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
/* A relay that waits for its streams reads nothing before; then they are those that have the numbers. */
static void test_streams_that_come_later(void **state)
{
	struct pollfd typed;
	int later[2];

	(void)state;
	relay.later = true;
	start(false);
	assert_true(stdio_relay_is_done(&relay));
	assert_int_equal(write(user[0], "x", 1), 1);
	typed = (struct pollfd){ .fd = guest[0], .events = POLLIN };
	assert_int_equal(poll(&typed, 1, 50), 0);
	assert_int_equal(pipe2(later, O_CLOEXEC), 0);
	assert_int_equal(dup2(later[0], STDIN_FILENO), STDIN_FILENO);
	close(later[0]);
	close(user[0]);
	user[0] = later[1];
	stdio_relay_open(&relay, false);
	assert_false(stdio_relay_is_done(&relay));
	type("of the client");
	assert_int_equal(write(guest[1], "y", 1), 1);
	assert_int_equal(next_byte(user[1]), 'y');
	close_fd(&guest[1]);
	close_fd(&guest[2]);
	end(WAIT_MS);
	assert_true(stdio_relay_is_done(&relay));
	close(relay.gate_fd);
}

/* The same of a terminal, whose output comes from where its input goes; a third thread has nothing to do. */
static void test_terminal_that_comes_later(void **state)
{
	(void)state;
	relay.later = true;
	start(false);
	assert_int_equal(dup2(relay.pump[0].to, relay.pump[1].from), relay.pump[1].from);
	close_fd(&guest[1]);
	stdio_relay_open(&relay, true);
	type("key");
	assert_int_equal(write(guest[0], "y", 1), 1);
	assert_int_equal(next_byte(user[1]), 'y');
	close_fd(&guest[0]);
	end(WAIT_MS);
	assert_true(stdio_relay_is_done(&relay));
	close(relay.pump[1].from);
	close(relay.pump[2].from);
	close(relay.gate_fd);
}

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
	const struct confine confine = { 0 };
	struct err e;

	(void)state;
	s.pump[1] = (struct stdio_relay_pump){ .from = 7, .to = 1 };
	s.pump[0] = (struct stdio_relay_pump){ .from = 0, .to = 8, .is_input = true };
	s.thread[1] = (struct stdio_relay_thread){ .relay = &s, .streams = 2 };
	confined.fails = false;
	confined.crash_threads = 0;
	assert_int_equal(stdio_relay_confine(&s.thread[1], &confine, &e), 0);
	assert_int_equal(confined.kind, THREAD_PUMP);
	assert_int_equal(confined.own.own, 7);
	assert_int_equal(confined.own.to, 1);
	assert_int_equal(confined.own.changed, 9);
	assert_int_equal(confined.own.listen, -1);
	assert_int_equal(confined.own.epoll, -1);
	assert_int_equal(confined.own.watch[1], -1);
	s.thread[0] = (struct stdio_relay_thread){ .relay = &s, .streams = 3, .shared = true };
	confined.crash_threads = 0;
	assert_int_equal(stdio_relay_confine(&s.thread[0], &confine, &e), 0);
	assert_int_equal(confined.kind, THREAD_STREAMS);
	assert_int_equal(confined.own.own, -1);
	assert_int_equal(confined.own.to, -1);
	assert_int_equal(confined.own.changed, 9);
	assert_int_equal(confined.own.watch[0], 8);
	assert_int_equal(confined.own.watch[1], 7);
	assert_int_equal(confined.own.watch[2], -1);
	confined.fails = true;
	confined.crash_threads = 0;
	assert_int_equal(stdio_relay_confine(&s.thread[0], &confine, &e), -EPERM);
}

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
		T(test_streams_that_come_later),
		T(test_terminal_that_comes_later),
		T(test_pairs),
		T(test_confinement),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
