/* Numbers as users write them; see parse.h. */
#include "vmm/base/parse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char suffixes[] = "KMGT"; /* 2^10, 2^20, ... */

/* Reads digits; *ret_end points to the first other byte. */
static int parse_digits(const char *text, uint64_t *ret, const char **ret_end)
{
	uint64_t value = 0;
	const char *p = text;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	if (*p == '0' && p[1] >= '0' && p[1] <= '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *p - '0', &value)) {
			/* Overflow counts only if the whole text is a number. */
			p += strspn(p, "0123456789");
			*ret_end = p;
			return -ERANGE;
		}
	}
	*ret = value;
	*ret_end = p;
	return 0;
}

/* Returns the power of two of a suffix: 0 for none, -1 for an unknown one. */
static int parse_suffix(const char *text)
{
	const char *s;
	char upper;

	if (!*text)
		return 0;
	upper = *text >= 'a' && *text <= 'z' ? (char)(*text - 'a' + 'A') : *text;
	s = strchr(suffixes, upper);
	if (!s || (text[1] && strcmp(text + 1, "iB") != 0))
		return -1;
	return 10 * (int)(s - suffixes + 1);
}

int parse_u64(const char *text, uint64_t *ret)
{
	const char *end;
	uint64_t value;
	int r = parse_digits(text, &value, &end);

	if (r == -EINVAL || *end)
		return -EINVAL;
	if (r == 0)
		*ret = value;
	return r;
}

int parse_size(const char *text, uint64_t *ret)
{
	const char *end;
	uint64_t value;
	int r = parse_digits(text, &value, &end), shift;

	if (r == -EINVAL)
		return r;
	shift = parse_suffix(end);
	if (shift < 0)
		return -EINVAL;
	if (r == -ERANGE || __builtin_mul_overflow(value, (uint64_t)1 << shift, &value))
		return -ERANGE;
	*ret = value;
	return 0;
}

void parse_format_size(uint64_t bytes, char text[PARSE_SIZE_TEXT_MAX])
{
	char suffix[2] = "";

	for (const char *s = suffixes; *s && bytes && bytes % 1024 == 0; s++) {
		suffix[0] = *s;
		bytes /= 1024;
	}
	snprintf(text, PARSE_SIZE_TEXT_MAX, "%" PRIu64 "%s", bytes, suffix);
}

int parse_duration(const char *text, uint64_t *ret_ms)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} units[] = { { "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 } };
	uint64_t total = 0, value, smallest = UINT64_MAX;
	int range = 0;

	do {
		const char *end;
		size_t i = 0, len;
		int r = parse_digits(text, &value, &end);

		if (r == -EINVAL)
			return r;
		len = strcspn(end, "0123456789");
		while (i < sizeof(units) / sizeof(units[0]) &&
		       (strlen(units[i].name) != len || strncmp(end, units[i].name, len) != 0))
			i++;
		/* "1h30m": the larger units first; a number without one stands alone. */
		if (i == sizeof(units) / sizeof(units[0]) || units[i].ms >= smallest ||
		    (i == 0 && smallest != UINT64_MAX))
			return -EINVAL;
		smallest = units[i].ms;
		if (r < 0 || __builtin_mul_overflow(value, units[i].ms, &value) ||
		    __builtin_add_overflow(total, value, &total))
			range = -ERANGE;
		text = end + len;
	} while (*text);
	if (!range)
		*ret_ms = total;
	return range;
}

/* The first of Linux; glibc's SIGRTMIN is another, since its threads take two. */
#define RTMIN_OF_LINUX 34
#define SIGNAL_MAX 64

int parse_signal(const char *text, int *ret)
{
	const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text, *abbreviation;
	uint64_t number = 0;

	if (strncasecmp(name, "RTMIN", 5) == 0 && (!name[5] || name[5] == '+')) {
		if (name[5] && parse_u64(name + 6, &number) < 0)
			return -EINVAL;
		number = number > SIGNAL_MAX - RTMIN_OF_LINUX ? 0 : number + RTMIN_OF_LINUX;
	} else if (name > text || parse_u64(text, &number) < 0) {
		number = 0;
	}
	for (int i = 1; !number && i < RTMIN_OF_LINUX; i++)
		if ((abbreviation = sigabbrev_np(i)) && !strcasecmp(name, abbreviation))
			number = (uint64_t)i;
	if (number < 1 || number > SIGNAL_MAX)
		return -EINVAL;
	*ret = (int)number;
	return 0;
}
