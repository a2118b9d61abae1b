/* What the rings of loops refuse. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/core/ring.h"

/* The ring itself, as a hijacked loop thread would use it. */
static int submit_one(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int res;

	assert_true(io_uring_submit_and_wait(ring, 1) >= 0);
	assert_int_equal(io_uring_wait_cqe(ring, &cqe), 0);
	res = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return res;
}

static void test_ring_refuses_what_is_not_listed(void **state)
{
	int files[1] = { STDIN_FILENO };
	struct io_uring ring;
	struct io_uring_sqe *sqe;
	struct io_uring_restriction more = { .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_OPENAT };
	char byte;
	struct err e;

	(void)state;
	assert_int_equal(ring_make(&ring, "test", LOOP_FIXED, 8, &e), 0);
	assert_int_equal(ring_set_files(&ring, "test", files, 1, &e), 0);
	assert_int_equal(io_uring_enable_rings(&ring), 0);

	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
	assert_int_equal(submit_one(&ring), -EACCES);

	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
	assert_int_equal(submit_one(&ring), -EACCES);

	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_socket(sqe, 2, 1, 0, 0);
	assert_int_equal(submit_one(&ring), -EACCES);

	sqe = io_uring_get_sqe(&ring); /* an allowed operation on a file that was not registered */
	io_uring_prep_read(sqe, STDIN_FILENO, &byte, 1, 0);
	assert_int_equal(submit_one(&ring), -EACCES);

	assert_int_equal(io_uring_register_restrictions(&ring, &more, 1), -EACCES);
	assert_int_equal(io_uring_register_files_update(&ring, 0, files, 1), -EACCES);
	assert_int_equal(io_uring_unregister_files(&ring), 0);
	assert_int_equal(io_uring_register_files(&ring, files, 1), -EACCES);
	io_uring_queue_exit(&ring);
}

static void test_socket_ring_refuses_what_is_not_listed(void **state)
{
	struct io_uring ring;
	struct io_uring_sqe *sqe;
	uint64_t count = 1;
	int fd = eventfd(1, EFD_CLOEXEC);
	struct err e;

	(void)state;
	assert_int_equal(ring_make(&ring, "test", LOOP_SOCKETS, 8, &e), 0);
	assert_int_equal(io_uring_enable_rings(&ring), 0);

	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_poll_add(sqe, fd, POLLOUT);
	assert_int_equal(submit_one(&ring), POLLOUT);

	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read(sqe, fd, &count, sizeof(count), 0);
	assert_int_equal(submit_one(&ring), -EACCES);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_write(sqe, fd, &count, sizeof(count), 0);
	assert_int_equal(submit_one(&ring), -EACCES);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
	assert_int_equal(submit_one(&ring), -EACCES);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_socket(sqe, 1, 1, 0, 0);
	assert_int_equal(submit_one(&ring), -EACCES);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_poll_add(sqe, fd, POLLOUT);
	sqe->flags |= IOSQE_IO_LINK;
	assert_int_equal(submit_one(&ring), -EACCES);
	assert_int_equal(io_uring_register_files(&ring, &fd, 1), -EACCES);
	io_uring_queue_exit(&ring);
	close(fd);
}

static void test_ring_that_may_replace_does_no_more(void **state)
{
	int files[1] = { STDIN_FILENO };
	struct io_uring ring;
	struct io_uring_sqe *sqe;
	struct io_uring_restriction more = { .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_OPENAT };
	struct err e;

	(void)state;
	assert_int_equal(ring_make(&ring, "test", LOOP_EXCHANGEABLE, 8, &e), 0);
	assert_int_equal(ring_set_files(&ring, "test", files, 1, &e), 0);
	assert_int_equal(io_uring_enable_rings(&ring), 0);
	assert_int_equal(io_uring_register_files_update(&ring, 0, files, 1), 1);
	assert_int_equal(io_uring_register_restrictions(&ring, &more, 1), -EACCES);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
	assert_int_equal(submit_one(&ring), -EACCES);
	io_uring_queue_exit(&ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ring_refuses_what_is_not_listed),
		cmocka_unit_test(test_socket_ring_refuses_what_is_not_listed),
		cmocka_unit_test(test_ring_that_may_replace_does_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
