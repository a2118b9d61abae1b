/* vsock: programs of the host that connect to the socket at its path. */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "virtio/vsock_priv.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define VSOCK_ACCEPTS_MAX 64 /* in one turn */

/* A client that cannot be accepted would keep the loop busy. */
static void accept_pause(struct vsock *v)
{
	if (!v->accept_paused)
		vsock_wait(v);
	v->accept_paused = true;
}

void vsock_accept_start(struct vsock *v)
{
	if (v->accept_paused)
		vsock_wait_end(v);
	v->accept_paused = false;
	if (v->name.fd >= 0)
		vsock_poll(v, &v->accept, v->name.fd, POLLIN);
}

static void accept_done(struct op *op, int res)
{
	struct vsock *v = MF_CONTAINER_OF(op, struct vsock, accept.op);
	int fd = res;

	vsock_poll_ended(v, &v->accept);
	if (!v->active || res == -ECANCELED)
		return;
	for (unsigned i = 0; i < VSOCK_ACCEPTS_MAX && res >= 0; i++) {
		fd = vsock_unix_accept(v);
		if (fd < 0)
			break;
		conn_accept(v, fd);
	}
	if (res < 0 || fd == -EMFILE)
		accept_pause(v);
	else
		vsock_accept_start(v);
	vsock_wake(v);
}

int vsock_accept_init(struct vsock *v, bool later)
{
	v->accept.op.done = accept_done;
	/* Any file would do: it is there for its number. */
	v->reserved_fd = later ? socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) : -1;
	return later && v->reserved_fd < 0 ? -errno : 0;
}

struct listening {
	struct vsock *v;
	const char *path;
};

/* On the loop. */
static int listen_there(void *arg)
{
	const struct listening *l = arg;
	struct vsock *v = l->v;

	v->name.path = l->path;
	v->name.fd = mf_take_fd(&v->reserved_fd);
	if (v->active)
		vsock_accept_start(v);
	return 0;
}

void vsock_listen(struct virtio_dev *dev, const char *path)
{
	struct listening l = { .v = MF_CONTAINER_OF(dev, struct vsock, dev), .path = path };

	(void)loop_call(dev->loop, listen_there, &l); /* returns 0 */
}
