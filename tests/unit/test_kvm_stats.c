/* KVM's counters of vCPUs, from files as the kernel has them, and from files that it would not have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/util.h"
#include "vmm/core/kvm_stats.h"

#define NAME_SIZE 48
#define COUNT (KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE)

struct desc {
	struct kvm_stats_desc d;
	char name[NAME_SIZE];
};

/* A file of counters, which tests change before it is written. */
struct file {
	struct kvm_stats_header h;
	char id[NAME_SIZE];
	struct desc desc[6];
	uint64_t data[8];
};

static struct kvm_stats stats;
static struct file file;

static void describe(unsigned i, const char *name, uint32_t flags, uint16_t size, uint32_t offset)
{
	file.desc[i].d = (struct kvm_stats_desc){ .flags = flags, .size = size, .offset = offset };
	snprintf(file.desc[i].name, NAME_SIZE, "%s", name);
}

static int setup(void **state)
{
	(void)state;
	memset(&stats, 0, sizeof(stats));
	memset(&file, 0, sizeof(file));
	file.h = (struct kvm_stats_header){ .name_size = NAME_SIZE,
					    .num_desc = 6,
					    .id_offset = offsetof(struct file, id),
					    .desc_offset = offsetof(struct file, desc),
					    .data_offset = offsetof(struct file, data) };
	describe(0, "exits", COUNT, 1, 0);
	describe(1, "halt_wait_ns", KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_SECONDS, 1, 8);
	describe(2, "halt_hist", KVM_STATS_TYPE_LOG_HIST, 2, 16);
	describe(3, "io_exits", COUNT, 1, 32);
	describe(4, "blocking", KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_BOOLEAN, 1, 40);
	describe(5, "mmio_exits", COUNT, 1, 56);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(file.data); i++)
		file.data[i] = 100 + i;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kvm_stats_read(&stats);
	return 0;
}

/* The file, cut to len bytes. */
static int open_file(size_t len)
{
	int fd = memfd_create("stats", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, &file, len), len);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static uint64_t value(const char *name)
{
	const uint64_t *found = kvm_stats_find(&stats, name);

	assert_non_null(found);
	return *found;
}

static void refused(int code)
{
	int fd = open_file(sizeof(file));

	assert_int_equal(kvm_stats_add_fd(&stats, fd), code);
	assert_int_equal(stats.num, 0);
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* closed */
}

static void test_sum(void **state)
{
	int first = open_file(sizeof(file));

	(void)state;
	assert_int_equal(kvm_stats_add_fd(&stats, first), 0);
	file.data[0] = 7;
	file.data[4] = UINT64_MAX; /* counters wrap */
	assert_int_equal(kvm_stats_add_fd(&stats, open_file(sizeof(file))), 0);
	kvm_stats_read(&stats);
	assert_int_equal(stats.num, 3);
	assert_int_equal(value("exits"), 107);
	assert_int_equal(value("io_exits"), 103);
	assert_int_equal(value("mmio_exits"), 214);
	assert_null(kvm_stats_find(&stats, "halt_wait_ns"));
	assert_null(kvm_stats_find(&stats, "blocking"));
	assert_int_equal(fcntl(first, F_GETFD), -1);
}

static void test_other_vcpu(void **state)
{
	(void)state;
	assert_int_equal(kvm_stats_add_fd(&stats, open_file(sizeof(file))), 0);
	describe(3, "other_exits", COUNT, 1, 32);
	refused(-EPROTO); /* and the first is forgotten */
	assert_int_equal(stats.num_fds, 0);
}

static void test_no_counters(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	kvm_stats_add(&stats, null); /* no such ioctl */
	close(null);
	kvm_stats_read(&stats);
	assert_int_equal(stats.num, 0);
	assert_null(kvm_stats_find(&stats, "exits"));
}

static void test_truncated(void **state)
{
	(void)state;
	for (size_t len = 0; len < offsetof(struct file, data); len++) {
		assert_int_equal(kvm_stats_add_fd(&stats, open_file(len)), -EPROTO);
		assert_int_equal(stats.num, 0);
	}
	/* The values are read later: some of them are not there then. */
	assert_int_equal(kvm_stats_add_fd(&stats, open_file(sizeof(file) - 1)), 0);
	kvm_stats_read(&stats);
	assert_int_equal(stats.num, 0);
}

static void test_wrong_header(void **state)
{
	(void)state;
	file.h.data_offset = 0;
	refused(-EPROTO);
	file.h.data_offset = UINT32_MAX;
	refused(-EPROTO);
	file.h.data_offset = offsetof(struct file, data);
	file.h.num_desc = 7; /* the last is behind the head */
	refused(-EPROTO);
	file.h.num_desc = UINT32_MAX;
	refused(-EPROTO);
	file.h.num_desc = 0;
	refused(-EPROTO);
	file.h.num_desc = 6;
	file.h.name_size = UINT32_MAX;
	refused(-EPROTO);
	file.h.name_size = NAME_SIZE;
	file.h.desc_offset = UINT32_MAX;
	refused(-EPROTO);
}

/* Its names become keys of JSON and columns of CSV. */
static void test_wrong_descriptors(void **state)
{
	(void)state;
	describe(0, "a,b\"\n", COUNT, 1, 0);
	describe(3, "", COUNT, 1, 32);
	memset(file.desc[1].name, 'x', NAME_SIZE); /* no end */
	file.desc[1].d.flags = COUNT;
	file.desc[4].d = file.desc[5].d;
	snprintf(file.desc[4].name, NAME_SIZE, "scaled");
	file.desc[4].d.exponent = 3;
	assert_int_equal(kvm_stats_add_fd(&stats, open_file(sizeof(file))), 0);
	assert_int_equal(stats.num, 1);
	assert_string_equal(stats.stat[0].name, "mmio_exits");
	kvm_stats_read(&stats);
	file.desc[5].d.offset = UINT32_MAX;
	refused(-EPROTO);
}

static void test_many(void **state)
{
	(void)state;
	for (unsigned i = 0; i < KVM_STATS_FDS_MAX; i++)
		assert_int_equal(kvm_stats_add_fd(&stats, open_file(sizeof(file))), 0);
	refused(-ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sum, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_vcpu, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_counters, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_header, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_descriptors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
