/* /snapshot/load of Firecracker's API: from the files that a client names to the configuration of a VM. */
#ifndef MF_CMD_LOAD_H
#define MF_CMD_LOAD_H

struct api;
struct config;
struct err;

/*
 * Takes the configuration from the snapshot: of a state that the API wrote from that itself, of one that `mayfly snapshot` wrote
 * from the directory that it is in. *ret_dir is for vm_find_layers, and the caller's. Returns 0 or -errno with e set.
 */
int load_config(struct api *api, struct config *c, char **ret_dir, struct err *e);

#endif
