/* The MP table (Intel MultiProcessor Specification 1.4): how a guest without ACPI finds its CPUs and interrupts. */
#ifndef MF_LOADER_MPTABLE_H
#define MF_LOADER_MPTABLE_H

#include <stdint.h>

struct err;
struct mem;

#define MPTABLE_CPUS_MAX 32U
#define MPTABLE_PINS_MAX 32U
#define MPTABLE_PIN_UNUSED 0xffU

/*
 * Writes a table for CPUs with the local APIC ids 0 to cpus - 1 (0 boots) and one IOAPIC,
 * whose id is `cpus`. Pin i of num_pins carries the ISA interrupt irq_of_pin[i],
 * edge-triggered and active high, or nothing (MPTABLE_PIN_UNUSED). Interrupts from 16 up
 * must be on the pin of the same number, because Linux numbers them so. Returns 0 or
 * -errno with e set; -EINVAL for numbers out of range.
 */
int mptable_write(struct mem *m, unsigned cpus, const uint8_t *irq_of_pin, unsigned num_pins, struct err *e);

#endif
