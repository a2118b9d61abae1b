/*
 * A virtio-mmio device, as the command line and ACPI describe it to the guest's kernel.
 */
#ifndef MF_LOADER_DEVICE_H
#define MF_LOADER_DEVICE_H

#include <stdint.h>

struct loader_device {
	uint64_t gpa;  /* of its register window, below 4 GiB */
	uint32_t size; /* bytes, a multiple of 1 KiB */
	unsigned irq;  /* its interrupt, an edge: a pin of the IOAPIC, which is its GSI */
};

#endif
