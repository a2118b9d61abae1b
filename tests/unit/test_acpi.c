/*
 * The ACPI tables, read back the way a guest does: scan for the RSDP, follow the pointers, sum up, and parse the AML by
 * the grammar of the specification (ACPI 6.5, 20.2), knowing nothing of how it was written. Where iasl is installed, it
 * must be able to disassemble and recompile the DSDT.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loader/acpi.h"
#include "loader/device.h"
#include "tests/unit/read_aml.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

static struct mem ram;
static struct err err;
static const uint8_t *rsdp, *fadt, *madt, *dsdt;

static struct loader_device devices[ACPI_DEVICES_MAX + 1];

static int setup(void **state)
{
	(void)state;
	err = (struct err){ 0 };
	for (unsigned i = 0; i < MF_ARRAY_SIZE(devices); i++)
		devices[i] = (struct loader_device){ .gpa = 0xd0000000 + 4096 * i, .size = 4096, .irq = 5 + i };
	return mem_init(&ram, 2 * MIB, &err);
}

static int teardown(void **state)
{
	(void)state;
	mem_done(&ram);
	return 0;
}

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	while (len-- > 0)
		s = (uint8_t)(s + *p++);
	return s;
}

static const uint8_t *table(uint64_t gpa, const char *signature, unsigned revision)
{
	const uint8_t *t = mem_at(&ram, gpa, 36);

	assert_non_null(t);
	assert_true(gpa >= 0xe0000 && gpa % 16 == 0 && gpa + get(t + 4, 4) <= 0xffff0);
	assert_memory_equal(t, signature, 4);
	assert_int_equal(t[8], revision);
	assert_int_equal(sum(t, get(t + 4, 4)), 0);
	assert_memory_equal(t + 10, "MAYFLYMICROVM ", 14);
	return t;
}

/* Finds and checks all tables, and reads the AML. */
static void parse(void)
{
	const uint8_t *base = mem_at(&ram, 0, MIB), *xsdt;
	uint64_t at = 0xe0000;

	while (memcmp(base + at, "RSD PTR ", 8) != 0) {
		at += 16;
		assert_true(at < 0x100000);
	}
	rsdp = base + at;
	assert_int_equal(rsdp[15], 2);
	assert_int_equal(get(rsdp + 20, 4), 36);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	xsdt = table(get(rsdp + 24, 8), "XSDT", 1);
	assert_int_equal(get(xsdt + 4, 4), 36 + 2 * 8);
	fadt = table(get(xsdt + 36, 8), "FACP", 6);
	madt = table(get(xsdt + 44, 8), "APIC", 5);
	dsdt = table(get(fadt + 140, 8), "DSDT", 2);
	assert_int_equal(get(fadt + 40, 4), get(fadt + 140, 8));
	memset(&aml, 0, sizeof(aml));
	parse_terms(dsdt + 36, dsdt + get(dsdt + 4, 4), false);
}

static void writes(unsigned cpus, unsigned num_devices)
{
	const struct acpi_in in = {
		.cpus = cpus,
		.serial_port = 0x3f8,
		.serial_irq = 4,
		.sleep_control_port = 0x600,
		.sleep_status_port = 0x601,
		.reset_port = 0x602,
		.reset_value = 1,
		.s5 = 5,
		.devices = devices,
		.num_devices = num_devices,
	};

	if (acpi_write(&ram, &in, &err) < 0)
		fail_msg("%s", err.text);
	parse();
	assert_int_equal(aml.devices, num_devices);
	for (unsigned i = 0; i < num_devices; i++) {
		assert_int_equal(aml.gpa[i], devices[i].gpa);
		assert_int_equal(aml.size[i], devices[i].size);
		assert_int_equal(aml.irq[i], devices[i].irq);
	}
	assert_int_equal(aml.serials, 1);
	assert_int_equal(aml.serial_port, 0x3f8);
	assert_int_equal(aml.serial_irq, 4);
	assert_int_equal(aml.keyboards, 0);
	assert_true(aml.has_s5);
	assert_int_equal(aml.s5, 5);
}

static void assert_port(const uint8_t *gas, uint64_t port)
{
	assert_int_equal(gas[0], 1);
	assert_int_equal(gas[1], 8);
	assert_int_equal(gas[2], 0);
	assert_int_equal(gas[3], 1);
	assert_int_equal(get(gas + 4, 8), port);
}

static void test_fadt(void **state)
{
	uint64_t flags;

	(void)state;
	writes(1, 1);
	assert_int_equal(get(fadt + 4, 4), 276);
	assert_int_equal(fadt[131], 5);
	flags = get(fadt + 112, 4);
	assert_true(flags >> 20 & 1);		       /* hardware-reduced */
	assert_true(flags >> 10 & 1);		       /* there is a reset register */
	assert_true(flags >> 4 & 1 && flags >> 5 & 1); /* no fixed buttons */
	assert_int_equal(get(fadt + 109, 2), 0x24); /* no VGA, no CMOS clock; neither legacy devices nor a keyboard */
	assert_port(fadt + 116, 0x602);
	assert_int_equal(fadt[128], 1);
	assert_port(fadt + 244, 0x600);
	assert_port(fadt + 256, 0x601);
	/* No FACS, SCI, PM timer: all of it is zero. */
	assert_int_equal(sum(fadt + 46, 109 - 46), 0);
	assert_int_equal(sum(fadt + 148, 244 - 148), 0);
}

