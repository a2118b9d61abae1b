/* Descriptors of network interfaces, from a client of a pool to its VM; see claim_net.h. */
#include "vmm/jail/claim_net.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "virtio/net_backend.h"
#include "vmm/base/err.h"
#include "vmm/config/config.h"

static const char *tap_of(const struct config_net *n)
{
	return n->kind == CONFIG_NET_TAP ? n->tap : NULL;
}

static int check_kind(const struct config_net *n, struct err *e)
{
	return n->kind == CONFIG_NET_TAP || n->kind == CONFIG_NET_FD ?
		       0 :
		       err_set(e, -EINVAL, "a client of a pool brings a tap, or a descriptor");
}

int claim_net_open(const struct config_net *n, struct err *e)
{
	int fd;

	if (check_kind(n, e) < 0)
		return e->code;
	if (n->kind == CONFIG_NET_TAP)
		return net_tap_attach(n->tap, e);
	fd = fcntl(n->fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	return fd < 0 ? err_sys(e, "fd %d", n->fd) : fd;
}

int claim_net_check(const struct config_net *n, int fd, struct err *e)
{
	if (check_kind(n, e) < 0 || net_fd_check(fd, "the client's descriptor", tap_of(n), e) < 0)
		return err_wrap(e, "net '%s'", n->id);
	return 0;
}
