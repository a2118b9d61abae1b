/* From an interface in the configuration to its device: its backend, its address, and the frame that passt gets. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/net_frames.h"
#include "virtio/net.h"
#include "virtio/net_backend.h"
#include "virtio/net_filter.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/vm/net_build.h"

#define FRAME_LEN 60U

static struct {
	char opened[32]; /* the backend's kind, and its name or descriptor */
	struct net_params params;
	struct loop *loop;
	const struct mem *mem;
	struct net_filter *filter;
	bool backend_fails;
} made;

static struct config config;
static const struct in6_addr own = { .s6_addr = { [10] = 0xff, [11] = 0xff, [12] = 203, [14] = 113, [15] = 9 } };
static struct net_backend backend;
static struct virtio_dev *dev;
static struct err err;

static int opened(struct net_backend **ret, struct err *e)
{
	*ret = &backend;
	return made.backend_fails ? err_set(e, -EBUSY, "no backend") : 0;
}

int net_tap_open(struct net_backend **ret, const char *name, struct loop *loop, struct err *e)
{
	made.loop = loop;
	snprintf(made.opened, sizeof(made.opened), "tap %s", name);
	return opened(ret, e);
}

int net_fd_open(struct net_backend **ret, int fd, struct loop *loop, struct err *e)
{
	made.loop = loop;
	snprintf(made.opened, sizeof(made.opened), "fd %d", fd);
	return opened(ret, e);
}

int net_passt_open(struct net_backend **ret, int fd, struct net_filter *filter, struct loop *loop, struct err *e)
{
	made.loop = loop;
	made.filter = filter; /* the test's now */
	snprintf(made.opened, sizeof(made.opened), "passt %d", fd);
	return opened(ret, e);
}

int net_nothing_open(struct net_backend **ret, uint64_t offered, struct err *e)
{
	made.loop = (struct loop *)&made;
	snprintf(made.opened, sizeof(made.opened), "nothing %llx", (unsigned long long)offered);
	return opened(ret, e);
}

int net_new(struct virtio_dev **ret, const struct net_params *params, struct net_backend *b, struct loop *loop,
	    const struct mem *mem, struct err *e)
{
	(void)ret;
	(void)e;
	assert_ptr_equal(b, &backend);
	assert_ptr_equal(loop, made.loop);
	made.params = *params;
	made.mem = mem;
	return 0;
}

static int setup(void **state)
{
	(void)state;
	net_filter_free(made.filter);
	memset(&made, 0, sizeof(made));
	return 0;
}

static int build(const struct config_net *n, int passt_fd)
{
	const struct net_build b = {
		.config = &config,
		.net = n,
		.passt_fd = passt_fd,
		.own = &own,
		.num_own = 1,
		.loop = (struct loop *)&made,
		.mem = (const struct mem *)&backend,
	};

	return net_build(&dev, &b, &err);
}

static struct config_net net(enum config_net_kind kind, const char *id, const char *tap)
{
	return (struct config_net){
		.kind = kind, .id = (char *)(uintptr_t)id, .tap = (char *)(uintptr_t)tap, .fd = 77, .mtu = 1400
	};
}

static void test_backends(void **state)
{
	struct config_net n = net(CONFIG_NET_TAP, "net0", "tap5");

	(void)state;
	n.limit[NET_TX].ops.size = 9;
	assert_int_equal(build(&n, -1), 0);
	assert_string_equal(made.opened, "tap tap5");
	assert_string_equal(made.params.id, "net0");
	assert_int_equal(made.params.mtu, 1400);
	assert_int_equal(made.params.limit[NET_TX].ops.size, 9);
	assert_ptr_equal(made.loop, &made);
	assert_ptr_equal(made.mem, &backend);
	n.kind = CONFIG_NET_FD;
	assert_int_equal(build(&n, -1), 0);
	assert_string_equal(made.opened, "fd 77");
	n.kind = CONFIG_NET_UNSET;
	assert_int_equal(build(&n, -1), -EINVAL);
	made.backend_fails = true;
	n.kind = CONFIG_NET_TAP;
	assert_int_equal(build(&n, -1), -EBUSY);
	assert_non_null(strstr(err.text, "net0")); /* the interface that it is about */
}

static void mac_of(const struct config_net *n, uint8_t mac[NET_MAC_LEN])
{
	assert_int_equal(build(n, -1), 0);
	memcpy(mac, made.params.mac, NET_MAC_LEN);
}

/* The same in each run, and another for each id and each tap; of one station, and locally administered. */
static void test_mac(void **state)
{
	static const struct {
		const char *id, *tap;
	} cases[] = { { "net0", "tap0" }, { "net1", "tap0" }, { "net0", "tap1" }, { "net0t", "ap0" } };
	uint8_t mac[MF_ARRAY_SIZE(cases)][NET_MAC_LEN], again[NET_MAC_LEN];
	struct config_net n;

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		n = net(CONFIG_NET_TAP, cases[i].id, cases[i].tap);
		mac_of(&n, mac[i]);
		mac_of(&n, again);
		assert_memory_equal(mac[i], again, NET_MAC_LEN);
		assert_int_equal(mac[i][0] & 3, 2);
		for (size_t j = 0; j < i; j++)
			assert_memory_not_equal(mac[i], mac[j], NET_MAC_LEN);
	}
	n.has_mac = true;
	memcpy(n.mac, "\x02\x11\x22\x33\x44\x55", NET_MAC_LEN);
	mac_of(&n, again);
	assert_memory_equal(again, n.mac, NET_MAC_LEN);
}

