/* Live directories: what a guest gets that speaks 9P2000.L as it likes. */
#include "tests/unit/live_fixture.h"

#define ORDINARY 54321 /* a user without subordinate ids */

/* What the server's root has, as names that a reader of the directory gets. */
static bool root_has_only_export(void)
{
	size_t at = 4, names = 0;

	begin(TREADDIR);
	put(50, 4);
	put(0, 8);
	put(4096, 4);
	assert_int_equal(ask(), 0);
	while (at + 24 <= len) {
		uint16_t bytes;
		const char *name = (const char *)message + at + 24;

		memcpy(&bytes, message + at + 22, sizeof(bytes));
		at += 24U + bytes;
		names++;
		if ((bytes == 1 && name[0] == '.') || (bytes == 2 && !memcmp(name, "..", 2)))
			continue;
		if (bytes != 6 || memcmp(name, "export", 6) != 0)
			return false;
	}
	return names >= 2; /* diod leaves out what is mounted there */
}

static void test_nothing_is_above(void **state)
{
	static const char *const names[] = { "usr", "lib", "lib64", "etc", "proc", "dev", "tmp", "root" };

	(void)state;
	start(false);
	attach(0);
	if (walk(0, 50, "..") != 0)
		return; /* so much the better */
	(void)walk(50, 50, "..");
	for (size_t i = 0; i < MF_ARRAY_SIZE(names); i++)
		assert_int_not_equal(walk(50, 60, names[i]), 0);
	assert_int_equal(open_it(50, O_RDONLY | O_DIRECTORY), 0);
	assert_true(root_has_only_export());
	begin(TMKDIR);
	put(50, 4);
	put_text("new");
	put(0755, 4);
	put(0, 4);
	assert_int_not_equal(ask(), 0);
}

static void test_links_lead_nowhere(void **state)
{
	char relative[64];

	(void)state;
	start(false);
	attach(0);
	snprintf(relative, sizeof(relative), "../secret");
	assert_int_equal(make_link("absolute", secret), 0);
	assert_int_equal(make_link("relative", relative), 0);
	assert_int_equal(make_link("base", base), 0);
	assert_int_equal(walk(0, 1, "absolute"), 0);
	assert_false(reads_secret(1));
	assert_int_equal(walk(0, 2, "relative"), 0);
	assert_false(reads_secret(2));
	if (walk(0, 3, "base") == 0 && walk(3, 4, "secret") == 0)
		assert_false(reads_secret(4));
	if (walk(0, 5, "../secret") == 0)
		assert_false(reads_secret(5));
	if (walk(0, 6, secret) == 0)
		assert_false(reads_secret(6));
}

static void test_devices(void **state)
{
	char path[PATH_MAX + 16];
	struct stat st;

	(void)state;
	start(false);
	attach(0);
	assert_int_equal(make_node("null", S_IFCHR | 0666, makedev(1, 3)), EPERM);
	assert_int_equal(make_node("disk", S_IFBLK | 0666, makedev(7, 0)), EPERM);
	assert_int_equal(make_node("fifo", S_IFIFO | 0666, 0), 0);
	snprintf(path, sizeof(path), "%s/null", dir);
	assert_int_equal(stat(path, &st), -1);
	/* One that the host has put there. */
	if (mknod(path, S_IFCHR | 0666, makedev(1, 3)) < 0)
		return; /* not root's test */
	assert_int_equal(walk(0, 1, "null"), 0);
	assert_int_not_equal(open_it(1, O_RDONLY), 0);
}

static void test_writes(void **state)
{
	char path[PATH_MAX + 16];
	struct stat st;

	(void)state;
	start(false);
	attach(0);
	assert_int_equal(make("file", 1), 0);
	begin(TWRITE);
	put(1, 4);
	put(0, 8);
	put(5, 4);
	memcpy(message + len, "hello", 5);
	len += 5;
	assert_int_equal(ask(), 0);
	snprintf(path, sizeof(path), "%s/file", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 5); /* at once */
	assert_int_equal(st.st_uid, geteuid());
	assert_int_equal(st.st_mode & 07777, 0644);
}

static void test_another_user(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip(); /* an ordinary user has other ids only if the host has set some aside */
	start(false);
	attach(1234);
	assert_int_equal(make("file", 1), EACCES); /* the directory is root's, and 0755 */
	assert_int_equal(chown(dir, 1234, 0), 0);
	assert_int_equal(make("file", 2), 0);
}

static void test_read_only(void **state)
{
	char path[PATH_MAX + 16];
	FILE *file;

	(void)state;
	snprintf(path, sizeof(path), "%s/file", dir);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fclose(file), 0);
	start(true);
	attach(0);
	assert_int_equal(make("new", 1), EROFS);
	assert_int_equal(make_link("new", "file"), EROFS);
	assert_int_equal(walk(0, 2, "file"), 0);
	assert_int_equal(open_it(2, O_RDWR), EROFS);
}

