/* ACPI's sleep and reset registers: power off is S5 with SLP_EN and nothing else, in one write of a byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/platform/acpi_pm.h"

static unsigned offs, resets;

static void count_off(void *ctx)
{
	(void)ctx;
	offs++;
}

static void count_reset(void *ctx)
{
	(void)ctx;
	resets++;
}

static struct acpi_pm pm = { .power_off = count_off, .reset = count_reset };

static void writes(uint64_t offset, unsigned value, unsigned len, unsigned want_offs, unsigned want_resets)
{
	uint8_t data[8] = { (uint8_t)value, (uint8_t)(value >> 8) };

	offs = resets = 0;
	acpi_pm_access(&pm, offset, true, data, len);
	assert_int_equal(offs, want_offs);
	assert_int_equal(resets, want_resets);
}

static void test_sleep_control(void **state)
{
	(void)state;
	for (unsigned value = 0; value < 256; value++)
		writes(0, value, 1, (value & 0x3c) == 0x34, 0); /* SLP_EN, SLP_TYP 5; the rest is reserved */
	writes(0, 0x34, 2, 0, 0);
	writes(1, 0x34, 1, 0, 0);
	writes(2, 0x34, 1, 0, 0);
}

static void test_reset(void **state)
{
	(void)state;
	writes(2, 1, 1, 0, 1);
	writes(2, 0, 1, 0, 0);
	writes(2, 0xff, 1, 0, 0);
	writes(1, 0x0101, 2, 0, 0);
}

static void test_reads_zero(void **state)
{
	(void)state;
	for (unsigned offset = 0; offset < 3; offset++) {
		for (unsigned len = 1; offset + len <= 3; len++) {
			uint8_t data[4] = { 0xff, 0xff, 0xff, 0xff };

			offs = resets = 0;
			acpi_pm_access(&pm, offset, false, data, len);
			for (unsigned i = 0; i < sizeof(data); i++)
				assert_int_equal(data[i], i < len ? 0 : 0xff);
			assert_int_equal(offs + resets, 0);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sleep_control),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_reads_zero),
	};

	return cmocka_run_group_tests_name("acpi_pm", tests, NULL, NULL);
}
