/* Text of others, made fit for a terminal and a log: what is in it cannot move the cursor, or begin another line. */
#ifndef MF_BASE_PRINTABLE_H
#define MF_BASE_PRINTABLE_H

#include <stddef.h>

/* A byte from the guest: itself if it is printable ASCII, else '.'. */
char printable_guest_byte(char byte);

/* Copies a string from the guest, cut to size bytes with its NUL; size is not 0. to may be from. */
void printable_guest(char *to, size_t size, const char *from);

/* A line of ours with names of files and words of the user in it, which may be in UTF-8: control characters become '?'. */
void printable_line(char *text);

#endif
