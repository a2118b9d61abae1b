/* Dates of the Gregorian calendar, in UTC. */
#ifndef MF_BASE_DATE_H
#define MF_BASE_DATE_H

#include <stdint.h>

struct date {
	int year;
	unsigned month, day; /* from 1 */
};

/*
 * Converts days since 1970-01-01 to a date, up to the year 9999 at least. gmtime_r(3)
 * would read /etc/localtime, which few of our threads may do.
 */
struct date date_of(uint32_t days);

#endif
