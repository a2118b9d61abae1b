/* From an address to its handler. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/core/bus.h"

struct seen {
	uint64_t offset;
	bool is_write;
	unsigned len, calls;
};

static void handler(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len)
{
	struct seen *seen = ctx;

	*seen = (struct seen){ .offset = offset, .is_write = is_write, .len = len, .calls = seen->calls + 1 };
	if (!is_write)
		data[0] = 0x42;
}

static void test_finds_the_owner(void **state)
{
	struct bus bus = { 0 };
	struct seen a = { 0 }, b = { 0 }, c = { 0 };
	uint8_t data[8];

	(void)state;
	assert_int_equal(bus_add(&bus, 0x2000, 0x1000, handler, &b), 0);
	assert_int_equal(bus_add(&bus, 0x1000, 0x1000, handler, &a), 0);
	assert_int_equal(bus_add(&bus, UINT64_MAX - 0xfff, 0x1000, handler, &c), 0);
	assert_true(bus_access(&bus, 0x1000, true, data, 4));
	assert_int_equal(a.offset, 0);
	assert_true(a.is_write);
	assert_true(bus_access(&bus, 0x1ffc, false, data, 4));
	assert_int_equal(a.offset, 0xffc);
	assert_int_equal(a.len, 4);
	assert_int_equal(data[0], 0x42);
	assert_int_equal(data[3], 0xff);
	assert_true(bus_access(&bus, 0x2000, false, data, 1));
	assert_int_equal(b.calls, 1);
	assert_true(bus_access(&bus, UINT64_MAX, false, data, 1));
	assert_int_equal(c.offset, 0xfff);
}

static void test_nobody_there(void **state)
{
	struct bus bus = { 0 };
	struct seen a = { 0 };
	uint8_t data[8] = { 0 };

	(void)state;
	assert_int_equal(bus_add(&bus, 0x1000, 0x10, handler, &a), 0);
	assert_false(bus_access(&bus, 0xfff, false, data, 1));
	assert_int_equal(data[0], 0xff);
	assert_false(bus_access(&bus, 0x1010, false, data, 8));
	assert_int_equal(data[7], 0xff);
	assert_false(bus_access(&bus, 0x100c, false, data, 8)); /* the end hangs over */
	assert_false(bus_access(&bus, 0xffe, true, data, 4));	/* the start hangs over */
	assert_false(bus_access(&bus, UINT64_MAX, true, data, 8));
	assert_int_equal(a.calls, 0);
}

static void test_overlaps_are_refused(void **state)
{
	struct bus bus = { 0 };

	(void)state;
	assert_int_equal(bus_add(&bus, 0x1000, 0x100, handler, NULL), 0);
	assert_int_equal(bus_add(&bus, 0x1000, 1, handler, NULL), -EEXIST);
	assert_int_equal(bus_add(&bus, 0x10ff, 1, handler, NULL), -EEXIST);
	assert_int_equal(bus_add(&bus, 0xfff, 2, handler, NULL), -EEXIST);
	assert_int_equal(bus_add(&bus, 0, 0x10000, handler, NULL), -EEXIST);
	assert_int_equal(bus_add(&bus, 0xfff, 1, handler, NULL), 0);
	assert_int_equal(bus_add(&bus, 0x1100, 1, handler, NULL), 0);
}

static void test_full(void **state)
{
	struct bus bus = { 0 };

	(void)state;
	for (unsigned i = 0; i < BUS_RANGES_MAX; i++)
		assert_int_equal(bus_add(&bus, i * 16, 16, handler, NULL), 0);
	assert_int_equal(bus_add(&bus, 0x100000, 16, handler, NULL), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds_the_owner),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_overlaps_are_refused),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
