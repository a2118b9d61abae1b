/*
 * Unix sockets with names; see unixname.h. Nothing here blocks: connect(2) to a Unix socket ends at once, with EAGAIN
 * where a blocking one would wait for room in the backlog.
 */
#define MF_LOG_MODULE "socket"
#include "vmm/base/unixname.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/files.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define BACKLOG 256

static int make_socket(int type)
{
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

/* path fits. */
static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	_Static_assert(UNIXNAME_MAX < sizeof(addr.sun_path), "with the NUL");
	memcpy(addr.sun_path, path, strnlen(path, UNIXNAME_MAX));
	return addr;
}

int unixname_connect(const char *path, int type)
{
	struct sockaddr_un addr = address(path);
	MF_CLOSE int fd = make_socket(type);

	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return mf_take_fd(&fd);
}

/* There is something at path: removes a socket that nobody listens on, and refuses everything else. */
static int replace(const char *path, int type, struct err *e)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(e, "look at it");
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "exists and is not a socket: remove it, or choose another name");
	fd = unixname_connect(path, type);
	/* EPROTOTYPE: somebody listens for connections of another type. */
	if (fd >= 0 || fd == -EAGAIN || fd == -EPROTOTYPE) {
		if (fd >= 0)
			close(fd);
		return err_set(e, -EADDRINUSE, "another process listens there: end it, or choose another name");
	}
	if (fd != -ECONNREFUSED && fd != -ENOENT)
		return err_neg(e, fd, "find out who listens there");
	if (unlink(path) < 0 && errno != ENOENT)
		return err_sys(e, "remove the socket that was left there");
	log_info("replacing '%s', which nobody listens on", path);
	return 0;
}

static int bind_name(int fd, const char *path, int type, struct err *e)
{
	struct sockaddr_un addr = address(path);
	int r = bind(fd, (const struct sockaddr *)&addr, sizeof(addr));

	if (r < 0 && errno == EADDRINUSE) {
		r = replace(path, type, e);
		if (r < 0)
			return r;
		r = bind(fd, (const struct sockaddr *)&addr, sizeof(addr));
	}
	return r < 0 ? err_sys(e, "bind") : 0;
}

bool unixname_take(struct unixname *u, const char *path)
{
	u->fd = files_take(path, FILES_LISTEN);
	u->path = path;
	return u->fd >= 0;
}

int unixname_provide(struct unixname *u, struct err *e)
{
	return files_provide(u->path, FILES_LISTEN, mf_take_fd(&u->fd), e);
}

int unixname_listen(struct unixname *u, const char *path, int type, struct err *e)
{
	struct stat st;
	int r;

	if (unixname_take(u, path))
		return 0;
	if (!*path || strlen(path) > UNIXNAME_MAX)
		return err_set(e, -ENAMETOOLONG, "must be 1 to %d bytes long", UNIXNAME_MAX);
	u->fd = make_socket(type);
	if (u->fd < 0)
		return err_neg(e, u->fd, "make a socket");
	r = bind_name(u->fd, path, type, e);
	if (r < 0)
		return r;
	u->path = path;
	u->bound = true;
	if (lstat(path, &st) < 0)
		return err_sys(e, "look at it");
	u->dev = st.st_dev;
	u->ino = st.st_ino;
	return listen(u->fd, BACKLOG) < 0 ? err_sys(e, "listen") : 0;
}

void unixname_remove(struct unixname *u)
{
	struct stat st;

	if (u->bound && lstat(u->path, &st) == 0 && st.st_dev == u->dev && st.st_ino == u->ino)
		(void)unlink(u->path); /* or the next one to listen there replaces it */
	u->bound = false;
}

void unixname_done(struct unixname *u)
{
	unixname_remove(u);
	if (u->fd >= 0)
		close(u->fd);
	u->fd = -1;
}
