/* Artifacts: a guest that sends what it was not asked for, against the processes that take it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/artifact_fixture.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/artifact.h"
#include "vmm/helper/artifact_dir.h"

#define LIMIT_MS 10000

static bool arrives(const char *guest)
{
	char path[64];
	const struct config_artifact config = { .guest = strcpy(path, guest), .host = out };

	return arrives_from(&config);
}

static void test_all_that_is_sent(void **state)
{
	char deep[300] = "result/";
	struct stat st;

	(void)state;
	memset(deep + 7, 'a', 200);
	strcpy(deep + 207, "/file");
	tar_dir(&tar, "result/", 0750);
	tar_file(&tar, "result/tool", 07755, "#!/bin/sh");
	tar_file(&tar, "result/empty", 0644, "");
	tar_dir(&tar, "result/closed/", 0500);
	tar_file(&tar, "result/closed/file", 0400, "locked");
	tar_link(&tar, "result/link", "closed/file");
	tar_long(&tar, 'L', deep);
	tar_file(&tar, deep, 0644, "deep");
	tar_long(&tar, 'K', deep + 7);
	tar_link(&tar, "result/far", "");
	tar_end(&tar);
	assert_true(arrives("/src/result/"));
	assert_true(has(in(out, "result/link"), "locked"));
	assert_true(has(in(out, deep), "deep"));
	assert_true(has(in(out, "result/far"), "deep"));
	assert_true(has(in(out, "result/empty"), ""));
	assert_int_equal(stat(in(out, "result/tool"), &st), 0);
	assert_int_equal(st.st_mode & 07700, 0700);
	assert_int_equal(st.st_mtime, 1000000000);
	assert_int_equal(stat(in(out, "result/closed"), &st), 0);
	assert_int_equal(st.st_mtime, 1000000000);
	assert_int_equal(count(out), 1); /* nothing is left of the fresh directory */
}

/* The second archive, or the second run, goes through a link of the first. */
static void test_link_then_below_it(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		tar.len = 0;
		tar_dir(&tar, "result/", 0755);
		tar_link(&tar, "result/cache", home);
		tar_end(&tar);
		assert_true(arrives("/result"));
		tar.len = 0;
		if (round)
			tar_dir(&tar, "result/", 0755);
		tar_file(&tar, "result/cache/.bashrc", 0644, "evil");
		tar_end(&tar);
		(void)arrives("/result");
		assert_true(has(in(home, ".bashrc"), "mine"));
	}
	/* In one. */
	tar.len = 0;
	tar_link(&tar, "result/cache", home);
	tar_file(&tar, "result/cache/.bashrc", 0644, "evil");
	tar_end(&tar);
	assert_false(arrives("/result"));
	tar.len = 0;
	tar_link(&tar, "result/cache", home);
	tar_dir(&tar, "result/cache/", 0777);
	tar_end(&tar);
	assert_false(arrives("/result"));
	assert_true(has(in(home, ".bashrc"), "mine"));
	assert_int_equal(count(home), 1);
}

static void test_links_that_are_there(void **state)
{
	(void)state;
	assert_int_equal(mkdir(out, 0755), 0);
	assert_int_equal(symlink(home, in(out, "result")), 0);
	assert_int_equal(symlink(in(home, ".bashrc"), in(out, "file")), 0);
	tar_dir(&tar, "result/", 0755);
	tar_file(&tar, "result/.bashrc", 0644, "evil");
	tar_end(&tar);
	assert_true(arrives("/result"));
	tar.len = 0;
	tar_file(&tar, "file", 0644, "evil");
	tar_end(&tar);
	assert_true(arrives("/file"));
	assert_true(has(in(home, ".bashrc"), "mine"));
	assert_int_equal(count(home), 1);
	assert_true(has(in(out, "result/.bashrc"), "evil"));
	assert_true(has(in(out, "file"), "evil"));
}

