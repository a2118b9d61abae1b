/* The sleep and reset registers that the ACPI tables name (loader/acpi.h): how a guest powers off. */
#ifndef MF_PLATFORM_ACPI_PM_H
#define MF_PLATFORM_ACPI_PM_H

#include <stdbool.h>
#include <stdint.h>

struct acpi_pm {
	void (*power_off)(void *ctx);
	void (*reset)(void *ctx);
	void *ctx;
};

/* A bus_handler with ctx = a struct acpi_pm, for [ACPI_PM_PORT, ACPI_PM_PORT + ACPI_PM_PORTS). vCPU threads. */
void acpi_pm_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len);

#endif
