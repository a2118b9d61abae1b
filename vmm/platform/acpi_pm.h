/* The sleep and reset registers that the ACPI tables name: how a guest powers off. */
#ifndef MF_PLATFORM_ACPI_PM_H
#define MF_PLATFORM_ACPI_PM_H

#include <stdbool.h>
#include <stdint.h>

/* One I/O port each, a byte wide. The FADT names them. */
#define ACPI_PM_PORT 0x600U
#define ACPI_PM_PORTS 3U
#define ACPI_PM_SLEEP_CONTROL 0U /* offsets from ACPI_PM_PORT */
#define ACPI_PM_SLEEP_STATUS 1U
#define ACPI_PM_RESET 2U
#define ACPI_PM_RESET_VALUE 1U
#define ACPI_PM_S5 5U /* SLP_TYP that means "power off" */

struct acpi_pm {
	void (*power_off)(void *ctx);
	void (*reset)(void *ctx);
	void *ctx;
};

/* A bus_handler with ctx = a struct acpi_pm, for [ACPI_PM_PORT, ACPI_PM_PORT + ACPI_PM_PORTS). vCPU threads. */
void acpi_pm_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len);

#endif
