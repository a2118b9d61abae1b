/* Live directories of the host, by 9P2000.L. */
#ifndef MF_LOADER_INIT_LIVE_H
#define MF_LOADER_INIT_LIVE_H

#include <stdbool.h>

/*
 * Connects to the server of the directory with this number, and mounts what it serves at
 * path. Returns 0 or -errno.
 */
int live_mount(const char *number, const char *path, bool read_only);

#endif
