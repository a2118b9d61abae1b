/*
 * A bound for what an archive unpacks to: a few KiB can be TiBs, or millions of files. tar(1)
 * lists the archive before anything is unpacked, and is stopped at the bound.
 */
#ifndef MF_HELPER_ARCHIVE_BOUND_H
#define MF_HELPER_ARCHIVE_BOUND_H

#include <stdint.h>

struct err;

#define ARCHIVE_BOUND_ENV "MAYFLY_IMAGE_MAX" /* a size, as parse_size reads it */
#define ARCHIVE_BOUND_DEFAULT (32ULL << 30)

/* The options of tar whose output archive_bound_add reads. */
#define ARCHIVE_BOUND_OPTIONS "--list", "--verbose", "--numeric-owner", "--quoting-style=escape", "--absolute-names"

struct archive_bound {
	uint64_t max, bytes; /* bytes: of the archives so far */
};

/* Reads the environment. Returns 0, or -EINVAL with e set. */
int archive_bound_init(struct archive_bound *b, struct err *e);

/* A program that decompresses the archive, and what to install if it is not there. */
struct archive_feeder {
	const char *const *argv; /* or NULL: none */
	const char *package;
};

/*
 * Runs argv, which is tar or ends in it, with the descriptor in as its standard input, or -1; or with what by
 * makes of it, unless by is NULL. Both end with the calling thread. Adds the
 * sizes of all files, with their holes, in whole blocks, and a block for each other entry. Returns 0, or
 * -errno with e set: -EFBIG if they are more than b->max, with the name of the file at which they are;
 * -ECHILD if one of them has failed. One thread only.
 */
int archive_bound_add(struct archive_bound *b, const char *const argv[], const struct archive_feeder *by, int in,
		      struct err *e);

#endif
