/* The control socket: clients at the wrong time, without a form, or without descriptors; where the socket is. */
#include "tests/unit/guest_client_fixture.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "tests/unit/open_fds.h"
#include "vmm/base/fdio.h"

/* The client's side: the connection, or -errno. */
static int request(const char *target, bool tty, int ret_fd[STDIO_RELAY_STREAMS], struct err *e)
{
	static const char text[] = "acommand";
	int fd = control_connect(target, 0, e);

	if (fd >= 0 && control_request(fd, text, sizeof(text), tty, ret_fd, e) < 0) {
		close(fd);
		return e->code;
	}
	return fd;
}

static void test_too_early_and_too_many(void **state)
{
	int fd = client(), many[INIT_COMMANDS_MAX - 1];

	(void)state;
	turn();
	ask(fd, INIT_MSG_RUN);
	turn();
	assert_int_equal(answered(fd), INIT_MSG_FAILED);
	close(fd);
	turn();
	hello();
	for (unsigned i = 0; i < MF_ARRAY_SIZE(many); i++) {
		many[i] = client();
		turn();
	}
	fd = client();
	turn();
	assert_int_equal(answered(fd), INIT_MSG_FAILED);
	close(fd);
	close(many[5]);
	turn();
	many[5] = client();
	assert_true(run(many[5]) > 0);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(many); i++)
		close(many[i]);
}

/* What a client sends that no `mayfly exec` would: it is closed, and the others are served. */
static void test_nonsense_of_a_client(void **state)
{
	static char large[INIT_PAYLOAD_MAX + 100];
	int fd;
	struct init_msg msg = { .type = INIT_MSG_RUN, .len = 7 };

	(void)state;
	hello();
	for (unsigned i = 0; i < 4; i++) {
		fd = client();
		turn();
		if (i == 0)
			(void)send(fd, "x", 1, MSG_NOSIGNAL);
		else if (i == 1)
			(void)send(fd, &msg, sizeof(msg), MSG_NOSIGNAL);
		else if (i == 2)
			(void)send(fd, large, sizeof(large), MSG_NOSIGNAL);
		else
			(void)send(fd, NULL, 0, MSG_NOSIGNAL);
		turn();
		assert_int_equal(recv(fd, &msg, sizeof(msg), MSG_DONTWAIT), 0);
		close(fd);
	}
	fd = client();
	assert_true(run(fd) > 0);
	close(fd);
}

/* Sends a packet with a descriptor, len bytes of payload beside. */
static void send_file(int to, int file, uint32_t len)
{
	static char data[64];
	const struct init_msg msg = { .type = INIT_MSG_RUN, .len = len };
	const struct iovec iov[] = { { (void *)(uintptr_t)&msg, sizeof(msg) }, { data, len } };

	assert_int_equal(fdio_send_packet(to, iov, 2, &file, 1, 0), 0);
}

/* A command that is longer than a packet comes in a memfd. */
static void test_long_command(void **state)
{
	static char text[INIT_COMMAND_MAX + 1];
	int fd = client(), file = memfd_create("test", MFD_CLOEXEC);
	struct init_msg msg;
	size_t len = 300000;

	(void)state;
	memset(text, 'x', sizeof(text));
	text[0] = 'a';
	text[len - 1] = '\0';
	hello();
	assert_int_equal(write(file, text, len), (ssize_t)len);
	assert_int_equal(lseek(file, 0, SEEK_SET), 0);
	send_file(fd, file, 0);
	turn();
	for (size_t got = 0; got < sizeof(msg) + len;) {
		ssize_t n = read(guest, text, got ? sizeof(text) : sizeof(msg));

		if (got == 0)
			memcpy(&msg, text, sizeof(msg));
		assert_true(n > 0);
		got += (size_t)n;
		turn();
	}
	assert_int_equal(msg.type, INIT_MSG_RUN);
	assert_int_equal(msg.len, len);
	close(file);
	close(fd);
}

/* A file that could block, one beside a payload, and one that is too long: the client is closed, and the descriptor too. */
static void test_long_command_that_is_none(void **state)
{
	static char text[4096];
	int pair[2], fd, file, before;

	(void)state;
	hello();
	assert_int_equal(pipe(pair), 0);
	before = dup(0);
	close(before);
	for (int i = 0; i < 4; i++) {
		fd = client();
		turn();
		file = i == 0 ? dup(pair[0]) : i == 1 ? open("/dev/zero", O_RDONLY) : memfd_create("test", MFD_CLOEXEC);
		for (unsigned j = 0; i == 3 && j <= INIT_COMMAND_MAX / sizeof(text); j++)
			assert_int_equal(write(file, text, sizeof(text)), sizeof(text));
		(void)lseek(file, 0, SEEK_SET);
		send_file(fd, file, i == 2 ? 8 : 0);
		close(file);
		turn();
		assert_int_equal(recv(fd, text, sizeof(text), MSG_DONTWAIT), 0);
		close(fd);
		fd = dup(0);
		assert_int_equal(fd, before);
		close(fd);
	}
	close(pair[0]);
	close(pair[1]);
}

