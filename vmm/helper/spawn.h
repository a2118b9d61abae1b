/* Programs of the host that do a part of the work. Each gets its arguments, one file as stdin, and /dev/null as stdout. */
#ifndef MF_HELPER_SPAWN_H
#define MF_HELPER_SPAWN_H

#include <sys/types.h>

struct err;

/*
 * Starts argv[0], looked up in PATH, with stdin_fd as its stdin (-1: /dev/null), our stderr, and signals as a new program
 * expects them. It inherits no other descriptor. Returns its pid, or -errno with e set; package is what to install
 * if it is not there.
 */
pid_t spawn_start(const char *const argv[], int stdin_fd, const char *package, struct err *e);

/* Waits for its end. Returns 0, or -ECHILD with e set to how it has failed; name is the program's. */
int spawn_wait(pid_t pid, const char *name, struct err *e);

#endif
