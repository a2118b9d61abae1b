/* Text of others, made fit for a terminal and a log; see printable.h. */
#include "vmm/base/printable.h"

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

void printable_line(char *text)
{
	for (char *at = text; *at; at++)
		if ((unsigned char)*at < FIRST || *at == DEL)
			*at = '?';
}
