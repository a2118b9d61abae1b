/* Copies of files: of the same blocks where the file system can share them, else with the same holes. */
#ifndef MF_SNAPSHOT_COPY_H
#define MF_SNAPSHOT_COPY_H

struct err;

/*
 * Makes to, an empty file, share the blocks of from (FICLONE). Returns 0; or -errno: -EOPNOTSUPP,
 * -EXDEV or -EINVAL if these files cannot.
 */
int copy_share(int from, int to);

/* Shares or copies all of from, which does not change. Returns 0 or -errno with e set. */
int copy_file(int from, int to, struct err *e);

#endif
