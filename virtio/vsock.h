/*
 * virtio-vsock (virtio 1.2 §5.10): stream sockets between guest and host, whose host side are Unix sockets. A host
 * program connects to PATH and writes "CONNECT <port>\n"; a guest that connects to the host's port P reaches whoever
 * listens on PATH_P.
 */
#ifndef MF_VIRTIO_VSOCK_H
#define MF_VIRTIO_VSOCK_H

#include <stdint.h>

struct err;
struct loop;
struct mem;
struct virtio_dev;

#define VSOCK_CID_MIN 3U	  /* 0 to 2 are reserved, 2 is the host */
#define VSOCK_CID_MAX 0xfffffffeU /* VMADDR_CID_ANY - 1 */
#define VSOCK_PATH_MAX 96	  /* bytes: a Unix socket's name has 107 at most, and "_4294967295" goes behind it */
#define VSOCK_CONNS_MAX 1023U
#define VSOCK_LENT_MAX 256
#define VSOCK_PRIVILEGED_PORTS 1024 /* of the guest: those below, as Linux has it (LAST_RESERVED_PORT + 1) */

struct vsock_params {
	const char *path; /* kept; or NULL: the guest reaches only what is lent */
	uint32_t cid;	  /* the guest's */
	/* Connections at once, each with a descriptor; 0: VSOCK_CONNS_MAX. What is lent has its own until it is one. */
	unsigned max_conns;
	/* Connects to PATH_port in our place, who cannot: returns the non-blocking socket or -errno. Or NULL. */
	int (*connect)(void *ctx, uint32_t port);
	void *ctx;
};

/*
 * Makes the socket at path, replacing one that nobody listens on any more. The loop is of LOOP_SOCKETS and does not run
 * yet. Returns 0 or -errno with e set: -EADDRINUSE when another process listens there.
 */
int vsock_new(struct virtio_dev **ret, const struct vsock_params *params, struct loop *loop, const struct mem *mem,
	      struct err *e);

/* The socket at path, or -1. */
int vsock_listen_fd(struct virtio_dev *dev);

/*
 * At the VM's end, when no vCPU runs any more: what the guest has sent still goes to the host, for timeout_ms at most. Not
 * on the loop's thread. Freeing the device removes the socket's name.
 */
void vsock_finish(struct virtio_dev *dev, unsigned timeout_ms);

/*
 * The guest's next connection to port of the host gets fd, one end of a non-blocking stream socket pair; once, and only if
 * it comes from a privileged port: other programs of the guest cannot take what is for its init. fd is the device's from here on, and closed at the latest with it. Returns 0, or -ENOSPC, and then fd stays the caller's. Not on
 * the loop's thread; as is vsock_revoke, which takes back what was lent for ports [port, port + num) and not used.
 */
int vsock_lend(struct virtio_dev *dev, uint32_t port, int fd);
void vsock_revoke(struct virtio_dev *dev, uint32_t port, uint32_t num);

/* Connects to the socket path_port, unless it is no socket. Returns the non-blocking socket or -errno. Any thread. */
int vsock_connect_host(const char *path, uint32_t port);

#endif
