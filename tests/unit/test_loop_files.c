/* The files of a loop: when it has ended, nothing holds them open but their owner. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/core/loop.h"

static struct {
	struct loop *loop;
	int reader, writer;
	struct op op[3];
	unsigned inflight;
	char byte;
} t;

static void on_done(struct op *op, int res)
{
	(void)op;
	(void)res;
	t.inflight--;
}

static int start_operations(void *arg)
{
	(void)arg;
	t.inflight = 2;
	assert_true(loop_write(t.loop, &t.op[0], t.writer, "x", 1, LOOP_NO_OFFSET));
	assert_true(loop_read(t.loop, &t.op[1], t.reader, &t.byte, 1, LOOP_NO_OFFSET));
	loop_drain(t.loop, &t.inflight);
	t.inflight = 1;
	assert_true(loop_read(t.loop, &t.op[2], t.reader, &t.byte, 1, LOOP_NO_OFFSET)); /* it stays until the end */
	return 0;
}

static void check_end(enum loop_engine engine)
{
	struct pollfd p = { .events = 0 };
	int fds[2];
	struct err e;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(loop_new(&t.loop, "test", engine, LOOP_FIXED, &e), 0);
	t.reader = loop_add_file(t.loop, fds[0]);
	t.writer = loop_add_file(t.loop, fds[1]);
	for (int i = 0; i < 3; i++)
		t.op[i].done = on_done;
	assert_int_equal(loop_start(t.loop, &e), 0);
	assert_int_equal(loop_call(t.loop, start_operations, NULL), 0);
	loop_free(t.loop);
	assert_int_equal(t.inflight, 0);
	close(fds[1]);
	p.fd = fds[0];
	assert_int_equal(poll(&p, 1, 0), 1);
	assert_int_equal(p.revents, POLLHUP);
	close(fds[0]);
}

static void test_the_end_of_a_pipe(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++) {
		check_end(LOOP_ENGINE_RING);
		check_end(LOOP_ENGINE_SYNC);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_the_end_of_a_pipe) };

	return cmocka_run_group_tests_name("loop_files", tests, NULL, NULL);
}
