/* Sends the files that the boot text asks for to the host, when the command is over. */
#ifndef MF_INIT_ARTIFACT_H
#define MF_INIT_ARTIFACT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "loader/init/text.h"

/* Starts a process that sends them, if there are any; false, and perhaps why, if none runs. */
bool artifact_start(const char *boot, size_t len, struct text *why);
bool artifact_is_running(void);
/* A child process has ended: whether it was that one, and what it could not send. */
bool artifact_reaped(pid_t pid, int status, struct text *why);

#endif
