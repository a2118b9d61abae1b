/* Signals that a loop takes from a descriptor; see signals.h. */
#include "vmm/base/signals.h"

#include <errno.h>
#include <sys/signalfd.h>

int signals_open(const int *signals, size_t num, sigset_t *ret_old)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	for (size_t i = 0; i < num; i++) {
		struct sigaction old;

		if (sigaction(signals[i], NULL, &old) < 0 || old.sa_handler != SIG_IGN)
			sigaddset(&set, signals[i]);
	}
	(void)sigprocmask(SIG_BLOCK, &set, ret_old); /* cannot fail */
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}
