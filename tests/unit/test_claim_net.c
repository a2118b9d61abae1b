/* Descriptors of a client's network interfaces: what is not what the claim says is refused, by the interface's name. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/config/config.h"
#include "vmm/jail/claim_net.h"

static char id[] = "net3", name[] = "mf-claim%d";
static struct config_net tap = { .kind = CONFIG_NET_TAP, .id = id, .tap = name };
static struct config_net other = { .kind = CONFIG_NET_FD, .id = id, .fd = -1 };

static void refuse(const struct config_net *n, int fd)
{
	struct err e = { 0 };

	assert_true(claim_net_check(n, fd, &e) < 0);
	assert_non_null(strstr(e.text, "net 'net3'"));
}

static void test_sockets_and_files(void **state)
{
	const struct config_net user = { .kind = CONFIG_NET_USER, .id = id };
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC),
		  datagrams = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int pair[2], copy;
	struct err e;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(claim_net_check(&other, pair[0], &e), 0);
	refuse(&tap, pair[0]);
	refuse(&user, pair[0]);
	refuse(&tap, null);
	refuse(&other, null);
	refuse(&other, datagrams);
	refuse(&other, 999);
	/* The client's own number stays open: a plain clone may need it. */
	other.fd = pair[0];
	copy = claim_net_open(&other, &e);
	assert_true(copy >= 0 && copy != pair[0]);
	assert_true(fcntl(copy, F_GETFD) & FD_CLOEXEC);
	close(copy);
	other.fd = 999;
	assert_int_equal(claim_net_open(&other, &e), -EBADF);
	assert_int_equal(claim_net_open(&user, &e), -EINVAL);
	close(pair[0]);
	close(pair[1]);
	close(null);
	close(datagrams);
}

/* Returns -1 where this process may have none. */
static int open_tap(short flags, char ret_name[IFNAMSIZ])
{
	struct ifreq req = { .ifr_flags = flags };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	strcpy(req.ifr_name, name);
	if (fd >= 0 && ioctl(fd, TUNSETIFF, &req) < 0) {
		close(fd);
		return -1;
	}
	memcpy(ret_name, req.ifr_name, IFNAMSIZ);
	return fd;
}

static void test_taps(void **state)
{
	char own[IFNAMSIZ], bare[IFNAMSIZ], tun[IFNAMSIZ];
	const int fd = open_tap(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, own);
	const int without = open_tap(IFF_TAP | IFF_NO_PI, bare),
		  packets = open_tap(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, tun);
	struct err e;

	(void)state;
	if (fd < 0)
		skip();
	tap.tap = own;
	assert_int_equal(claim_net_check(&tap, fd, &e), 0);
	assert_int_equal(claim_net_check(&other, fd, &e), 0);
	tap.tap = bare;
	refuse(&tap, fd);
	refuse(&tap, without);
	tap.tap = tun;
	refuse(&tap, packets);
	refuse(&other, packets);
	close(fd);
	close(without);
	close(packets);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sockets_and_files),
		cmocka_unit_test(test_taps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
