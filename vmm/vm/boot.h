/*
 * Guest memory before the first instruction: kernel, initrd, command line and tables. And where the devices are.
 */
#ifndef MF_VM_BOOT_H
#define MF_VM_BOOT_H

#include <stdint.h>

#include "virtio/mmio.h"

struct boot_regs;
struct config;
struct err;
struct mem;
struct timeline;

/*
 * Device i has its register window at BOOT_DEVICE_GPA(i). Its interrupt line is both the guest's interrupt number and the
 * pin of the IOAPIC. They cannot differ: for Linux without a PIC, interrupt n is pin n (ioapic.c).
 */
#define BOOT_DEVICE_GPA(i) (0xd0000000ULL + MMIO_WINDOW_SIZE * (uint64_t)(i))
#define BOOT_DEVICE_LINE(i) (5U + (i))
#define BOOT_GENERATION_LINE 3U /* for kernels with ACPI: the VM's id has changed */

/* Pins of the IOAPIC: one for each line and no more, since Linux walks all pins several times, by MMIO. */
#define BOOT_NUM_PINS(num_devices) BOOT_DEVICE_LINE(num_devices)

/*
 * Maps guest RAM and fills it as c says. Returns 0 and the registers to start with, or -errno with e set. mem_done accepts
 * the result of a failure.
 */
int boot_load(struct boot_regs *ret, struct mem *m, const struct config *c, struct timeline *t, struct err *e);

/*
 * Gives the VM an id that it has never had (docs/guest-interface.md): at boot, and before a restored VM runs. Returns 0 or
 * -errno with e set.
 */
int boot_write_vm_id(struct mem *m, struct err *e);

#endif
