/* Sends the files that the boot text names to the host, when the command has ended. */
#ifndef MF_INIT_ARTIFACT_H
#define MF_INIT_ARTIFACT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "loader/init/text.h"

/*
 * Starts a process that sends them, if there are any. Returns false if no process was
 * started; why then has the reason, if there is one.
 */
bool artifact_start(const char *boot, size_t len, struct text *why);
bool artifact_is_running(void);
/*
 * A child process has ended: returns whether it was that one; why gets what it could not
 * send.
 */
bool artifact_reaped(pid_t pid, int status, struct text *why);

#endif
