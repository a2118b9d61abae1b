/* A fork of a VM that runs with --forkable: what `mayfly clone NAME` starts others from. */
#ifndef MF_CMD_FORK_H
#define MF_CMD_FORK_H

#include "vmm/guest/control.h"
#include "vmm/snapshot/dir.h"

struct err;
struct json_t;

/* What such a VM's process is called as; argv[1] has its memories, and what follows is as of `mayfly restore`. */
#define FORK_NAME "mayfly-fork"

struct fork {
	struct snapshot_dir dir;
	char *path;	   /* of the directory with the state, the configuration and layers */
	char memories[64]; /* their descriptors, which processes that are started inherit: "5,6" */
	int fd[CONTROL_LAYERS_MAX];
	unsigned num;
};

#define FORK_INIT ((struct fork){ .dir = SNAPSHOT_DIR_INIT })

/*
 * Takes one of the VM at target, whose configuration is an object as config_print prints it, below the directory dir; seals its memories, so that
 * nobody can write to them. Returns 0 or -errno with e set.
 */
int fork_take(struct fork *f, const char *target, struct json_t *config, const char *dir, struct err *e);

/* Removes the directory, and closes the memories, in any case. */
void fork_done(struct fork *f);

/* main() of a VM that begins as such a fork. Returns mayfly's exit status. */
int fork_command(int argc, char **argv);

#endif
