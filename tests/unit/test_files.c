/* Files that another process has opened, and what a broker answers. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/files.h"
#include "vmm/broker.h"

static void test_files(void **state)
{
	int fds[FILES_MAX], a = open("/dev/null", O_RDONLY), b = open("/dev/null", O_RDONLY),
			    tap = open("/dev/null", O_RDONLY);
	uint64_t size;
	struct err e;

	(void)state;
	assert_int_equal(files_provide("/same", O_RDONLY, a, &e), 0);
	assert_int_equal(files_provide("/same", O_RDONLY, b, &e), 0);
	assert_int_equal(files_provide("/same", FILES_TAP, tap, &e), 0);
	/* Who provides does not take, even where it opens the same. */
	assert_int_equal(files_take("/same", O_RDONLY), -1);
	assert_int_equal(fdio_open_file("/same", O_RDONLY, false, &size, &e), -ENOENT);
	files_use();
	assert_int_equal(files_list(fds), 3);
	assert_int_equal(files_take("/same", O_RDWR), -1);
	assert_int_equal(files_take("/other", O_RDONLY), -1);
	assert_int_equal(files_take("/same", FILES_TAP), tap);
	assert_int_equal(files_take("/same", O_RDONLY), a);
	/* What is provided is looked at as what is opened is. */
	assert_int_equal(fdio_open_file("/same", O_RDONLY, false, &size, &e), -EINVAL);
	assert_int_equal(files_take("/same", O_RDONLY), -1);
	assert_int_equal(files_list(fds), 0);
	close(a);
	close(tap);
	for (int i = 0; i < FILES_MAX - 3; i++)
		assert_int_equal(files_provide("/more", O_RDONLY, dup(0), &e), 0);
	a = dup(0);
	assert_int_equal(files_provide("/more", O_RDONLY, a, &e), -EMFILE);
	assert_int_equal(fcntl(a, F_GETFD), -1);
	assert_int_equal(files_list(fds), FILES_MAX - 3);
	files_close();
	assert_int_equal(files_list(fds), 0);
	assert_int_equal(fcntl(fds[0], F_GETFD), -1);
}

static int answer(void *ctx, enum broker_call call, uint32_t value)
{
	assert_ptr_equal(ctx, &answer);
	if (call == BROKER_CONNECT)
		return value == 52 ? dup(0) : -ECONNREFUSED;
	return call == BROKER_TTY_RAW ? 1 : -EINVAL;
}

static void test_broker(void **state)
{
	int pair[2], status, r, fd;
	char byte = 0;
	pid_t pid;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	pid = fork();
	if (pid == 0) {
		struct pollfd wait = { .fd = pair[1], .events = POLLIN };

		close(pair[0]);
		do
			poll(&wait, 1, -1);
		while (broker_serve(pair[1], answer, (void *)&answer) == 0);
		_exit(7);
	}
	close(pair[1]);
	fd = broker_ask(pair[0], BROKER_CONNECT, 52);
	assert_true(fd > 2);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	assert_int_equal(broker_ask(pair[0], BROKER_CONNECT, 53), -ECONNREFUSED);
	assert_int_equal(broker_ask(pair[0], BROKER_TTY_RAW, 0), 1);
	assert_int_equal(broker_ask(pair[0], (enum broker_call)99, 0), -EINVAL);
	/* What is no question ends it. */
	assert_int_equal(send(pair[0], &byte, 1, 0), 1);
	r = waitpid(pid, &status, 0);
	assert_int_equal(r, pid);
	assert_int_equal(WEXITSTATUS(status), 7);
	assert_int_equal(broker_ask(pair[0], BROKER_TTY_RAW, 0), -ECONNREFUSED);
	close(pair[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_broker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
