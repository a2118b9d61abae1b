/* Unpacks a tar archive of the host into the guest, for `mayfly cp`. */
#ifndef MF_INIT_UNPACK_H
#define MF_INIT_UNPACK_H

#include <stdbool.h>

#include "loader/init/text.h"

/*
 * Unpacks what a blocking descriptor has, until its end. If PATH is a directory, the members go there by their names.
 * Otherwise PATH takes the place of the first component of each name. Files, links and symlinks replace what has their name,
 * except a directory; a directory that exists stays as it is. owner: all belong to whom the archive says, otherwise to root.
 * It reads GNU's old form, as tar.c writes it, and plain ustar. Returns false if anything was not unpacked: why names the
 * first. The host is trusted: a symlink of the guest on the way is followed, as cp(1) of its root would do.
 */
bool unpack_archive(const char *path, int from, bool owner, struct text *why);

#endif
