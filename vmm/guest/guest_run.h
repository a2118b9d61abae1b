/*
 * Commands of clients that have no streams, but get all output in the end (config/exec.h). In place of the connection of a
 * `mayfly exec`, a struct control_client has one that only ends, and a struct guest_run. Private to vmm/guest; the main thread's.
 */
#ifndef MF_GUEST_GUEST_RUN_H
#define MF_GUEST_GUEST_RUN_H

#include <poll.h>

#include "loader/init/proto.h"
#include "vmm/config/exec.h"

struct control_client;
struct guest_client;
struct guest_run;

/* Its streams: what to poll; how many are returned. */
unsigned guest_run_poll_fds(const struct guest_run *r, struct pollfd *fds);

/* How long poll(2) may wait, max_ms at most (-1: no limit). */
int guest_run_timeout(const struct guest_run *r, int max_ms);

/* Serves what poll(2) reports, and what is due. If it is over, ops->ran is called, and c is free. */
void guest_run_serve(struct guest_client *a, struct control_client *c, const struct pollfd *fds, unsigned num);

/* Init says that the command is over. */
void guest_run_exited(struct guest_run *r, const struct init_msg *msg, const char *payload);

/* Closes and frees it. NULL is fine. */
void guest_run_free(struct guest_run *r);

#endif
