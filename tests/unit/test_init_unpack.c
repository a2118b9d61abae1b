/* Archives of tar.c, and of other programs, unpacked by init. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/init/tar.h"
#include "loader/init/tar_block.h"
#include "loader/init/unpack.h"

static char dir[] = "/tmp/mayfly-unpack.XXXXXX";

/* Runs shell words in dir, which must succeed. */
static void sh(const char *words)
{
	char command[4096];

	snprintf(command, sizeof(command), "cd %s && { %s; }", dir, words);
	if (system(command) != 0)
		fail_msg("failed: %s", words);
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/mayfly-unpack.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	sh("rm -rf \"$PWD\"");
	return 0;
}

/* Unpacks the file at to, in a process of its own, as init does. Returns 0, or 1 with the sentence in why. */
static int unpack(int from, const char *to, bool owner, char why[512])
{
	char path[512];
	int pair[2], status;
	pid_t pid;
	ssize_t n;

	snprintf(path, sizeof(path), "%s%s", *to == '/' ? "" : dir, to);
	if (*to != '/')
		snprintf(path, sizeof(path), "%s/%s", dir, to);
	assert_int_equal(pipe(pair), 0);
	pid = fork();
	if (pid == 0) {
		struct text text = { 0 };
		bool good;

		umask(022);
		good = unpack_archive(path, from, owner, &text);
		_exit(write(pair[1], text.s, text.len) == (ssize_t)text.len && good ? 0 : 1);
	}
	close(pair[1]);
	n = read(pair[0], why, 511);
	why[n > 0 ? n : 0] = '\0';
	close(pair[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status) == 0, n <= 0);
	return WEXITSTATUS(status);
}

