/* The pace of the serial port's input: it is bounded, has a speed, and costs nothing while there is none. */
#include "tests/unit/serial_fixture.h"

static void test_input_is_bounded_and_wakes(void **state)
{
	char text[101];
	unsigned wakes;

	(void)state;
	memset(text, 'x', 100);
	text[100] = '\0';
	open_port();
	for (int round = 0; round < 2; round++) {
		/* What wants to be woken: a push that is cut short, or one that was refused. */
		text[round ? SERIAL_RX_SIZE : 100] = '\0';
		assert_int_equal(push(text), SERIAL_RX_SIZE);
		if (round)
			assert_int_equal(push("x"), 0);
		in(IIR);
		in(RBR);
		edges(); /* one for what is left */
		wakes = t.wakes;
		for (int i = 0; i < SERIAL_RX_SIZE - 2; i++)
			in(RBR);
		assert_false(turn());
		assert_int_equal(push("x"), 0);
		in(RBR);
		assert_true(turn());
		assert_int_equal(t.wakes, wakes + 1);
		assert_int_equal(push("x"), 0); /* not yet */
	}
	/* Nobody wants more, so nobody is woken. */
	assert_int_equal(push("x"), 1);
	edges();
	in(RBR);
	assert_false(turn());
	assert_null(t.timers.first);
}

/* As many characters as the guest is due. */
static size_t push_all(void)
{
	static const uint16_t chars[2 * SERIAL_RX_SIZE];

	return serial_rx_push(t.s, chars, 2 * SERIAL_RX_SIZE);
}

static unsigned read_all(void)
{
	unsigned n = 0;

	for (; lsr_has(DR); n++)
		in(RBR);
	return n;
}

/* A vCPU that stands still after it has read the last byte finds that there is nothing, even if the pause is over. */
static void test_the_end_is_seen(void **state)
{
	(void)state;
	open_port();
	edges();
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(push_all(), SERIAL_RX_SIZE);
		for (unsigned i = 0; i < SERIAL_RX_SIZE; i++)
			in(RBR);
		assert_int_equal(push_all(), 0);
		pass(10000000);
		assert_int_equal(push_all(), 0);
		if (round == 0)
			assert_false(lsr_has(DR));
		else
			pass(SERIAL_RX_PAUSE_MAX_MS * 1000000ULL); /* it does not look */
	}
	assert_int_equal(push_all(), SERIAL_RX_SIZE);
}

/* A guest reads until there is nothing; then there is nothing for a while, however fast or slow it reads. */
static void test_input_has_a_speed(void **state)
{
	static const struct {
		uint64_t took_ns, pause_ns;
	} of[] = {
		{ 0, 1000000 },		{ 300000, 700000 },	  { 600000, 600000 },
		{ 13000000, 13000000 }, { 2000000000, 50000000 },
	};

	(void)state;
	open_port();
	edges();
	for (unsigned i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
		assert_int_equal(push_all(), SERIAL_RX_SIZE);
		pass(of[i].took_ns);
		assert_int_equal(read_all(), SERIAL_RX_SIZE);
		assert_true(turn());
		assert_int_equal(push_all(), 0);
		t.wakes = 0;
		pass(of[i].pause_ns - 1);
		assert_int_equal(t.wakes, 0);
		assert_int_equal(push_all(), 0);
		assert_false(lsr_has(DR));
		pass(1);
		assert_int_equal(t.wakes, 1);
		assert_null(t.timers.first);
	}
}

/* Input that comes slower than the line is has no pauses, and costs no signals and no timers. */
static void test_slow_input_comes_at_once(void **state)
{
	const uint16_t key = 'k';

	(void)state;
	open_port();
	edges();
	for (unsigned i = 0; i < 4 * SERIAL_RX_SIZE; i++) {
		assert_int_equal(serial_rx_push(t.s, &key, 1), 1);
		assert_int_equal(read_all(), 1);
		assert_false(turn());
		pass(SERIAL_RX_BYTE_NS);
		assert_null(t.timers.first);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_input_is_bounded_and_wakes),
		TEST(test_the_end_is_seen),
		TEST(test_input_has_a_speed),
		TEST(test_slow_input_comes_at_once),
	};

	return cmocka_run_group_tests_name("serial_input", tests, NULL, NULL);
}
