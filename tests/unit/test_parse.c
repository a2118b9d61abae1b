/* Numbers and sizes: what is read, and all that is refused. Also the nearest word, which messages suggest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/parse.h"
#include "vmm/base/suggest.h"
#include "vmm/base/util.h"

struct vector {
	const char *text;
	int result;
	uint64_t value; /* when the result is 0 */
};

static void check(int (*parse)(const char *text, uint64_t *ret), const struct vector *v, size_t num)
{
	for (size_t i = 0; i < num; i++) {
		uint64_t value = 0xdead, want = v[i].result == 0 ? v[i].value : 0xdead;
		int r = parse(v[i].text, &value);

		if (r != v[i].result || value != want)
			fail_msg("'%s': result %d, value %llu", v[i].text, r, (unsigned long long)value);
	}
}

static void test_u64(void **state)
{
	static const struct vector vectors[] = {
		{ "0", 0, 0 },
		{ "1", 0, 1 },
		{ "4294967296", 0, 4294967296 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "18446744073709551620", -ERANGE, 0 },
		{ "99999999999999999999", -ERANGE, 0 },
		{ "100000000000000000000000000000000000000000000", -ERANGE, 0 },
		{ "99999999999999999999x", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ "1\n", -EINVAL, 0 },
		{ "1x", -EINVAL, 0 },
		{ "x1", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "010", -EINVAL, 0 },
		{ "00", -EINVAL, 0 },
		{ "1.5", -EINVAL, 0 },
		{ "1e3", -EINVAL, 0 },
		{ "1K", -EINVAL, 0 },
		{ "\xd9\xa1", -EINVAL, 0 }, /* ARABIC-INDIC DIGIT ONE */
	};

	(void)state;
	check(parse_u64, vectors, MF_ARRAY_SIZE(vectors));
}

static void test_size(void **state)
{
	static const struct vector vectors[] = {
		{ "0", 0, 0 },
		{ "4096", 0, 4096 },
		{ "512K", 0, 512 * KIB },
		{ "128M", 0, 128 * MIB },
		{ "128m", 0, 128 * MIB },
		{ "128MiB", 0, 128 * MIB },
		{ "2G", 0, 2 * GIB },
		{ "2GiB", 0, 2 * GIB },
		{ "1T", 0, 1024 * GIB },
		{ "0T", 0, 0 },
		{ "16777215T", 0, 16777215ULL << 40 },
		{ "16777216T", -ERANGE, 0 },
		{ "18014398509481984K", -ERANGE, 0 },
		{ "99999999999999999999", -ERANGE, 0 },
		{ "99999999999999999999K", -ERANGE, 0 },
		{ "99999999999999999999X", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ "M", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "-1M", -EINVAL, 0 },
		{ "128MM", -EINVAL, 0 },
		{ "128MB", -EINVAL, 0 },
		{ "128Mi", -EINVAL, 0 },
		{ "128MiBs", -EINVAL, 0 },
		{ "128MIB", -EINVAL, 0 },
		{ "128 M", -EINVAL, 0 },
		{ "128M ", -EINVAL, 0 },
		{ "128iB", -EINVAL, 0 },
		{ "128B", -EINVAL, 0 },
		{ "1P", -EINVAL, 0 },
		{ "1.5G", -EINVAL, 0 },
		{ "0x10M", -EINVAL, 0 },
	};

	(void)state;
	check(parse_size, vectors, MF_ARRAY_SIZE(vectors));
}

static void test_format_size(void **state)
{
	static const struct vector vectors[] = {
		{ "0", 0, 0 },
		{ "1023", 0, 1023 },
		{ "1K", 0, 1024 },
		{ "1025", 0, 1025 },
		{ "128M", 0, 128 * MIB },
		{ "131076K", 0, 128 * MIB + 4096 },
		{ "2G", 0, 2 * GIB },
		{ "1T", 0, 1024 * GIB },
		{ "1024T", 0, 1024 * 1024 * GIB },
		{ "18446744073709551615", 0, UINT64_MAX },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(vectors); i++) {
		char text[PARSE_SIZE_TEXT_MAX];
		uint64_t back;

		parse_format_size(vectors[i].value, text);
		assert_string_equal(text, vectors[i].text);
		assert_int_equal(parse_size(text, &back), 0);
		assert_true(back == vectors[i].value);
	}
}

