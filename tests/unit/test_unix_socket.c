/* Sockets with names, in a directory in which somebody else exchanges files all the time. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "virtio/vsock.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/unix_socket.h"

#define TRIES 4000

static char dir[64], path[80], other[80], secret[80];

static int setup(void **state)
{
	(void)state;
	log_setup(LOG_LEVEL_ERROR, -1);
	strcpy(dir, "/tmp/mayfly-test-name-XXXXXX");
	assert_non_null(mkdtemp(dir));
	sprintf(path, "%s/v_1", dir);
	sprintf(other, "%s/other", dir);
	sprintf(secret, "%s/secret", dir);
	return 0;
}

static int teardown(void **state)
{
	char command[100];

	(void)state;
	sprintf(command, "rm -rf %s", dir);
	return system(command);
}

static int listen_at(const char *at)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(a.sun_path, at);
	assert_int_equal(bind(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 4096), 0);
	return fd;
}

static unsigned accept_all(int fd)
{
	unsigned n = 0;

	for (int c; (c = accept(fd, NULL, NULL)) >= 0; n++)
		close(c);
	return n;
}

static atomic_bool exchanging;

static void *exchange(void *arg)
{
	(void)arg;
	while (exchanging)
		(void)renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE);
	return NULL;
}

static pthread_t start_exchange(void)
{
	pthread_t thread;

	exchanging = true;
	assert_int_equal(pthread_create(&thread, NULL, exchange, NULL), 0);
	return thread;
}

static void stop_exchange(pthread_t thread)
{
	exchanging = false;
	pthread_join(thread, NULL);
}

/* A socket and a symbolic link to one that is not for the guest take each other's place. */
static void test_link_is_never_followed(void **state)
{
	int own = listen_at(path), hidden = listen_at(secret);
	char prefix[80];
	pthread_t thread;
	unsigned connected = 0;

	(void)state;
	sprintf(prefix, "%s/v", dir);
	assert_int_equal(symlink(secret, other), 0);
	thread = start_exchange();
	for (unsigned i = 0; i < TRIES; i++) {
		int fd = vsock_connect_host(prefix, 1);

		assert_true(fd >= 0 || fd == -ENOTSOCK || fd == -ELOOP || fd == -EAGAIN);
		connected += fd >= 0;
		if (fd >= 0)
			close(fd);
	}
	stop_exchange(thread);
	assert_int_equal(accept_all(hidden), 0);
	assert_int_equal(accept_all(own), connected);
	/* On a busy machine each try may have found the link; alone, the socket is found, and the link is not. */
	for (unsigned i = 0; i < 2; i++) {
		int fd = vsock_connect_host(prefix, 1);

		assert_int_equal(accept_all(own), fd >= 0);
		connected = i == 0 ? fd >= 0 : connected + (fd >= 0);
		if (fd >= 0)
			close(fd);
		assert_int_equal(renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE), 0);
	}
	assert_int_equal(connected, 1);
	close(own);
	close(hidden);
}

/* What takes the socket's place while it is removed stays. */
static void test_only_the_socket_is_removed(void **state)
{
	struct stat st;
	unsigned removed = 0;

	(void)state;
	for (unsigned i = 0; i < TRIES / 8; i++) {
		struct unix_socket u = UNIXNAME_INIT;
		pthread_t thread;
		struct err e;
		int fd;

		assert_int_equal(unix_socket_listen(&u, path, SOCK_STREAM, &e), 0);
		fd = open(other, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		thread = start_exchange();
		unix_socket_done(&u);
		stop_exchange(thread);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_nlink, 1);
		close(fd);
		removed += (access(path, F_OK) < 0) + (access(other, F_OK) < 0);
		(void)unlink(path);
		(void)unlink(other);
	}
	assert_true(removed > 0);
	assert_int_equal(rmdir(dir), 0); /* nothing is left under a name that nobody knows */
	assert_int_equal(mkdir(dir, 0700), 0);
}

/* The directory is exchanged, too: what has the socket's name in another stays. */
static void test_another_directory(void **state)
{
	struct unix_socket u = UNIXNAME_INIT;
	char moved[80];
	struct err e;
	int fd;

	(void)state;
	assert_int_equal(unix_socket_listen(&u, path, SOCK_STREAM, &e), 0);
	sprintf(moved, "%s-moved", dir);
	assert_int_equal(rename(dir, moved), 0);
	assert_int_equal(mkdir(dir, 0700), 0);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	close(fd);
	unix_socket_done(&u);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(rmdir(moved), 0); /* ours is gone from where it was */
}

static void test_relative_path(void **state)
{
	struct unix_socket u = UNIXNAME_INIT;
	int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct err e;

	(void)state;
	assert_int_equal(chdir(dir), 0);
	for (unsigned i = 0; i < 2; i++) {
		int left = listen_at("left");

		close(left);
		assert_int_equal(unix_socket_listen(&u, i ? "./left" : "left", SOCK_STREAM, &e), 0);
		left = unix_socket_connect_exact("left", SOCK_STREAM);
		assert_true(left >= 0);
		close(left);
		unix_socket_done(&u);
		assert_int_equal(access("left", F_OK), -1);
	}
	assert_int_equal(fchdir(here), 0);
	close(here);
	sprintf(other, "%s/none/x", dir);
	assert_int_equal(unix_socket_listen(&u, other, SOCK_STREAM, &e), -ENOENT);
	unix_socket_done(&u);
}

/* A descriptor that another process has bound: what it says is checked, and its name is removed here. */
static void test_adopted(void **state)
{
	struct unix_socket u = UNIXNAME_INIT;
	int fd = listen_at(path), pair[2];
	struct err e;

	(void)state;
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	assert_int_equal(unix_socket_adopt(&u, fd, path, SOCK_STREAM, &e), 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(u.fd, -1);
	unix_socket_done(&u);
	assert_int_equal(access(path, F_OK), -1);
	/* Its name is not there any more, or another file has it. */
	assert_int_equal(unix_socket_adopt(&u, fd, path, SOCK_STREAM, &e), -ENOENT);
	unix_socket_done(&u);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(unix_socket_adopt(&u, fd, path, SOCK_STREAM, &e), -EEXIST);
	unix_socket_done(&u);
	assert_int_equal(access(path, F_OK), 0);
	/* What is none. */
	assert_int_equal(unix_socket_adopt(&u, fd, path, SOCK_SEQPACKET, &e), -EINVAL);
	assert_int_equal(unix_socket_adopt(&u, fd, other, SOCK_STREAM, &e), -EINVAL);
	assert_int_equal(unix_socket_adopt(&u, fd, "v_1", SOCK_STREAM, &e), -EINVAL);
	close(fd);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(unix_socket_adopt(&u, pair[0], path, SOCK_STREAM, &e), -EINVAL);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(unix_socket_adopt(&u, fd, path, SOCK_STREAM, &e), -EINVAL);
	close(fd);
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_int_equal(unix_socket_adopt(&u, fd, path, SOCK_STREAM, &e), -EINVAL);
	assert_int_equal(u.dir_fd, -1);
	close(fd);
	close(pair[0]);
	close(pair[1]);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_link_is_never_followed),
		T(test_only_the_socket_is_removed),
		T(test_another_directory),
		T(test_relative_path),
		T(test_adopted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
