/* Writes a file, or a directory with all in it, as a tar archive. */
#ifndef MF_INIT_TAR_H
#define MF_INIT_TAR_H

#include <stdbool.h>

#include "loader/init/text.h"

/*
 * Writes PATH, which begins with a slash, and all files below it to a blocking
 * descriptor. holes: files with holes are sparse in it, otherwise holes are zeros. Names in the archive begin with PATH's last component ("." for "/").
 * Returns false in three cases: there is no such path, and nothing is written; the
 * descriptor accepts no more; or files could not be read, and the archive is valid
 * without them. why then names the first.
 */
bool tar_send(const char *path, int to, bool holes, struct text *why);

#endif
