/* Packets with descriptors: what a receiver gets, and that one cut short leaves no descriptor open. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/fdio.h"

static int pair[2], given[2];

static int setup(void **state)
{
	(void)state;
	assert_int_equal(pipe2(given, O_CLOEXEC), 0);
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		close(pair[i]);
		close(given[i]);
	}
	return 0;
}

static int next_fd(void)
{
	int fd = dup(0);

	assert_int_equal(close(fd), 0);
	return fd;
}

/* Sends both descriptors and four bytes, receives with room for max and len. */
static ssize_t pass(unsigned max, size_t len, int *fds, unsigned *ret_num)
{
	char in[4] = "", out[] = "four";
	struct iovec to = { .iov_base = in, .iov_len = len };
	ssize_t n;

	assert_int_equal(fdio_send_packet(pair[0], &(struct iovec){ out, 4 }, 1, given, 2, 0), 0);
	*ret_num = max;
	n = fdio_receive_packet(pair[1], &to, 1, fds, ret_num);
	if (n > 0)
		assert_memory_equal(in, out, 4);
	return n;
}

static void test_descriptors_come_with_cloexec(void **state)
{
	int fds[FDIO_FDS_MAX];
	unsigned num;
	char byte;

	(void)state;
	assert_int_equal(pass(FDIO_FDS_MAX, 4, fds, &num), 4);
	assert_int_equal(num, 2);
	for (unsigned i = 0; i < num; i++)
		assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(read(given[0], &byte, 1), 1);
	close(fds[0]);
	close(fds[1]);
}

static void test_packet_that_is_cut_leaves_nothing_open(void **state)
{
	int fds[FDIO_FDS_MAX], first = next_fd();
	struct rlimit limit;
	unsigned num;

	(void)state;
	assert_int_equal(pass(1, 4, fds, &num), -EMFILE); /* no room in fds */
	assert_int_equal(num, 0);
	assert_int_equal(pass(0, 4, fds, &num), -EMFILE);
	assert_int_equal(pass(2, 3, fds, &num), -EMSGSIZE);
	assert_int_equal(num, 0);
	assert_int_equal(next_fd(), first);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ (rlim_t)first + 1, limit.rlim_max }), 0);
	assert_int_equal(pass(2, 4, fds, &num), -EMFILE); /* one of the two fits */
	assert_int_equal(num, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(next_fd(), first);
}

static void test_other_side_has_gone(void **state)
{
	struct iovec iov = { .iov_base = (char[1]){ 0 }, .iov_len = 1 };
	unsigned num = 0;

	(void)state;
	close(pair[0]);
	pair[0] = -1;
	assert_int_equal(fdio_receive_packet(pair[1], &iov, 1, NULL, &num), 0);
	assert_int_equal(fdio_send_packet(pair[1], &iov, 1, NULL, 0, 0), -EPIPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_descriptors_come_with_cloexec, setup, teardown),
		cmocka_unit_test_setup_teardown(test_packet_that_is_cut_leaves_nothing_open, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_side_has_gone, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
