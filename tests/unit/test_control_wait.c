/* The control socket: clients that wait for the guest, or for a monitor, and what a VM tells of itself. */
#include "tests/unit/guest_client_fixture.h"

#include <pthread.h>

#include "vmm/base/unix_socket.h"

static void ask_to_wait(int fd)
{
	const struct init_msg msg = { .type = CONTROL_MSG_WAIT };

	assert_int_equal(send(fd, &msg, sizeof(msg), MSG_NOSIGNAL), sizeof(msg));
}

/* Clients that wait for the guest are answered when it is there, and not before; one has gone by then. */
static void test_clients_that_wait(void **state)
{
	int fd = client(), gone = client(), late;
	struct init_msg msg;

	(void)state;
	turn();
	turn();
	ask_to_wait(fd);
	ask_to_wait(gone);
	turn();
	assert_int_equal(recv(fd, &msg, sizeof(msg), MSG_DONTWAIT), -1);
	close(gone);
	turn();
	hello();
	assert_int_equal(answered(fd), INIT_MSG_HELLO);
	assert_true(run(fd) > 0);
	assert_int_equal(answered(fd), INIT_MSG_RUN);
	/* One that is in the place of another that has waited. */
	late = client();
	turn();
	ask_to_wait(late);
	turn();
	assert_int_equal(answered(late), INIT_MSG_HELLO);
	assert_int_equal(recv(late, &msg, sizeof(msg), MSG_DONTWAIT), -1);
	close(late);
	close(fd);
}

static struct {
	char text[CONTROL_INFO_MAX];
	int r, fd;
	pid_t pid;
} info;

static void *ask_for_info(void *arg)
{
	struct err e;

	info.r = control_info(*(int *)arg, info.text, &info.fd, &info.pid, &e);
	return NULL;
}

/* What a VM tells of itself, also while a command runs; and what answers and is no mayfly. */
static void test_info(void **state)
{
	static char text[CONTROL_INFO_MAX];
	struct init_msg bad[] = { { .type = INIT_MSG_HELLO }, { .type = CONTROL_MSG_INFO, .len = 7 } };
	pthread_t thread;
	int fd, pair[2];
	struct err e;
	pid_t pid;

	(void)state;
	/* A real one; the kernel says who it is. */
	fd = client();
	turn();
	assert_int_equal(pthread_create(&thread, NULL, ask_for_info, &fd), 0);
	while (pthread_tryjoin_np(thread, NULL) != 0)
		turn();
	assert_string_equal(info.text, INFO_TEXT);
	assert_int_equal(info.r, 0);
	assert_true(info.fd >= 0);
	assert_int_equal(info.pid, getpid());
	close(info.fd);
	close(fd);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
		assert_int_equal(send(pair[1], &bad[i], sizeof(bad[i]), 0), sizeof(bad[i]));
		assert_int_equal(control_info(pair[0], text, &fd, &pid, &e), -EPROTO);
		assert_int_equal(fd, -1);
		close(pair[0]);
		close(pair[1]);
	}
	/* It has gone; it never answers. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(shutdown(pair[1], SHUT_WR), 0);
	assert_int_equal(control_info(pair[0], text, &fd, &pid, &e), -EPIPE);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(control_info(pair[0], text, &fd, &pid, &e), -ETIMEDOUT);
	close(pair[0]);
	close(pair[1]);
}

static void *listen_later(void *arg)
{
	(void)poll(NULL, 0, 100);
	*(int *)arg = a_listener();
	return NULL;
}

/* The client's side: until something listens, for so long and no longer. */
static void test_waits_for_a_listener(void **state)
{
	struct unix_socket name = UNIXNAME_INIT;
	int listener = -1, fd;
	pthread_t thread;
	struct err e;

	(void)state;
	snprintf(other_path, sizeof(other_path), "%s/other", dir);
	assert_int_equal(control_connect(other_path, 50, &e), -ENOENT);
	/* A socket that a killed monitor has left, and then one that makes no event after listen(2). */
	listener = a_listener();
	close(listener);
	assert_int_equal(control_connect(other_path, 50, &e), -ECONNREFUSED);
	assert_int_equal(unlink(other_path), 0);
	assert_int_equal(pthread_create(&thread, NULL, listen_later, &listener), 0);
	fd = control_connect(other_path, 1000, &e);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(fd == -ECONNREFUSED || fd == -ETIMEDOUT); /* it answers nothing */
	close(listener);
	/* A real one, which a client finds whenever it looks. */
	assert_int_equal(unix_socket_listen(&name, other_path, SOCK_SEQPACKET, &e), 0);
	assert_int_equal(control_connect(other_path, 50, &e), -ETIMEDOUT);
	unix_socket_done(&name);
	(void)unlink(other_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_clients_that_wait),
		T(test_info),
		T(test_waits_for_a_listener),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
