/* Programs of the host that do a part of the work. */
#ifndef MF_HELPER_SPAWN_H
#define MF_HELPER_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct err;

#define SPAWN_FDS 4 /* descriptors that a program gets: 0 to 3 */

/*
 * Starts argv[0], looked up in PATH, in a process group of its own, with signals as a new program expects them. fd[i] is its
 * descriptor i, -1: /dev/null; it inherits no other. The kernel sends it end_signal when the calling thread ends,
 * however that ends (PR_SET_PDEATHSIG). package is what to install if the program is not there.
 *
 * Returns its pid when it has been executed, or -errno with e set. One thread only: it forks.
 */
pid_t spawn_start(const char *const argv[], const int fd[SPAWN_FDS], int end_signal, const char *package,
		  struct err *e);

/* Waits for its end. Returns 0, or -ECHILD with e set to how it has failed; name is the program's. */
int spawn_wait(pid_t pid, const char *name, struct err *e);

/*
 * Reads what a program says, to the end; of a pipe that does not block, what is in it. said gets what came last, with a NUL
 * behind it: half of size at least, if it was more. Returns whether it was.
 */
bool spawn_read_end(int fd, char *said, size_t size);

/*
 * The last line in what a program has said, but for those that begin with a word of skip (NULL ends it). Cuts text; the
 * line is a part of it, with printable characters only, or a text of its own if the program said nothing.
 */
const char *spawn_last_line(char *text, const char *const skip[]);

#endif
