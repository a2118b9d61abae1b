/* The process that writes the snapshot of `mayfly run --snapshot`. */
#ifndef MF_CMD_RUN_SNAPSHOT_H
#define MF_CMD_RUN_SNAPSHOT_H

struct config;
struct err;
struct helpers;

/*
 * Starts the process, which makes the files in c->snapshot, and asks the VM for the snapshot; h
 * gets it. Returns when it has asked. Nothing happens without c->snapshot. Before other helpers
 * are started. Returns 0, or -errno with e set; helpers_end ends what was started.
 */
int run_snapshot_start(struct helpers *h, const struct config *c, struct err *e);

#endif
