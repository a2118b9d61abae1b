/* The unpacker of artifacts, on archives with holes, hard links, old times, and what is left out. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/artifact_fixture.h"
#include "vmm/helper/untar.h"

#define MAX_BYTES (64U << 20)

static int unpack(void)
{
	struct untar_params params = { .name = "result", .max_bytes = MAX_BYTES, .max_members = 100 };
	char path[] = "/tmp/mayfly-test-untar-XXXXXX";
	int r;

	params.from = mkstemp(path);
	assert_true(params.from >= 0);
	unlink(path);
	assert_int_equal(write(params.from, tar.data, tar.len), (ssize_t)tar.len);
	assert_int_equal(lseek(params.from, 0, SEEK_SET), 0);
	snprintf(out, sizeof(out), "%s/out%d", dir, rand());
	assert_int_equal(mkdir(out, 0700), 0);
	params.dir = open(out, O_RDONLY | O_DIRECTORY);
	memset(&err, 0, sizeof(err));
	r = untar(&params, &err);
	close(params.from);
	close(params.dir);
	tar.len = 0;
	return r;
}

/* Sets a field of the last header, and its sum again. */
static void patch(size_t header, size_t at, const char *text)
{
	unsigned char *h = (unsigned char *)tar.data + header;
	unsigned sum = 0;

	memcpy(h + at, text, strlen(text));
	memset(h + 148, ' ', 8);
	for (unsigned i = 0; i < 512; i++)
		sum += h[i];
	snprintf((char *)h + 148, 8, "%06o", sum);
}

struct piece {
	unsigned long at, len;
};

/* A file of 'x' in pieces, up to one of no bytes at 0. */
static void put_sparse(const struct piece *piece, unsigned long whole, unsigned long size)
{
	static char data[1 << 16];
	size_t header = tar.len;
	char number[16];

	memset(data, 'x', sizeof(data));
	tar_header(&tar, 'S', "result", "", 0644, (uint32_t)size);
	snprintf(number, sizeof(number), "%011lo", whole);
	patch(header, 483, number);
	for (unsigned i = 0; i < 4 && (piece[i].at || piece[i].len); i++) {
		snprintf(number, sizeof(number), "%011lo", piece[i].at);
		patch(header, 386 + 24 * i, number);
		snprintf(number, sizeof(number), "%011lo", piece[i].len);
		patch(header, 398 + 24 * i, number);
	}
	for (unsigned long left = size, n; left > 0; left -= n) {
		n = left < sizeof(data) ? left : sizeof(data);
		tar_raw(&tar, data, n);
	}
	tar_end(&tar);
}

static void test_holes(void **state)
{
	static const struct piece pieces[] = { { 4096, 4096 }, { 1 << 20, 10 }, { 32 << 20, 0 }, { 0 } };
	char found[10];
	struct stat st;
	int fd;

	(void)state;
	put_sparse(pieces, 32 << 20, 4106);
	assert_int_equal(unpack(), 0);
	assert_int_equal(stat(in(out, "result"), &st), 0);
	assert_int_equal(st.st_size, 32 << 20);
	assert_true(st.st_blocks * 512 < 1 << 20);
	fd = open(in(out, "result"), O_RDONLY);
	assert_int_equal(pread(fd, found, 2, 4095), 2);
	assert_memory_equal(found, "\0x", 2);
	assert_int_equal(pread(fd, found, 2, 8191), 2);
	assert_memory_equal(found, "x\0", 2);
	assert_int_equal(pread(fd, found, 10, 1 << 20), 10);
	assert_memory_equal(found, "xxxxxxxxxx", 10);
	close(fd);
}

