/* The keyboard controller: the reset without a keyboard, a driver's probe of one with it, and what it types. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "tests/unit/state_fixture.h"
#include "vmm/platform/i8042.h"

#define DATA 0
#define STATUS 4

static unsigned resets, edges;

static void count_reset(void *ctx)
{
	(void)ctx;
	resets++;
}

static void count_edge(void *ctx)
{
	(void)ctx;
	edges++;
}

static struct i8042 kbd;

static void make(bool keyboard)
{
	kbd = (struct i8042){ .reset = count_reset, .raise = count_edge, .lock = PTHREAD_MUTEX_INITIALIZER };
	resets = edges = 0;
	if (keyboard)
		i8042_connect(&kbd);
}

static uint8_t reads(uint64_t offset)
{
	uint8_t data = 0xff;

	i8042_access(&kbd, offset, false, &data, 1);
	return data;
}

static void writes(uint64_t offset, uint8_t value)
{
	i8042_access(&kbd, offset, true, &value, 1);
}

/* The next byte at the data port, which the status announces. */
static void assert_next(uint8_t want)
{
	assert_true(reads(STATUS) & 1);
	assert_int_equal(reads(DATA), want);
}

static void assert_nothing(void)
{
	assert_false(reads(STATUS) & 1);
	assert_int_equal(reads(DATA), 0);
}

static void test_reset_only(void **state)
{
	uint8_t two[2] = { 0xfe, 0xfe };

	(void)state;
	make(false);
	assert_int_equal(reads(STATUS), 1);
	assert_int_equal(reads(DATA), 0);
	assert_int_equal(reads(1), 0xff);
	writes(STATUS, 0x20);
	writes(DATA, 0xfe);
	i8042_access(&kbd, STATUS, true, two, 2);
	assert_int_equal(resets, 0);
	assert_int_equal(reads(DATA), 0);
	writes(STATUS, 0xfe);
	assert_int_equal(resets, 1);
	assert_int_equal(i8042_type(&kbd), -ENODEV);
	assert_int_equal(edges, 0);
}

/* In Linux's order (i8042.c, atkbd.c): each command is answered at once. */
static void test_probe(void **state)
{
	(void)state;
	make(true);
	assert_int_equal(reads(STATUS), 0x14); /* tested, not locked, nothing waits */
	writes(STATUS, 0x20);
	assert_next(0x05);
	writes(STATUS, 0x60);
	writes(DATA, 0x54); /* the port off, its interrupt, too */
	writes(STATUS, 0x20);
	assert_next(0x54);
	writes(STATUS, 0xd3);
	writes(DATA, 0x5a);
	assert_false(reads(STATUS) & 0x20); /* not of a second port */
	assert_next(0x5a);
	writes(STATUS, 0xa9);
	assert_next(1);
	writes(STATUS, 0xaa);
	assert_next(0x55);
	writes(STATUS, 0xab);
	assert_next(0);
	writes(STATUS, 0xd0);
	assert_next(1);
	writes(STATUS, 0xd1);
	writes(DATA, 0xdf);
	writes(STATUS, 0xd4);
	writes(DATA, 0xff);
	assert_nothing();
	assert_int_equal(edges, 0);
	writes(STATUS, 0x60);
	writes(DATA, 0x05);
	writes(DATA, 0xf2);
	assert_int_equal(edges, 1);
	assert_next(0xfa);
	assert_int_equal(edges, 2); /* one for each byte */
	assert_next(0xab);
	assert_next(0x83);
	assert_int_equal(edges, 3);
	assert_nothing();
	writes(DATA, 0xed);
	assert_next(0xfa);
	writes(DATA, 0xf2); /* the parameter, not a command */
	assert_next(0xfa);
	assert_nothing();
	writes(DATA, 0xff);
	assert_next(0xfa);
	assert_next(0xaa);
	assert_nothing();
	assert_int_equal(resets, 0);
}

static void assert_keys(void)
{
	static const uint8_t keys[] = { 0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14 };

	for (size_t i = 0; i < sizeof(keys); i++)
		assert_next(keys[i]);
}

