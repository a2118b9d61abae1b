/*
 * What is copied out of the guest at the end: mayfly's init sends a tar archive, and tar on the host unpacks it. The
 * archive is the guest's word: tar refuses names that lead out of the directory, and the guest's owners and set-id bits
 * mean nothing here.
 */
#ifndef MF_VMM_ARTIFACT_H
#define MF_VMM_ARTIFACT_H

#include <sys/types.h>

struct config;
struct config_artifact;
struct err;

/* Zeroed: none was started. */
struct artifact {
	const struct config_artifact *config;
	pid_t pid;  /* of tar */
	int socket; /* what the guest is to write to; -1 once somebody has taken it over */
};

/*
 * Makes the directory if it is missing, and starts tar. Returns 0 or -errno with e set. Main thread, better before the
 * process has others; the socket has to be closed here for tar to end.
 */
int artifact_start(struct artifact *a, const struct config_artifact *config, struct err *e);

/* Waits until all has arrived, when nothing more can come. Returns 0 or -errno with e set. Accepts a zeroed struct. */
int artifact_finish(struct artifact *a, struct err *e);

#endif
