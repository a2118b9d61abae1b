/* Dates of the Gregorian calendar, in UTC. */
#ifndef MF_BASE_DATE_H
#define MF_BASE_DATE_H

#include <stdint.h>

struct date {
	int year;
	unsigned month, day; /* from 1 */
};

/*
 * The date that is days after 1970-01-01, to the year 9999 at least. gmtime_r(3) reads /etc/localtime for it, which few
 * threads of ours may.
 */
struct date date_of(uint32_t days);

#endif
