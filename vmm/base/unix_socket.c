/*
 * Unix sockets with names; see unix_socket.h. Nothing here blocks: connect(2) to a Unix
 * socket returns at once, with EAGAIN where a blocking call would wait for room in the
 * backlog.
 *
 * Anybody with write access to the socket's directory can replace the file of that name
 * at any time. Checking a name and then using the name would be a race. So the code
 * checks a descriptor (O_PATH) and connects to it through /proc/self/fd. Before it
 * removes a file, it renames it to a secret name and checks it there. The directory is a
 * descriptor from the beginning.
 */
#include "vmm/base/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define BACKLOG 256

/*
 * The sockets that are bound, for unix_socket_remove_all. One thread writes; each write
 * is complete for a signal handler that interrupts it.
 */
static struct unix_socket *volatile bound[UNIXNAME_BOUND_MAX];

static void set_bound(struct unix_socket *from, struct unix_socket *to)
{
	for (unsigned i = 0; i < UNIXNAME_BOUND_MAX; i++) {
		if (bound[i] == from) {
			bound[i] = to;
			return;
		}
	}
}

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

int unix_socket_connect(const char *path, int type)
{
	struct sockaddr_un addr = address(path);
	MF_CLOSE int fd = make_socket(type);

	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return mf_take_fd(&fd);
}

/* Connects to the file behind an O_PATH descriptor. The file has, or had, that path. */
static int connect_file(int file, const char *path, int type)
{
	char link[32];
	int fd;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
	fd = unix_socket_connect(link, type);
	return fd == -ENOENT ? unix_socket_connect(path, type) : fd; /* without /proc */
}

int unix_socket_connect_exact(const char *path, int type)
{
	MF_CLOSE int file = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (file < 0 || fstatat(file, "", &st, AT_EMPTY_PATH) < 0)
		return -errno;
	return S_ISSOCK(st.st_mode) ? connect_file(file, path, type) : -ENOTSOCK;
}

static const char *name_in(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool is_file(int dir, const char *name, dev_t dev, ino_t ino)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == dev && st.st_ino == ino;
}

/*
 * Removes this file, called name in dir, and no other. It checks twice, so that a foreign
 * file is not even renamed unless somebody wins a race. Returns 0, or -errno: -ESTALE if
 * another file has the name.
 */
static int remove_file(int dir, const char *name, dev_t dev, ino_t ino)
{
	char aside[48];
	int r;

	snprintf(aside, sizeof(aside), ".mayfly-%llx", (unsigned long long)ino);
	if (!is_file(dir, name, dev, ino))
		return -ESTALE;
	if (renameat2(dir, name, dir, aside, RENAME_NOREPLACE) < 0) {
		if (errno != EINVAL)
			return -errno;
		return unlinkat(dir, name, 0) < 0 ? -errno : 0; /* the file system does not support it */
	}
	if (is_file(dir, aside, dev, ino))
		return unlinkat(dir, aside, 0) < 0 ? -errno : 0;
	r = renameat2(dir, aside, dir, name, RENAME_NOREPLACE) < 0 ? -errno : -ESTALE;
	if (r != -ESTALE)
		log_warn("'%s' was replaced by another file, which is now called '%s': %s; continuing", name, aside,
			 strerror(-r));
	return r;
}

/*
 * Something is at the path: removes a socket on which nobody listens, and refuses
 * everything else.
 */
static int replace(const struct unix_socket *u, const char *path, int type, struct err *e)
{
	MF_CLOSE int file = openat(u->dir_fd, name_in(path), O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int fd, r;

	if (file < 0)
		return errno == ENOENT ? 0 : err_sys(e, "examine it");
	if (fstat(file, &st) < 0)
		return err_sys(e, "examine it");
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "exists and is not a socket: remove it, or choose another name");
	fd = connect_file(file, path, type);
	/* EPROTOTYPE: a process listens for connections of another type. */
	if (fd >= 0 || fd == -EAGAIN || fd == -EPROTOTYPE) {
		if (fd >= 0)
			close(fd);
		return err_set(e, -EADDRINUSE, "another process listens there: end it, or choose another name");
	}
	if (fd != -ECONNREFUSED && fd != -ENOENT)
		return err_neg(e, fd, "check whether a process listens there");
	r = remove_file(u->dir_fd, name_in(path), st.st_dev, st.st_ino);
	if (r < 0 && r != -ENOENT && r != -ESTALE) /* then bind(2) reports it */
		return err_neg(e, r, "remove the stale socket");
	log_info("replacing the stale socket '%s'", path);
	return 0;
}

