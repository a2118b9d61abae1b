/* The files that a client of a pool opens for its VM, with its own rights. */
#ifndef MF_CMD_CLAIM_FILES_H
#define MF_CMD_CLAIM_FILES_H

#include "vmm/base/unix_socket.h"
#include "vmm/pool/claim.h"

struct err;

struct claim_files {
	struct unix_socket vsock; /* its name alone: the descriptor is the claim's */
	char *path;		  /* of that */
};

#define CLAIM_FILES_INIT                                                                                               \
	(struct claim_files)                                                                                           \
	{                                                                                                              \
		.vsock = UNIXNAME_INIT                                                                                 \
	}

/*
 * If the option ("--drive=...", "--net=...", "--vsock=...") belongs to the part, opens what it names, and adds both to the claim.
 * Returns 0 or -errno with e set.
 */
int claim_files_add(struct claim_files *f, struct pool_claim *c, enum pool_part part, const char *option,
		    struct err *e);

/* Removes the name of the vsock's socket, if the VM has not done so. */
void claim_files_done(struct claim_files *f);

#endif
