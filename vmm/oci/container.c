/* What is kept of a container; see container.h. */
#include "vmm/oci/container.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/own_dir.h"
#include "vmm/base/util.h"
#include "vmm/oci/json_at.h"

#define STATE "state.json"
#define STATE_NEW "state.json.new"
#define LOCK_S 20 /* a deletion, which waits for a process to end, takes 10 at most */

int container_check_id(const char *id, struct err *e)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-.";
	size_t len = strlen(id);

	if (len >= 1 && len <= CONTAINER_ID_MAX && strspn(id, allowed) == len && !strchr("+-.", *id))
		return 0;
	return err_set(
		e, -EINVAL,
		"container id: must be 1 to %d letters, digits, '_', '+', '-' or '.', and begin with none of the last three",
		CONTAINER_ID_MAX);
}

char *container_default_root(void)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char *path;

	/* Root of a user namespace cannot write to /run. */
	if (geteuid() == 0 && access("/run", W_OK) == 0)
		return strdup("/run/mayfly-oci");
	if (!runtime || *runtime != '/')
		runtime = "/tmp";
	return asprintf(&path, "%s/mayfly-oci-%u", runtime, geteuid()) < 0 ? NULL : path;
}

int container_open_root(const char *path, struct err *e)
{
	MF_FREE char *copy = strdup(path);
	char *slash;
	int fd;

	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	for (slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(copy, 0700) < 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
			return err_sys(e, "root '%s': make '%s'", path, copy);
		*slash = '/';
	}
	fd = own_dir_open(AT_FDCWD, path, true, e);
	return fd < 0 ? err_wrap(e, "root") : fd;
}

static int begin(struct container *c, const char *root, const char *id, struct err *e)
{
	*c = CONTAINER_INIT;
	if (container_check_id(id, e) < 0)
		return e->code;
	snprintf(c->id, sizeof(c->id), "%s", id);
	c->root = container_open_root(root, e);
	return c->root < 0 ? c->root : 0;
}

int container_make(struct container *c, const char *root, const char *id, struct err *e)
{
	if (begin(c, root, id, e) < 0)
		return e->code;
	if (mkdirat(c->root, id, 0700) < 0)
		return errno == EEXIST ? err_set(e, -EEXIST, "container '%s': there is one already", id) :
					 err_sys(e, "container '%s': make its directory", id);
	c->dir = own_dir_open(c->root, id, false, e);
	c->json = json_object();
	if (c->dir < 0)
		return c->dir;
	return c->json ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static void wake(int signo)
{
	(void)signo;
}

/* Waits for the lock. Returns 0 or a negative errno: -EINTR after LOCK_S. */
static int wait_for_lock(int fd)
{
	const struct sigaction on_alarm = { .sa_handler = wake };
	struct sigaction old;
	int r;

	(void)sigaction(SIGALRM, &on_alarm, &old); /* it is a signal that can be caught */
	(void)alarm(LOCK_S);			   /* there is no other */
	r = flock(fd, LOCK_EX) < 0 ? -errno : 0;
	(void)alarm(0);
	(void)sigaction(SIGALRM, &old, NULL);
	return r;
}

/* Locks it, and sees that it has not been removed, nor another made of the same id. */
static int lock(const struct container *c, struct err *e)
{
	struct stat own, named;
	int r = wait_for_lock(c->dir);

	if (r == -EINTR)
		return err_set(e, -EBUSY, "container '%s': another process holds its directory", c->id);
	if (r < 0)
		return err_neg(e, r, "container '%s': lock its directory", c->id);
	if (fstat(c->dir, &own) == 0 && fstatat(c->root, c->id, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	    own.st_ino == named.st_ino && own.st_dev == named.st_dev)
		return 0;
	return err_set(e, -ENOENT, "container '%s' does not exist", c->id);
}

static void unlock(const struct container *c)
{
	(void)flock(c->dir, LOCK_UN); /* of a descriptor that is open, it cannot fail */
}

static int open_dir(struct container *c, const char *root, const char *id, struct err *e)
{
	if (begin(c, root, id, e) < 0)
		return e->code;
	c->dir = own_dir_open(c->root, id, false, e);
	if (c->dir == -ENOENT)
		return err_set(e, -ENOENT, "container '%s' does not exist", id);
	return c->dir < 0 ? err_wrap(e, "container '%s'", id) : 0;
}

static int read_state(struct container *c, const char *root, struct err *e)
{
	char path[PATH_MAX];

	if (faccessat(c->dir, STATE, F_OK, 0) < 0 && errno == ENOENT) {
		c->json = json_object(); /* `create` has not come so far, or was killed */
		return c->json ? 0 : err_set(e, -ENOMEM, "out of memory");
	}
	snprintf(path, sizeof(path), "%s/%s/" STATE, root, c->id);
	return json_at_read(&c->json, path, e) < 0 ? err_wrap(e, "container '%s'", c->id) : 0;
}

int container_open(struct container *c, const char *root, const char *id, struct err *e)
{
	return open_dir(c, root, id, e) < 0 ? e->code : read_state(c, root, e);
}

int container_open_locked(struct container *c, const char *root, const char *id, struct err *e)
{
	return open_dir(c, root, id, e) < 0 || lock(c, e) < 0 ? e->code : read_state(c, root, e);
}

static int write_state(const struct container *c, struct err *e)
{
	MF_CLOSE int fd = openat(c->dir, STATE_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	MF_FREE char *text = json_dumps(c->json, JSON_INDENT(1));
	int r;

	if (fd < 0)
		return err_sys(e, "container '%s': make its state", c->id);
	r = text ? fdio_write_all(fd, text, strlen(text)) : -ENOMEM;
	if (r == 0 && renameat(c->dir, STATE_NEW, c->dir, STATE) < 0)
		r = -errno;
	return r < 0 ? err_neg(e, r, "container '%s': write its state", c->id) : 0;
}

int container_write(const struct container *c, struct err *e)
{
	int r = lock(c, e);

	if (r == 0)
		r = write_state(c, e);
	unlock(c);
	return r;
}

static int remove_files(const struct container *c, struct err *e)
{
	static const char *const files[] = { STATE_NEW, STATE };

	for (size_t i = 0; i < MF_ARRAY_SIZE(files); i++)
		if (unlinkat(c->dir, files[i], 0) < 0 && errno != ENOENT)
			return err_sys(e, "container '%s': remove %s", c->id, files[i]);
	if (unlinkat(c->root, c->id, AT_REMOVEDIR) < 0)
		return err_sys(e, "container '%s': remove its directory", c->id);
	return 0;
}

int container_remove(const struct container *c, struct err *e)
{
	int r = lock(c, e);

	if (r == 0)
		r = remove_files(c, e);
	unlock(c);
	return r;
}

void container_done(struct container *c)
{
	mf_cleanup_close(&c->dir);
	mf_cleanup_close(&c->root);
	json_decref(c->json);
	*c = CONTAINER_INIT;
}

pid_t container_pid(const struct container *c)
{
	return (pid_t)json_integer_value(json_object_get(c->json, "pid"));
}

const char *container_text(const struct container *c, const char *key)
{
	const char *text = json_string_value(json_object_get(c->json, key));

	return text ? text : "";
}

bool container_is(const struct container *c, const char *key)
{
	return json_is_true(json_object_get(c->json, key));
}
