/* "Did you mean ...?": the candidate that a mistyped word is nearest to. */
#ifndef MF_BASE_SUGGEST_H
#define MF_BASE_SUGGEST_H

#include <stddef.h>

/* Start with { .word = WORD, .len = its length }, try each candidate, then read best: NULL when none is near. */
struct suggest {
	const char *word;
	size_t len;
	const char *best;
	unsigned distance; /* of best */
};

void suggest_try(struct suggest *n, const char *candidate);

#endif
