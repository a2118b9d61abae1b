/* The layer of a drive in a snapshot: written, read back, merged with the one below; and files that are no such layer. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "virtio/overlay.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/state.h"

#define SECTORS 70003U /* more than two pages of the bitmap, and no whole number of anything */
#define BITMAP_AT mf_align_up(SECTORS * 512UL, 4096)
#define TRAILER_AT (BITMAP_AT + 3 * 4096)

static char path[] = "/tmp/mayfly-test-layer-XXXXXX";

static struct overlay *make(uint64_t sectors)
{
	struct overlay *o = NULL;
	struct err e;

	if (overlay_new(&o, sectors, 0, NULL, &e) < 0)
		fail_msg("%s", e.text);
	return o;
}

static uint8_t byte_of(unsigned layer, uint64_t sector)
{
	return (uint8_t)(1 + (sector * 7 + layer * 101) % 255);
}

/* The guest writes num sectors; layer 0: it discards them. */
static void fill(struct overlay *o, unsigned layer, uint64_t sector, uint64_t num)
{
	uint8_t buf[512];

	for (uint64_t i = sector; i < sector + num && layer; i++) {
		memset(buf, byte_of(layer, i), sizeof(buf));
		assert_int_equal(pwrite(overlay_fd(o), buf, sizeof(buf), (off_t)(i * 512)), sizeof(buf));
	}
	overlay_written(o, sector * 512, num * 512);
}

static void write_file(const struct overlay *o, const struct overlay *base)
{
	int fd = open(path, O_RDWR | O_TRUNC | O_CLOEXEC);
	struct err e;

	assert_true(fd >= 0);
	if (overlay_write(o, base, fd, &e) < 0)
		fail_msg("%s", e.text);
	close(fd);
}

static struct overlay *read_file(uint64_t sectors)
{
	struct overlay *o = NULL;
	struct err e;

	if (overlay_read(&o, path, sectors, &e) < 0)
		fail_msg("%s", e.text);
	return o;
}

/* Sector i is of that layer; -1: it is not in the file. */
static void assert_sector(const struct overlay *o, uint64_t i, int layer)
{
	uint8_t buf[512];
	bool own;

	overlay_run(o, i, 1, &own);
	assert_int_equal(own, layer >= 0);
	if (!own)
		return;
	assert_int_equal(pread(overlay_fd(o), buf, sizeof(buf), (off_t)(i * 512)), sizeof(buf));
	assert_int_equal(buf[0], layer ? byte_of((unsigned)layer, i) : 0);
	assert_int_equal(buf[511], buf[0]);
}

static void test_written_and_read(void **state)
{
	static const uint64_t from[] = { 0, 9, 32767, 40000, SECTORS - 1 }, num[] = { 3, 1, 2, 300, 1 };
	static int8_t model[SECTORS];
	struct overlay *o = make(SECTORS), *back;
	struct stat st;
	struct err e;

	(void)state;
	memset(model, -1, sizeof(model));
	for (unsigned i = 0; i < MF_ARRAY_SIZE(from); i++) {
		fill(o, 1, from[i], num[i]);
		memset(model + from[i], 1, num[i]);
	}
	fill(o, 0, 40010, 20);
	write_file(o, NULL);
	assert_int_equal(overlay_check(path, &e), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_blocks * 512 < 400 * 1024); /* holes for all others */
	back = read_file(SECTORS);
	for (uint64_t i = 0; i < SECTORS; i++)
		if (i < 40010 || i >= 40030)
			assert_sector(back, i, model[i]);
	overlay_free(back);
	overlay_free(o);
}

