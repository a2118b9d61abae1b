/*
 * What the fuzzers of the drive share: one on a file in memory, with 1 MiB of guest RAM, and its driver's layout.
 * Operations wait until the fuzzer completes them, in any order and with any result. Each is given buffers in guest RAM
 * only. Include it once, in the fuzzer.
 */
#ifndef MF_TESTS_FUZZ_DRIVE_H
#define MF_TESTS_FUZZ_DRIVE_H

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define FUZZ_CHECK(condition)                                                                                          \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			abort();                                                                                       \
	} while (0)
#define MOCK_CHECK FUZZ_CHECK

#include "tests/fuzz/input.h"
#include "tests/unit/mock_loop.h"

#include "virtio/blk.h"
#include "virtio/device.h"
#include "virtio/virtq.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/core/mem.h"

#define DRIVE_SECTORS 128U
#define DESC 0x0U
#define AVAIL 0x1000U
#define USED 0x2000U
#define TABLE 0x3000U
#define HEADERS 0x4000U
#define STATUSES 0x5000U
#define DATA 0x10000U

static struct mem mem;

static inline bool is_in_ram(const void *at, size_t len)
{
	const struct mem_region *r = &mem.region[0];

	return (const uint8_t *)at >= r->host && len <= r->size &&
	       (uint64_t)((const uint8_t *)at - r->host) <= r->size - len;
}

/* Of everything that is started. */
static inline void check_op(const struct op *op)
{
	struct stat st;

	for (unsigned i = 0; (op->kind == OP_READ || op->kind == OP_WRITE) && op->iov != &op->buf && i < op->num; i++)
		FUZZ_CHECK(op->iov[i].iov_len > 0 && is_in_ram(op->iov[i].iov_base, op->iov[i].iov_len));
	if (op->kind == OP_FALLOCATE) {
		FUZZ_CHECK(fstat(mock.loop->file[op->file], &st) == 0);
		FUZZ_CHECK(op->len > 0 && mf_range_within(op->offset, op->len, (uint64_t)st.st_size));
	}
}

/* Ends operation i; how says with what: an error, or what it moves in truth, or at most one buffer of that. */
static inline void fuzz_complete(unsigned i, unsigned how)
{
	static const int error[] = { -EIO, -ENOSPC, -EAGAIN, -EINTR, -ECANCELED, 0 };

	if (how & 1)
		mock.io[i].num = MF_MIN(mock.io[i].num, 1U);
	mock_complete(i, how < MF_ARRAY_SIZE(error) ? error[how] : mock_perform(i));
}

/* Lets everything come to rest. */
static inline void fuzz_settle(void)
{
	for (unsigned turn = 0; turn < 64 && (mock.num || mock_has_tasks()); turn++) {
		mock_do_all();
		mock_run_tasks();
	}
}

static inline struct virtio_dev *drive_new(bool read_only, bool overlay)
{
	int fd = memfd_create("image", MFD_CLOEXEC);
	struct blk_params params = { .id = "d", .read_only = read_only, .overlay = overlay };
	struct virtio_dev *dev;
	char path[32];
	struct err e;

	FUZZ_CHECK(fd >= 0 && ftruncate(fd, DRIVE_SECTORS * 512) == 0);
	FUZZ_CHECK(mem.map || mem_init(&mem, MIB, &e) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	params.path = path;
	if (!mock.loop)
		mock_init();
	mock.check = check_op;
	log_setup(LOG_LEVEL_ERROR, -1);
	FUZZ_CHECK(blk_new(&dev, &params, mock.loop, &mem, &e) == 0);
	mock_take_calls();
	return dev;
}

static inline void put_desc(uint32_t at, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	struct vring_desc desc = { .addr = addr, .len = len, .flags = flags, .next = next };

	memcpy(mem_at(&mem, at, sizeof(desc)), &desc, sizeof(desc));
}

static inline void put16(uint32_t gpa, uint16_t value)
{
	memcpy(mem_at(&mem, gpa, 2), &value, 2);
}

static inline uint16_t get16(uint32_t gpa)
{
	uint16_t value;

	memcpy(&value, mem_at(&mem, gpa, 2), 2);
	return value;
}

static inline void put_header(unsigned slot, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };

	memcpy(mem_at(&mem, HEADERS + 16 * slot, sizeof(header)), &header, sizeof(header));
}

/* A request for the drive's name by descriptors 0 to 2, as the only one. */
static inline void put_good_request(void)
{
	put_header(0, VIRTIO_BLK_T_GET_ID, 0);
	put_desc(DESC, HEADERS, 16, VRING_DESC_F_NEXT, 1);
	put_desc(DESC + 16, DATA, 20, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
	put_desc(DESC + 32, STATUSES, 1, VRING_DESC_F_WRITE, 0);
	*(uint8_t *)mem_at(&mem, STATUSES, 1) = 0xee;
	memset(mem_at(&mem, AVAIL, 0x2000), 0, 0x2000);
	put16(AVAIL + 2, 1);
}

static inline void check_good_request(void)
{
	FUZZ_CHECK(get16(USED + 2) == 1 && *(uint8_t *)mem_at(&mem, STATUSES, 1) == VIRTIO_BLK_S_OK);
}

#endif
