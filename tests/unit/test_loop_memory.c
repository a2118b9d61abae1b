/* A loop's files in memory: writes and syncs happen at once, on every engine; all else is the engine's. */
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
			loop_set_in_memory(loop, t.file[i]);
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

/* Reads, trims, files that are not in memory, and more of them than there may be, are the engine's. */
static void test_the_engines(void **state)
{
	char byte;

	(void)state;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_write_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_engines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_and_drain, setup, teardown),
	};

	return cmocka_run_group_tests_name("loop_memory", tests, NULL, NULL);
}
