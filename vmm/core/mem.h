/*
 * Guest RAM. One private mapping, or a shared one of a memfd, 2 MiB aligned, with an inaccessible guard on both
 * sides. Guest-physical addresses run from 0 to MEM_GAP_START, and the rest from 4 GiB
 * up. The gap holds the MMIO of devices, IOAPIC and local APICs.
 *
 * mem_at() is the only way from a guest-physical address to a pointer; there is no
 * unchecked variant.
 */
#ifndef MF_CORE_MEM_H
#define MF_CORE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define MEM_GAP_START 0xc0000000ULL
#define MEM_GAP_END 0x100000000ULL
#define MEM_REGIONS_MAX 2
#define MEM_FILES_MAX 64

struct mem_region {
	uint64_t gpa;
	uint64_t size; /* bytes, a multiple of 4 KiB */
	uint8_t *host;
};

struct mem {
	struct mem_region region[MEM_REGIONS_MAX]; /* one behind the other in the address space of the host */
	unsigned num_regions;
	uint64_t size; /* bytes of RAM in all */
	/* Where files are mapped, offsets from the start of the first region. The last one grows if there are more. */
	struct mem_file {
		uint64_t offset, len;
	} file[MEM_FILES_MAX];
	unsigned num_files;
	bool shared;   /* RAM is a shared mapping */
	int shared_fd; /* of this memfd, as large as RAM; only if shared is set */
	void *map;     /* the mapping with its guards */
	size_t map_size;
};

/*
 * Maps size bytes of zeroed guest RAM (a multiple of 4 KiB, at least 1 MiB) without
 * populating it. From then on KSM merges no memory of this process with that of other
 * processes. Returns 0 or -errno with e set.
 */
int mem_init(struct mem *m, uint64_t size, struct err *e);

/*
 * After mem_init, which has left it untouched: makes RAM a shared mapping of a new memfd, whose size is sealed. So it can be
 * given to other VMs without a copy, by mem_unshare. Returns 0 or -errno with e set.
 */
int mem_share(struct mem *m, struct err *e);

/* For mem_unshare to be short: unmaps the pages of RAM that is shared. A guest may run, and maps them again as it uses them. */
void mem_drain(const struct mem *m);

/*
 * Ends that: the caller maps all of RAM again, by mem_map_offset and mem_map_empty, and has the memfd with what RAM is. Nobody uses RAM
 * meanwhile. Returns the memfd.
 */
int mem_unshare(struct mem *m);

/* Maps zeros at an offset from the start of the first region, in whole pages. Returns 0 or -errno with e set. */
int mem_map_empty(struct mem *m, uint64_t at, uint64_t len, struct err *e);

/*
 * Keeps the 2 MiB around gpa, which is RAM, in 4 KiB pages: for a place of which a guest
 * touches only a few. A hint. Before the VM runs.
 */
void mem_keep_small(struct mem *m, uint64_t gpa);

/* Whether faults of RAM take 2 MiB where they can, as they do after mem_init. A hint. Before the VM runs. */
void mem_set_huge(struct mem *m, bool huge);

/* Unmaps. Accepts a zeroed struct. */
void mem_done(struct mem *m);

/*
 * The host address of guest-physical [gpa, gpa + len), or NULL unless every byte lies in one region. len 0 gives the
 * address if gpa itself is RAM. Any thread.
 */
void *mem_at(const struct mem *m, uint64_t gpa, uint64_t len);

/*
 * Maps the file's [offset, offset + len) as guest memory at gpa without a copy
 * (MAP_PRIVATE: the guest's writes do not reach the file). gpa, offset and len are
 * multiples of 4 KiB. Nobody uses that RAM meanwhile. RAM that is shared has no other files: -EOPNOTSUPP. Returns 0 or -errno with e set.
 */
int mem_map_file(struct mem *m, uint64_t gpa, int fd, uint64_t offset, uint64_t len, struct err *e);

/* The same at an offset from the start of the first region. */
int mem_map_offset(struct mem *m, uint64_t at, int fd, uint64_t offset, uint64_t len, struct err *e);

/*
 * Maps the first size bytes of fd, a multiple of 4 KiB, shared and writable, with an
 * inaccessible page on both sides: for memory that both the kernel and a guest's exits
 * write to. Returns the address, or NULL with errno set.
 */
void *mem_map_guarded(int fd, size_t size);

#endif
