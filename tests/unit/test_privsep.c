/* What a VM in a jail asks, and gets. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/fdio.h"
#include "vmm/jail/privsep.h"

static int answer(void *ctx, enum privsep_call call, uint32_t value)
{
	assert_ptr_equal(ctx, &answer);
	if (call == PRIVSEP_CONNECT)
		return value == 52 ? dup(0) : -ECONNREFUSED;
	return call == PRIVSEP_TTY_RAW ? 1 : -EINVAL;
}

/* Serves pair[1] in another process. */
static pid_t start_broker(int pair[2])
{
	struct pollfd wait;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	wait = (struct pollfd){ .fd = pair[1], .events = POLLIN };
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		do
			poll(&wait, 1, -1);
		while (privsep_serve(pair[1], answer, (void *)&answer) == 0);
		_exit(7);
	}
	close(pair[1]);
	return pid;
}

static void test_broker(void **state)
{
	int pair[2], status, r, fd;
	char byte = 0;
	pid_t pid = start_broker(pair);

	(void)state;
	fd = privsep_ask(pair[0], PRIVSEP_CONNECT, 52);
	assert_true(fd > 2);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	assert_int_equal(privsep_ask(pair[0], PRIVSEP_CONNECT, 53), -ECONNREFUSED);
	assert_int_equal(privsep_ask(pair[0], PRIVSEP_TTY_RAW, 0), 1);
	assert_int_equal(privsep_ask(pair[0], (enum privsep_call)99, 0), -EINVAL);
	/* What is no question ends it. */
	assert_int_equal(send(pair[0], &byte, 1, 0), 1);
	r = waitpid(pid, &status, 0);
	assert_int_equal(r, pid);
	assert_int_equal(WEXITSTATUS(status), 7);
	assert_int_equal(privsep_ask(pair[0], PRIVSEP_TTY_RAW, 0), -ECONNREFUSED);
	close(pair[0]);
}

/* The kernel drops a descriptor for which there is no number; the number that it has outside is not one in here. */
static void test_no_descriptor_left(void **state)
{
	struct rlimit limit;
	int pair[2], spare, fd;
	pid_t pid = start_broker(pair);

	(void)state;
	spare = dup(0);
	close(spare);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ (rlim_t)spare, limit.rlim_max }), 0);
	assert_int_equal(privsep_ask(pair[0], PRIVSEP_CONNECT, 52), -EMFILE);
	assert_int_equal(privsep_ask(pair[0], PRIVSEP_CONNECT, 53), -ECONNREFUSED);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	fd = privsep_ask(pair[0], PRIVSEP_CONNECT, 52);
	assert_int_equal(fd, spare);
	close(fd);
	close(pair[0]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* One answer that no broker gives. */
static int ask_liar(int32_t payload, unsigned num_fds, enum privsep_call call)
{
	const int fds[] = { 0, 1, 2 };
	struct iovec iov = { .iov_base = &payload, .iov_len = sizeof(payload) };
	int pair[2], r;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_int_equal(fdio_send_packet(pair[1], &iov, 1, fds, num_fds, 0), 0);
	r = privsep_ask(pair[0], call, 52);
	close(pair[0]);
	close(pair[1]);
	return r;
}

static void test_wrong_answers(void **state)
{
	int spare = dup(0), again;

	(void)state;
	close(spare);
	assert_int_equal(ask_liar(0, 0, PRIVSEP_CONNECT), -EPROTO);
	assert_int_equal(ask_liar(2, 0, PRIVSEP_CONNECT), -EPROTO);
	assert_int_equal(ask_liar(2, 1, PRIVSEP_CONNECT), -EPROTO);
	assert_int_equal(ask_liar(-ENOENT, 1, PRIVSEP_CONNECT), -EPROTO);
	assert_int_equal(ask_liar(0, 2, PRIVSEP_CONNECT), -EMFILE);
	assert_int_equal(ask_liar(0, 3, PRIVSEP_CONNECT), -EMFILE);
	assert_int_equal(ask_liar(1, 1, PRIVSEP_TTY_RAW), -EPROTO);
	again = dup(0);
	assert_int_equal(again, spare); /* nothing was left open */
	close(again);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_broker),
		cmocka_unit_test(test_no_descriptor_left),
		cmocka_unit_test(test_wrong_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
