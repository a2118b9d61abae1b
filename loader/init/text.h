/* Builds sentences without stdio, which would be half of the program. */
#ifndef MF_INIT_TEXT_H
#define MF_INIT_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * A sentence; text that does not fit is left out. len excludes the NUL, which is always
 * there.
 */
struct text {
	size_t len;
	char s[512];
};

/* Adds all strings up to NULL. */
void text_add(struct text *text, ...) __attribute__((sentinel));
/* Adds a string, or the first max bytes of it. */
void text_add_bytes(struct text *text, const char *s, size_t max);
void text_add_number(struct text *text, unsigned long number);
/* Adds ": " and the text of errno. */
void text_add_error(struct text *text, int error);

/*
 * Iterates over the strings of a list (see proto.h), len bytes that end with a NUL. Set
 * *at to 0 before the first; returns NULL after the last.
 */
const char *text_next(const char *list, size_t len, size_t *at);
/*
 * Returns the text after the letter in the list's only string that begins with it, or
 * NULL.
 */
const char *text_find(const char *list, size_t len, char letter);

/*
 * Parses the leading digits of s as a number of at most max: returns the rest, or NULL.
 */
const char *text_digits(const char *s, unsigned long max, unsigned long *ret);
/* The same for a string that is a number and nothing more. */
bool text_number(const char *s, unsigned long max, unsigned long *ret);

#endif