static void assert_madt(unsigned cpus)
{
	const uint8_t *p = madt + 44, *end = madt + get(madt + 4, 4);

	assert_int_equal(get(madt + 36, 4), 0xfee00000);
	assert_int_equal(get(madt + 40, 4), 0); /* no PIC */
	for (unsigned i = 0; i < cpus; i++, p += 8) {
		assert_int_equal(get(p, 2), 0x0800);
		assert_int_equal(p[2], i);
		assert_int_equal(p[3], i);
		assert_int_equal(get(p + 4, 4), 1);
	}
	assert_int_equal(get(p, 2), 0x0c01);
	assert_int_equal(get(p + 4, 4), 0xfec00000);
	assert_int_equal(get(p + 8, 4), 0);
	assert_ptr_equal(p + 12, end);
}

static void test_madt(void **state)
{
	(void)state;
	for (unsigned cpus = 1; cpus <= ACPI_CPUS_MAX; cpus++) {
		memset(mem_at(&ram, 0xe0000, 0x20000), 0, 0x20000);
		writes(cpus, 2);
		assert_madt(cpus);
	}
}

/* Every number of devices, the largest with the most CPUs; one page of memory and no more. */
static void test_devices(void **state)
{
	const uint8_t *base = mem_at(&ram, 0, MIB);

	(void)state;
	for (unsigned i = 0; i <= ACPI_DEVICES_MAX; i++) {
		memset(mem_at(&ram, 0xe0000, 0x20000), 0, 0x20000);
		writes(ACPI_CPUS_MAX, i);
	}
	for (unsigned i = 0; i < 0xff000; i++)
		assert_int_equal(base[i], 0);
	assert_ptr_equal(rsdp, base + 0xff000);
}

/* What a jump to the BIOS executes: mov dx, 0x602; mov al, 1; out dx, al; hlt. */
static void test_bios_entry(void **state)
{
	(void)state;
	writes(1, 0);
	assert_memory_equal(mem_at(&ram, 0xffff0, 16), "\xba\x02\x06\xb0\x01\xee\xf4\0\0\0\0\0\0\0\0", 16);
}

/* A keyboard is in the DSDT and in the FADT, also beside as many devices as there can be. */
static void test_keyboard(void **state)
{
	struct acpi_in in = {
		.cpus = 32,
		.serial_port = 0x3f8,
		.serial_irq = 4,
		.keyboard_port = 0x60,
		.keyboard_irq = 1,
		.devices = devices,
		.num_devices = ACPI_DEVICES_MAX,
	};

	(void)state;
	assert_int_equal(acpi_write(&ram, &in, &err), 0);
	parse();
	assert_int_equal(aml.keyboards, 1);
	assert_int_equal(aml.keyboard_port, 0x64);
	assert_int_equal(aml.keyboard_irq, 1);
	assert_int_equal(get(fadt + 109, 2), 0x26);
}

/* What is notified when the VM's id has changed. */
static void test_generation(void **state)
{
	struct acpi_in in = {
		.cpus = 1,
		.generation_gpa = 0xffe00,
		.generation_irq = 3,
		.devices = devices,
		.num_devices = 1,
	};

	(void)state;
	assert_int_equal(acpi_write(&ram, &in, &err), 0);
	parse();
	assert_int_equal(aml.generation_gpa, 0xffe00);
	assert_int_equal(aml.generation_irq, 3);
	assert_true(aml.is_notified);
}

static void test_refused(void **state)
{
	struct acpi_in in = { .cpus = 0, .devices = devices };

	(void)state;
	assert_int_equal(acpi_write(&ram, &in, &err), -EINVAL);
	assert_string_equal(err.text, "ACPI: 0 CPUs; 1 to 32 are possible");
	in.cpus = 33;
	assert_int_equal(acpi_write(&ram, &in, &err), -EINVAL);
	in.cpus = 1;
	in.num_devices = ACPI_DEVICES_MAX + 1;
	assert_int_equal(acpi_write(&ram, &in, &err), -EINVAL);
	assert_string_equal(err.text, "ACPI: 28 devices; at most 27 are possible");
	in.num_devices = 2;
	devices[1].gpa = 0xfffff001;
	assert_int_equal(acpi_write(&ram, &in, &err), -EINVAL);
	assert_string_equal(err.text, "ACPI: device 1 is at 0xfffff001, above 4 GiB");
}

static void test_iasl(void **state)
{
	char dir[] = "/tmp/test_acpi_XXXXXX", line[256];
	FILE *out;
	int rc;

	(void)state;
	if (system("command -v iasl > /dev/null") != 0)
		skip();
	writes(4, ACPI_DEVICES_MAX);
	assert_non_null(mkdtemp(dir));
	for (unsigned i = 0; i < 3; i++) {
		const uint8_t *t = i == 0 ? dsdt : i == 1 ? fadt : madt;

		snprintf(line, sizeof(line), "%s/t%u.aml", dir, i);
		out = fopen(line, "w");
		assert_non_null(out);
		assert_int_equal(fwrite(t, 1, get(t + 4, 4), out), get(t + 4, 4));
		assert_int_equal(fclose(out), 0);
	}
	/* What it disassembles to compiles, without a warning. */
	snprintf(line, sizeof(line),
		 "cd %s && iasl -d t0.aml t1.aml t2.aml > log 2>&1 && ! grep -iE 'error|warning' log && "
		 "iasl -we t0.dsl >> log 2>&1 && grep -q '0 Errors, 0 Warnings' log || { cat log; exit 1; }",
		 dir);
	rc = system(line);
	snprintf(line, sizeof(line), "rm -r %s", dir);
	assert_int_equal(system(line), 0);
	assert_int_equal(rc, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fadt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_madt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_devices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bios_entry, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keyboard, setup, teardown),
		cmocka_unit_test_setup_teardown(test_generation, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_iasl, setup, teardown),
	};

	return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
