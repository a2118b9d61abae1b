/*
 * libFuzzer entry of the bzImage loader: any file with its magic number either loads, within the 64 MiB of guest memory,
 * or is refused with a sentence; boot data for what is loaded can be written. Seeds: corpus/bzimage, made by
 * corpus/bzimage.py.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loader/boot_x86.h"
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
	struct boot_in in = { .kernel = &k, .cmdline = "quiet" };
	struct boot_regs regs;
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
	} else if (boot_write(&regs, &m, &in, &e) < 0 && e.text[0] == '\0') {
		abort();
	}
	mem_done(&m);
	return 0;
}
