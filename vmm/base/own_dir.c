/* Directories of this user alone; see own_dir.h. */
#include "vmm/base/own_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"

static int make_directory(int parent, const char *name, struct err *e)
{
	mode_t mask = umask(0077); /* a stricter one would lock us out */
	bool failed = mkdirat(parent, name, 0700) < 0 && errno != EEXIST;

	umask(mask); /* does not touch errno */
	return failed ? err_sys(e, "make directory '%s'", name) : 0;
}

int own_dir_open(int parent, const char *name, bool make, struct err *e)
{
	MF_CLOSE int fd = -1;
	struct stat st;

	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && make) {
		if (make_directory(parent, name, e) < 0)
			return e->code;
		fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
		return err_set(e, -ENOTDIR, "'%s' is no directory: remove it", name);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, "open '%s'", name);
	if ((st.st_uid != 0 && st.st_uid != geteuid()) || st.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(e, -EPERM,
			       "directory '%s' is user %u's, mode %04o: other users could exchange its files; remove it",
			       name, st.st_uid, st.st_mode & 07777);
	return mf_take_fd(&fd);
}
