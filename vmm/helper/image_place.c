/* Where the cache is; see image_cache.h. */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/helper/image_cache.h"

/* Makes dir, whose parents may be missing, too. */
static int make_directories(char *dir, struct err *e)
{
	for (char *slash = strchr(dir + 1, '/');; slash = strchr(slash + 1, '/')) {
		int r;

		if (slash)
			*slash = '\0';
		r = mkdir(dir, 0700) < 0 && errno != EEXIST ? err_sys(e, "make directory '%s'", dir) : 0;
		if (slash)
			*slash = '/';
		if (r < 0 || !slash)
			return r;
	}
}

/* Takes "BASE/BELOW/images" if it can be made and written to. */
static int try_place(struct image_cache *c, const char *base, const char *below, struct err *e)
{
	MF_CLOSE int fd = -1;
	MF_FREE char *path = NULL;

	if (asprintf(&path, "%s%s/images", base, below) < 0) {
		path = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (make_directories(path, e) < 0)
		return e->code;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		return err_sys(e, "write to directory '%s'", path);
	c->fd = mf_take_fd(&fd);
	c->path = mf_take_ptr(&path);
	return 0;
}

/* Other users can write to TMPDIR: a file of that name must be ours alone. */
static int try_temporary(struct image_cache *c, struct err *e)
{
	const char *tmp = getenv("TMPDIR");
	char below[32];
	MF_FREE char *path = NULL;
	struct stat st;

	if (!tmp || *tmp != '/')
		tmp = "/tmp";
	snprintf(below, sizeof(below), "/mayfly-%u", (unsigned)geteuid());
	if (asprintf(&path, "%s%s", tmp, below) < 0) {
		path = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make directory '%s'", path);
	if (lstat(path, &st) < 0)
		return err_sys(e, "find '%s'", path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 022)
		return err_set(e, -EPERM, "'%s' is not a directory to which this user alone can write", path);
	return try_place(c, tmp, below, e);
}

/*
 * Not getpwuid(3), for which a static binary would load libraries. Returns a new string,
 * or NULL.
 */
static char *home_of_passwd(void)
{
	FILE *file = fopen("/etc/passwd", "re");
	struct passwd *entry = NULL;
	char *home = NULL;

	while (file && (entry = fgetpwent(file)) && entry->pw_uid != geteuid())
		;
	if (entry && entry->pw_dir && *entry->pw_dir == '/')
		home = strdup(entry->pw_dir);
	if (file)
		fclose(file);
	return home;
}

int image_cache_find(struct image_cache *c, struct err *e)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	MF_FREE char *of_passwd = NULL;

	if (xdg && *xdg == '/')
		return try_place(c, xdg, "/mayfly", e);
	if (!home || *home != '/')
		home = of_passwd = home_of_passwd();
	/* A service's home may be read-only, or not exist. */
	if (home && strcmp(home, "/") != 0 && try_place(c, home, "/.cache/mayfly", e) == 0)
		return 0;
	return try_temporary(c, e);
}
