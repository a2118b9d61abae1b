/* Moves parts of a file into guest memory: by mapping them, or by reading them. */
#ifndef MF_LOADER_FILEMEM_H
#define MF_LOADER_FILEMEM_H

#include <stdint.h>

struct err;
struct mem;

struct filemem_count {
	uint64_t mapped; /* bytes that became guest memory without a copy */
	uint64_t copied; /* bytes read */
};

/*
 * Reads the file's [offset, offset + len) into guest memory at gpa, which is still
 * zeroed. Skips holes of the file, so that their pages stay untouched. Returns 0 or
 * -errno with e set; -ENODATA if the file is shorter.
 */
int filemem_copy(struct mem *m, uint64_t gpa, int fd, uint64_t offset, uint64_t len, struct filemem_count *count,
		 struct err *e);

/*
 * The same, but maps the whole pages, and reads the rest. gpa and offset must be
 * multiples of 4 KiB. A file that cannot be mapped is read. The file must not be
 * truncated while the VM lives: touching a page beyond its new end is a SIGBUS (in a vCPU
 * thread, an exit of KVM_RUN with EFAULT).
 */
int filemem_map(struct mem *m, uint64_t gpa, int fd, uint64_t offset, uint64_t len, struct filemem_count *count,
		struct err *e);

#endif
