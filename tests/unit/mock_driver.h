/*
 * A virtio driver for unit tests: guest RAM with one split queue in it. It writes what the test gives it, valid or not.
 * Layout: descriptors at DRV_DESC, rings at DRV_AVAIL and DRV_USED, indirect tables at DRV_TABLE, data from DRV_DATA up.
 */
#ifndef MF_TESTS_UNIT_MOCK_DRIVER_H
#define MF_TESTS_UNIT_MOCK_DRIVER_H

#include <linux/virtio_ring.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "virtio/virtq.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

#define DRV_MEM (2 * MIB)
#define DRV_DESC 0x1000U
#define DRV_AVAIL 0x3000U
#define DRV_USED 0x4000U
#define DRV_TABLE 0x8000U
#define DRV_DATA 0x10000U

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

struct drv {
	struct mem mem;
	uint16_t size;
	uint16_t avail_idx; /* as published */
};

static inline void drv_init(struct drv *d, uint16_t size, uint64_t ram)
{
	struct err e;

	*d = (struct drv){ .size = size };
	assert_int_equal(mem_init(&d->mem, ram, &e), 0);
}

static inline void drv_done(struct drv *d)
{
	mem_done(&d->mem);
}

static inline void *drv_at(struct drv *d, uint64_t gpa, uint64_t len)
{
	void *p = mem_at(&d->mem, gpa, len);

	assert_non_null(p);
	return p;
}

static inline void drv_put16(struct drv *d, uint64_t gpa, uint16_t value)
{
	__atomic_store_n((uint16_t *)drv_at(d, gpa, 2), value, __ATOMIC_RELEASE);
}

static inline uint16_t drv_get16(struct drv *d, uint64_t gpa)
{
	return __atomic_load_n((uint16_t *)drv_at(d, gpa, 2), __ATOMIC_ACQUIRE);
}

static inline uint32_t drv_get32(struct drv *d, uint64_t gpa)
{
	return __atomic_load_n((uint32_t *)drv_at(d, gpa, 4), __ATOMIC_ACQUIRE);
}

/* Descriptor i of the table at gpa, which is DRV_DESC or an indirect one. */
static inline void drv_desc_at(struct drv *d, uint64_t gpa, unsigned i, uint64_t addr, uint32_t len, unsigned flags,
			       unsigned next)
{
	struct vring_desc desc = { .addr = addr, .len = len, .flags = (uint16_t)flags, .next = (uint16_t)next };

	memcpy(drv_at(d, gpa + sizeof(desc) * i, sizeof(desc)), &desc, sizeof(desc));
}

static inline void drv_desc(struct drv *d, unsigned i, uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
	drv_desc_at(d, DRV_DESC, i, addr, len, flags, next);
}

/* Puts head into the available ring without publishing it. */
static inline void drv_add(struct drv *d, uint16_t head)
{
	drv_put16(d, DRV_AVAIL + 4 + 2U * (d->avail_idx++ % d->size), head);
}

static inline void drv_publish_idx(struct drv *d, uint16_t idx)
{
	d->avail_idx = idx;
	drv_put16(d, DRV_AVAIL + 2, idx);
}

static inline void drv_publish(struct drv *d, uint16_t head)
{
	drv_add(d, head);
	drv_publish_idx(d, d->avail_idx);
}

static inline void drv_set_no_interrupt(struct drv *d, bool on)
{
	drv_put16(d, DRV_AVAIL, on ? VRING_AVAIL_F_NO_INTERRUPT : 0);
}

static inline void drv_set_used_event(struct drv *d, uint16_t idx)
{
	drv_put16(d, DRV_AVAIL + 4 + 2U * d->size, idx);
}

static inline uint16_t drv_avail_event(struct drv *d)
{
	return drv_get16(d, DRV_USED + 4 + 8U * d->size);
}

static inline uint16_t drv_used_flags(struct drv *d)
{
	return drv_get16(d, DRV_USED);
}

static inline uint16_t drv_used_idx(struct drv *d)
{
	return drv_get16(d, DRV_USED + 2);
}

static inline uint32_t drv_used_id(struct drv *d, uint16_t i)
{
	return drv_get32(d, DRV_USED + 4 + 8U * (i % d->size));
}

static inline uint32_t drv_used_len(struct drv *d, uint16_t i)
{
	return drv_get32(d, DRV_USED + 8 + 8U * (i % d->size));
}

/* A queue with this driver's size and addresses, not yet started. */
static inline struct virtq drv_queue(const struct drv *d)
{
	return (struct virtq){
		.size = d->size, .ready = true, .desc_gpa = DRV_DESC, .avail_gpa = DRV_AVAIL, .used_gpa = DRV_USED
	};
}

#endif