static int open_directory(const char *path)
{
	char dir[UNIXNAME_MAX + 1];
	size_t len = (size_t)(name_in(path) - path);

	memcpy(dir, path, len);
	dir[len] = '\0';
	return open(len ? dir : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

void unix_socket_remove_stale(const char *path, int type)
{
	struct unix_socket u = UNIXNAME_INIT;
	struct err e;

	if (!*path || strlen(path) > UNIXNAME_MAX)
		return;
	u.dir_fd = open_directory(path);
	if (u.dir_fd < 0)
		return;
	(void)replace(&u, path, type, &e); /* another process listens, or it is no socket: it stays */
	close(u.dir_fd);
}

static int bind_name(const struct unix_socket *u, const char *path, int type, struct err *e)
{
	struct sockaddr_un addr = address(path);
	int r = bind(u->fd, (const struct sockaddr *)&addr, sizeof(addr));

	if (r < 0 && errno == EADDRINUSE) {
		r = replace(u, path, type, e);
		if (r < 0)
			return r;
		r = bind(u->fd, (const struct sockaddr *)&addr, sizeof(addr));
	}
	return r < 0 ? err_sys(e, "bind") : 0;
}

bool unix_socket_take(struct unix_socket *u, const char *path)
{
	u->fd = fdstore_take(path, FILES_LISTEN);
	u->path = path;
	return u->fd >= 0;
}

int unix_socket_provide(struct unix_socket *u, struct err *e)
{
	return fdstore_provide(u->path, FILES_LISTEN, mf_take_fd(&u->fd), e);
}

/* What has the name now is this socket's. */
static int note_name(struct unix_socket *u, const char *path, struct err *e)
{
	struct stat st;

	if (fstatat(u->dir_fd, name_in(path), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys(e, "examine it");
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "another file has taken its place");
	u->path = path;
	u->bound = true;
	u->dev = st.st_dev;
	u->ino = st.st_ino;
	set_bound(NULL, u);
	return 0;
}

static int option_of(int fd, int option)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0 ? -1 : value;
}

int unix_socket_adopt(struct unix_socket *u, int fd, const char *path, int type, struct err *e)
{
	struct sockaddr_un own = { .sun_family = AF_UNSPEC };
	socklen_t len = sizeof(own) - 1; /* with a NUL behind it */
	int flags;

	if (option_of(fd, SO_DOMAIN) != AF_UNIX || option_of(fd, SO_TYPE) != type || option_of(fd, SO_ACCEPTCONN) != 1)
		return err_set(e, -EINVAL, "the descriptor is no Unix socket that listens for such connections");
	if (*path != '/' || getsockname(fd, (struct sockaddr *)&own, &len) < 0 || strcmp(own.sun_path, path) != 0)
		return err_set(e, -EINVAL, "the descriptor listens at another name");
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_sys(e, "make it non-blocking");
	u->dir_fd = open_directory(path);
	return u->dir_fd < 0 ? err_sys(e, "open its directory") : note_name(u, path, e);
}

int unix_socket_listen(struct unix_socket *u, const char *path, int type, struct err *e)
{
	int r;

	if (unix_socket_take(u, path))
		return 0;
	if (!*path || strlen(path) > UNIXNAME_MAX)
		return err_set(e, -ENAMETOOLONG, "must be 1 to %d bytes long", UNIXNAME_MAX);
	u->fd = make_socket(type);
	if (u->fd < 0)
		return err_neg(e, u->fd, "make a socket");
	u->dir_fd = open_directory(path);
	if (u->dir_fd < 0)
		return err_sys(e, "open its directory");
	r = bind_name(u, path, type, e);
	if (r < 0 || note_name(u, path, e) < 0)
		return r < 0 ? r : e->code;
	if (listen(u->fd, BACKLOG) < 0)
		return err_sys(e, "listen");
	/* For those who watch the directory: it accepts connections from now on. That it may fail matters to them alone. */
	(void)utimensat(u->dir_fd, name_in(path), NULL, AT_SYMLINK_NOFOLLOW);
	return 0;
}

void unix_socket_move(struct unix_socket *to, struct unix_socket *from)
{
	*to = *from;
	if (from->bound)
		set_bound(from, to);
	*from = UNIXNAME_INIT;
}

void unix_socket_remove(struct unix_socket *u)
{
	if (u->bound)
		(void)remove_file(u->dir_fd, name_in(u->path), u->dev,
				  u->ino); /* otherwise the next process that listens there removes it */
	u->bound = false;
	set_bound(u, NULL);
	if (u->dir_fd >= 0)
		close(u->dir_fd);
	u->dir_fd = -1;
}

void unix_socket_remove_all(void)
{
	for (unsigned i = 0; i < UNIXNAME_BOUND_MAX; i++)
		if (bound[i])
			unix_socket_remove(bound[i]);
}

void unix_socket_done(struct unix_socket *u)
{
	unix_socket_remove(u);
	if (u->fd >= 0)
		close(u->fd);
	u->fd = -1;
}
