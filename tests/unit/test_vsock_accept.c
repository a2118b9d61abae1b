/* vsock: a path that comes when the device runs already. */
#include "tests/unit/vsock_fixture.h"

#include "vmm/base/unix_socket.h"

/* A filter knows the number of the socket before there is one. */
static void test_path_that_comes_later(void **state)
{
	struct fix *f = *state;
	struct unix_socket u = UNIXNAME_INIT;
	const int number = vsock_listen_fd(f->dev);
	struct err e;
	int listener, fd;

	post(f, 16);
	send_op(f, OP(REQUEST));
	expect(f, OP(RST));
	assert_true(number >= 0);
	assert_int_equal(unix_socket_listen(&u, f->path, SOCK_STREAM, &e), 0);
	assert_int_equal(dup3(u.fd, number, O_CLOEXEC), number);
	vsock_listen(f->dev, f->path);
	assert_int_equal(vsock_listen_fd(f->dev), number);
	/* The guest finds what listens beside it, and programs find the guest. */
	listener = host_listen(f, "_52", 1);
	fd = guest_connects(f, listener);
	close(host_connects(f, ""));
	close(fd);
	close(listener);
	unix_socket_done(&u);
	assert_int_equal(access(f->path, F_OK), -1);
}

static void test_path_that_never_comes(void **state)
{
	struct fix *f = *state;

	post(f, 16);
	send_op(f, OP(REQUEST));
	expect(f, OP(RST));
}

static int setup_later(void **state)
{
	fixture_path_later = true;
	return setup(state);
}

#define T_LATER(fn) cmocka_unit_test_setup_teardown(fn, setup_later, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T_LATER(test_path_that_comes_later),
		T_LATER(test_path_that_never_comes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
