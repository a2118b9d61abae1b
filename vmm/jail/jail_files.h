/* What a VM opens by name, opened before it goes to jail. */
#ifndef MF_JAIL_JAIL_FILES_H
#define MF_JAIL_JAIL_FILES_H

#include "vmm/base/unix_socket.h"

struct config;
struct err;

/* The names of sockets, which the process outside removes at the end. */
struct jail_names {
	struct unix_socket vsock, control;
};

/*
 * Opens all that c names, for the VM to take (vmm/base/fdstore.h). Returns 0 or -errno with e set as the VM itself would;
 * *ret, which is set in any case, holds what must be removed then.
 */
int jail_files_provide(const struct config *c, struct jail_names *ret, struct err *e);

#endif
