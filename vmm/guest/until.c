/* When the snapshot of `mayfly run --snapshot` is due; see until.h. */
#include "vmm/guest/until.h"

#include <limits.h>
#include <string.h>

#include "vmm/base/util.h"

/* How much of the text is printed when byte follows the first n bytes of it (Knuth, Morris and Pratt). */
static size_t until_follow(const struct until *u, size_t n, char byte)
{
	while (n > 0 && u->text[n] != byte)
		n = u->back[n - 1];
	return n + (u->text[n] == byte);
}

void until_init(struct until *u, const struct config *c, uint64_t now_ms)
{
	uint64_t ms = 0;

	*u = (struct until){ .text = "" };
	u->when = config_until(c, &u->text, &ms);
	for (size_t i = 1; *u->text && u->text[i]; i++)
		u->back[i] = (uint8_t)until_follow(u, u->back[i - 1], u->text[i]);
	u->due_ms = now_ms + ms;
}

bool until_scan(struct until *u, enum until_stream stream, const void *data, size_t len)
{
	const char *byte = data;
	size_t *n = &u->found[stream];

	if (u->when != CONFIG_UNTIL_TEXT || atomic_load(&u->seen))
		return false;
	for (size_t i = 0; i < len; i++) {
		*n = until_follow(u, *n, byte[i]);
		if (!u->text[*n])
			return !atomic_exchange(&u->seen, true);
	}
	return false;
}

bool until_is_due(struct until *u, uint64_t now_ms)
{
	switch (u->when) {
	case CONFIG_UNTIL_READY:
		return u->warm;
	case CONFIG_UNTIL_TEXT:
		return atomic_load(&u->seen);
	case CONFIG_UNTIL_TIME:
		u->passed = u->passed || now_ms >= u->due_ms;
		return u->passed;
	case CONFIG_UNTIL_NONE:
		break;
	}
	return false;
}

int until_timeout(const struct until *u, uint64_t now_ms, int max_ms)
{
	uint64_t left = u->due_ms > now_ms ? u->due_ms - now_ms : 0;

	if (u->when != CONFIG_UNTIL_TIME || u->passed || (max_ms >= 0 && left > (uint64_t)max_ms))
		return max_ms;
	return (int)MF_MIN(left, (uint64_t)INT_MAX);
}
