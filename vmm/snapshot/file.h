/*
 * A file of a snapshot that has a path of its own, as a client of Firecracker's API names it. It
 * is written beside that path, as ".NAME.new", and renamed, so the path has all of the old file or
 * all of the new one. Any number of processes may write to one path: one of them at a time.
 *
 * The calls are few and their flags are fixed, since a confined thread makes them (filters/rules.h).
 */
#ifndef MF_SNAPSHOT_FILE_H
#define MF_SNAPSHOT_FILE_H

#include <stdbool.h>
#include <stdint.h>

struct err;

struct snapshot_file {
	int fd; /* of the new file; or -1 */
	char *path, *temporary;
	bool replaces; /* path had a file when it began */
};

#define SNAPSHOT_FILE_INIT ((struct snapshot_file){ .fd = -1 })

/*
 * Makes the temporary file, with size bytes of zeros. It may be one that a killed process has left. At
 * path there may be a regular file, or nothing. Returns 0 or -errno with e set; snapshot_file_done
 * accepts either.
 */
int snapshot_file_begin(struct snapshot_file *f, const char *path, uint64_t size, struct err *e);

/* Gives the file, which is written and synced, its name, and syncs the directory. Returns 0 or -errno with e set. */
int snapshot_file_commit(struct snapshot_file *f, struct err *e);

/* Removes what has the name. Returns 0, also if there is nothing, or -errno with e set. */
int snapshot_file_remove(const struct snapshot_file *f, struct err *e);

/* Removes the temporary file, if it has not got its name. */
void snapshot_file_done(struct snapshot_file *f);

#endif
