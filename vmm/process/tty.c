/* The mode of the terminal; see tty.h. */
#include "vmm/process/tty.h"

#include <errno.h>
#include <stdatomic.h>
#include <termios.h>
#include <unistd.h>

/* Global: a signal handler must find the terminal without an argument. */
static struct {
	int fd;
	pid_t group; /* ours, if it is kept; 0 in a PID namespace, outside of which it is */
	bool kept;
	struct termios saved;
	atomic_bool raw; /* set after the others; cleared by the one tty_restore that acts */
} tty;

bool tty_is_ours(int fd)
{
	pid_t group = tcgetpgrp(fd);

	return group < 0 || group == (tty.kept ? tty.group : getpgrp());
}

void tty_keep_group(void)
{
	tty.group = getpgrp();
	tty.kept = true;
}

bool tty_raw(int fd)
{
	struct termios raw;

	if (atomic_load(&tty.raw))
		return true; /* what is saved stays */
	if (!isatty(fd) || !tty_is_ours(fd) || tcgetattr(fd, &tty.saved) < 0)
		return false;
	/*
	 * Raw output, too: the guest's own terminal driver turns \n into \r\n, and its
	 * full-screen programs mean a bare \n.
	 */
	raw = tty.saved;
	cfmakeraw(&raw);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	tty.fd = fd;
	atomic_store(&tty.raw, true); /* first: a signal before the change restores the mode in use */
	if (tcsetattr(fd, TCSANOW, &raw) == 0)
		return true;
	atomic_store(&tty.raw, false);
	return false;
}

void tty_again(bool raw)
{
	tty_restore();
	if (raw)
		(void)tty_raw(STDIN_FILENO); /* a terminal that is no longer ours stays as it is */
}

void tty_restore(void)
{
	int saved_errno = errno; /* a signal handler may have interrupted any code */

	/*
	 * In the background SIGTTOU would stop us; the shell has restored its modes
	 * already.
	 */
	if (atomic_exchange(&tty.raw, false) && tty_is_ours(tty.fd))
		tcsetattr(tty.fd, TCSANOW, &tty.saved);
	errno = saved_errno;
}
