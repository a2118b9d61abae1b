/* The mount namespace that jails begin with: what is in it, and who gets it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "jailer/mounts.h"
#include "vmm/base/err.h"

/* In a child: the number of names in the root of the namespace, or -errno. */
static int count_names(int fd)
{
	struct statvfs st;
	DIR *dir;
	int num = 0;

	if (setns(fd, CLONE_NEWNS) < 0)
		return -errno;
	if (statvfs("/", &st) < 0 || !(st.f_flag & ST_RDONLY))
		return -EROFS;
	dir = opendir("/");
	while (dir && readdir(dir))
		num++;
	return num;
}

static void test_empty(void **state)
{
	struct stat before, now, its;
	struct err e;
	int r, fd, status;
	pid_t pid;

	(void)state;
	assert_int_equal(stat("/proc/self/ns/mnt", &before), 0);
	r = mounts_offer(&e);
	if (r < 0 && geteuid() != 0)
		skip(); /* an ordinary user's jails do without */
	assert_int_equal(r, 0);
	if (!getenv(MOUNTS_VARIABLE))
		skip(); /* this kernel has namespaces without mounts */
	fd = atoi(getenv(MOUNTS_VARIABLE));
	assert_true(fd > STDERR_FILENO);
	assert_int_equal(fcntl(fd, F_GETFD), 0); /* programs get it */
	assert_int_equal(mounts_take(), fd);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_null(getenv(MOUNTS_VARIABLE));
	assert_int_equal(mounts_take(), -1);

	assert_int_equal(stat("/proc/self/ns/mnt", &now), 0);
	assert_int_equal(fstat(fd, &its), 0);
	assert_int_equal(now.st_ino, before.st_ino); /* we stay where we are */
	assert_int_not_equal(its.st_ino, before.st_ino);
	assert_int_equal(access("/proc/self/ns", F_OK), 0);

	pid = fork();
	if (pid == 0)
		_exit(count_names(fd) & 0xff);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 2); /* "." and ".." */
	close(fd);
}

/* What is in the variable may be anybody's. */
static void test_others(void **state)
{
	const char *const texts[] = { "", "x", "-1", "1", "99999", "99999999999999999999", "4294967305" };
	int file = open("/dev/null", O_RDONLY | O_CLOEXEC), net = open("/proc/self/ns/net", O_RDONLY);
	char number[16];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		setenv(MOUNTS_VARIABLE, texts[i], 1);
		assert_int_equal(mounts_take(), -1);
	}
	snprintf(number, sizeof(number), "%d", file);
	setenv(MOUNTS_VARIABLE, number, 1);
	assert_int_equal(mounts_take(), -1);
	snprintf(number, sizeof(number), "%d", net);
	setenv(MOUNTS_VARIABLE, number, 1);
	assert_int_equal(mounts_take(), -1);
	assert_int_equal(fcntl(net, F_GETFD), 0); /* and stays as it is */
	close(file);
	close(net);
	unsetenv(MOUNTS_VARIABLE);
	assert_int_equal(mounts_take(), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		/* one to a line */
		cmocka_unit_test(test_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
