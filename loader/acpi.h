/*
 * ACPI tables: how a stock kernel finds CPUs, interrupts, the serial port, virtio-mmio devices, and the way to power off.
 * The hardware-reduced kind (ACPI 6.5, 4.1): no PIC, no PIT, no SCI, no PM timer, no fixed buttons.
 */
#ifndef MF_LOADER_ACPI_H
#define MF_LOADER_ACPI_H

#include <stdint.h>

struct err;
struct loader_device;
struct mem;

#define ACPI_CPUS_MAX 32U
#define ACPI_DEVICES_MAX 27U /* virtio-mmio; as many as there are pins for them in an MP table */

struct acpi_in {
	unsigned cpus; /* with local APIC ids 0 to cpus - 1 */
	uint16_t serial_port;
	unsigned serial_irq;
	uint16_t keyboard_port; /* the data port of an 8042, whose other one is 4 above; or 0: there is none */
	unsigned keyboard_irq;
	uint32_t generation_gpa; /* the VM's id (docs/guest-interface.md), 8-byte aligned */
	unsigned generation_irq; /* an edge after each restore */
	/* Sleep and reset registers (ACPI 6.5, 4.8.3.6 and 4.8.3.7): I/O ports, a byte wide each, and what is written there. */
	uint16_t sleep_control_port, sleep_status_port, reset_port;
	uint8_t reset_value;
	uint8_t s5; /* SLP_TYP of "soft off" */
	const struct loader_device *devices;
	unsigned num_devices;
};

/*
 * Writes the tables, the RSDP first, to the page at LAYOUT_ACPI. Returns 0 or -errno with e set; -EINVAL for numbers out
 * of range.
 */
int acpi_write(struct mem *m, const struct acpi_in *in, struct err *e);

#endif
