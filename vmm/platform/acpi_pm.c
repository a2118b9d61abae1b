/*
 * ACPI's sleep control, sleep status and reset registers, a byte each (ACPI 6.5, 4.8.3.7 and 4.8.3.6).
 *
 * Only S5, "soft off", is offered, so that any other SLP_TYP is ignored. All registers read 0: a wake status bit that is
 * set would tell the guest that it has slept already.
 */
#include "vmm/platform/acpi_pm.h"

#include <string.h>

#define SLEEP_TYPE_SHIFT 2
#define SLEEP_TYPE_MASK 7U
#define SLEEP_ENABLE (1U << 5)

void acpi_pm_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len)
{
	struct acpi_pm *pm = ctx;

	if (!is_write) {
		memset(data, 0, len);
		return;
	}
	if (len != 1)
		return;
	if (offset == ACPI_PM_SLEEP_CONTROL && (*data & SLEEP_ENABLE) &&
	    (*data >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK) == ACPI_PM_S5)
		pm->power_off(pm->ctx);
	if (offset == ACPI_PM_RESET && *data == ACPI_PM_RESET_VALUE)
		pm->reset(pm->ctx);
}
