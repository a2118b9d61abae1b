/* Sentences, lists of strings, numbers: see text.h. */
#include "loader/init/text.h"

#include <stdarg.h>
#include <string.h>

void text_add_bytes(struct text *text, const char *s, size_t max)
{
	size_t room = sizeof(text->s) - 1 - text->len;
	size_t len = strnlen(s, max < room ? max : room);

	memcpy(text->s + text->len, s, len);
	text->len += len;
	text->s[text->len] = '\0';
}

void text_add(struct text *text, ...)
{
	va_list list;

	va_start(list, text);
	for (const char *s; (s = va_arg(list, const char *)) != NULL;)
		text_add_bytes(text, s, sizeof(text->s));
	va_end(list);
}

void text_add_number(struct text *text, unsigned long number)
{
	char digits[24];
	size_t at = sizeof(digits) - 1;

	digits[at] = '\0';
	do
		digits[--at] = (char)('0' + number % 10);
	while ((number /= 10) > 0);
	text_add_bytes(text, digits + at, sizeof(digits));
}

void text_add_error(struct text *text, int error)
{
	text_add(text, ": ", strerror(error), NULL);
}

const char *text_next(const char *list, size_t len, size_t *at)
{
	const char *s = list + *at;

	if (*at >= len || list[len - 1] != '\0')
		return NULL;
	*at += strlen(s) + 1;
	return s;
}

const char *text_find(const char *list, size_t len, char letter)
{
	const char *s;
	size_t at = 0;

	while ((s = text_next(list, len, &at)) != NULL) {
		if (s[0] == letter)
			return s + 1;
	}
	return NULL;
}

const char *text_digits(const char *s, unsigned long max, unsigned long *ret)
{
	unsigned long number = 0;

	if (*s < '0' || *s > '9')
		return NULL;
	for (; *s >= '0' && *s <= '9'; s++) {
		number = number * 10 + (unsigned long)(*s - '0');
		if (number > max)
			return NULL;
	}
	*ret = number;
	return s;
}

bool text_number(const char *s, unsigned long max, unsigned long *ret)
{
	const char *end = text_digits(s, max, ret);

	return end != NULL && *end == '\0';
}
