/* Writes a file, or a directory with all in it, as a tar archive. */
#ifndef MF_INIT_TAR_H
#define MF_INIT_TAR_H

#include <stdbool.h>

#include "loader/init/text.h"

/*
 * Writes PATH, which begins with a slash, and what is below it to a descriptor that waits. Names in the archive begin with
 * PATH's last component ("." for "/"). False if there is no such path (nothing is written then), if the descriptor takes
 * no more, or if there were files that could not be read (the archive is good, without them): why says which was the
 * first.
 */
bool tar_send(const char *path, int to, struct text *why);

#endif
