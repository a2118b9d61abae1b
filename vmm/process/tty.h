/* The mode of the terminal on which mayfly was started. */
#ifndef MF_PROCESS_TTY_H
#define MF_PROCESS_TTY_H

#include <stdbool.h>

/*
 * Whether we may use the terminal fd: we are in its foreground, or it does no job control
 * with us. In the background, SIGTTIN would stop us on a read.
 */
bool tty_is_ours(int fd);

/*
 * Switches the terminal fd to raw mode and remembers its mode. Returns true if it did.
 * Returns false, and changes nothing, if fd is no terminal or we are in its background.
 * If it has done so before, it changes nothing. From the main thread; fd stays open until
 * tty_restore.
 */
bool tty_raw(int fd);

/*
 * After SIGCONT: another process may have changed the mode while we were stopped. raw:
 * the mode is stdin's, and was raw.
 */
void tty_again(bool raw);

/* Caches our process group, for a thread that may not call getpgrp later. */
void tty_keep_group(void);

/*
 * Undoes tty_raw, if it was called and not yet undone. Any thread, any number of times,
 * in signal handlers.
 */
void tty_restore(void);

#endif