/* Packs what is at from, in dir, and unpacks it at to. */
static int copy(const char *from, const char *to, bool owner, char why[512])
{
	char path[512];
	int pair[2], r;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/%s", dir, from);
	assert_int_equal(pipe(pair), 0);
	pid = fork();
	if (pid == 0) {
		struct text text = { 0 };

		close(pair[0]);
		_exit(!tar_send(path, pair[1], false, &text));
	}
	close(pair[1]);
	r = unpack(pair[0], to, owner, why);
	close(pair[0]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	return r;
}

/* What find(1) says of all in two trees is the same; sizes of directories and parts of seconds aside. */
#define SAME(a, b, format)                                                                                             \
	"list() { (cd $1 && find . \\( -type d -printf '%P %y %m %Ts" format "\\n' \\) -o "                            \
	"-printf '%P %y %m %s %l %n %Ts" format "\\n' | sort); }; list " a " > 1; list " b " > 2; diff 1 2 && "        \
	"diff -r --no-dereference " a " " b

static void make_tree(void)
{
	sh("mkdir -p t/d/e t/empty && echo one > t/one && seq 100000 > t/d/many && : > t/none &&"
	   "ln -s nowhere/at/all t/d/link && ln t/one t/d/e/again && chmod 4751 t/one && chmod 2$([ $(id -u) = 0 ] && echo 5 || echo 7)55 t/d/e &&"
	   "n=$(printf %0200d 1) && mkdir t/$n && echo long > t/$n/$n && ln -s $n$n t/$n/to &&"
	   "truncate -s 5M t/hole && echo x >> t/hole && touch -h -d '1999-01-02 03:04:05' t/d/link t/hole t/d/e t/d &&"
	   "touch -d '1960-01-02' t/none && touch -d '2001-01-01' t/empty t");
}

static void test_tree(void **state)
{
	char why[512];

	(void)state;
	make_tree();
	/* At a path that is not there yet, and in a directory. */
	assert_int_equal(copy("t", "new", false, why), 0);
	sh(SAME("t", "new", ""));
	sh("mkdir in");
	assert_int_equal(copy("t", "in", false, why), 0);
	sh(SAME("t", "in/t", ""));
	assert_int_equal(copy("t/.", "in2", false, why), 0);
	sh(SAME("t", "in2", ""));
	/* Holes are holes. */
	sh("test $(stat -c %b new/hole) -lt 1000");
}

static void test_merge(void **state)
{
	char why[512];

	(void)state;
	make_tree();
	sh("mkdir -m 700 -p in/d && echo old > in/one && echo mine > in/d/mine && ln -s /nowhere in/none && touch -d 2002-01-01 in/d");
	assert_int_equal(copy("t/.", "in", false, why), 0);
	sh("cmp t/one in/one && cmp t/none in/none && test mine = $(cat in/d/mine) && cmp t/d/many in/d/many");
	/* What was there keeps its mode. */
	sh("test 700 = $(stat -c %a in/d)");
	/* Neither replaces the other. */
	sh("rm -rf in && mkdir in && echo file > in/d");
	assert_int_equal(copy("t/.", "in", false, why), 1);
	assert_non_null(strstr(why, "/d: "));
	sh("rm -rf in && mkdir -p in/one/below");
	assert_int_equal(copy("t/.", "in", false, why), 1);
	assert_non_null(strstr(why, "/one: "));
	sh("test -d in/one/below");
	sh("mkdir -p into/t/one/below");
	assert_int_equal(copy("t", "into/", false, why), 1);
	assert_non_null(strstr(why, "/into/t/one: "));
}

static void test_file(void **state)
{
	char why[512];

	(void)state;
	sh("echo one > one && echo two > two && mkdir in && chmod 640 one && touch -d 2003-03-03 one");
	assert_int_equal(copy("one", "new", false, why), 0);
	sh("cmp one new && test \"$(stat -c '%a %Y' one)\" = \"$(stat -c '%a %Y' new)\"");
	assert_int_equal(copy("one", "two", false, why), 0);
	sh("cmp one two");
	assert_int_equal(copy("one", "in", false, why), 0);
	sh("cmp one in/one");
	assert_int_equal(copy("one", "missing/", false, why), 1);
	assert_int_equal(copy("one", "missing/new", false, why), 1);
	assert_non_null(strstr(why, "missing/new: "));
	sh("test ! -e missing");
}

static void test_owner(void **state)
{
	char why[512];

	(void)state;
	if (geteuid() != 0)
		skip(); /* nobody else can give files away */
	make_tree();
	sh("chown -hR 12:34 t && chmod 4751 t/one && chmod 2555 t/d/e");
	assert_int_equal(copy("t", "new", true, why), 0);
	sh(SAME("t", "new", " %U %G"));
	assert_int_equal(copy("t", "own", false, why), 0);
	sh("test -z \"$(find own ! -user 0)\"");
}

/* As `mayfly cp -` gets them. */
static void test_other_programs(void **state)
{
	static const char *const formats[] = { "gnu", "ustar", "v7", "posix" };
	char why[512], words[256];
	int fd;

	(void)state;
	sh("mkdir -p t/$(printf %080d 1)/$(printf %080d 2) in && echo deep > t/$(printf %080d 1)/$(printf %080d 2)/x");
	for (unsigned i = 0; i < 4; i++) {
		snprintf(words, sizeof(words), "rm -rf in/* && tar --format=%s -cf tar t 2> /dev/null || test %s = v7",
			 formats[i], formats[i]);
		sh(words);
		snprintf(words, sizeof(words), "%s/tar", dir);
		fd = open(words, O_RDONLY | O_CLOEXEC);
		if (i < 2) {
			assert_int_equal(unpack(fd, "in/.", false, why), 0);
			sh("diff -r t in/t");
		} else {
			assert_int_equal(unpack(fd, "in/.", false, why), 1);
		}
		close(fd);
	}
}

/* What is no archive, and one without its end. */
static void test_bad_ones(void **state)
{
	char why[512], path[64];
	int fd;

	(void)state;
	sh("mkdir in && seq 5000 > f && tar --format=gnu -cf tar f && head -c 5000 tar > short && seq 999 > junk && : > none");
	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, (const char *[]){ "short", "junk", "none" }[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_int_equal(unpack(fd, "in", false, why), 1);
		close(fd);
	}
}

static void put_header(int fd, const char *name, char kind, const char *size)
{
	struct tar_header h = { .kind = kind };

	strcpy(h.name, name);
	strcpy(h.size, size);
	memcpy(h.magic, "ustar ", 6);
	assert_int_equal(write(fd, &h, sizeof(h)), sizeof(h));
}

/* Names of files and links that fill all of their room, without a NUL. */
static void test_names_without_end(void **state)
{
	static char name[4096];
	char why[512];
	int fd = memfd_create("archive", 0);

	(void)state;
	memset(name, 'a', sizeof(name));
	sh("mkdir in");
	for (unsigned i = 0; i < 2; i++) {
		put_header(fd, "long", "KL"[i], "00000010000");
		assert_int_equal(write(fd, name, sizeof(name)), sizeof(name));
	}
	put_header(fd, "x", '0', "00000000000");
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(unpack(fd, "in", false, why), 1);
	assert_non_null(strstr(why, strerror(ENAMETOOLONG)));
	close(fd);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_tree),
		T(test_merge),
		T(test_file),
		T(test_owner),
		T(test_other_programs),
		T(test_bad_ones),
		T(test_names_without_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
