/* A tap as backend, on a loop that the test turns: how a read ends, and what a reset meets. The tap is a pair of sockets. */
#include "tests/unit/mock_loop.h"

#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include "virtio/net_backend.h"
#include "vmm/base/err.h"

static struct net_backend *b;
static int host; /* the other end */
static uint8_t buf[2048];
static const struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
static int received, sent; /* how often, */
static int last;	   /* and the last result */

/* Instead of libc's: a tap's answers. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;

	(void)fd;
	va_start(ap, request);
	if (request == TUNGETIFF)
		va_arg(ap, struct ifreq *)->ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	va_end(ap);
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

static int setup(void **state)
{
	int pair[2];
	struct err e;

	(void)state;
	mock_init();
	received = sent = last = 0;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	host = pair[1];
	assert_int_equal(net_fd_open(&b, pair[0], mock.loop, &e), 0);
	b->ops->start(b, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	b->ops->stop(b);
	assert_int_equal(mock.num, 0);
	b->ops->free(b);
	close(host);
	return 0;
}

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
