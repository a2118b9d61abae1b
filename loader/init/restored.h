/* What a machine that was restored from a snapshot does before any command goes on. */
#ifndef MF_INIT_RESTORED_H
#define MF_INIT_RESTORED_H

#include <stdbool.h>
#include <stddef.h>

#include "loader/init/text.h"

/*
 * Sets the wall clock, seeds the kernel's random number generator and sets the host name, as
 * INIT_MSG_RESTORED has it, and runs INIT_RESTORED_PATH, if the root has one. On failure
 * returns false and sets why: programs that go on would believe a wrong time, or share secrets.
 */
bool restored_apply(const char *payload, size_t len, struct text *why);

#endif