static const char *nearest(const char *word)
{
	static const char *const words[] = {
		"kernel", "initrd", "cpus", "mem", "cmdline", "config", "log", "log-level"
	};
	struct suggest n = { .word = word, .len = strlen(word) };

	for (size_t i = 0; i < MF_ARRAY_SIZE(words); i++)
		suggest_try(&n, words[i]);
	return n.best;
}

static void test_nearest(void **state)
{
	(void)state;
	assert_string_equal(nearest("kernel"), "kernel");
	assert_string_equal(nearest("kernl"), "kernel");
	assert_string_equal(nearest("kerenl"), "kernel");
	assert_string_equal(nearest("memory"), "mem");
	assert_string_equal(nearest("cpu"), "cpus");
	assert_string_equal(nearest("lgo"), "log");
	assert_string_equal(nearest("log_level"), "log-level");
	assert_null(nearest("net"));
	assert_null(nearest(""));
	assert_null(nearest("x"));
	assert_null(nearest("rootfs"));
	assert_null(nearest("an-option-that-is-longer-than-any-there-is"));
}

static void test_duration(void **state)
{
	static const struct vector vectors[] = {
		{ "0", 0, 0 },
		{ "30", 0, 30000 },
		{ "30s", 0, 30000 },
		{ "500ms", 0, 500 },
		{ "5m", 0, 300000 },
		{ "1h", 0, 3600000 },
		{ "1h30m", 0, 5400000 },
		{ "1h0m1s250ms", 0, 3601250 },
		{ "30m1h", -EINVAL, 0 },
		{ "1h1h", -EINVAL, 0 },
		{ "1h30", -EINVAL, 0 },
		{ "30 1h", -EINVAL, 0 },
		{ "1s18446744073709551615ms", -ERANGE, 0 },
		{ "18446744073709551616s1x", -EINVAL, 0 },
		{ "18446744073709551615ms", 0, UINT64_MAX },
		{ "18446744073709551615", -ERANGE, 0 },
		{ "18446744073709551616ms", -ERANGE, 0 },
		{ "5124095576030432h", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "s", -EINVAL, 0 },
		{ "1.5s", -EINVAL, 0 },
		{ "1d", -EINVAL, 0 },
		{ "1 s", -EINVAL, 0 },
		{ "1sec", -EINVAL, 0 },
		{ "-1s", -EINVAL, 0 },
	};

	(void)state;
	check(parse_duration, vectors, MF_ARRAY_SIZE(vectors));
}

static void test_signals(void **state)
{
	static const struct {
		const char *text;
		int signo;
	} vectors[] = {
		{ "TERM", 15 },	      { "SIGTERM", 15 }, { "sigint", 2 },   { "9", 9 },	      { "64", 64 },
		{ "SIGRTMIN", 34 },   { "RTMIN+3", 37 }, { "QUIT", 3 },	    { "USR1", 10 },   { "", -1 },
		{ "0", -1 },	      { "65", -1 },	 { "SIG", -1 },	    { "SIG9", -1 },   { "TERMX", -1 },
		{ "RTMIN+31", -1 },   { "RTMIN+", -1 },	 { "RTMIN-1", -1 }, { "RTMINX", -1 }, { "-9", -1 },
		{ "4294967305", -1 }, { "TERM ", -1 },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(vectors); i++) {
		int signo = -1, r = parse_signal(vectors[i].text, &signo);

		if (signo != vectors[i].signo || r != (signo < 0 ? -EINVAL : 0))
			fail_msg("'%s': %d, %d", vectors[i].text, r, signo);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_u64),	    cmocka_unit_test(test_duration), cmocka_unit_test(test_size),
		cmocka_unit_test(test_format_size), cmocka_unit_test(test_nearest),  cmocka_unit_test(test_signals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