static void test_names(void **state)
{
	static const char *const names[] = { "Makefile",   "../x",	"/x",	   "result/../x",
					     "result/./x", "result//x", "results", "./result",
					     "result/..",  ".",		"..",	   "" };

	(void)state;
	assert_int_equal(mkdir(out, 0755), 0);
	put(in(out, "Makefile"), "all:");
	for (unsigned i = 0; i < MF_ARRAY_SIZE(names); i++) {
		for (unsigned as_dir = 0; as_dir < 2; as_dir++) {
			tar.len = 0;
			tar_dir(&tar, "result/", 0755);
			if (as_dir)
				tar_dir(&tar, names[i], 0755);
			else
				tar_file(&tar, names[i], 0644, "evil");
			tar_end(&tar);
			if (arrives("/proj/result"))
				fail_msg("'%s' was taken", names[i]);
		}
	}
	assert_true(has(in(out, "Makefile"), "all:"));
	assert_int_equal(count(out), 1);
	assert_int_equal(count(dir), 2);
}

static void test_kinds(void **state)
{
	static const char kinds[] = { '7', 'x', 'g', 'A', '\x80' };

	(void)state;
	for (unsigned i = 0; i < sizeof(kinds); i++) {
		tar.len = 0;
		tar_dir(&tar, "result/", 0755);
		tar_file(&tar, "result/file", 0644, "");
		tar_header(&tar, kinds[i], "result/node", "result/file", 0666, 0);
		tar_end(&tar);
		if (arrives("/result"))
			fail_msg("kind '%c' was taken", kinds[i]);
	}
	/* What was asked for is a file or a directory. */
	tar.len = 0;
	tar_link(&tar, "result", home);
	tar_end(&tar);
	assert_false(arrives("/result"));
	/* One name, two members. */
	tar.len = 0;
	tar_file(&tar, "result", 0644, "a");
	tar_file(&tar, "result", 0644, "b");
	tar_end(&tar);
	assert_false(arrives("/result"));
	assert_int_equal(count(out), 0);
}

/* Of a sender that was killed, or an archive that is none, nothing arrives, and what was there stays. */
static void test_in_part(void **state)
{
	struct artifact a;
	const struct config_artifact config = { .guest = (char[]){ "/result" }, .host = out };

	(void)state;
	assert_int_equal(mkdir(out, 0755), 0);
	put(in(out, "result"), "old");
	tar_dir(&tar, "result/", 0755);
	tar_file(&tar, "result/one", 0644, "one");
	tar_file(&tar, "result/two", 0644, "two");
	tar_end(&tar);
	for (size_t len = 0; len < tar.len; len += 256) {
		assert_int_equal(artifact_start(&a, &config, &err), 0);
		if (finish(&a, len))
			fail_msg("%zu of %zu bytes are enough", len, tar.len);
		assert_true(has(in(out, "result"), "old"));
		assert_int_equal(count(out), 1);
	}
	tar.data[0] ^= 1; /* a sum that is wrong */
	assert_false(arrives("/result"));
	memset(tar.data, 0, tar.len);
	assert_false(arrives("/result"));
	assert_true(has(in(out, "result"), "old"));
}

static void test_limit(void **state)
{
	struct config_artifact config = { .guest = (char[]){ "/result" }, .host = out, .max_bytes = 65536 };

	(void)state;
	/* Each alone would do. */
	tar_dir(&tar, "result/", 0755);
	for (unsigned i = 0; i < 10; i++) {
		char name[32], text[8000] = { 0 };

		snprintf(name, sizeof(name), "result/%u", i);
		memset(text, 'x', sizeof(text) - 1);
		tar_file(&tar, name, 0644, text);
	}
	tar_end(&tar);
	assert_false(arrives_from(&config));
	config.max_bytes = 1 << 20;
	assert_true(arrives_from(&config));
	/* What is said to come, before it comes. */
	config.max_bytes = 1 << 16;
	tar.len = 0;
	tar_header(&tar, '0', "result", "", 0644, 1 << 17);
	assert_false(arrives_from(&config));
	assert_non_null(strstr(err.text, "65536"));
}

