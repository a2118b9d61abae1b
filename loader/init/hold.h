/* Holds all other processes still while a snapshot is taken. */
#ifndef MF_INIT_HOLD_H
#define MF_INIT_HOLD_H

#include <stdbool.h>
#include <sys/types.h>

#include "loader/init/text.h"

/* Makes the cgroup in which commands run from now on. On failure returns false and sets why. */
bool hold_prepare(struct text *why);

/* fork(), into that cgroup if there is one. Returns as fork(). */
pid_t hold_fork(void);

/*
 * Freezes every process below the root cgroup, and waits until all are; or lets them go on.
 * Returns false and sets why on failure: then some run.
 */
bool hold_all(bool still, struct text *why);

#endif
