/* A tap as backend, on a loop that the test turns: how a read ends, and what a reset meets. The tap is a pair of sockets. */
#include "tests/unit/net_tap_fixture.h"

#include <sched.h>

static void receive(void)
{
	assert_true(b->ops->receive(b, &iov, 1, sizeof(buf)));
	assert_int_equal(mock.num, 1);
	assert_int_equal(mock.io[0].kind, OP_READ);
}

/* The kernel does not wait for a frame itself: the read has ended with EAGAIN, and there is a poll. */
static void receive_by_poll(void)
{
	receive();
	mock_complete(0, -EAGAIN);
	assert_int_equal(mock.num, 1);
	assert_int_equal(mock.io[0].kind, OP_POLL);
	assert_int_equal(received, 0);
}

static void test_frame(void **state)
{
	(void)state;
	receive();
	assert_int_equal(send(host, "frame", 5, 0), 5);
	mock_do(0);
	assert_int_equal(received, 1);
	assert_int_equal(last, 5);
}

static void test_frame_that_is_polled_for(void **state)
{
	(void)state;
	receive_by_poll();
	mock_complete(0, POLLIN);
	assert_int_equal(mock.io[0].kind, OP_READ);
	mock_complete(0, -EAGAIN); /* somebody else was faster */
	assert_int_equal(mock.io[0].kind, OP_POLL);
	mock_complete(0, POLLIN);
	mock_complete(0, 60);
	assert_int_equal(received, 1);
	assert_int_equal(last, 60);
}

static void test_no_room_for_the_poll(void **state)
{
	(void)state;
	receive();
	mock.room = 0;
	mock_complete(0, -EAGAIN);
	assert_int_equal(received, 1);
	assert_true(last < 0);
	mock.room = MOCK_IO_MAX;
}

static void test_reset_while_it_polls(void **state)
{
	(void)state;
	receive_by_poll();
	b->ops->stop(b);
	assert_int_equal(mock.num, 0);
	assert_int_equal(received, 1);
}

/* The read ends with EAGAIN just when the reset cancels it, too late: nobody would cancel the poll. */
static void test_reset_while_the_read_ends(void **state)
{
	(void)state;
	receive();
	mock.cancel_in_vain = true;
	b->ops->stop(b);
	assert_int_equal(mock.num, 0);
	assert_int_equal(received, 1);
	/* The next driver's frames come as ever. */
	mock.cancel_in_vain = false;
	received = 0;
	b->ops->start(b, 0);
	receive_by_poll();
}

/* The poll finds a frame just then. */
static void test_reset_while_the_poll_ends(void **state)
{
	struct op *op;

	(void)state;
	receive_by_poll();
	op = mock.io[0].op;
	mock.num = 0; /* it has ended, and its done comes while the reset waits */
	b->in_flight = 0;
	b->ops->stop(b);
	b->in_flight = 1;
	op->done(op, POLLIN);
	assert_int_equal(mock.num, 0);
	assert_int_equal(received, 1);
	assert_int_equal(b->in_flight, 0);
}

static void test_reset_while_a_write_polls(void **state)
{
	static struct net_tx tx = { .num = 1 };

	(void)state;
	assert_true(b->ops->send(b, &tx));
	mock_complete(0, -EAGAIN);
	assert_int_equal(mock.num, 1);
	assert_int_equal(mock.io[0].kind, OP_POLL);
	b->ops->stop(b);
	assert_int_equal(mock.num, 0);
	assert_int_equal(sent, 1);
	assert_true(last < 0);
}

/* How the loss of the tap and other errors are reported, of a read and of a write. */
static void test_errors(void **state)
{
	static const struct {
		int res, read, written;
	} cases[] = {
		{ -EBADFD, NET_LOST, NET_LOST },  { -ENODEV, NET_LOST, NET_LOST },
		{ -EFAULT, NET_LOST, -EFAULT },	  { -EIO, -EIO, -EIO },
		{ -ENOBUFS, -ENOBUFS, -ENOBUFS },
	};
	static struct net_tx tx = { .num = 1 };

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		receive();
		mock_complete(0, cases[i].res);
		assert_int_equal(last, cases[i].read);
		assert_true(b->ops->send(b, &tx));
		mock_complete(0, cases[i].res);
		assert_int_equal(last, cases[i].written);
	}
	assert_true(b->ops->send(b, &tx));
	mock_complete(0, 1514);
	assert_int_equal(last, 0); /* bytes are no result */
	assert_int_equal(sent, MF_ARRAY_SIZE(cases) + 1);
}

/* A byte behind the buffers shows that a frame did not fit: the kernel cuts it and says nothing. */
static void test_overflow(void **state)
{
	(void)state;
	receive();
	assert_int_equal(mock.io[0].num, 2);
	assert_ptr_equal(mock.io[0].iov[0].iov_base, buf);
	assert_int_equal(mock.io[0].iov[1].iov_len, 1);
	mock_complete(0, sizeof(buf) + 1);
	assert_int_equal(last, sizeof(buf) + 1);
}

static void test_reset_cancels_all(void **state)
{
	static struct net_tx tx[3] = { { .num = 1 }, { .num = 1 }, { .num = 1 } };

	(void)state;
	receive();
	for (unsigned i = 0; i < MF_ARRAY_SIZE(tx); i++)
		assert_true(b->ops->send(b, &tx[i]));
	mock_complete(2, 60); /* the second */
	assert_int_equal(mock.num, 3);
	b->ops->stop(b);
	assert_int_equal(mock.cancels, 3);
	assert_int_equal(mock.num, 0);
	assert_int_equal(sent, 3);
	assert_int_equal(received, 1);
	b->ops->stop(b); /* nothing is in flight */
	assert_int_equal(mock.cancels, 3);
}

