/* Small helpers for file descriptors, and the clock. */
#ifndef MF_INIT_FD_H
#define MF_INIT_FD_H

#include <stddef.h>
#include <stdint.h>

/* Opens standard input, output and errors where they are closed: other files must not get their numbers. */
void fd_take_standard(void);
/* Closes it, unless it is -1, and sets it to -1. */
void fd_close(int *fd);
/* Makes it non-blocking. */
void fd_unblock(int fd);
/* Writes all of it, waiting if the descriptor blocks; 0 or -errno. */
int fd_write(int fd, const void *data, size_t len);
/*
 * Reads a file of less than size bytes: returns how many, or -errno; -EFBIG if there are
 * more.
 */
long fd_read_file(const char *path, void *buf, size_t size);
/* Writes a string to an existing file; 0 or -errno. */
int fd_write_file(const char *path, const char *s);

/* A line on the console, of both strings. */
void fd_say(const char *first, const char *second);

/* Milliseconds of a monotonic clock. */
int64_t clock_ms(void);
void clock_sleep_ms(unsigned ms);

#endif
