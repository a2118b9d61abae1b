/* What mayfly does when it crashes itself; see crash.h. Handlers call async-signal-safe functions only. */
#include "vmm/crash.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/console.h"

static const struct {
	int sig;
	const char *line;
} crashes[] = {
	{ SIGSEGV, "mayfly: crashed: SIGSEGV (this is a bug in mayfly)\n" },
	{ SIGBUS, "mayfly: crashed: SIGBUS (was the kernel file truncated while the guest ran?)\n" },
	{ SIGILL, "mayfly: crashed: SIGILL (this is a bug in mayfly)\n" },
	{ SIGFPE, "mayfly: crashed: SIGFPE (this is a bug in mayfly)\n" },
	{ SIGABRT, "mayfly: crashed: SIGABRT (this is a bug in mayfly)\n" },
};

static void on_crash(int sig)
{
	console_tty_restore();
	for (size_t i = 0; i < MF_ARRAY_SIZE(crashes); i++) {
		if (crashes[i].sig == sig && write(STDERR_FILENO, crashes[i].line, strlen(crashes[i].line)) < 0)
			break; /* nowhere else to say it */
	}
	/* SA_RESETHAND has put the default action back: die of it, with a core file where the user wants them. */
	raise(sig);
}

int crash_setup(struct err *e)
{
	struct sigaction sa = { .sa_handler = on_crash, .sa_flags = SA_RESETHAND | SA_NODEFER };

	for (size_t i = 0; i < MF_ARRAY_SIZE(crashes); i++) {
		if (sigaction(crashes[i].sig, &sa, NULL) < 0)
			return err_sys(e, "install the handler of signal %d", crashes[i].sig);
	}
	return 0;
}
