/*
 * Sanitises untrusted text for terminals and logs: it cannot move the cursor or start
 * another line.
 */
#ifndef MF_BASE_PRINTABLE_H
#define MF_BASE_PRINTABLE_H

#include <stddef.h>

/* Maps a byte from the guest: printable ASCII stays, anything else becomes '.'. */
char printable_guest_byte(char byte);

/*
 * Copies a string from the guest, cut to size bytes with its NUL. size is not 0; to may
 * be from.
 */
void printable_guest(char *to, size_t size, const char *from);

/*
 * Cleans a line of mayfly's own that contains file names and words of the user, possibly
 * in UTF-8: control characters become '?'.
 */
void printable_line(char *text);

#endif
