/* `mayfly timeline`: times of boots as a chart. */
#ifndef MF_VMM_TIMELINE_SVG_H
#define MF_VMM_TIMELINE_SVG_H

#include "vmm/cli.h"

/* Draws the files that argv names; returns mayfly's exit status. */
int timeline_command(int argc, char **argv);
extern const struct cli_usage timeline_usage;

#endif
