/*
 * virtio-vsock (virtio 1.2 §5.10): stream sockets between guest and host. On the host they are Unix
 * sockets. A host program connects to PATH and writes "CONNECT <port>\n". A guest that connects to
 * port P of the host reaches the program that listens on PATH_P.
 */
#ifndef MF_VIRTIO_VSOCK_H
#define MF_VIRTIO_VSOCK_H

#include <stdbool.h>
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
	const char *path; /* kept; or NULL: the guest reaches only lent sockets */
	bool path_later;  /* it comes by vsock_listen: vsock_listen_fd is reserved for its socket */
	uint32_t cid;	  /* the guest's */
	/* Connections at once, each with a descriptor; 0: VSOCK_CONNS_MAX. Unused lent sockets do not count. */
	unsigned max_conns;
	/* Optional: connects to PATH_port for us when we are jailed. Returns the non-blocking socket or -errno. */
	int (*connect)(void *ctx, uint32_t port);
	void *ctx;
};

/*
 * Creates the socket at path, replacing a stale one. The loop is of kind LOOP_SOCKETS and does not
 * run yet. Returns 0 or -errno with e set: -EADDRINUSE when another process listens there.
 */
int vsock_new(struct virtio_dev **ret, const struct vsock_params *params, struct loop *loop, const struct mem *mem,
	      struct err *e);

/* The socket at path, or -1; with path_later, the descriptor that it will be. */
int vsock_listen_fd(struct virtio_dev *dev);

/*
 * Once, with path_later: a socket that listens at path (kept), and does not block, has taken the place of vsock_listen_fd. The
 * device owns it; its name stays the caller's. Not on the loop's thread.
 */
void vsock_listen(struct virtio_dev *dev, const char *path);

/*
 * At the VM's end, when no vCPU runs any more: writes what the guest has sent to the host, for
 * timeout_ms at most. Not on the loop's thread. Freeing the device removes the socket's name.
 */
void vsock_finish(struct virtio_dev *dev, unsigned timeout_ms);

/*
 * Lends fd, one end of a non-blocking stream socket pair, to the guest's next connection to this
 * port of the host, once. The connection must come from a privileged port, so that only the guest's
 * init can take it. The device owns fd from then on. Returns 0, or -ENOSPC and fd stays the
 * caller's. vsock_revoke closes unused sockets of ports [port, port + num). Neither is called on the
 * loop's thread.
 */
int vsock_lend(struct virtio_dev *dev, uint32_t port, int fd);
void vsock_revoke(struct virtio_dev *dev, uint32_t port, uint32_t num);

/* Connects to the Unix socket path_port. Returns the non-blocking socket or -errno. Any thread. */
int vsock_connect_host(const char *path, uint32_t port);

#endif
