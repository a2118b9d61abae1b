/* Dates, against the C library's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "vmm/base/date.h"

#define DAYS_TO_10000 2932897

static void test_every_day(void **state)
{
	(void)state;
	for (uint32_t days = 0; days < DAYS_TO_10000; days++) {
		struct date d = date_of(days);
		time_t t = (time_t)days * 86400;
		struct tm tm;

		gmtime_r(&t, &tm);
		if (d.year != tm.tm_year + 1900 || (int)d.month != tm.tm_mon + 1 || (int)d.day != tm.tm_mday)
			fail_msg("day %u: %d-%u-%u", days, d.year, d.month, d.day);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_day) };

	return cmocka_run_group_tests_name("date", tests, NULL, NULL);
}
