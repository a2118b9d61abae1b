/* What the tests of a tap as backend share. The tap is a pair of sockets. Include it once, in the test. */
#ifndef MF_TESTS_UNIT_NET_TAP_FIXTURE_H
#define MF_TESTS_UNIT_NET_TAP_FIXTURE_H

#include "tests/unit/mock_loop.h"

#include <limits.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "virtio/net_backend.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"

static struct net_backend *b;
static int host; /* the other end */
static uint8_t buf[8192];
static const struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
static int received, sent; /* how often, */
static int last;	   /* and the last result */

static bool real;	       /* the kernel's tap, not the test's */
static unsigned offload;       /* what TUNSETOFFLOAD was last called with */
static unsigned offload_known; /* and what it takes */
static short tap_flags;	       /* of TUNGETIFF; 0: it is no tap */
static int header_len;	       /* of TUNSETVNETHDRSZ */

/* Instead of libc's: a tap's answers. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (real)
		return (int)syscall(SYS_ioctl, fd, request, arg);
	errno = EINVAL;
	if (request == TUNGETIFF) {
		((struct ifreq *)arg)->ifr_flags = tap_flags;
		return tap_flags ? 0 : -1;
	}
	if (request == TUNSETVNETHDRSZ)
		header_len = *(int *)arg;
	if (request == TUNSETOFFLOAD) {
		offload = (unsigned)(uintptr_t)arg;
		return offload & ~offload_known ? -1 : 0;
	}
	return 0;
}

void net_received(struct net_backend *backend, int res)
{
	assert_ptr_equal(backend, b);
	received++;
	last = res;
}

void net_sent(struct net_backend *backend, struct net_tx *tx, int res)
{
	(void)tx;
	assert_ptr_equal(backend, b);
	sent++;
	last = res;
}

static inline int setup(void **state)
{
	int pair[2];
	struct err e;

	(void)state;
	mock_init();
	log_setup(LOG_LEVEL_ERROR, -1);
	received = sent = last = 0;
	real = false;
	offload_known = UINT_MAX;
	tap_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	host = pair[1];
	assert_int_equal(net_fd_open(&b, pair[0], mock.loop, &e), 0);
	mock_take_calls();
	b->ops->start(b, 0);
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	b->ops->stop(b);
	assert_int_equal(mock.num, 0);
	b->ops->free(b);
	close(host);
	return 0;
}

#endif