static void test_no_room_to_begin(void **state)
{
	static struct net_tx tx = { .num = 1 };

	(void)state;
	mock.room = 0;
	assert_false(b->ops->receive(b, &iov, 1, sizeof(buf)));
	assert_false(b->ops->send(b, &tx));
	assert_int_equal(b->in_flight, 0);
	mock.room = MOCK_IO_MAX;
}

#define GUEST(name) (1ULL << VIRTIO_NET_F_GUEST_##name)
#define USO (1ULL << NET_F_GUEST_USO4 | 1ULL << NET_F_GUEST_USO6)

/* What the kernel may leave to the driver is what the driver has accepted. */
static void test_offloads(void **state)
{
	static const struct {
		uint64_t features;
		unsigned offload;
	} cases[] = {
		{ 0, 0 },
		{ GUEST(CSUM), TUN_F_CSUM },
		{ GUEST(TSO4) | GUEST(TSO6) | USO, 0 }, /* all of them need CSUM */
		{ GUEST(CSUM) | GUEST(TSO4), TUN_F_CSUM | TUN_F_TSO4 },
		{ GUEST(CSUM) | GUEST(TSO6) | GUEST(ECN), TUN_F_CSUM | TUN_F_TSO6 | TUN_F_TSO_ECN },
		{ GUEST(CSUM) | USO, TUN_F_CSUM | 0x60 },
		{ GUEST(CSUM) | 1ULL << NET_F_GUEST_USO4, TUN_F_CSUM }, /* the kernel wants both or none */
		{ GUEST(CSUM) | 1ULL << NET_F_GUEST_USO6, TUN_F_CSUM },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		b->ops->start(b, cases[i].features);
		assert_int_equal(offload, cases[i].offload);
	}
	offload_known = 0;
	b->ops->start(b, GUEST(CSUM)); /* warns */
}

static struct net_backend *open_fd(int fd, int expect)
{
	struct net_backend *opened = NULL;
	struct err e;

	assert_int_equal(net_fd_open(&opened, fd, mock.loop, &e), expect);
	return opened;
}

/* What an interface offers is what the kernel has. */
static void test_offered(void **state)
{
	const unsigned tso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	const uint64_t all = 1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_HOST_TSO4 |
			     1ULL << VIRTIO_NET_F_HOST_TSO6 | 1ULL << VIRTIO_NET_F_HOST_ECN | GUEST(CSUM) |
			     GUEST(TSO4) | GUEST(TSO6) | GUEST(ECN);
	struct net_backend *opened;

	(void)state;
	assert_int_equal(b->offered, all | USO | 1ULL << NET_F_HOST_USO);
	assert_int_equal(header_len, NET_HEADER_LEN);
	for (unsigned i = 0; i < 2; i++) {
		offload_known = i ? tso : 0;
		opened = open_fd(dup(host), 0);
		assert_int_equal(opened->offered, i ? all : 0);
		assert_int_equal(offload, 0);
		opened->ops->free(opened);
	}
}

/* The ring tries the file at once and polls; the file ends with the process. */
static void test_flags_of_the_file(void **state)
{
	int fd = dup(host);
	struct net_backend *opened;

	(void)state;
	assert_int_equal(fcntl(fd, F_SETFD, 0), 0);
	opened = open_fd(fd, 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	opened->ops->free(opened);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

/* What is no tap of the right kind is refused, and closed. */
static void test_fd_refused(void **state)
{
	static const short flags[] = { 0, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, IFF_TAP | IFF_VNET_HDR,
				       IFF_TAP | IFF_NO_PI };
	int fd;

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(flags); i++) {
		tap_flags = flags[i];
		fd = dup(host);
		assert_null(open_fd(fd, -EINVAL));
		assert_int_equal(fcntl(fd, F_GETFD), -1);
	}
	tap_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	mock_leave_files(0);
	fd = dup(host);
	assert_null(open_fd(fd, -EMFILE));
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

/* The kernel's, in a network namespace of our own. */
static void test_real_tap(void **state)
{
	struct net_backend *opened = NULL, *second = NULL;
	struct ifreq req = { .ifr_name = "mftest0" };
	struct err e;
	int fd;

	(void)state;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0 && unshare(CLONE_NEWNET) < 0) {
		print_message("no network namespaces here\n");
		skip();
	}
	if (access("/dev/net/tun", R_OK | W_OK) < 0) {
		print_message("no /dev/net/tun here\n");
		skip();
	}
	real = true;
	assert_int_equal(net_tap_open(&opened, "mftest0", mock.loop, &e), 0);
	assert_true(opened->offered & 1ULL << VIRTIO_NET_F_HOST_TSO4);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &req), 0);
	assert_true(req.ifr_flags & IFF_UP);
	assert_int_equal(net_tap_open(&second, "mftest0", mock.loop, &e), -EBUSY);
	assert_int_equal(net_tap_open(&second, "lo", mock.loop, &e), -EINVAL);
	close(fd);
	opened->ops->start(opened, GUEST(CSUM) | GUEST(TSO4));
	opened->ops->stop(opened);
	opened->ops->free(opened);
	assert_int_equal(if_nametoindex("mftest0"), 0); /* it ends with its last file */
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_frame),
		T(test_frame_that_is_polled_for),
		T(test_no_room_for_the_poll),
		T(test_reset_while_it_polls),
		T(test_reset_while_the_read_ends),
		T(test_reset_while_the_poll_ends),
		T(test_reset_while_a_write_polls),
		T(test_errors),
		T(test_overflow),
		T(test_reset_cancels_all),
		T(test_no_room_to_begin),
		T(test_offloads),
		T(test_offered),
		T(test_flags_of_the_file),
		T(test_fd_refused),
		T(test_real_tap), /* last: the process is in the namespace then */
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