/* No descriptor for a client: it waits, the main thread sleeps, and it is served when another has gone. */
static void test_no_descriptor_left(void **state)
{
	struct pollfd fds[GUEST_CLIENT_FDS_MAX];
	struct rlimit limit;
	int first, second, spare;

	(void)state;
	hello();
	first = client();
	turn();
	second = client();
	spare = dup(0);
	close(spare);
	assert_int_equal(guest_client_timeout(a, 5000), 5000);
	assert_int_equal(guest_client_timeout(NULL, -1), -1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ (rlim_t)spare, limit.rlim_max }), 0);
	turn();
	assert_int_equal(poll(fds, guest_client_poll_fds(a, fds), 0), 0);
	assert_in_range(guest_client_timeout(a, -1), 1, 1000);
	assert_in_range(guest_client_timeout(a, 5000), 1, 1000);
	assert_int_equal(guest_client_timeout(a, 0), 0);
	close(first); /* of ours: the server's end goes when it is served */
	turn();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_true(run(second) > 0);
	assert_int_equal(answered(second), INIT_MSG_RUN);
	close(second);
}

/* `mayfly exec` that has descriptors for some of the streams alone has none. */
static void test_exec_without_descriptors(void **state)
{
	struct rlimit limit;
	int fd[3], status = -1, spare;
	struct err e;
	pid_t pid;

	(void)state;
	hello();
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		spare = dup(0);
		close(spare);
		getrlimit(RLIMIT_NOFILE, &limit);
		limit.rlim_cur = (rlim_t)spare + 2; /* the connection, and one of three */
		setrlimit(RLIMIT_NOFILE, &limit);
		_exit(request(path, false, fd, &e) == -EMFILE ? 7 : 1);
	}
	for (unsigned i = 0; i < 5000 && waitpid(pid, &status, WNOHANG) == 0; i++) {
		turn();
		(void)poll(NULL, 0, 2);
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
	/* Its command is hung up. */
	turn();
	assert_true(guest_hears(&(struct init_msg){ 0 }));
}

/* Descriptors that nobody asked for are not taken, however many; the client that sends them is closed. */
static void test_descriptors_of_a_client(void **state)
{
	struct init_msg msg = { .type = INIT_MSG_RUN };
	struct iovec iov = { .iov_base = &msg, .iov_len = sizeof(msg) };
	int fds[FDIO_FDS_MAX], fd;
	unsigned before;

	(void)state;
	hello();
	for (unsigned i = 0; i < FDIO_FDS_MAX; i++)
		fds[i] = guest;
	fd = client();
	turn();
	before = open_fds();
	for (unsigned num = 1; num <= FDIO_FDS_MAX; num += FDIO_FDS_MAX - 1) {
		assert_int_equal(fdio_send_packet(fd, &iov, 1, fds, num, 0), 0);
		turn();
		assert_int_equal(recv(fd, &msg, sizeof(msg), MSG_DONTWAIT), 0);
		assert_int_equal(open_fds(), before - 1);
		close(fd);
		fd = client();
		turn();
	}
	close(fd);
}

/* What one request at other is answered, on a thread. */
static struct {
	int listener;
	struct init_msg msg;
	unsigned fds;
} answer;

static void *answer_once(void *arg)
{
	struct iovec iov = { .iov_base = &answer.msg, .iov_len = sizeof(answer.msg) };
	int fd = accept4(answer.listener, NULL, NULL, SOCK_CLOEXEC);
	int fds[FDIO_FDS_MAX];
	char packet[256];

	for (unsigned i = 0; i < FDIO_FDS_MAX; i++)
		fds[i] = fd;
	(void)recv(fd, packet, sizeof(packet), 0);
	(void)fdio_send_packet(fd, &iov, 1, fds, answer.fds, 0);
	close(fd);
	return arg;
}

