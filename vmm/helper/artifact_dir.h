/*
 * Where an artifact goes: HOSTDIR, which is opened once, and a fresh directory in it, where the artifact is unpacked before
 * what was asked for is moved to its place. Nothing here follows a link, or leaves the file system of HOSTDIR.
 */
#ifndef MF_HELPER_ARTIFACT_DIR_H
#define MF_HELPER_ARTIFACT_DIR_H

#include <limits.h>
#include <stdint.h>

#define ARTIFACT_DIR_PREFIX ".mayfly-artifact."

struct config_artifact;
struct err;

struct artifact_dir {
	int host;  /* HOSTDIR */
	int fresh; /* locked, so that others see that it is in use; mode 0700 */
	char fresh_name[sizeof(ARTIFACT_DIR_PREFIX) + 8];
	char name[NAME_MAX + 1]; /* of what was asked for; ".": what is in it */
};

/*
 * Opens HOSTDIR, which is made if it is missing, removes fresh directories that killed processes have left in it, and makes
 * one. Returns 0 or -errno with e set.
 */
int artifact_dir_open(struct artifact_dir *d, const struct config_artifact *config, struct err *e);

/*
 * Moves what was asked for from the fresh directory to HOSTDIR, if it is a file or a directory, and there are only files
 * with all of their names, directories and symbolic links in it, without set-id bits, and no more than so many and so much. It takes
 * the place of what is there, in one step where the file system can do that; that is in the fresh directory then. Of a "."
 * HOSTDIR gets what is in it, and must have nothing else. Returns 0 or -errno with e set; names from the guest may be in e.
 */
int artifact_dir_move(const struct artifact_dir *d, uint64_t max_members, uint64_t max_bytes, struct err *e);

/* Removes the fresh directory and all in it. Returns 0 or -errno with e set. */
int artifact_dir_remove(const struct artifact_dir *d, struct err *e);

/* Closes both. */
void artifact_dir_close(struct artifact_dir *d);

#endif
