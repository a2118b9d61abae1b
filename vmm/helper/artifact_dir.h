/*
 * The destination of an artifact: HOSTDIR, which is opened once, and a fresh directory in
 * it. The artifact is unpacked there and then moved to its place. Nothing here follows a
 * link, or leaves the file system of HOSTDIR.
 */
#ifndef MF_HELPER_ARTIFACT_DIR_H
#define MF_HELPER_ARTIFACT_DIR_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define ARTIFACT_DIR_PREFIX ".mayfly-artifact."

struct config_artifact;
struct err;

struct artifact_dir {
	int host;  /* HOSTDIR */
	int fresh; /* locked, so that others see that it is in use; mode 0700 */
	char fresh_name[sizeof(ARTIFACT_DIR_PREFIX) + 8];
	char name[NAME_MAX + 1]; /* of the requested path; ".": its contents */
	const char *as;		 /* its name in HOSTDIR, or NULL: the same; kept, not copied */
	bool merge;		 /* with directories that are there */
};

/*
 * Opens HOSTDIR, which is made if it is missing, removes fresh directories that killed processes have left in it, and makes
 * one. Returns 0 or -errno with e set.
 */
int artifact_dir_open(struct artifact_dir *d, const struct config_artifact *config, struct err *e);

/*
 * Moves the requested file or directory from the fresh directory to HOSTDIR, after
 * checks. It may contain only directories, symlinks, and files with all of their names,
 * without set-id bits, within the limits of number and size. It replaces the file that
 * has its place, in one step where the file system can do that; the old file is in the
 * fresh directory then. For ".", the contents go to HOSTDIR, which must be empty
 * otherwise. With merge, a directory that has its place, and HOSTDIR for ".", gets what is in
 * the one that has arrived; files replace files, and nothing replaces a directory. Returns 0 or -errno with e set; e may contain names from the guest.
 */
int artifact_dir_move(const struct artifact_dir *d, uint64_t max_members, uint64_t max_bytes, struct err *e);

/* Removes the fresh directory and all in it. Returns 0 or -errno with e set. */
int artifact_dir_remove(const struct artifact_dir *d, struct err *e);

/* Closes both. */
void artifact_dir_close(struct artifact_dir *d);

#endif
