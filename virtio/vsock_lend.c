/*
 * Sockets that mayfly lends to the guest under a port number, each for one connection. The guest's
 * init talks through them. They take precedence over names in the file system (vsock_unix.c). A
 * program in the guest needs CAP_NET_BIND_SERVICE to connect from a port below
 * VSOCK_PRIVILEGED_PORTS, so other programs cannot take them.
 */
#include <errno.h>
#include <unistd.h>

#include "virtio/vsock_priv.h"
#include "vmm/base/util.h"

struct lend_call {
	struct vsock *v;
	uint32_t port, num;
	int fd;
};

static int remove_lent(struct vsock *v, uint32_t port)
{
	for (unsigned i = 0; i < v->num_lent; i++) {
		int fd = v->lent[i].fd;

		if (v->lent[i].port != port)
			continue;
		v->lent[i] = v->lent[--v->num_lent];
		return fd;
	}
	return -ENOENT;
}

int vsock_take_lent(struct vsock *v, uint32_t port, uint32_t guest_port)
{
	if (guest_port >= VSOCK_PRIVILEGED_PORTS)
		return -EACCES;
	return remove_lent(v, port);
}

static int lend(void *arg)
{
	const struct lend_call *call = arg;
	struct vsock *v = call->v;

	if (v->num_lent == VSOCK_LENT_MAX)
		return -ENOSPC;
	v->lent[v->num_lent++] = (struct vsock_lent){ .port = call->port, .fd = call->fd };
	return 0;
}

int vsock_lend(struct virtio_dev *dev, uint32_t port, int fd)
{
	struct lend_call call = { .v = MF_CONTAINER_OF(dev, struct vsock, dev), .port = port, .fd = fd };

	return loop_call(dev->loop, lend, &call);
}

static int take_back(void *arg)
{
	const struct lend_call *call = arg;

	for (uint32_t i = 0; i < call->num; i++) {
		int fd = remove_lent(call->v, call->port + i);

		if (fd >= 0)
			close(fd);
	}
	return 0;
}

void vsock_revoke(struct virtio_dev *dev, uint32_t port, uint32_t num)
{
	struct lend_call call = { .v = MF_CONTAINER_OF(dev, struct vsock, dev), .port = port, .num = num };

	(void)loop_call(dev->loop, take_back, &call); /* returns 0 */
}