/* passt knows the guest by a frame before the guest sends one; without it, nothing reaches one that only listens. */
static void test_passt_knows_the_guest(void **state)
{
	struct config_net n = net(CONFIG_NET_USER, "net0", NULL);
	uint8_t frame[4 + FRAME_LEN + 1];
	uint32_t len;
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	assert_int_equal(build(&n, fd[0]), 0);
	snprintf((char *)frame, sizeof(frame), "passt %d", fd[0]);
	assert_string_equal(made.opened, (char *)frame);
	assert_int_equal(read(fd[1], frame, sizeof(frame)), 4 + FRAME_LEN);
	memcpy(&len, frame, sizeof(len));
	assert_int_equal(be32toh(len), FRAME_LEN);
	assert_memory_equal(frame + 4, "\xff\xff\xff\xff\xff\xff", 6);
	assert_memory_equal(frame + 10, made.params.mac, NET_MAC_LEN);
	assert_memory_equal(frame + 16, "\x88\xb5", 2);
	net_filter_free(made.filter);
	made.filter = NULL;
	/* One that has exited is reported with what it said, later. */
	close(fd[1]);
	assert_int_equal(build(&n, fd[0]), 0);
	/* Any other error is ours, and its socket is not left open. */
	assert_int_equal(close(fd[0]), 0);
	fd[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(build(&n, fd[0]) < 0);
	assert_int_equal(fcntl(fd[0], F_GETFD), -1);
}

static enum net_verdict verdict(struct frame f)
{
	return net_filter_check(made.filter, f.bytes, f.len);
}

/* A user network has its walls: those of the configuration, and the addresses of the host. A tap has none. */
static void test_walls(void **state)
{
	struct config_net n = net(CONFIG_NET_USER, "net0", NULL);
	char deny[] = "192.0.2.0/24", dns[] = "10.0.2.3", gateway[] = "10.0.2.2", *denied[] = { deny };
	int fd[2];

	(void)state;
	config.deny = (struct config_list){ .text = denied, .num = 1 };
	n.dns = dns;
	n.gateway = gateway;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	for (unsigned udp = 0; udp < 2; udp++) {
		n.forward[0] = (struct config_forward){ .udp = udp };
		n.num_forwards = 1;
		assert_int_equal(build(&n, fd[0]), 0);
		assert_int_equal(verdict(frame_tcp("10.0.2.15", "192.0.2.1", 1, 80, FRAME_SYN)), NET_REFUSE);
		assert_int_equal(verdict(frame_tcp("10.0.2.15", "203.0.113.9", 1, 80, FRAME_SYN)), NET_REFUSE);
		assert_int_equal(verdict(frame_tcp("10.0.2.15", "203.0.113.8", 1, 80, FRAME_SYN)), NET_PASS);
		assert_int_equal(verdict(frame_tcp("10.0.2.15", "10.0.2.2", 1, 80, FRAME_SYN)), NET_REFUSE);
		assert_int_equal(verdict(frame_udp("10.0.2.15", "10.0.2.3", 1, 53)), NET_PASS);
		assert_int_equal(net_filter_notes(made.filter), udp);
		net_filter_free(made.filter);
		made.filter = NULL;
	}
	n = net(CONFIG_NET_TAP, "net0", "tap5");
	assert_int_equal(build(&n, -1), 0);
	assert_null(made.filter);
	config.deny.num = 0;
	assert_int_equal(close(fd[0]), 0);
	assert_int_equal(close(fd[1]), 0);
}

/* A VM that becomes a template offers the features of the run; a clone keeps its own address. */
static void test_template(void **state)
{
	static char id[] = "net0";
	struct config_net n = { .kind = CONFIG_NET_NOTHING, .id = id, .fd = -1 };
	struct net_build b = { .config = &config, .net = &n, .passt_fd = -1, .offered = 0x2a };

	(void)state;
	b.loop = (struct loop *)&made;
	assert_int_equal(net_build(&dev, &b, &err), 0);
	assert_string_equal(made.opened, "nothing 2a");
	assert_false(made.params.own_mac);
	config.template.used = true;
	assert_int_equal(net_build(&dev, &b, &err), 0);
	config.template.used = false;
	assert_true(made.params.own_mac);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_backends, setup),
		cmocka_unit_test_setup(test_mac, setup),
		cmocka_unit_test_setup(test_passt_knows_the_guest, setup),
		cmocka_unit_test_setup_teardown(test_walls, setup, setup),
		cmocka_unit_test_setup(test_template, setup),
	};

	signal(SIGPIPE, SIG_IGN); /* as ending_setup does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
