/* What a loop does by system calls of its own: for files in memory, and reads that the page cache has. */
#include "tests/unit/mock_loop.h"

#include <sys/mman.h>
#include <sys/uio.h>

static struct {
	struct op op[4];
	int res[4];
	unsigned left;
	int fd[LOOP_MEMORY_FILES_MAX + 2], file[LOOP_MEMORY_FILES_MAX + 2];
} t;

static void on_done(struct op *op, int res)
{
	t.res[op - t.op] = res;
	t.left--;
}

static void add_files(struct loop *loop)
{
	t.left = MF_ARRAY_SIZE(t.op);
	for (size_t i = 0; i < MF_ARRAY_SIZE(t.op); i++)
		t.op[i].done = on_done;
	for (size_t i = 0; i < MF_ARRAY_SIZE(t.fd); i++) {
		t.fd[i] = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		assert_true(t.fd[i] >= 0);
		t.file[i] = loop_add_file(loop, t.fd[i]);
		if (i > 0)
			loop_set_access(loop, t.file[i], LOOP_ACCESS_MEMORY);
	}
}

static void close_files(void)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(t.fd); i++)
		close(t.fd[i]);
}

static void expect_contents(int fd, const char *text)
{
	char got[64] = "";

	assert_int_equal(pread(fd, got, sizeof(got) - 1, 0), strlen(text));
	assert_string_equal(got, text);
}

static int setup(void **state)
{
	(void)state;
	mock_init_kind(LOOP_EXCHANGEABLE);
	add_files(mock.loop);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close_files();
	return 0;
}

/* It is done when the call returns, and reported in the same turn, without the engine. */
static void test_write_at_once(void **state)
{
	struct iovec iov[2] = { { (void *)(uintptr_t) "two ", 4 }, { (void *)(uintptr_t) "parts", 5 } };

	(void)state;
	assert_true(loop_writev(mock.loop, &t.op[0], t.file[1], iov, 2, 1));
	assert_true(loop_write(mock.loop, &t.op[1], t.file[1], "T", 1, 0));
	assert_true(loop_fsync(mock.loop, &t.op[2], t.file[1], true));
	expect_contents(t.fd[1], "Ttwo parts");
	assert_int_equal(mock.num, 0);
	assert_int_equal(t.left, 4); /* not inside of the call */
	loop_turn(mock.loop);
	assert_int_equal(mock.wait, ENGINE_NO_WAIT);
	assert_int_equal(t.left, 1);
	assert_int_equal(t.res[0], 9);
	assert_int_equal(t.res[1], 1);
	assert_int_equal(t.res[2], 0);
}

static void test_error(void **state)
{
	(void)state;
	assert_int_equal(fcntl(t.fd[1], F_ADD_SEALS, F_SEAL_GROW), 0);
	assert_true(loop_write(mock.loop, &t.op[0], t.file[1], "x", 1, 0));
	loop_turn(mock.loop);
	assert_int_equal(t.res[0], -EPERM);
}

/* Reads after the first of a turn, trims, files that are not in memory, and more of them than there may be. */
static void test_the_engines(void **state)
{
	char byte;

	(void)state;
	mock.loop->read_turn = mock.loop->turns;
	assert_true(loop_read(mock.loop, &t.op[0], t.file[1], &byte, 1, 0));
	assert_true(loop_fallocate(mock.loop, &t.op[1], t.file[1], 0, 0, 1));
	assert_true(loop_write(mock.loop, &t.op[2], t.file[0], "x", 1, 0));
	assert_true(loop_write(mock.loop, &t.op[3], t.file[MF_ARRAY_SIZE(t.file) - 1], "x", 1, 0));
	assert_int_equal(mock.num, 4);
	while (mock.num)
		mock_do(0);
	loop_turn(mock.loop);
	assert_int_equal(t.left, 0);
}

/* Of the reads of a turn, the first is done at once; of an engine that would wake a thread for each, all are. */
static void test_read_at_once(void **state)
{
	struct engine_ops hands_over = *mock.loop->engine;
	char byte[3];

	(void)state;
	assert_int_equal(pwrite(t.fd[1], "abc", 3, 0), 3);
	loop_turn(mock.loop);
	for (unsigned i = 0; i < 2; i++)
		assert_true(loop_read(mock.loop, &t.op[i], t.file[1], &byte[i], 1, i));
	assert_int_equal(byte[0], 'a');
	assert_int_equal(mock.num, 1);
	mock_do(0);
	assert_int_equal(byte[1], 'b');
	hands_over.hands_over = true;
	mock.loop->engine = &hands_over;
	for (unsigned i = 2; i < 4; i++)
		assert_true(loop_read(mock.loop, &t.op[i], t.file[1], &byte[2], 1, 2));
	assert_int_equal(mock.num, 0);
	mock_run_completed();
	assert_int_equal(t.left, 0);
	assert_int_equal(t.res[3], 1);
	mock.loop->engine = &engine_mock;
}

