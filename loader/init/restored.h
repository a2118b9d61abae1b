/* What a machine that was restored from a snapshot does before any command goes on. */
#ifndef MF_INIT_RESTORED_H
#define MF_INIT_RESTORED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/init/text.h"

/*
 * asked: by clock_ms(), when the host was asked for the message. It has the host's time of half
 * way between then and now, to half of that time.
 *
 * Sets the wall clock, seeds the kernel's random number generator and sets the host name, as
 * INIT_MSG_RESTORED has it, and runs INIT_RESTORED_PATH, if the root has one. On failure
 * returns false and sets why: programs that go on would believe a wrong time, or share secrets.
 */
bool restored_apply(const char *payload, size_t len, int64_t asked, struct text *why);

#endif