static void test_types(void **state)
{
	(void)state;
	make(true);
	assert_int_equal(i8042_type(&kbd), 0);
	assert_int_equal(edges, 1);
	writes(STATUS, 0x20); /* its reply comes first */
	assert_next(0x05);
	assert_keys();
	assert_nothing();
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(i8042_type(&kbd), 0);
	assert_int_equal(i8042_type(&kbd), -ENOBUFS);
	writes(DATA, 0xf2); /* what does not fit is lost */
	for (unsigned i = 0; i < 4; i++)
		assert_keys();
	assert_nothing();
	assert_int_equal(i8042_type(&kbd), 0);
}

/* Keys wait for a port that is off, and their interrupt for one that is disabled. */
static void test_waits(void **state)
{
	(void)state;
	make(true);
	writes(STATUS, 0xad);
	assert_int_equal(i8042_type(&kbd), 0);
	assert_nothing();
	assert_int_equal(edges, 0);
	writes(STATUS, 0x60);
	writes(DATA, 0x04); /* on, no interrupt */
	assert_int_equal(edges, 0);
	assert_next(0x14);
	assert_int_equal(edges, 0);
	writes(STATUS, 0x60);
	writes(DATA, 0x05);
	assert_int_equal(edges, 1);
	(void)reads(STATUS);
	assert_int_equal(edges, 1); /* not twice for a byte */
	assert_next(0x11);
	assert_int_equal(edges, 2);
	writes(STATUS, 0xad);
	assert_nothing();
	writes(STATUS, 0xae);
	assert_int_equal(edges, 3);
	assert_next(0xe0);
}

static void test_any_access(void **state)
{
	(void)state;
	make(true);
	for (unsigned command = 0; command < 0xfe; command++) {
		for (unsigned byte = 0; byte < 256; byte++) {
			writes(STATUS, (uint8_t)command);
			writes(DATA, (uint8_t)byte);
			assert_true(kbd.len <= I8042_QUEUE_SIZE);
		}
	}
	assert_int_equal(resets, 0);
}

static int restored(struct err *e)
{
	make(false);
	return i8042_restore(&kbd, state_of_payload(), e);
}

static void test_state(void **state)
{
	struct err e;

	(void)state;
	make(true);
	assert_int_equal(i8042_type(&kbd), 0);
	writes(DATA, 0xed);
	assert_int_equal(reads(DATA), 0x14);
	writes(STATUS, 0x60);
	i8042_save(&kbd, state_begin_save());
	state_end_save();
	assert_int_equal(restored(&e), 0);
	writes(DATA, 0x05); /* of the command that was saved */
	writes(STATUS, 0x20);
	assert_next(0x05);
	assert_next(0x11);
	for (unsigned i = 0; i < 9; i++)
		(void)reads(DATA);
	assert_next(0xfa); /* to the LEDs, whose parameter follows */
	writes(DATA, 0xf2);
	assert_next(0xfa);
	assert_nothing();
	payload[5] = I8042_QUEUE_SIZE + 1;
	assert_true(restored(&e) < 0);
	assert_true(kbd.len <= I8042_QUEUE_SIZE);
	payload[5] = 2; /* the others are too many */
	assert_true(restored(&e) < 0);
	payload[5] = 11;
	assert_int_equal(restored(&e), 0);
	payload[3] = 2;
	assert_true(restored(&e) < 0);
}

/* No keyboard: no section, and a state that has none leaves the controller as it is. */
static void test_no_state(void **state)
{
	struct state_in in;
	struct err e;
	int64_t len;

	(void)state;
	make(false);
	state_out_init(&state_out, state_buf, sizeof(state_buf));
	i8042_save(&kbd, &state_out);
	len = state_out_finish(&state_out);
	assert_int_equal(state_in_init(&in, state_buf, (size_t)len, &e), 0);
	assert_int_equal(i8042_restore(&kbd, &in, &e), 0);
	assert_int_equal(state_in_finish(&in, &e), 0);
	assert_int_equal(i8042_type(&kbd), -ENODEV);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset_only), cmocka_unit_test(test_probe),      cmocka_unit_test(test_types),
		cmocka_unit_test(test_waits),	   cmocka_unit_test(test_any_access), cmocka_unit_test(test_state),
		cmocka_unit_test(test_no_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
