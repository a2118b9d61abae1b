/* `mayfly images`: the images of containers that are in the cache, by their names. */
#ifndef MF_CMD_IMAGES_H
#define MF_CMD_IMAGES_H

#include "vmm/cli/cli.h"

extern const struct cli_usage images_usage;

/* argv[0] is "images". Returns the exit status. */
int images_command(int argc, char **argv);

#endif
