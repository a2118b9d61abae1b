/*
 * Connections to the monitor, by vsock. They come from ports below 1024, which need
 * CAP_NET_BIND_SERVICE: the monitor accepts init's connections from such ports only. The
 * tests have another link.c, with Unix sockets, and are otherwise the same.
 */
#include "loader/init/link.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define PORT_LAST 1023U

/*
 * One is in use until the host has answered its end, so each attempt begins behind the last one. All commands at once need
 * 194 of them.
 */
static int link_bind(int fd)
{
	static struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY };
	int ret;

	for (unsigned tries = 0; tries < PORT_LAST; tries++) {
		address.svm_port = address.svm_port % PORT_LAST + 1;
		ret = bind(fd, (const struct sockaddr *)&address, sizeof(address));
		if (ret == 0 || errno != EADDRINUSE)
			break;
	}
	return ret;
}

/* To bind, and to reset them all, takes the same lock (vsock_table_lock). */
void link_settle(void)
{
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	(void)link_bind(fd);
	close(fd);
}

static int link_try(uint32_t port)
{
	const struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_HOST,
		.svm_port = port,
	};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (link_bind(fd) < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	return fd;
}

/* A request that the host of a snapshot had not answered is refused after the restore. The next one reaches the new host. */
int link_connect(uint32_t port)
{
	int fd = link_try(port);

	return fd == -ECONNRESET || fd == -ETIMEDOUT ? link_try(port) : fd;
}
