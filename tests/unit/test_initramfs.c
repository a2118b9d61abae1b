/* The archive of mayfly's init, read back by the rules of the format. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/initramfs.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

struct reader {
	const uint8_t *data;
	size_t len, at;
};

static unsigned field(const struct reader *r, unsigned index)
{
	char text[9] = "";

	memcpy(text, r->data + r->at + 6 + 8 * index, 8);
	assert_int_equal(strspn(text, "0123456789abcdef"), 8);
	return (unsigned)strtoul(text, NULL, 16);
}

static void expect(struct reader *r, const char *name, uint32_t mode, const void *data, size_t len)
{
	assert_true(r->len - r->at >= 110);
	assert_int_equal(r->at % 4, 0);
	assert_memory_equal(r->data + r->at, "070701", 6);
	assert_int_equal(field(r, 1), mode);
	assert_int_equal(field(r, 2) | field(r, 3), 0); /* root's */
	assert_int_equal(field(r, 6), len);
	assert_int_equal(field(r, 11), strlen(name) + 1);
	assert_string_equal((const char *)r->data + r->at + 110, name);
	r->at = mf_align_up(r->at + 110 + strlen(name) + 1, 4);
	assert_true(r->len - r->at >= len);
	if (len)
		assert_memory_equal(r->data + r->at, data, len);
	r->at = mf_align_up(r->at + len, 4);
}

static void test_round_trip(void **state)
{
	static const struct initramfs_file files[] = {
		{ .path = ".d", .mode = S_IFDIR | 0700 },
		{ .path = ".d/a", .mode = S_IFREG | 0755, .data = "12345", .len = 5 },
		{ .path = ".d/bc", .mode = S_IFREG | 0600, .data = "1234", .len = 4 },
		{ .path = ".d/def", .mode = S_IFREG | 0600 },
	};
	struct reader r = { 0 };
	uint8_t *archive;
	struct err e;

	(void)state;
	assert_int_equal(initramfs_make(&archive, &r.len, files, MF_ARRAY_SIZE(files), &e), 0);
	r.data = archive;
	for (size_t i = 0; i < MF_ARRAY_SIZE(files); i++)
		expect(&r, files[i].path, files[i].mode, files[i].data, files[i].len);
	expect(&r, "TRAILER!!!", 0, NULL, 0);
	/* Zeros follow, up to the length that archives of other texts have, too. */
	assert_int_equal(r.len, 16384);
	for (; r.at < r.len; r.at++)
		assert_int_equal(r.data[r.at], 0);
	free(archive);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_round_trip) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
