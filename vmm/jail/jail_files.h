/* Opens the files that a VM opens by name, before it enters the jail. */
#ifndef MF_JAIL_JAIL_FILES_H
#define MF_JAIL_JAIL_FILES_H

#include "vmm/base/unix_socket.h"

struct config;
struct err;

/* The sockets whose names the process outside removes at the end. */
struct jail_names {
	struct unix_socket vsock, control;
};

/*
 * Opens all files that c names and puts them into the fdstore (vmm/base/fdstore.h). Returns 0, or
 * -errno with e set as the VM would set it. *ret is always set: the caller removes its names.
 */
int jail_files_provide(const struct config *c, struct jail_names *ret, struct err *e);

#endif
