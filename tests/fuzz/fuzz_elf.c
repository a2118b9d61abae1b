/*
 * libFuzzer entry of the ELF loader: any file either loads, within the 64 MiB of guest memory, or is refused with a
 * sentence. Seeds: corpus/elf, made by corpus/elf.py.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loader/kernel.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	MF_CLOSE int fd = memfd_create("kernel", MFD_CLOEXEC);
	struct kernel_image k = { 0 };
	struct mem m = { 0 };
	struct err e = { 0 };
	char path[32];

	if (fd < 0 || fdio_write_all(fd, data, size) < 0 || mem_init(&m, 64 * MIB, &e) < 0)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (kernel_load(&k, &m, path, &e) < 0) {
		if (e.code >= 0 || e.text[0] == '\0')
			abort();
	} else if (k.lowest < MIB || k.highest > 64 * MIB || (!k.entry && !k.has_pvh) ||
		   (k.entry && (k.entry < k.lowest || k.entry >= k.highest)) ||
		   k.bytes_mapped + k.bytes_copied > k.highest - k.lowest) {
		abort();
	}
	mem_done(&m);
	return 0;
}
