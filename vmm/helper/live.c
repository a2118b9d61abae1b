/* The servers of live directories; see live.h. */
#include "vmm/helper/live.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/live_sandbox.h"
#include "vmm/helper/spawn.h"

#define LIVE_SAID_MAX 4096
#define LIVE_READY_MS 10000

/* Whether a regular file of the directory has another device number. -ENOENT: it has none. */
static int differs(DIR *dir, dev_t dev)
{
	struct dirent *entry;
	struct stat st;

	while ((entry = readdir(dir)))
		if (entry->d_type == DT_REG && fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			return st.st_dev != dev;
	return -ENOENT;
}

/* The same for a file that is made in an empty one, and removed. */
static bool new_differs(int dir, dev_t dev)
{
	static const char name[] = ".mayfly-live";
	MF_CLOSE int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct stat st;
	bool ret;

	if (fd < 0)
		return false; /* nor can the guest make one */
	ret = fstat(fd, &st) == 0 && st.st_dev != dev;
	(void)unlinkat(dir, name, 0); /* it is there */
	return ret;
}

/*
 * diod knows what is mounted below its directory by the device number, and serves none of it. On overlayfs, files have other
 * numbers than directories if the layers are of several file systems: then it would serve no file at all.
 */
static int check_devices(const struct config_live *c, int fd, struct err *e)
{
	struct statfs fs;
	struct stat st;
	DIR *dir;
	int r;

	if (fstatfs(fd, &fs) < 0 || fs.f_type != OVERLAYFS_SUPER_MAGIC)
		return 0;
	dir = opendir(c->host);
	if (!dir || fstat(dirfd(dir), &st) < 0) {
		err_sys(e, "read it");
		r = e->code;
	} else {
		r = differs(dir, st.st_dev);
		if (r == -ENOENT)
			r = !c->read_only && new_differs(dirfd(dir), st.st_dev);
		if (r == 1)
			r = err_set(e, -EOPNOTSUPP,
				    "it is on overlayfs, with files of several file systems, which diod cannot serve: use "
				    "a directory elsewhere, or ':copy'");
	}
	if (dir)
		(void)closedir(dir); /* it was read */
	return r;
}

int live_start(struct live *l, const struct config_live *c, struct err *e)
{
	MF_CLOSE int dir = open(c->host, O_PATH | O_DIRECTORY | O_CLOEXEC);
	MF_CLOSE int server = -1;
	MF_CLOSE int guest = -1;
	MF_CLOSE int said_write = -1;
	MF_CLOSE int said_read = -1;
	MF_CLOSE int ready_write = -1;
	MF_CLOSE int ready_read = -1;
	int pair[2], said[2], ready[2];
	pid_t pid;

	*l = (struct live){ .config = c, .socket = -1, .err_fd = -1, .ready_fd = -1 };
	if (dir < 0)
		return err_sys(e, "open it");
	if (check_devices(c, dir, e) < 0)
		return e->code;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, "make a socket pair");
	server = pair[0];
	guest = pair[1];
	if (fcntl(guest, F_SETFL, O_NONBLOCK) < 0) /* as the vsock device wants it */
		return err_sys(e, "set a socket's mode");
	if (pipe2(said, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(e, "make a pipe");
	said_read = said[0];
	said_write = said[1];
	if (pipe2(ready, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	ready_read = ready[0];
	ready_write = ready[1];
	pid = live_sandbox_start(&(struct live_sandbox){ .dir = dir,
							 .read_only = c->read_only,
							 .server = server,
							 .guest = guest,
							 .said = said_write,
							 .ready = ready_write },
				 e);
	if (pid < 0)
		return pid;
	l->pid = pid;
	l->socket = mf_take_fd(&guest);
	l->err_fd = mf_take_fd(&said_read);
	l->ready_fd = mf_take_fd(&ready_read);
	return 0;
}

int live_await(struct live *l, struct err *e)
{
	struct pollfd ready = { .fd = l->ready_fd, .events = POLLIN };
	MF_CLOSE int process = -1;
	int n;

	if (l->pid == 0 || l->ready_fd < 0)
		return 0;
	do
		n = poll(&ready, 1, LIVE_READY_MS);
	while (n < 0 && errno == EINTR);
	close(mf_take_fd(&l->ready_fd));
	if (ready.revents & POLLIN)
		return 0;
	if (n == 0)
		return err_set(e, -ETIMEDOUT, "volume '%s': its server is not ready after %d s", l->config->host,
			       LIVE_READY_MS / 1000);
	/* It has closed the pipe, so it ends. */
	process = pidfd_open(l->pid, 0);
	ready = (struct pollfd){ .fd = process, .events = POLLIN };
	(void)poll(&ready, 1, LIVE_READY_MS); /* whether it has is what is asked next */
	n = live_check(l, e);
	return n ? n : err_set(e, -ECHILD, "volume '%s': its server is not ready, and does not end", l->config->host);
}

int live_check(struct live *l, struct err *e)
{
	static const char *const skip[] = { NULL };
	char said[LIVE_SAID_MAX];
	int status;

	if (l->pid == 0 || waitpid(l->pid, &status, WNOHANG) != l->pid)
		return 0;
	l->pid = 0;
	/* The guest can make it say a lot, by requests that fail: what did not fit into the pipe is lost. */
	(void)spawn_read_end(l->err_fd, said, sizeof(said)); /* of the rest, the last line is enough */
	close(mf_take_fd(&l->err_fd));
	if (status == 0)
		return 0; /* the guest has closed the connection */
	if (WIFSIGNALED(status))
		return err_set(e, -ECHILD, "volume '%s': its server has ended: signal %d has ended its sandbox",
			       l->config->host, WTERMSIG(status));
	if (WEXITSTATUS(status) > LIVE_SANDBOX_SIGNAL)
		return err_set(e, -ECHILD, "volume '%s': its server has ended: signal %d has ended diod",
			       l->config->host, WEXITSTATUS(status) - LIVE_SANDBOX_SIGNAL);
	return err_set(e, -ECHILD, "volume '%s': its server has ended: %s", l->config->host,
		       spawn_last_line(said, skip));
}

void live_end(struct live *l)
{
	if (!l->config)
		return;
	if (l->socket >= 0)
		close(mf_take_fd(&l->socket));
	if (l->ready_fd >= 0)
		close(mf_take_fd(&l->ready_fd));
	if (l->err_fd >= 0)
		close(mf_take_fd(&l->err_fd));
	/* Its connection ends it. Not waited for: its files may hang. */
	l->pid = 0;
}
