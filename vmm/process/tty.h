/* The mode of the terminal that mayfly was started on. */
#ifndef MF_PROCESS_TTY_H
#define MF_PROCESS_TTY_H

#include <stdbool.h>

/*
 * Whether we may use the terminal fd: we are in its foreground, or it does no job control with us. From the background, a
 * read would stop us by SIGTTIN.
 */
bool tty_is_ours(int fd);

/*
 * Switches the terminal fd to raw mode and remembers how it was. Returns whether it did: false, and nothing changes, if
 * fd is no terminal or we are in its background. Once, from the main thread; fd stays open until tty_restore.
 */
bool tty_raw(int fd);

/* After SIGCONT: whoever had the terminal while we were stopped may have changed its mode. raw: it is stdin's, and was raw. */
void tty_again(bool raw);

/* Our process group stays what it is now: it is not asked for again. For a thread that may not ask later. */
void tty_keep_group(void);

/* Undoes tty_raw, if it was called and not yet undone. Any thread, any number of times, in signal handlers. */
void tty_restore(void);

#endif
