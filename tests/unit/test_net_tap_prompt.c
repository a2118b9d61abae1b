/* A tap that the loop reads and writes at once, as the first taps of a VM are. */
#include "tests/unit/net_tap_fixture.h"

static int setup_prompt(void **state)
{
	setup(state);
	loop_set_access(mock.loop, 0, LOOP_ACCESS_PROMPT);
	return 0;
}

static void host_sends(size_t len)
{
	static const uint8_t frame[8192];

	assert_int_equal(send(host, frame, len, MSG_DONTWAIT), len);
}

/* The loop reads what is there, in the same turn, and polls for more. */
static void test_prompt_read(void **state)
{
	(void)state;
	host_sends(5);
	assert_true(b->ops->receive(b, &iov, 1, sizeof(buf)));
	assert_int_equal(received, 0); /* not inside of the call */
	mock_run_completed();
	assert_int_equal(received, 1);
	assert_int_equal(last, 5);
	assert_true(b->ops->receive(b, &iov, 1, sizeof(buf)));
	mock_run_completed();
	assert_int_equal(mock.num, 1);
	assert_int_equal(mock.io[0].kind, OP_POLL);
	host_sends(7);
	mock_complete(0, POLLIN);
	assert_int_equal(mock.num, 0);
	assert_int_equal(received, 2);
	assert_int_equal(last, 7);
}

/* Waits for a frame by a poll, which comes after that many turns. Returns whether the next read is tried at once. */
static bool tries_after(size_t len, unsigned turns)
{
	while (!(mock.num == 1 && mock.io[0].kind == OP_POLL)) {
		assert_true(b->ops->receive(b, &iov, 1, sizeof(buf)));
		mock_run_completed();
	}
	while (turns-- > 0)
		mock_run_tasks();
	host_sends(len);
	mock_complete(0, POLLIN);
	host_sends(1);
	received = 0;
	assert_true(b->ops->receive(b, &iov, 1, sizeof(buf)));
	mock_run_completed();
	return received;
}

/* A lone frame is followed by a poll, not by a read in vain; one that is not alone by a read. */
static void test_prompt_or_poll(void **state)
{
	(void)state;
	assert_false(tries_after(60, 2));
	mock_complete(0, POLLIN);
	assert_true(tries_after(60, 1));
	assert_false(tries_after(60, 2));
	mock_complete(0, POLLIN);
	assert_true(tries_after(5000, 2));
}

/* The tap takes no more frames for now: they wait, and are neither lost nor reported as errors. */
static void test_prompt_write(void **state)
{
	static struct net_tx tx = { .num = 1 };
	char got[64];
	int before;

	(void)state;
	for (unsigned i = 0; !mock.num && i < 10000; i++) {
		assert_true(b->ops->send(b, &tx));
		mock_run_completed();
	}
	assert_int_equal(mock.num, 1);
	assert_int_equal(mock.io[0].kind, OP_POLL);
	assert_int_equal(mock.io[0].mode, POLLOUT);
	assert_true(sent > 0);
	assert_int_equal(last, 0);
	before = sent;
	while (recv(host, got, sizeof(got), MSG_DONTWAIT) > 0)
		continue;
	mock_complete(0, POLLOUT);
	assert_int_equal(sent, before + 1);
	assert_int_equal(last, 0);
	assert_int_equal(recv(host, got, sizeof(got), MSG_DONTWAIT), sizeof(tx.header));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup_prompt, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_prompt_read),
		T(test_prompt_or_poll),
		T(test_prompt_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
