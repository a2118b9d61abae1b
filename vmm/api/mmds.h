/*
 * Firecracker's MMDS: data of the client for the guest, as JSON. Private to vmm/api, and the main
 * thread's.
 *
 * The guest gets them at MMDS_PORT of the host by vsock: the whole document, then EOF. It sends
 * nothing, so nothing of it is read. The port is a Unix socket beside that of the vsock, to which the
 * vsock's thread connects as for any other port.
 */
#ifndef MF_API_MMDS_H
#define MF_API_MMDS_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/api/objects.h"
#include "vmm/base/unix_socket.h"

#define MMDS_PORT 169254
#define MMDS_GUEST_MAX 131072U /* bytes that the guest can get: they fit into a socket at once */

struct err;

struct mmds {
	struct json_t *data; /* or NULL: nothing was put */
	size_t limit;	     /* bytes of it */
	bool configured;
	struct api_mmds config;
	struct unix_socket socket; /* for the guest, once the VM starts */
	char path[UNIXNAME_MAX + 1];
};

#define MMDS_INIT                                                                                                      \
	{                                                                                                              \
		.socket = UNIXNAME_INIT                                                                                \
	}

void mmds_done(struct mmds *m);

/* Has the guest find the data, if there are any or may be, at the vsock whose socket is at uds_path. */
void mmds_listen(struct mmds *m, const char *uds_path);

/* Serves a connection of the guest, if one waits. */
void mmds_serve(struct mmds *m);

#endif
