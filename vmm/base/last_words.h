/* A line that a signal handler writes, to stderr or to the result (result.h). All of it is async-signal-safe. */
#ifndef MF_BASE_LAST_WORDS_H
#define MF_BASE_LAST_WORDS_H

#include <stddef.h>
#include <stdint.h>

#define LAST_WORDS_MAX 2048

/* Zeroed means empty. Text that does not fit is cut off. */
struct last_words {
	char text[LAST_WORDS_MAX];
	size_t len;
};

void last_words_put(struct last_words *l, const char *text);
void last_words_put_number(struct last_words *l, uint64_t n, unsigned base);

/*
 * Writes the text. Gives up if stderr accepts nothing: at this point mayfly waits for no
 * reader.
 */
void last_words_say(const struct last_words *l);

#endif
