/* Files that are no kernel at all: the loader names what they are. Bad kernels are in test_elf.c and test_bzimage.c. */
#include "tests/unit/loader_fixture.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "loader/kernel.h"

static void refused(const char *message)
{
	struct kernel_image k = { .entry = 42 };
	char want[ERR_TEXT_MAX];

	snprintf(want, sizeof(want), "kernel '%s': %s", path, message);
	assert_true(kernel_load(&k, &ram, path, &err) < 0);
	assert_string_equal(err.text, want);
	assert_true(err.code < 0);
	assert_int_equal(k.entry, 42);
}

static void test_other_formats(void **state)
{
	static const struct {
		const char *head;
		size_t len;
		const char *message;
	} formats[] = {
		{ "\x1f\x8b\x08\0", 4, "is compressed with gzip; uncompress it first" },
		{ "\3757zXZ\0", 6, "is compressed with xz; uncompress it first" },
		{ "\x28\xb5\x2f\xfd", 4, "is compressed with zstd; uncompress it first" },
		{ "\x04\x22\x4d\x18", 4, "is compressed with lz4; uncompress it first" },
		{ "\x02\x21\x4c\x18", 4, "is compressed with lz4; uncompress it first" },
		{ "BZh9", 4, "is compressed with bzip2; uncompress it first" },
		{ "#!/bin/sh\n", 10, "is a script, not a kernel" },
		{ "MZ", 2, "is an EFI program without a Linux setup header; use a bzImage or the ELF vmlinux" },
		{ "hello\n", 6, "is neither an ELF file nor a bzImage" },
		{ "", 0, "is empty" },
		{ "\x7f", 1, "is neither an ELF file nor a bzImage" },
	};

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(formats); i++) {
		make_file_of(formats[i].head, formats[i].len);
		refused(formats[i].message);
	}
}

static void test_not_a_file(void **state)
{
	char dir[] = "/tmp/test_kernel_XXXXXX";

	(void)state;
	strcpy(path, "/dev/zero");
	refused("open '/dev/zero': it is a character device, not a regular file");
	strcpy(path, "/tmp");
	refused("open '/tmp': it is a directory, not a regular file");
	strcpy(path, "/nonexistent");
	refused("open '/nonexistent': No such file or directory");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/f", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_true(kernel_load(&(struct kernel_image){ 0 }, &ram, path, &err) < 0);
	assert_non_null(strstr(err.text, "it is a FIFO, not a regular file"));
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_other_formats, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_a_file, setup, teardown),
	};

	return cmocka_run_group_tests_name("kernel", tests, NULL, NULL);
}
