/* What is copied out of the guest; see artifact.h. */
#include "vmm/artifact.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/child.h"
#include "vmm/config.h"

int artifact_start(struct artifact *a, const struct config_artifact *config, struct err *e)
{
	const char *const argv[] = {
		"tar",	       "--extract",  "--file=-", "--no-same-owner", "--no-same-permissions",
		"--directory", config->host, NULL
	};
	MF_CLOSE int guest = -1;
	MF_CLOSE int host = -1;
	int pair[2];
	pid_t pid;

	if (mkdir(config->host, 0777) < 0 && errno != EEXIST)
		return err_sys(e, "artifact '%s': make directory '%s'", config->guest, config->host);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, "artifact '%s': make a socket pair", config->guest);
	guest = pair[0];
	host = pair[1];
	(void)fcntl(guest, F_SETFL, O_NONBLOCK); /* cannot fail */
	pid = child_start(argv, host, "tar", e);
	if (pid < 0)
		return err_wrap(e, "artifact '%s'", config->guest);
	*a = (struct artifact){ .config = config, .pid = pid, .socket = mf_take_fd(&guest) };
	return 0;
}

int artifact_finish(struct artifact *a, struct err *e)
{
	pid_t pid = a->pid;

	if (!pid)
		return 0;
	a->pid = 0;
	if (a->socket >= 0)
		close(mf_take_fd(&a->socket));
	if (child_wait(pid, "tar", e) < 0)
		return err_wrap(e, "artifact '%s' did not arrive", a->config->guest);
	return 0;
}
