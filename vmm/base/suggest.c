/* "Did you mean ...?"; see suggest.h. */
#include "vmm/base/suggest.h"

#include <string.h>

#include "vmm/base/util.h"

#define WORD_MAX 32 /* longer words get no suggestion */

/*
 * Returns how many letters must be changed, added, dropped or swapped with their
 * neighbour to turn a into b.
 */
static unsigned edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	unsigned row[3][WORD_MAX + 1] = { 0 }; /* the last three rows, the newest first */

	for (size_t j = 0; j <= b_len; j++)
		row[0][j] = (unsigned)j;
	for (size_t i = 1; i <= a_len; i++) {
		memcpy(row[2], row[1], sizeof(row[1]));
		memcpy(row[1], row[0], sizeof(row[0]));
		row[0][0] = (unsigned)i;
		for (size_t j = 1; j <= b_len; j++) {
			unsigned changed = row[1][j - 1] + (a[i - 1] != b[j - 1]);

			row[0][j] = MF_MIN(changed, MF_MIN(row[1][j], row[0][j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[0][j] = MF_MIN(row[0][j], row[2][j - 2] + 1);
		}
	}
	return row[0][b_len];
}

void suggest_try(struct suggest *n, const char *candidate)
{
	size_t len = strlen(candidate), shorter = MF_MIN(len, n->len);
	unsigned distance;
	bool is_prefix;

	if (n->len > WORD_MAX || len > WORD_MAX || shorter < 2)
		return;
	/*
	 * "--memory" for --mem and "--ker" for --kernel are near, however many letters
	 * differ.
	 */
	is_prefix = shorter >= 3 && !memcmp(n->word, candidate, shorter);
	distance = edit_distance(n->word, n->len, candidate, len);
	/*
	 * Allows one wrong letter in a word of up to five, and one more for every three
	 * after that.
	 */
	if (!is_prefix && distance > 1 + (shorter - MF_MIN(shorter, 3)) / 3)
		return;
	if (!n->best || distance < n->distance) {
		n->best = candidate;
		n->distance = distance;
	}
}
