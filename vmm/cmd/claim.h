/* The client of a pool: `mayfly clone --pool`. */
#ifndef MF_CMD_CLAIM_H
#define MF_CMD_CLAIM_H

#include "vmm/cmd/words.h"

struct claim_params {
	const char *pool;		       /* its socket */
	const char *dir;		       /* or NULL: of whatever snapshot the pool is */
	const char *name;		       /* or NULL */
	const struct words *options, *command; /* of `mayfly restore` */
};

/*
 * Takes a VM of the pool, with the streams of this process, until it ends; where there is none, becomes a `mayfly restore`. Returns
 * mayfly's exit status, or -n: a signal has ended it.
 */
int claim_run(const struct claim_params *p);

#endif
