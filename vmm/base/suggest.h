/* "Did you mean ...?": finds the candidate nearest to a mistyped word. */
#ifndef MF_BASE_SUGGEST_H
#define MF_BASE_SUGGEST_H

#include <stddef.h>

/*
 * Start with { .word = WORD, .len = its length }, try each candidate, then read best:
 * NULL if none is near.
 */
struct suggest {
	const char *word;
	size_t len;
	const char *best;
	unsigned distance; /* of best */
};

void suggest_try(struct suggest *n, const char *candidate);

#endif
