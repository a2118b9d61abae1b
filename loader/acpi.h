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

/* The sleep and reset registers that the FADT names: one port each, a byte wide. vmm/platform/acpi_pm.c answers there. */
#define ACPI_PM_PORT 0x600U
#define ACPI_PM_PORTS 3U
#define ACPI_PM_SLEEP_CONTROL 0U /* offsets from ACPI_PM_PORT */
#define ACPI_PM_SLEEP_STATUS 1U
#define ACPI_PM_RESET 2U
#define ACPI_PM_RESET_VALUE 1U
#define ACPI_PM_S5 5U /* SLP_TYP that means "power off" */

struct acpi_in {
	unsigned cpus; /* with local APIC ids 0 to cpus - 1 */
	uint16_t serial_port;
	unsigned serial_irq;
	const struct loader_device *devices;
	unsigned num_devices;
};

/*
 * Writes the tables, the RSDP first, to the page at LAYOUT_ACPI. Returns 0 or -errno with e set; -EINVAL for numbers out
 * of range.
 */
int acpi_write(struct mem *m, const struct acpi_in *in, struct err *e);

#endif
