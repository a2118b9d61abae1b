/* Small things used everywhere: cleanup attributes, overflow-safe alignment, array sizes. */
#ifndef MF_BASE_UTIL_H
#define MF_BASE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define MF_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
/* clang-format off */
#define MF_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))
/* clang-format on */
#define MF_MIN(a, b) ((a) < (b) ? (a) : (b))
#define MF_MAX(a, b) ((a) > (b) ? (a) : (b))

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

#define MF_PAGE_SIZE 4096U

static inline void mf_cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void mf_cleanup_free(void *p)
{
	free(*(void **)p);
}

/* Closes a local fd, or frees a local pointer, at the end of its scope. */
#define MF_CLOSE __attribute__((cleanup(mf_cleanup_close)))
#define MF_FREE __attribute__((cleanup(mf_cleanup_free)))

/* Hands an MF_CLOSE fd over to its new owner. */
static inline int mf_take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Hands an MF_FREE pointer over to its new owner. */
static inline void *mf_take_ptr(void *p)
{
	void *taken = *(void **)p;

	*(void **)p = NULL;
	return taken;
}

/* Rounds up to a power of two. The caller has bounded value, so this cannot wrap. */
static inline uint64_t mf_align_up(uint64_t value, uint64_t align)
{
	return (value + align - 1) & ~(align - 1);
}

static inline uint64_t mf_align_down(uint64_t value, uint64_t align)
{
	return value & ~(align - 1);
}

/*
 * Tells whether [start, start + len) lies within [0, limit), even if the sum would wrap.
 */
static inline bool mf_range_within(uint64_t start, uint64_t len, uint64_t limit)
{
	uint64_t end;

	return !__builtin_add_overflow(start, len, &end) && end <= limit;
}

#endif
