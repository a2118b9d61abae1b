/* `mayfly snap`: looks at snapshots. */
#ifndef MF_CMD_SNAP_H
#define MF_CMD_SNAP_H

struct cli_usage;

int snap_command(int argc, char **argv);
extern const struct cli_usage snap_usage;

struct err;
struct words;

/*
 * Runs the command in a VM from the snapshot in dir, and writes which pages it used as the snapshot's working set. Returns 0 or
 * -errno with e set.
 */
int snap_record(const char *dir, const struct words *command, struct err *e);

/*
 * Merges the chain of the snapshot in dir into a complete one, in to, or NULL: in its place. An older one there stays until the
 * new one is complete. Returns 0 or -errno with e set.
 */
int snap_merge(const char *dir, const char *to, struct err *e);

/* Refuses a directory with a snapshot against which one beside it was saved: it is not to be removed or replaced. */
int snap_refuse_needed(const char *dir, struct err *e);

#endif