static int request_answered(enum init_msg_type type, uint32_t len, unsigned fds, bool tty)
{
	int fd[STDIO_RELAY_STREAMS], r;
	pthread_t thread;
	struct err e;

	answer.msg = (struct init_msg){ .type = type, .len = len };
	answer.fds = fds;
	assert_int_equal(pthread_create(&thread, NULL, answer_once, NULL), 0);
	r = request(other_path, tty, fd, &e);
	assert_int_equal(pthread_join(thread, NULL), 0);
	for (unsigned i = 0; r >= 0 && i < STDIO_RELAY_STREAMS; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	if (r >= 0)
		close(r);
	return r;
}

/* What answers `mayfly exec` need not be a mayfly: it starts with all of its streams or not at all, and leaks nothing. */
static void test_answers(void **state)
{
	unsigned before = open_fds();

	(void)state;
	answer.listener = a_listener();
	assert_true(request_answered(INIT_MSG_RUN, 0, 3, false) >= 0);
	assert_true(request_answered(INIT_MSG_RUN, 0, 1, true) >= 0);
	assert_int_equal(request_answered(INIT_MSG_FAILED, 0, 0, false), -EBUSY);
	assert_int_equal(request_answered(INIT_MSG_RUN, 7, 3, false), -EPROTO);
	assert_int_equal(request_answered(INIT_MSG_RUN, 0, 2, false), -EPROTO);
	assert_int_equal(request_answered(INIT_MSG_RUN, 0, 0, true), -EPROTO);
	assert_int_equal(request_answered(INIT_MSG_RUN, 0, 2, true), -EPROTO);
	assert_int_equal(request_answered(INIT_MSG_STARTED, 0, 3, false), -EPROTO);
	close(answer.listener);
	assert_int_equal(open_fds(), before);
}

/* A name of as many bytes as a socket's can have, and one more. */
static void test_longest_path(void **state)
{
	struct unix_socket name = UNIXNAME_INIT;
	char longest[UNIXNAME_MAX + 2];
	int fd[STDIO_RELAY_STREAMS], len = snprintf(longest, sizeof(longest), "%s/", dir);
	struct err e;

	(void)state;
	memset(longest + len, 'x', sizeof(longest) - (size_t)len - 1);
	longest[UNIXNAME_MAX + 1] = '\0';
	assert_int_equal(request(longest, false, fd, &e), -ENAMETOOLONG);
	longest[UNIXNAME_MAX] = '\0';
	assert_int_equal(request(longest, false, fd, &e), -ENOENT);
	assert_int_equal(control_listen(&name, longest, &e), 0);
	unix_socket_done(&name);
}

/* Only the user can connect, and so run commands in the guest, whatever umask mayfly was started with. */
static void test_modes(void **state)
{
	static const mode_t masks[] = { 0, 022, 077, 0177 };
	struct unix_socket name = UNIXNAME_INIT;
	char own[100], *slash;
	struct stat st;
	struct err e;

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(masks); i++) {
		mode_t before = umask(masks[i]), after;
		int r, seen;

		sprintf(own, "%s/mayfly/x.sock", dir);
		r = control_listen(&name, own, &e);
		after = umask(before);
		assert_int_equal(r, 0);
		assert_int_equal(after, masks[i]);
		assert_int_equal(stat(own, &st), 0);
		assert_true(S_ISSOCK(st.st_mode));
		assert_int_equal(st.st_mode & 07777, 0600);
		unix_socket_done(&name);
		slash = strrchr(own, '/');
		*slash = '\0';
		assert_int_equal(stat(own, &st), 0);
		seen = st.st_mode & 07777;
		assert_int_equal(rmdir(own), 0);
		assert_int_equal(seen, 0700);
	}
}

/* A directory in which others could exchange the socket is refused, on both sides. */
static void test_directory_of_others(void **state)
{
	struct unix_socket name = UNIXNAME_INIT;
	char own[100], link[100];
	int fd[3];
	struct err e;

	(void)state;
	sprintf(own, "%s/mayfly/x.sock", dir);
	assert_int_equal(control_listen(&name, own, &e), 0);
	unix_socket_done(&name);
	assert_int_equal(request(own, false, fd, &e), -ENOENT);
	*strrchr(own, '/') = '\0';
	assert_int_equal(chmod(own, 0777), 0);
	own[strlen(own)] = '/';
	assert_int_equal(control_listen(&name, own, &e), -EPERM);
	assert_int_equal(request(own, false, fd, &e), -EPERM);
	*strrchr(own, '/') = '\0';
	assert_int_equal(chmod(own, 0700), 0);
	sprintf(link, "%s/elsewhere", dir);
	assert_int_equal(rename(own, link), 0);
	assert_int_equal(symlink(link, own), 0);
	own[strlen(own)] = '/';
	assert_int_equal(control_listen(&name, own, &e), -ENOTDIR);
	unix_socket_done(&name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_too_early_and_too_many),
		T(test_nonsense_of_a_client),
		T(test_long_command),
		T(test_long_command_that_is_none),
		T(test_no_descriptor_left),
		T(test_exec_without_descriptors),
		T(test_descriptors_of_a_client),
		T(test_answers),
		T(test_longest_path),
		T(test_modes),
		T(test_directory_of_others),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
