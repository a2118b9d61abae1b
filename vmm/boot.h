/*
 * What the guest finds when it starts: RAM with kernel, initrd, command line and tables; and where its devices are.
 */
#ifndef MF_VMM_BOOT_H
#define MF_VMM_BOOT_H

#include <stdint.h>

#include "virtio/mmio.h"

struct boot_regs;
struct config;
struct err;
struct mem;
struct timeline;

/* Device i has the register window at BOOT_DEVICE_GPA(i) and the ISA interrupt BOOT_DEVICE_IRQ(i). */
#define BOOT_DEVICE_GPA(i) (0xd0000000ULL + MMIO_WINDOW_SIZE * (uint64_t)(i))
#define BOOT_DEVICE_IRQ(i) (5U + (i))

/*
 * The IOAPIC pins of these interrupts: as few as possible, because Linux walks every pin several times, by MMIO. The
 * serial port is on pin 0, the devices follow; only interrupts from 16 up must be on the pin of their own number.
 */
#define BOOT_SERIAL_PIN 0U
unsigned boot_device_pin(unsigned i);
unsigned boot_num_pins(unsigned num_devices);

/*
 * Maps guest RAM and fills it as config says. Returns 0 and the registers to start with, or -errno with e set; mem_done
 * accepts what is left then.
 */
int boot_load(struct boot_regs *ret, struct mem *m, const struct config *c, struct timeline *t, struct err *e);

#endif
