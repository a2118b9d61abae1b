/* Untrusted text: every byte, and where it is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "vmm/base/printable.h"

static void test_every_byte(void **state)
{
	(void)state;
	for (int i = 0; i < 256; i++) {
		char byte = (char)i, text[] = { byte, '\0' };

		assert_int_equal(printable_guest_byte(byte), i >= 32 && i < 127 ? byte : '.');
		printable_line(text);
		if (i > 0)
			assert_int_equal(text[0], i < 32 || i == 127 ? '?' : byte);
	}
}

static void test_guest(void **state)
{
	char to[8] = "xxxxxxx", same[] = "a\x1b[2J\n\xc3\xa4";

	(void)state;
	printable_guest(to, sizeof(to), "");
	assert_string_equal(to, "");
	printable_guest(to, sizeof(to), "123\t567");
	assert_string_equal(to, "123.567");
	printable_guest(to, sizeof(to), "12345678\r");
	assert_string_equal(to, "1234567");
	printable_guest(to, 1, "abc");
	assert_string_equal(to, "");
	printable_guest(same, sizeof(same), same);
	assert_string_equal(same, "a.[2J...");
}

static void test_line(void **state)
{
	char c1[] = "a\xc2\x9b"
		    "31mb\xc2\xa0\xc2",
	     text[] = "open '/a\nb\x7f\x1b]\xc3\xa4': no";

	(void)state;
	printable_line(text);
	assert_string_equal(text, "open '/a?b??]\xc3\xa4': no");
	printable_line(c1);
	assert_string_equal(c1, "a??31mb\xc2\xa0\xc2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_guest),
		cmocka_unit_test(test_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
