/*
 * Programs of the host that serve a VM: passt for each user network, a file server for each
 * live directory, the keeper and the unpacker of each artifact, the writer of a snapshot
 * (vmm/cmd/run_snapshot.h). They live outside of the jail, as children of the process that the user has started; their sockets are the VM's.
 */
#ifndef MF_HELPER_HELPERS_H
#define MF_HELPER_HELPERS_H

#include <netinet/in.h>
#include <stdbool.h>

#include "vmm/config/config.h"
#include "vmm/helper/artifact.h"
#include "vmm/helper/live.h"
#include "vmm/helper/passt.h"

/* Zeroed: none was started. */
struct helpers {
	const struct config *config;
	struct passt passt[CONFIG_NETS_MAX];
	struct live live[CONFIG_LIVE_MAX];
	struct artifact artifact[CONFIG_ARTIFACTS_MAX];
	pid_t snapshot;	      /* the process that writes the files of `run --snapshot`; 0: there is none; */
	int snapshot_fd;      /* its connection to the VM, or -1 */
	struct in6_addr *own; /* addresses of the host when passt was started, which are closed to its guest */
	unsigned num_own;
};

/*
 * Starts all. Returns 0 or -errno with e set; helpers_end ends what was started. First of all: they start while the VM is
 * built, and there is nothing yet that fork would have to copy. SIGCHLD is blocked, for whom a signalfd is read.
 */
int helpers_start(struct helpers *c, const struct config *config, struct err *e);

/* Waits until all are ready. Returns 0, or -errno with e set: one has ended, as for lack of a port. */
int helpers_await(struct helpers *c, struct err *e);

/* Logs which have ended before the VM, each once, with what they said. After SIGCHLD. */
void helpers_check(struct helpers *c);

/*
 * Waits until all artifacts have arrived, whose other ends must be closed, and says what has not;
 * and until the snapshot is written, or its writer has said why not. Returns false if something
 * was lost.
 */
bool helpers_finish(struct helpers *c);

/* Ends what still runs. */
void helpers_end(struct helpers *c);

/* After a fork: whose children they are closes what is the other's, and the other one forgets that they are processes. */
void helpers_leave_sockets(struct helpers *c);
void helpers_leave_processes(struct helpers *c);

#endif
