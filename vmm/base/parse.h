/*
 * Numbers as users write them, on the command line and in files. Strict: the whole text
 * must be the number. No sign, space, fraction, other base, or trailing text is accepted;
 * nor a leading zero (is 010 ten or eight?).
 */
#ifndef MF_BASE_PARSE_H
#define MF_BASE_PARSE_H

#include <stddef.h>
#include <stdint.h>

/* Room for any size that parse_format_size writes, with its NUL. */
#define PARSE_SIZE_TEXT_MAX 24

/* A decimal number. Returns 0, -EINVAL when text is not one, or -ERANGE when it is larger than UINT64_MAX. */
int parse_u64(const char *text, uint64_t *ret);

/*
 * A size in bytes: a number, or a number of KiB, MiB, GiB or TiB followed by K, M, G or
 * T, in either case. "iB" may follow: "128M", "128m" and "128MiB" are the same. "MB" is
 * refused, because it means 1,000,000 bytes to some. Returns as parse_u64.
 */
int parse_size(const char *text, uint64_t *ret);

/* Writes the shortest text that parse_size reads as bytes: "128M", "4097". */
void parse_format_size(uint64_t bytes, char text[PARSE_SIZE_TEXT_MAX]);

/*
 * A time: a number followed by "ms", "s", "m" or "h"; without a suffix, seconds. Returns
 * 0 and milliseconds, or an error as above.
 */
int parse_duration(const char *text, uint64_t *ret_ms);

/*
 * A signal of Linux: its name with or without "SIG", in either case, also "RTMIN+3", or
 * its number, 1 to 64. Returns 0 or -EINVAL.
 */
int parse_signal(const char *text, int *ret);

#endif
