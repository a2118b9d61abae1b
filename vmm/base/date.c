/* Dates; see date.h. */
#include "vmm/base/date.h"

#define DAYS_TO_1970 719468U /* from 0000-03-01 */
#define DAYS_OF_ERA 146097U  /* of 400 years */

struct date date_of(uint32_t days)
{
	/* Years start in March, so that the leap day is the last day of a year. */
	unsigned day = days + DAYS_TO_1970, era = day / DAYS_OF_ERA, of_era = day % DAYS_OF_ERA;
	unsigned year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	unsigned of_year = of_era - (365 * year + year / 4 - year / 100);
	unsigned month = (5 * of_year + 2) / 153; /* 0: March */

	return (struct date){ .year = (int)(era * 400 + year) + (month >= 10),
			      .month = month < 10 ? month + 3 : month - 9,
			      .day = of_year - (153 * month + 2) / 5 + 1 };
}