static void test_what_was_there(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(mkdir(out, 0755), 0);
	put(in(out, "other"), "other");
	put(in(out, "result"), "old");
	tar_dir(&tar, "result/", 0755);
	tar_dir(&tar, "result/sub/", 0755);
	tar_file(&tar, "result/sub/file", 0644, "new");
	tar_end(&tar);
	assert_true(arrives("/result")); /* a file, by a directory */
	assert_true(has(in(out, "result/sub/file"), "new"));
	put(in(out, "result/sub/mine"), "old");
	assert_int_equal(symlink(home, in(out, "result/home")), 0);
	assert_int_equal(chmod(in(out, "result/sub"), 0500), 0);
	assert_true(arrives("/result")); /* a directory, by another */
	assert_false(is_there(in(out, "result/sub/mine")));
	assert_true(has(in(home, ".bashrc"), "mine"));
	tar.len = 0;
	tar_file(&tar, "result", 04644, "file");
	tar_end(&tar);
	assert_true(arrives("/result")); /* a directory, by a file */
	assert_true(has(in(out, "result"), "file"));
	assert_true(has(in(out, "other"), "other"));
	assert_int_equal(stat(in(out, "result"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(count(out), 2);
}

/* Whatever has unpacked it: all names of a file are in the artifact, or it is not taken. */
static void test_hard_links(void **state)
{
	const struct config_artifact config = { .guest = (char[]){ "/result" }, .host = out };
	char from[256];
	struct artifact_dir d;

	(void)state;
	assert_int_equal(artifact_dir_open(&d, &config, &err), 0);
	snprintf(from, sizeof(from), "%s/%s", out, d.fresh_name);
	assert_int_equal(mkdirat(d.fresh, "result", 0700), 0);
	put(in(from, "result/a"), "text");
	assert_int_equal(linkat(d.fresh, "result/a", d.fresh, "result/b", 0), 0);
	assert_int_equal(link(in(home, ".bashrc"), in(from, "result/c")), 0);
	assert_int_equal(artifact_dir_move(&d, 100, 1 << 20, &err), -EPERM);
	assert_false(is_there(in(out, "result")));
	assert_int_equal(unlink(in(home, ".bashrc")), 0);
	assert_int_equal(artifact_dir_move(&d, 100, 1 << 20, &err), 0);
	assert_true(has(in(out, "result/b"), "text"));
	assert_int_equal(artifact_dir_remove(&d, &err), 0);
	artifact_dir_close(&d);
}

/* All of the guest's root, whose names are the guest's. */
static void test_what_is_in_a_directory(void **state)
{
	const struct config_artifact config = { .guest = (char[]){ "/" }, .host = out };
	struct artifact a;

	(void)state;
	tar_dir(&tar, "./", 0755);
	tar_dir(&tar, "./etc/", 0755);
	tar_file(&tar, "./etc/passwd", 0644, "root");
	tar_link(&tar, "./bin", "usr/bin");
	tar_file(&tar, "./init", 0755, "init");
	tar_end(&tar);
	assert_true(arrives("/"));
	assert_true(has(in(out, "etc/passwd"), "root"));
	assert_true(has(in(out, "init"), "init"));
	assert_int_equal(count(out), 3);
	/* They would be beside what is there, if not in its place. */
	assert_true(artifact_start(&a, &config, &err) < 0);
	assert_int_equal(count(out), 3);
}

static void test_two_places(void **state)
{
	static const struct {
		const char *guest[2], *host[2];
		bool good;
	} pairs[] = {
		{ { "/a", "/b" }, { "out", "out" }, true },    { { "/a", "/ab" }, { "out", "out" }, true },
		{ { "/a", "/a" }, { "out", "home" }, true },   { { "/x/a", "/y/a" }, { "out", "out/" }, false },
		{ { "/a", "/b" }, { "out", "out/a" }, false }, { { "/b", "/a" }, { "out/a", "out" }, false },
		{ { "/b", "/home" }, { "link", "." }, false },
	};

	(void)state;
	assert_int_equal(symlink("home", in(dir, "link")), 0);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(pairs); i++) {
		char guest[2][16], host[2][PATH_MAX];
		struct config_artifact config[2];
		struct artifact a[2];

		assert_true(mkdir(out, 0755) == 0 || errno == EEXIST);
		for (unsigned j = 0; j < 2; j++) {
			config[j] = (struct config_artifact){ .guest = strcpy(guest[j], pairs[i].guest[j]),
							      .host = strcpy(host[j], in(dir, pairs[i].host[j])) };
			assert_int_equal(artifact_start(&a[j], &config[j], &err), 0);
		}
		if ((artifact_check_places(&a[0], &a[1], &err) == 0) != pairs[i].good)
			fail_msg("pair %u: %s", i, pairs[i].good ? err.text : "both would do");
		assert_int_equal(artifact_check_places(&a[1], &a[0], &err) == 0, pairs[i].good);
		(void)artifact_finish(&a[1], &err);
		(void)artifact_finish(&a[0], &err);
	}
}

static void wait_until_gone(const char *path)
{
	for (unsigned ms = 0; is_there(path); ms += 10) {
		assert_true(ms < LIMIT_MS);
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
}

/* The one fresh directory in out. */
static const char *fresh(void)
{
	static char name[PATH_MAX];
	char command[128];
	FILE *f;

	snprintf(command, sizeof(command), "echo %s/" ARTIFACT_DIR_PREFIX "*", out);
	f = popen(command, "r");
	assert_int_equal(fscanf(f, "%4095s", name), 1);
	pclose(f);
	assert_true(is_there(name));
	return name;
}

/*
 * By SIGKILL: whoever has started it is gone, and nothing is moved, though the archive is whole. The keeper stands still until
 * then, or it could have moved everything.
 */
static void test_mayfly_is_killed(void **state)
{
	char name[PATH_MAX];
	int ready[2];
	pid_t pid, keeper;

	(void)state;
	tar_file(&tar, "result", 0644, "result");
	tar_end(&tar);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		const struct config_artifact config = { .guest = (char[]){ "/result" }, .host = out };
		struct artifact a;

		(void)signal(SIGHUP,
			     SIG_IGN); /* which Linux sends a process group that stands still and is an orphan */
		if (artifact_start(&a, &config, &err) == 0 && kill(a.pid, SIGSTOP) == 0 &&
		    write(a.socket, tar.data, tar.len) == (ssize_t)tar.len &&
		    write(ready[1], &a.pid, sizeof(a.pid)) == sizeof(a.pid))
			pause();
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &keeper, sizeof(keeper)), sizeof(keeper));
	close(ready[0]);
	strcpy(name, fresh());
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(kill(keeper, SIGCONT), 0);
	wait_until_gone(name);
	assert_int_equal(count(out), 0);
}

/* If all of them were killed, the next one cleans up; what is in use, and what is not such a directory, stays. */
static void test_what_was_left(void **state)
{
	const char *left = ARTIFACT_DIR_PREFIX "00000001", *used = ARTIFACT_DIR_PREFIX "00000002";
	char link[PATH_MAX];
	int fd;

	(void)state;
	assert_int_equal(mkdir(out, 0755), 0);
	assert_int_equal(mkdir(in(out, left), 0700), 0);
	assert_int_equal(mkdir(in(out, ARTIFACT_DIR_PREFIX "00000001/result"), 0500), 0);
	assert_int_equal(symlink(home, in(out, ARTIFACT_DIR_PREFIX "00000001/home")), 0);
	assert_int_equal(mkdir(in(out, used), 0700), 0);
	fd = open(in(out, used), O_RDONLY | O_DIRECTORY);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	strcpy(link, in(out, ARTIFACT_DIR_PREFIX "00000003"));
	assert_int_equal(symlink(home, link), 0);
	tar_file(&tar, "result", 0644, "result");
	tar_end(&tar);
	assert_true(arrives("/result"));
	assert_false(is_there(in(out, left)));
	assert_true(is_there(in(out, used)));
	assert_true(is_there(link));
	assert_true(has(in(home, ".bashrc"), "mine"));
	close(fd);
}

static void test_directories_that_will_not_do(void **state)
{
	struct config_artifact config = { .guest = (char[]){ "/result" }, .host = (char[]){ "/none/such" } };
	struct artifact a;

	(void)state;
	assert_true(artifact_start(&a, &config, &err) < 0);
	assert_non_null(strstr(err.text, "/none/such"));
	put(out, "a file");
	config.host = out;
	assert_true(artifact_start(&a, &config, &err) < 0);
	assert_non_null(strstr(err.text, out));
	config.host = (char[]){ "/proc" };
	assert_true(artifact_start(&a, &config, &err) < 0);
	a = (struct artifact){ 0 };
	assert_int_equal(artifact_finish(&a, &err), 0);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_all_that_is_sent),
		T(test_link_then_below_it),
		T(test_links_that_are_there),
		T(test_names),
		T(test_kinds),
		T(test_in_part),
		T(test_limit),
		T(test_what_was_there),
		T(test_hard_links),
		T(test_what_is_in_a_directory),
		T(test_two_places),
		T(test_mayfly_is_killed),
		T(test_what_was_left),
		T(test_directories_that_will_not_do),
	};
	umask(022); /* modes are compared */

	return cmocka_run_group_tests(tests, NULL, NULL);
}