/* In a process of its own: it becomes an ordinary user. */
static int writes_as_ordinary_user(void)
{
	if (setgid(ORDINARY) < 0 || setuid(ORDINARY) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
		return 1;
	start(false);
	attach(0);
	return make("file", 1);
}

static void test_ordinary_user(void **state)
{
	char path[PATH_MAX + 16];
	struct stat st;
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip(); /* the other tests are one's own */
	assert_int_equal(chown(dir, ORDINARY, ORDINARY), 0);
	assert_int_equal(chmod(base, 0755), 0);
	pid = fork();
	if (pid == 0)
		_exit(writes_as_ordinary_user());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	snprintf(path, sizeof(path), "%s/file", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, ORDINARY);
}

/* The server, of the sandbox's init. */
static pid_t child_of(pid_t pid)
{
	char path[64];
	FILE *file;
	int child = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d", &child), 1);
	assert_int_equal(fclose(file), 0);
	return child;
}

static void test_end_of_the_server(void **state)
{
	struct pollfd closed = { .events = POLLIN };
	struct err e;
	int r = 0;

	(void)state;
	start(false);
	assert_int_equal(live_check(&live, &e), 0);
	assert_int_equal(kill(live.pid, SIGKILL), 0);
	closed.fd = live.socket;
	assert_int_equal(poll(&closed, 1, LIMIT_MS), 1); /* the server has ended with its init */
	for (unsigned ms = 0; ms < LIMIT_MS && r == 0; ms++, usleep(1000))
		r = live_check(&live, &e);
	assert_int_equal(r, -ECHILD);
	assert_non_null(strstr(e.text, dir));
	assert_int_equal(live_check(&live, &e), 0); /* once */
}

/* The server writes a line for each request at a fid that there is not, and so as much as the guest wants. */
static void test_noise_of_the_server(void **state)
{
	struct pollfd closed = { .events = POLLIN };
	struct err e;
	int r = 0;

	(void)state;
	start(false);
	attach(0);
	for (unsigned i = 0; i < 2000; i++)
		assert_int_not_equal(open_it(99, O_RDONLY), 0);
	assert_int_equal(live_check(&live, &e), 0);
	assert_int_equal(kill(child_of(live.pid), SIGKILL), 0);
	closed.fd = live.socket;
	assert_int_equal(poll(&closed, 1, LIMIT_MS), 1);
	for (unsigned ms = 0; ms < LIMIT_MS && r == 0; ms++, usleep(1000))
		r = live_check(&live, &e);
	assert_int_equal(r, -ECHILD);
	assert_non_null(strstr(e.text, "signal 9 has ended diod"));
}

/* A guest whose request blocks the server for good: by a FIFO, which Linux does not open there. Returns init's pid. */
static pid_t block_the_server(void)
{
	struct pollfd answer = { .events = POLLIN };
	char path[PATH_MAX + 16];
	uint32_t size;

	start(false);
	attach(0);
	snprintf(path, sizeof(path), "%s/fifo", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(walk(0, 1, "fifo"), 0);
	begin(TLOPEN);
	put(1, 4);
	put(O_RDONLY, 4);
	size = (uint32_t)len;
	memcpy(message, &size, sizeof(size));
	assert_int_equal(write(live.socket, message, len), len);
	answer.fd = live.socket;
	assert_int_equal(poll(&answer, 1, 300), 0);
	return live.pid;
}

/* It does not outlive mayfly. */
static void test_blocked_server(void **state)
{
	struct pollfd ended = { .events = POLLIN };
	int pipes[2];
	pid_t mayfly, init;
	char byte;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pipes), 0);
	mayfly = fork();
	assert_true(mayfly >= 0);
	if (mayfly == 0) {
		init = block_the_server();
		if (write(pipes[1], &init, sizeof(init)) == sizeof(init) && read(pipes[1], &byte, 1) == 1)
			_exit(0);
		_exit(1);
	}
	assert_int_equal(read(pipes[0], &init, sizeof(init)), sizeof(init));
	ended.fd = pidfd_open(init, 0);
	assert_true(ended.fd >= 0);
	assert_int_equal(poll(&ended, 1, 0), 0);
	assert_int_equal(write(pipes[0], "", 1), 1);
	assert_int_equal(waitpid(mayfly, NULL, 0), mayfly);
	assert_int_equal(poll(&ended, 1, LIMIT_MS), 1);
	close(ended.fd);
	close(pipes[0]);
	close(pipes[1]);
}

static void test_end_of_the_connection(void **state)
{
	struct err e;
	int status;

	(void)state;
	start(false);
	close(live.socket);
	live.socket = -1;
	assert_int_equal(waitpid(live.pid, &status, 0), live.pid);
	assert_int_equal(status, 0);
	live.pid = 0;
	assert_int_equal(live_check(&live, &e), 0);
}

static void test_subordinate_ids(void **state)
{
	char text[] = "a:1:x\nuser:100000:65536\n\n77:200000\n77:4294967295:1\n77:300000:10\nroot\n";
	FILE *file = fmemopen(text, strlen(text), "r");
	struct subids_range range;

	(void)state;
	assert_non_null(file);
	assert_int_equal(subids_find(file, "user", 5, &range), 0);
	assert_int_equal(range.first, 100000);
	assert_int_equal(range.num, 65536);
	rewind(file);
	assert_int_equal(subids_find(file, NULL, 77, &range), 0); /* not the malformed ones before */
	assert_int_equal(range.first, 300000);
	rewind(file);
	assert_int_equal(subids_find(file, "use", 5, &range), -ENOENT);
	assert_int_equal(fclose(file), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_nothing_is_above),
		TEST(test_links_lead_nowhere),
		TEST(test_devices),
		TEST(test_writes),
		TEST(test_another_user),
		TEST(test_read_only),
		TEST(test_ordinary_user),
		TEST(test_end_of_the_server),
		TEST(test_end_of_the_connection),
		TEST(test_noise_of_the_server),
		TEST(test_blocked_server),
		cmocka_unit_test(test_subordinate_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
