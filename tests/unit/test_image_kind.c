/* What a file is by its first bytes: what is mounted, what is packed, and what is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/image_kind.h"

static struct err e;

/* Of a file of size bytes with these at a place of it. */
static enum image_use use_of(size_t size, size_t at, const void *bytes, size_t len)
{
	MF_CLOSE int fd = memfd_create("image", MFD_CLOEXEC);
	char path[64];

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(pwrite(fd, bytes, len, (off_t)at), (ssize_t)len);
	e = (struct err){ 0 };
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return image_kind_look(path, &e);
}

static void test_file_systems(void **state)
{
	(void)state;
	assert_int_equal(use_of(MIB, 0x438, "\x53\xef", 2), IMAGE_USE_WRITABLE);
	assert_int_equal(use_of(4096, 0x400, "\xe2\xe1\xf5\xe0", 4), IMAGE_USE_READ_ONLY);
	assert_int_equal(use_of(4096, 0, "hsqs", 4), IMAGE_USE_READ_ONLY);
	assert_int_equal(use_of(10240, 257, "ustar", 5), IMAGE_USE_TAR);
	assert_int_equal(use_of(MIB, 0, "XFSB", 4), IMAGE_USE_KERNEL);
	assert_non_null(strstr(e.text, "XFS"));
	assert_int_equal(use_of(MIB, 0x10040, "_BHRfS_M", 8), IMAGE_USE_KERNEL);
	/* Nothing in it, also of no length. */
	assert_int_equal(use_of(MIB, 0, "text", 4), IMAGE_USE_FILE);
	assert_int_equal(use_of(4, 0, "text", 4), IMAGE_USE_FILE);
	/* Cut off within what would tell. */
	assert_int_equal(use_of(0x439, 0x438, "\x53", 1), IMAGE_USE_FILE);
}

static void test_named(void **state)
{
	static const struct {
		size_t at;
		const char *magic, *said;
	} cases[] = {
		{ 0, "QFI\xfb", "qemu-img" },	{ 0, "\x1f\x8b", "gzip" }, { 0x8001, "CD001", "ISO" },
		{ 512, "EFI PART", "losetup" }, { 0, "PK\3\4", "unzip" },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		assert_int_equal(use_of(MIB, cases[i].at, cases[i].magic, strlen(cases[i].magic)), IMAGE_USE_NONE);
		assert_non_null(strstr(e.text, cases[i].said));
	}
}

/* A compressed file is an archive if its name says so. */
static void test_compressed(void **state)
{
	static const struct {
		const char *name, *magic, *program; /* NULL: it is no archive */
	} cases[] = {
		{ "root.tar.gz", "\x1f\x8b", "gzip" },
		{ "a.b.tgz", "\x1f\x8b", "gzip" },
		{ "root.tar.xz", "\xfd\x37zXZ", "xz" },
		{ "root.tar.zst", "\x28\xb5\x2f\xfd", "zstd" },
		{ "root.tbz2", "BZh", "bzip2" },
		{ "disk.raw.gz", "\x1f\x8b", NULL },
		{ "tgz", "\x1f\x8b", NULL },
		{ "dir.tgz/disk", "\x1f\x8b", NULL },
	};
	char dir[] = "/tmp/mayfly-kind-XXXXXX";

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(mkdir("dir.tgz", 0700), 0);
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		MF_CLOSE int fd = open(cases[i].name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		const char *package = NULL, *program;

		assert_true(write(fd, cases[i].magic, strlen(cases[i].magic) + 1) >
			    0); /* the NUL is of the magic of xz */
		program = image_kind_decompressor(fd, &package);
		assert_int_equal(image_kind_look(cases[i].name, &e), cases[i].program ? IMAGE_USE_TAR : IMAGE_USE_NONE);
		assert_non_null(package);
		if (cases[i].program)
			assert_string_equal(program, cases[i].program);
		assert_int_equal(unlink(cases[i].name), 0);
	}
	assert_int_equal(rmdir("dir.tgz"), 0);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(rmdir(dir), 0);
}

/* A partition table has a partition; a boot sector alone is that of a file system. */
static void test_partition_table(void **state)
{
	uint8_t sector[512] = { [510] = 0x55, [511] = 0xaa };

	(void)state;
	assert_int_equal(use_of(MIB, 0, sector, sizeof(sector)), IMAGE_USE_FILE);
	sector[446 + 16 + 4] = 0x83;
	assert_int_equal(use_of(MIB, 0, sector, sizeof(sector)), IMAGE_USE_FILE);
	sector[446 + 16 + 9] = 8; /* the first sector */
	assert_int_equal(use_of(MIB, 0, sector, sizeof(sector)), IMAGE_USE_NONE);
	sector[446 + 16] = 0x12; /* neither active nor not */
	assert_int_equal(use_of(MIB, 0, sector, sizeof(sector)), IMAGE_USE_FILE);
}

static void test_no_file(void **state)
{
	(void)state;
	assert_int_equal(image_kind_look("/nowhere", &e), IMAGE_USE_UNKNOWN);
	assert_int_equal(image_kind_look("/dev/null", &e), IMAGE_USE_UNKNOWN);
	assert_int_equal(image_kind_look("/", &e), IMAGE_USE_UNKNOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file_systems), cmocka_unit_test(test_named),
		cmocka_unit_test(test_compressed),   cmocka_unit_test(test_partition_table),
		cmocka_unit_test(test_no_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
