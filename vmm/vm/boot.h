/*
 * What the guest finds when it starts: RAM with kernel, initrd, command line and tables; and where its devices are.
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
 * Device i has the register window at BOOT_DEVICE_GPA(i) and an interrupt line, which is its number for the guest and its
 * pin of the IOAPIC. They can only be the same: for Linux without a PIC, interrupt n is pin n (ioapic.c).
 */
#define BOOT_DEVICE_GPA(i) (0xd0000000ULL + MMIO_WINDOW_SIZE * (uint64_t)(i))
#define BOOT_DEVICE_LINE(i) (5U + (i))

/* Pins of the IOAPIC: no more than there are lines, since Linux walks every pin several times, by MMIO. */
#define BOOT_NUM_PINS(num_devices) BOOT_DEVICE_LINE(num_devices)

/*
 * Maps guest RAM and fills it as config says. Returns 0 and the registers to start with, or -errno with e set; mem_done
 * accepts what is left then.
 */
int boot_load(struct boot_regs *ret, struct mem *m, const struct config *c, struct timeline *t, struct err *e);

#endif
