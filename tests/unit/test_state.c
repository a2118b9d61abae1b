/* Sections of a snapshot's state: what is written is read back, and everything else is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/core/state.h"

#define TAG STATE_TAG('t', 'e', 's', 't')
#define OTHER STATE_TAG('o', 't', 'h', 'r')

static uint8_t buf[4096];
static struct state_out out;
static struct state_in in;
static struct err e;

/* Two sections; returns the length. */
static size_t write_both(void)
{
	int64_t len;

	state_out_init(&out, buf, sizeof(buf));
	state_begin(&out, TAG, 7, 2);
	state_put_u8(&out, 0x11);
	state_put_u16(&out, 0x2233);
	state_put_u32(&out, 0x44556677);
	state_put_u64(&out, 0x8899aabbccddeeffULL);
	state_put_bytes(&out, "bytes", 5);
	state_end(&out);
	state_begin(&out, OTHER, 0, 1);
	state_end(&out);
	len = state_out_finish(&out);
	assert_true(len > 0);
	return (size_t)len;
}

static void open_first(size_t len)
{
	assert_int_equal(state_in_init(&in, buf, len, &e), 0);
	assert_int_equal(state_open(&in, TAG, 7, 2, &e), 0);
}

static void test_round_trip(void **state)
{
	size_t len = write_both();
	char bytes[5];

	(void)state;
	open_first(len);
	assert_int_equal(in.version, 2);
	assert_int_equal(state_left(&in), 20);
	assert_int_equal(state_get_u8(&in), 0x11);
	assert_int_equal(state_get_u16(&in), 0x2233);
	assert_int_equal(state_get_u32(&in), 0x44556677);
	assert_int_equal(state_get_u64(&in), 0x8899aabbccddeeffULL);
	state_get_bytes(&in, bytes, sizeof(bytes));
	assert_memory_equal(bytes, "bytes", 5);
	assert_int_equal(state_close(&in, &e), 0);
	assert_int_equal(state_open(&in, OTHER, 0, 1, &e), 0);
	assert_int_equal(state_close(&in, &e), 0);
	assert_int_equal(state_in_finish(&in, &e), 0);
}

static void test_bytes_are_fixed(void **state)
{
	/* The format of every snapshot that exists: magic, tag, instance, version, length. */
	static const uint8_t begin[] = { 'm', 'a', 'y', 'f', 'l', 'y', 1, '\n', 't', 'e', 's', 't',
					 7,   0,   0,	0,   2,	  0,   0, 0,	20,  0,	  0,   0 };
	static const uint8_t sum[] = { 0xe4, 0xdd, 0xcb, 0xa6, 0xe6, 0x97, 0x18, 0x3a };

	(void)state;
	write_both();
	assert_memory_equal(buf, begin, sizeof(begin));
	assert_memory_equal(buf + sizeof(begin), sum, sizeof(sum));
}

static void test_too_little_and_too_much(void **state)
{
	size_t len = write_both();

	(void)state;
	open_first(len);
	(void)state_get_u64(&in);
	assert_int_equal(state_close(&in, &e), -EINVAL);
	open_first(len);
	(void)state_get_u64(&in);
	(void)state_get_u64(&in);
	assert_int_equal(state_get_u64(&in), 0); /* four bytes are left */
	assert_int_equal(state_get_u8(&in), 0);	 /* sticky */
	assert_int_equal(state_left(&in), 0);
	assert_int_equal(state_close(&in, &e), -EINVAL);
}

static void test_refusal_is_sticky(void **state)
{
	size_t len = write_both();

	(void)state;
	open_first(len);
	state_refuse(&in, "first field");
	state_refuse(&in, "second field");
	assert_int_equal(state_get_u8(&in), 0);
	assert_int_equal(state_close(&in, &e), -EINVAL);
	assert_non_null(strstr(e.text, "first field"));
	assert_int_equal(state_open(&in, OTHER, 0, 1, &e), 0);
	assert_int_equal(state_close(&in, &e), 0);
}

static void test_order_and_version(void **state)
{
	size_t len = write_both();

	(void)state;
	assert_int_equal(state_in_init(&in, buf, len, &e), 0);
	assert_int_equal(state_open(&in, OTHER, 0, 1, &e), -ENOTSUP);
	assert_int_equal(state_open(&in, TAG, 6, 2, &e), -ENOTSUP);
	assert_int_equal(state_open(&in, TAG, 7, 1, &e), -ENOTSUP); /* newer than what we read */
	assert_non_null(strstr(e.text, "2"));
	assert_int_equal(state_open(&in, TAG, 7, 3, &e), 0); /* older is read */
	assert_int_equal(in.version, 2);
	assert_int_equal(state_in_finish(&in, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "othr"));
	assert_int_equal(state_open(&in, OTHER, 0, 1, &e), 0);
	assert_int_equal(state_open(&in, OTHER, 1, 1, &e), -ENOTSUP); /* there is no more */
}

/* Before the first is opened: all of them, by their tags and versions. */
static void test_known_sections(void **state)
{
	const struct state_section both[] = { { OTHER, 1 }, { TAG, 2 } }, older[] = { { TAG, 1 }, { OTHER, 1 } };
	size_t len = write_both();

	(void)state;
	assert_int_equal(state_in_init(&in, buf, len, &e), 0);
	assert_int_equal(state_check_sections(&in, both, 2, &e), 0);
	assert_int_equal(state_check_sections(&in, both, 1, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "'test'"));
	assert_int_equal(state_check_sections(&in, older, 2, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "version 2"));
	assert_int_equal(state_check_sections(&in, older, 0, &e), -ENOTSUP);
	assert_int_equal(state_open(&in, TAG, 7, 2, &e), 0); /* nothing was opened by it */
}

static void test_every_damage_is_seen(void **state)
{
	size_t len = write_both();

	(void)state;
	for (size_t i = 0; i < 8 * len; i++) {
		buf[i / 8] ^= (uint8_t)(1U << i % 8);
		assert_true(state_in_init(&in, buf, len, &e) < 0);
		buf[i / 8] ^= (uint8_t)(1U << i % 8);
	}
	assert_int_equal(state_in_init(&in, buf, len, &e), 0);
}

static void test_every_truncation_is_seen(void **state)
{
	size_t len = write_both();

	(void)state;
	for (size_t i = 0; i < len; i++) {
		uint8_t *cut = malloc(i ? i : 1); /* ASan sees a read beyond it */

		memcpy(cut, buf, i);
		assert_true(state_in_init(&in, cut, i, &e) < 0);
		free(cut);
	}
	assert_true(state_in_init(&in, buf, len + 8, &e) < 0);
}

static void test_no_room(void **state)
{
	size_t len = write_both();

	(void)state;
	for (size_t size = 0; size < len; size++) {
		state_out_init(&out, buf, size);
		state_begin(&out, TAG, 7, 2);
		state_put_bytes(&out, "12345678901234567890", 20);
		state_end(&out);
		state_begin(&out, OTHER, 0, 1);
		state_end(&out);
		assert_int_equal(state_out_finish(&out), -ENOMEM);
		assert_true(out.len <= size);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_bytes_are_fixed),
		cmocka_unit_test(test_too_little_and_too_much),
		cmocka_unit_test(test_refusal_is_sticky),
		cmocka_unit_test(test_order_and_version),
		cmocka_unit_test(test_known_sections),
		cmocka_unit_test(test_every_damage_is_seen),
		cmocka_unit_test(test_every_truncation_is_seen),
		cmocka_unit_test(test_no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
