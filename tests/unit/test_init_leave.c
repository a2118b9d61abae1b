/* How init leaves drives, on a kernel that is the test. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/init/leave.h"

static const char *mounts;
static char calls[2048]; /* what was done, in order */
static const char *bad_file_system;

static void called(const char *what, const char *path)
{
	size_t len = strlen(calls);

	snprintf(calls + len, sizeof(calls) - len, "%s %s;", what, path);
}

/* In place of the kernel's. */

int open(const char *path, int flags, ...)
{
	int fd;

	(void)flags;
	if (strcmp(path, "/proc/mounts") != 0)
		called("open", path);
	if (bad_file_system && strcmp(path, bad_file_system) == 0)
		return (int)syscall(SYS_openat, AT_FDCWD, "/dev/full", O_RDONLY);
	fd = memfd_create("mounts", MFD_CLOEXEC);
	if (fd < 0 || write(fd, mounts, strlen(mounts)) != (ssize_t)strlen(mounts) || lseek(fd, 0, SEEK_SET) < 0)
		abort();
	return fd;
}

void sync(void)
{
	called("sync", "");
}

int syncfs(int fd)
{
	struct stat stat;

	errno = EIO;
	called("syncfs", "");
	return fstat(fd, &stat) == 0 && S_ISCHR(stat.st_mode) ? -1 : 0;
}

int mount(const char *source, const char *target, const char *kind, unsigned long flags, const void *data)
{
	(void)source;
	(void)data;
	assert_null(kind);
	assert_int_equal(flags, MS_REMOUNT | MS_RDONLY);
	called("read-only", target);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	calls[0] = '\0';
	bad_file_system = NULL;
	return 0;
}

/* All of it is written first, since one may be a file of another; then each says whether it is, and stays as it is. */
static void test_leave(void **state)
{
	static const char boot[] = "l/dev/vdc\0x";
	struct text why = { 0 };

	(void)state;
	mounts = "proc /proc proc rw 0 0\n"
		 "/dev/vda / ext4 rw,relatime 0 0\n"
		 "/dev/vdb /only ext4 ro 0 0\n"
		 "/dev/vdc1 /lost ext4 rw 0 0\n"
		 "tmpfs /tmp tmpfs rw 0 0\n"
		 "/dev/vdd /a\\040b ext4 rw 0 0\n";
	leave_drives(boot, sizeof(boot), &why);
	assert_string_equal(calls, "sync ;open /;syncfs ;read-only /;open /a b;syncfs ;read-only /a b;");
	assert_int_equal(why.len, 0);
}

static void test_leave_what_is_lost(void **state)
{
	struct text why = { 0 };

	(void)state;
	mounts = "/dev/vda / ext4 rw 0 0\n/dev/vdb /data ext4 rw 0 0\n";
	bad_file_system = "/data";
	leave_drives("", 0, &why);
	assert_int_equal(strncmp(why.s, "/data: ", 7), 0);
	assert_non_null(strstr(calls, "read-only /data"));
}

static void test_leave_nothing(void **state)
{
	struct text why = { 0 };

	(void)state;
	mounts = "proc /proc proc rw 0 0\n/dev/vda / erofs ro 0 0\noverlay /x overlay rw 0 0";
	leave_drives("", 0, &why);
	assert_string_equal(calls, "");
	assert_int_equal(why.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_leave, setup),
		cmocka_unit_test_setup(test_leave_what_is_lost, setup),
		cmocka_unit_test_setup(test_leave_nothing, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
