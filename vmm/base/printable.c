/* Sanitises untrusted text for terminals and logs; see printable.h. */
#include "vmm/base/printable.h"

#include <stdbool.h>

#define FIRST ' '
#define LAST '~'
#define DEL 0x7f

char printable_guest_byte(char byte)
{
	return byte >= FIRST && byte <= LAST ? byte : '.';
}

void printable_guest(char *to, size_t size, const char *from)
{
	size_t i;

	for (i = 0; from[i] && i < size - 1; i++)
		to[i] = printable_guest_byte(from[i]);
	to[i] = '\0';
}

/* U+0080 to U+009F: terminals treat each as ESC and another character. */
static bool is_c1(const unsigned char *at)
{
	return at[0] == 0xc2 && at[1] >= 0x80 && at[1] <= 0x9f;
}

void printable_line(char *text)
{
	for (char *at = text; *at; at++) {
		if (is_c1((unsigned char *)at))
			*at++ = '?';
		else if ((unsigned char)*at >= FIRST && *at != DEL)
			continue;
		*at = '?';
	}
}
