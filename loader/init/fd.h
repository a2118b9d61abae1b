/* Small helpers for file descriptors, and the clock. */
#ifndef MF_INIT_FD_H
#define MF_INIT_FD_H

#include <stddef.h>
#include <stdint.h>

/* Closes it if it is one, and sets it to -1. */
void fd_close(int *fd);
/* From now on, calls on it return EAGAIN instead of waiting. */
void fd_unblock(int fd);
/* Writes all of it, waiting if the descriptor does; 0 or -errno. */
int fd_write(int fd, const void *data, size_t len);
/* Reads a file of less than size bytes: how many, or -errno; -EFBIG if there are more. */
long fd_read_file(const char *path, void *buf, size_t size);
/* Writes a string to a file that is there; 0 or -errno. */
int fd_write_file(const char *path, const char *s);

/* Milliseconds of a clock that only goes on. */
int64_t clock_ms(void);
void clock_sleep_ms(unsigned ms);

#endif