/* A read that fails is the engine's, and so are the next ones, untried. */
static void test_cold(void **state)
{
	int pipe_fd[2], file;
	char byte;

	(void)state;
	assert_int_equal(pipe(pipe_fd), 0); /* has no offsets: such a read fails everywhere */
	file = loop_add_file(mock.loop, pipe_fd[0]);
	loop_set_access(mock.loop, file, LOOP_ACCESS_CACHED);
	for (unsigned i = 0; i < 3; i++) {
		loop_turn(mock.loop);
		assert_true(loop_read(mock.loop, &t.op[0], file, &byte, 1, 0));
		assert_int_equal(mock.num, 1);
		mock_complete(0, 1);
		assert_int_equal(t.res[0], 1);
	}
	assert_in_range(mock.loop->cold[file], 1, UINT8_MAX);
	/* A write to what is only cached, a read of what stalls: never a call. */
	mock.loop->cold[file] = 0;
	assert_true(loop_write(mock.loop, &t.op[0], file, &byte, 1, 0));
	loop_set_access(mock.loop, file, LOOP_ACCESS_STALLS);
	loop_turn(mock.loop);
	assert_true(loop_read(mock.loop, &t.op[1], file, &byte, 1, 0));
	assert_int_equal(mock.num, 2);
	mock_complete(1, 0);
	mock_complete(0, 0);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

/* Another file in its place need not be in memory. */
static void test_replaced(void **state)
{
	(void)state;
	assert_int_equal(loop_replace_file(mock.loop, t.file[1], t.fd[0]), 0);
	assert_int_equal(loop_memory_fd(mock.loop, 0), -1);
	assert_int_equal(loop_memory_fd(mock.loop, 1), t.fd[2]);
	assert_true(loop_write(mock.loop, &t.op[0], t.file[1], "x", 1, 0));
	assert_int_equal(mock.num, 1);
	mock_do(0);
}

/* A cancel comes too late, and a drain finds it. */
static void test_cancel_and_drain(void **state)
{
	(void)state;
	assert_true(loop_write(mock.loop, &t.op[0], t.file[2], "x", 1, 0));
	loop_cancel(mock.loop, &t.op[0]);
	t.left = 1;
	loop_drain(mock.loop, &t.left);
	assert_int_equal(t.res[0], 1);
}

/* A tap is read and written in the call; what would block ends with EAGAIN, and polls are the engine's. */
static void test_prompt(void **state)
{
	int pair[2], file;
	char got[8];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	file = loop_add_file(mock.loop, pair[0]);
	mock.loop->num_in_memory--;
	loop_set_access(mock.loop, file, LOOP_ACCESS_PROMPT);
	assert_int_equal(loop_memory_fd(mock.loop, mock.loop->num_in_memory - 1), pair[0]);
	assert_true(loop_write(mock.loop, &t.op[0], file, "out", 3, LOOP_NO_OFFSET));
	assert_int_equal(recv(pair[1], got, sizeof(got), MSG_DONTWAIT), 3);
	assert_int_equal(send(pair[1], "in", 2, 0), 2);
	assert_true(loop_read(mock.loop, &t.op[1], file, got, sizeof(got), LOOP_NO_OFFSET));
	assert_memory_equal(got, "in", 2);
	assert_true(loop_read(mock.loop, &t.op[2], file, got, sizeof(got), LOOP_NO_OFFSET));
	assert_int_equal(t.left, 4);
	assert_int_equal(mock.num, 0);
	loop_turn(mock.loop);
	assert_int_equal(t.left, 1);
	assert_int_equal(t.res[0], 3);
	assert_int_equal(t.res[1], 2);
	assert_int_equal(t.res[2], -EAGAIN);
	assert_true(loop_poll(mock.loop, &t.op[3], file, POLLIN));
	assert_int_equal(mock.num, 1);
	mock_complete(0, POLLIN);
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_write_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_engines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cold, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_and_drain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prompt, setup, teardown),
	};

	return cmocka_run_group_tests_name("loop_memory", tests, NULL, NULL);
}
