/*
 * Copies files out of the guest at the end. mayfly's init sends a tar archive, which two
 * processes, forked from the one that the user has started, unpack. The guest may send
 * anything; artifact.c says what confines the unpacking.
 */
#ifndef MF_HELPER_ARTIFACT_H
#define MF_HELPER_ARTIFACT_H

#include <sys/types.h>

struct config_artifact;
struct err;

#define ARTIFACT_BYTES_DEFAULT (8ULL << 30) /* of an archive */
#define ARTIFACT_MEMBERS_MAX 1000000U	    /* files, directories and symbolic links in one */

/* Zeroed: none was started. */
struct artifact {
	const struct config_artifact *config;
	pid_t pid;	  /* of the keeper */
	int socket;	  /* what the guest is to write to; -1 once somebody has taken it over */
	char *place;	  /* the real path of what will arrive, or of its directory if that is "." */
	struct err *said; /* shared with the processes: what went wrong there */
};

/*
 * Makes the directory if it is missing, and starts the processes. When it returns, they
 * are confined and the fresh directory exists. Returns 0 or -errno with e set. The
 * calling process has one thread; it must close the socket here for them to end.
 */
int artifact_start(struct artifact *a, const struct config_artifact *config, struct err *e);

/* Whether both can arrive: neither takes the other's place, or is in it. Returns 0, or -EINVAL with e set. */
int artifact_check_places(const struct artifact *a, const struct artifact *b, struct err *e);

/*
 * Waits until all has arrived and is in its place, when nothing more can come. Returns 0 or -errno with e set, and then
 * nothing has changed in the directory. Accepts a zeroed struct.
 */
int artifact_finish(struct artifact *a, struct err *e);

#endif
