/* A line on stderr from a signal handler; see last_words.h. */
#include "vmm/base/last_words.h"

#include <poll.h>
#include <unistd.h>

#define LAST_WORDS_WAIT_MS 20 /* how long to wait for a full pipe */

void last_words_put(struct last_words *l, const char *text)
{
	while (*text && l->len < sizeof(l->text))
		l->text[l->len++] = *text++;
}

void last_words_put_number(struct last_words *l, uint64_t n, unsigned base)
{
	char digits[24];
	size_t at = sizeof(digits) - 1;

	digits[at] = '\0';
	do
		digits[--at] = "0123456789abcdef"[n % base];
	while ((n /= base));
	last_words_put(l, digits + at);
}

void last_words_say(const struct last_words *l)
{
	struct pollfd err = { .fd = STDERR_FILENO, .events = POLLOUT };

	/* A pipe that polls writable takes PIPE_BUF bytes without blocking. */
	if (poll(&err, 1, LAST_WORDS_WAIT_MS) > 0)
		(void)!write(STDERR_FILENO, l->text, l->len); /* a failure cannot be reported anywhere else */
}
