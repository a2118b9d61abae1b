/* vsock: sockets that mayfly lends to the guest by port number. */
#include "tests/unit/vsock_fixture.h"

static int lend(struct fix *f, uint32_t port)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(vsock_lend(f->dev, port, pair[1]), 0);
	return pair[0];
}

static void test_guest_gets_it_once(void **state)
{
	struct fix *f = *state;
	int fd = lend(f, 52);

	post(f, 8);
	send_op(f, OP(REQUEST));
	expect(f, OP(RESPONSE));
	send_data(f, OP(RW), "hello", 5);
	expect_text(fd, "hello");
	f->base.src_port++;
	send_op(f, OP(REQUEST));
	expect(f, OP(RST)); /* nobody listens at PATH_52 */
	assert_true(is_open(fd));
	close(fd);
}

/* Any program of the guest may connect; only one with CAP_NET_BIND_SERVICE can have such a port. */
static void test_not_from_a_port_without_privileges(void **state)
{
	static const uint32_t ports[] = { 1024, 5000, 0x6d680000, UINT32_MAX };
	struct fix *f = *state;
	int fd = lend(f, 52), listener;

	post(f, 16);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(ports); i++) {
		f->base.src_port = ports[i];
		send_op(f, OP(REQUEST));
		expect(f, OP(RST));
		assert_true(is_open(fd));
	}
	/* What has a name in the file system is for all. */
	listener = host_listen(f, "_52", 4);
	close(guest_connects(f, listener));
	assert_true(is_open(fd));
	f->base.src_port = 1023;
	send_op(f, OP(REQUEST));
	expect(f, OP(RESPONSE));
	send_data(f, OP(RW), "hello", 5);
	expect_text(fd, "hello");
	close(fd);
	close(listener);
}

static void test_it_comes_before_a_name(void **state)
{
	struct fix *f = *state;
	int listener = host_listen(f, "_52", 4), fd = lend(f, 52), other;

	post(f, 8);
	send_op(f, OP(REQUEST));
	expect(f, OP(RESPONSE));
	assert_int_equal(accept(listener, NULL, NULL), -1);
	f->base.src_port++;
	other = guest_connects(f, listener);
	close(other);
	close(fd);
	close(listener);
}

static void test_what_is_taken_back_is_closed(void **state)
{
	struct fix *f = *state;
	int fd[4];

	post(f, 8);
	for (unsigned i = 0; i < 4; i++)
		fd[i] = lend(f, 50 + i);
	vsock_revoke(f->dev, 51, 2);
	assert_true(is_open(fd[0]));
	assert_true(is_closed(fd[1]));
	assert_true(is_closed(fd[2]));
	assert_true(is_open(fd[3]));
	send_op(f, OP(REQUEST));
	expect(f, OP(RST));
	for (unsigned i = 0; i < 4; i++)
		close(fd[i]);
}

static void test_limit_and_end(void **state)
{
	struct fix *f = *state;
	int pair[2], last = -1;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	for (unsigned i = 0; i < VSOCK_LENT_MAX; i++) {
		if (last >= 0)
			close(last);
		last = lend(f, 100 + i);
	}
	assert_int_equal(vsock_lend(f->dev, 1, pair[1]), -ENOSPC);
	/* Those that nobody has used are closed with the device (teardown); the sanitizers' run counts descriptors. */
	close(last);
	close(pair[0]);
	close(pair[1]);
}

/* Without a path nothing listens, and the guest reaches only what is lent. */
static void test_without_a_path(void **state)
{
	struct vsock_params params = { .cid = CID };
	struct fix *f = *state;
	struct virtio_dev *named = f->dev;
	struct err e;
	int fd;

	assert_int_equal(vsock_new(&f->dev, &params, mock.loop, &f->d.mem, &e), 0);
	activate(f);
	post(f, 8);
	fd = lend(f, 52);
	send_op(f, OP(REQUEST));
	expect(f, OP(RESPONSE));
	f->base.src_port++;
	send_op(f, OP(REQUEST));
	expect(f, OP(RST));
	f->dev->ops->reset(f->dev);
	assert_true(is_closed(fd));
	f->dev->ops->free(f->dev);
	f->dev = named;
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_guest_gets_it_once),
		T(test_it_comes_before_a_name),
		T(test_what_is_taken_back_is_closed),
		T(test_limit_and_end),
		T(test_not_from_a_port_without_privileges),
		T_INACTIVE(test_without_a_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