/* The snapshot of a clone has what both layers have; the newer one wins, also where it has zeros. */
static void test_merged(void **state)
{
	struct overlay *o = make(SECTORS), *base, *back;

	(void)state;
	fill(o, 1, 100, 100);
	fill(o, 1, 69000, 10);
	write_file(o, NULL);
	base = read_file(SECTORS);
	overlay_free(o);
	o = make(SECTORS);
	fill(o, 2, 150, 100);
	fill(o, 2, 40000, 1);
	close(open(path, O_RDONLY | O_CLOEXEC));
	assert_int_equal(unlink(path), 0);
	close(open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
	overlay_written(o, 110 * 512, 5 * 512); /* discarded */
	write_file(o, base);
	assert_int_equal(overlay_check(path, &(struct err){ 0 }), 0);
	back = read_file(SECTORS);
	for (uint64_t i = 90; i < 260; i++)
		assert_sector(back, i, i < 100 || i >= 250 ? -1 : i >= 110 && i < 115 ? 0 : i < 150 ? 1 : 2);
	assert_sector(back, 40000, 2);
	assert_sector(back, 69005, 1);
	overlay_free(back);
	overlay_free(base);
	overlay_free(o);
}

static void test_sizes(void **state)
{
	static const uint64_t sectors[] = { 0, 1, 7, 8, 9, 63, 64, 32767, 32768, 32769 };

	(void)state;
	for (unsigned i = 0; i < MF_ARRAY_SIZE(sectors); i++) {
		struct overlay *o = make(sectors[i]), *back;

		if (sectors[i])
			fill(o, 1, sectors[i] - 1, 1);
		write_file(o, NULL);
		back = read_file(sectors[i]);
		for (uint64_t k = 0; k < sectors[i]; k++)
			assert_sector(back, k, k + 1 == sectors[i] ? 1 : -1);
		overlay_free(back);
		overlay_free(o);
	}
}

static void refuses(uint64_t sectors, int code, const char *word)
{
	struct overlay *o = NULL;
	struct err e = { 0 };

	assert_int_equal(overlay_read(&o, path, sectors, &e), code);
	assert_null(o);
	if (!strstr(e.text, word) || !strstr(e.text, path))
		fail_msg("'%s' does not name '%s'", e.text, word);
}

static void flip(off_t at, uint8_t bits)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= bits;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

/* The trailer as earlier releases wrote it. */
static void make_version_1(void)
{
	const uint32_t tag = STATE_TAG('d', 'i', 's', 'k');
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct state_out out;
	struct state_in in;
	uint8_t buf[256];
	ssize_t n = pread(fd, buf, sizeof(buf), (off_t)TRAILER_AT);
	uint64_t sectors, sum;
	struct err e;

	assert_true(n > 0);
	assert_int_equal(state_in_init(&in, buf, (size_t)n, &e), 0);
	assert_int_equal(state_open(&in, tag, 0, 2, &e), 0);
	sectors = state_get_u64(&in);
	sum = state_get_u64(&in);
	state_out_init(&out, buf, sizeof(buf));
	state_begin(&out, tag, 0, 1);
	state_put_u64(&out, sectors);
	state_put_u64(&out, sum);
	state_end(&out);
	n = state_out_finish(&out);
	assert_int_equal(ftruncate(fd, (off_t)TRAILER_AT), 0);
	assert_int_equal(pwrite(fd, buf, (size_t)n, (off_t)TRAILER_AT), n);
	close(fd);
}

static void test_hostile(void **state)
{
	struct overlay *o = make(SECTORS);
	struct stat st;

	(void)state;
	fill(o, 1, 5, 1);
	fill(o, 1, SECTORS - 1, 1);
	write_file(o, NULL);
	assert_int_equal(stat(path, &st), 0);
	refuses(SECTORS + 1, -EINVAL, "sectors");
	refuses(SECTORS - 1, -EINVAL, "sectors");
	refuses(1, -EINVAL, "sectors");
	refuses(UINT64_MAX / 512, -EINVAL, "sectors");
	for (off_t at = TRAILER_AT; at < st.st_size; at++) {
		flip(at, 0x10);
		assert_int_equal(overlay_read(&o, path, SECTORS, &(struct err){ 0 }) < 0, 1);
		flip(at, 0x10);
	}
	flip((off_t)BITMAP_AT, 2); /* one sector more */
	refuses(SECTORS, -EBADMSG, "checksum");
	flip((off_t)BITMAP_AT, 2);
	flip((off_t)BITMAP_AT + 4096 + 7, 1); /* in a hole */
	refuses(SECTORS, -EBADMSG, "checksum");
	flip((off_t)BITMAP_AT + 4096 + 7, 1);
	flip((off_t)BITMAP_AT + SECTORS / 8, 1 << SECTORS % 8); /* the first beyond the end */
	refuses(SECTORS, -EINVAL, "end");
	flip((off_t)BITMAP_AT + SECTORS / 8, 1 << SECTORS % 8);
	overlay_free(read_file(SECTORS)); /* all changes were undone */
	for (off_t cut = 0; cut < 3; cut++) {
		static const off_t less[] = { 1, 4096, 2 * 4096 + 100 };

		assert_int_equal(truncate(path, st.st_size - less[cut]), 0);
		refuses(SECTORS, -EINVAL, "bytes");
	}
	assert_int_equal(truncate(path, st.st_size), 0); /* a trailer of zeros */
	assert_int_equal(overlay_read(&o, path, SECTORS, &(struct err){ 0 }) < 0, 1);
	assert_int_equal(truncate(path, 0), 0);
	refuses(SECTORS, -EINVAL, "bytes");
	overlay_free(o);
}

/* A file with a checksum of its data, and one of version 1, without. */
static void test_data(void **state)
{
	struct overlay *o = make(SECTORS);
	struct err e = { 0 };

	(void)state;
	fill(o, 1, 5, 3);
	fill(o, 0, 8, 300);
	fill(o, 2, 40000, 1);
	write_file(o, NULL);
	overlay_free(o);
	for (unsigned version = 2; version > 0; version--) {
		static const off_t changed[] = {
			5 * 512, 8 * 512 - 1, 100 * 512, 40000 * 512 + 77, 9 * 512 * 1024, SECTORS * 512L
		}; /* the last two are of no sector of the layer */

		assert_int_equal(overlay_check(path, &e), 0);
		for (unsigned i = 0; i < MF_ARRAY_SIZE(changed); i++) {
			flip(changed[i], 4);
			assert_int_equal(overlay_check(path, &e), version > 1 ? -EBADMSG : 0);
			if (version > 1)
				assert_non_null(strstr(e.text, "data is damaged"));
			overlay_free(read_file(SECTORS)); /* a restore does not read all of it */
			flip(changed[i], 4);
		}
		make_version_1();
	}
}

static void test_no_file(void **state)
{
	struct overlay *o = NULL;
	struct err e;

	(void)state;
	assert_int_equal(overlay_read(&o, "/nonexistent/layer", SECTORS, &e), -ENOENT);
	assert_int_equal(overlay_read(&o, "/tmp", SECTORS, &e), -EINVAL);
	o = make(SECTORS);
	fill(o, 1, 0, 1);
	assert_int_equal(overlay_write(o, NULL, open("/dev/full", O_WRONLY | O_CLOEXEC), &e), -ENOSPC);
	overlay_free(o);
}

static int make_file(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 || close(fd) < 0;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_written_and_read), cmocka_unit_test(test_merged), cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_hostile),		 cmocka_unit_test(test_data),	cmocka_unit_test(test_no_file),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