static void test_holes_of_an_attacker(void **state)
{
	static const struct {
		struct piece piece[4];
		unsigned long whole, size;
	} bad[] = {
		{ { { 0, 10 }, { 5, 10 } }, 100, 20 },	 /* one over the other */
		{ { { 50, 10 }, { 20, 10 } }, 100, 20 }, /* backwards */
		{ { { 95, 10 } }, 100, 10 },		 /* beyond the end */
		{ { { 200, 0 } }, 100, 0 },		 /* the same */
		{ { { 0, 10 } }, 100, 20 },		 /* less than there is */
		{ { { 0, 30 } }, 100, 20 },		 /* more than there is */
		{ { { 0, 10 } }, MAX_BYTES + 1, 10 },	 /* too large with its holes */
		{ { { 0, 077777777777UL } }, 077777777777UL, 0 },
	};
	static const char zero[512];
	size_t at;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put_sparse(bad[i].piece, bad[i].whole, bad[i].size);
		if (unpack() >= 0)
			fail_msg("number %zu is unpacked", i);
	}
	/* More pieces than there can be: a block of them that is always followed by another. */
	tar_header(&tar, 'S', "result", "", 0644, 0);
	patch(0, 482, "\1");
	patch(0, 483, "00000000000");
	for (unsigned i = 0; i < 200; i++) {
		at = tar.len;
		tar_raw(&tar, zero, sizeof(zero));
		for (unsigned j = 0; j < 21; j++)
			memcpy(tar.data + at + 24 * j,
			       "00000000000\0"
			       "00000000000",
			       24);
		tar.data[at + 504] = 1;
	}
	tar_end(&tar);
	assert_true(unpack() < 0);
	/* A file with a number of bytes that is none. */
	put_sparse(bad[0].piece, 100, 0);
	patch(0, 483, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
	tar.len = 1536;
	assert_true(unpack() < 0);
}

static void test_hard_links(void **state)
{
	struct stat one, two;

	(void)state;
	tar_dir(&tar, "result/", 0755);
	tar_dir(&tar, "result/a/", 0755);
	tar_file(&tar, "result/a/file", 0640, "text");
	tar_dir(&tar, "result/b/", 0755);
	tar_header(&tar, '1', "result/b/again", "result/a/file", 0640, 0);
	tar_header(&tar, '1', "result/b/third", "result/b/again", 0640, 0);
	tar_end(&tar);
	assert_int_equal(unpack(), 0);
	assert_true(has(in(out, "result/b/third"), "text"));
	assert_int_equal(stat(in(out, "result/a/file"), &one), 0);
	assert_int_equal(stat(in(out, "result/b/again"), &two), 0);
	assert_int_equal(one.st_ino, two.st_ino);
	assert_int_equal(one.st_nlink, 3);
}

static void test_hard_links_of_an_attacker(void **state)
{
	static const char *const to[] = {
		"result/none", "other", "/etc/passwd", "result/../result/file", "result/file/x", "result/way/.bashrc",
		"result",      "",	"result/",     "../home/.bashrc"
	};

	(void)state;
	for (size_t i = 0; i < sizeof(to) / sizeof(to[0]); i++) {
		tar_dir(&tar, "result/", 0755);
		tar_file(&tar, "result/file", 0644, "text");
		tar_link(&tar, "result/way", home);
		tar_header(&tar, '1', "result/link", to[i], 0644, 0);
		tar_end(&tar);
		if (unpack() >= 0)
			fail_msg("a link to '%s' is unpacked", to[i]);
		assert_false(is_there(in(out, "result/link")));
	}
	tar_header(&tar, '1', "result", "result", 0644, 0);
	tar_end(&tar);
	assert_true(unpack() < 0);
}

static void test_times(void **state)
{
	struct stat st;

	(void)state;
	tar_file(&tar, "result", 0644, "old");
	patch(0, 136, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\x01");
	tar_end(&tar);
	assert_int_equal(unpack(), 0);
	assert_int_equal(stat(in(out, "result"), &st), 0);
	assert_int_equal(st.st_mtime, -511);
	tar_file(&tar, "result", 0644, "older than can be");
	patch(0, 136, "\xff\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xfe\x01");
	tar_end(&tar);
	assert_true(unpack() < 0);
}

static void test_left_out(void **state)
{
	(void)state;
	tar_dir(&tar, "result/", 0755);
	tar_header(&tar, '6', "result/fifo", "", 0644, 0);
	tar_header(&tar, '3', "result/device", "", 0644, 0);
	tar_file(&tar, "result/file", 0644, "text");
	tar_end(&tar);
	assert_int_equal(unpack(), 0);
	assert_true(has(in(out, "result/file"), "text"));
	assert_false(is_there(in(out, "result/fifo")));
	assert_non_null(strstr(err.text, "result/fifo"));
	assert_non_null(strstr(err.text, "2"));
	tar_file(&tar, "result", 0644, "text");
	tar_end(&tar);
	assert_int_equal(unpack(), 0);
	assert_string_equal(err.text, "");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_holes),	    T(test_holes_of_an_attacker),
		T(test_hard_links), T(test_hard_links_of_an_attacker),
		T(test_times),	    T(test_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
