/* What makes writes permanent before the machine ends. */
#ifndef MF_INIT_LEAVE_H
#define MF_INIT_LEAVE_H

#include <stddef.h>

#include "loader/init/text.h"

/*
 * Makes writes permanent: syncs all drives and makes their file systems read-only, except
 * for drives whose changes are lost, as the boot text says. Adds to why what could not be
 * written.
 */
void leave_drives(const char *boot, size_t len, struct text *why);

/* Ends the machine. */
void leave_reboot(void) __attribute__((noreturn));

#endif
