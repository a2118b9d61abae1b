/* `mayfly cache`. */
#ifndef MF_CMD_CACHE_H
#define MF_CMD_CACHE_H

#include "vmm/cli/cli.h"

/* Lists or removes what is in the cache of images (image_cache.h), or says where it is. Returns mayfly's exit status. */
int cache_command(int argc, char **argv);
extern const struct cli_usage cache_usage;

#endif
