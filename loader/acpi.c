/*
 * ACPI tables; see acpi.h. Section numbers are those of the ACPI Specification 6.5.
 *
 * Theory of operation. One page, which Linux finds by the address in boot_params or PVH's start info, and any other by
 * scanning the BIOS's 128 KiB (5.2.5.1); it is in no memory map, so nobody uses it as RAM:
 *
 *	RSDP -> XSDT -> FADT -> DSDT (\_SB: COM1, PS2 if there is a keyboard, VGEN, GED, one LNRO0005 per device; \_S5)
 *	             -> MADT (local APICs, the IOAPIC; pins are GSIs, with no override)
 *
 * The tables are always there, beside the MP table and the command line: a kernel built without ACPI never looks. They
 * are small because a page that is touched costs a fault, and writing them instructions.
 *
 * Power off (4.8.3.7): Linux writes SLP_TYP of \_S5 and SLP_EN to the sleep control register, then waits for the wake
 * status bit of the sleep status register. Hardware-reduced ACPI knows no other way, and Linux offers no `poweroff`
 * without it. The FADT also says that there is no VGA and no CMOS clock, and mostly no keyboard controller, so that Linux
 * does not probe for them.
 *
 * Reboot: by port 0x64 if told so (reboot=k), or by the FADT's reset register (reboot=a). Without a word on the command
 * line, Linux takes hardware-reduced ACPI for a sign of EFI, calls what is not there, and then jumps in real mode to
 * where a BIOS starts, 0xffff0. So there are a few instructions, which write the reset register.
 *
 * VGEN is the virtual machine generation id: Linux (CONFIG_VMGENID) seeds its random number generator again when
 * it is notified and the id has changed. GED, a generic event device (5.6.9), notifies it at an interrupt.
 *
 * Fields are written at their offsets, named below: the FADT has 64-bit numbers at odd places, and is mostly zero.
 */
#include "loader/acpi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "loader/aml.h"
#include "loader/device.h"
#include "loader/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

/* RSDP, 5.2.5.3. */
enum { RSDP_CHECKSUM = 8, RSDP_OEM = 9, RSDP_REVISION = 15, RSDP_SIZE_V1 = 20, RSDP_LENGTH = 20, RSDP_XSDT = 24 };
enum { RSDP_CHECKSUM_V2 = 32, RSDP_SIZE = 36 };

/* The header of every other table, 5.2.6. */
enum { HEADER_LENGTH = 4, HEADER_REVISION = 8, HEADER_CHECKSUM = 9, HEADER_OEM = 10, HEADER_OEM_TABLE = 16 };
enum { HEADER_OEM_REVISION = 24, HEADER_CREATOR = 28, HEADER_CREATOR_REVISION = 32, HEADER_SIZE = 36 };

/* FADT, 5.2.9. */
enum { FADT_DSDT32 = 40, FADT_BOOT_ARCH = 109, FADT_FLAGS = 112, FADT_RESET = 116, FADT_RESET_VALUE = 128 };
enum { FADT_MINOR = 131, FADT_DSDT = 140, FADT_SLEEP_CONTROL = 244, FADT_SLEEP_STATUS = 256, FADT_HYPERVISOR = 268 };
enum { FADT_SIZE = 276, FADT_REVISION = 6, FADT_REVISION_MINOR = 5 };
enum { FADT_WBINVD = 1 << 0, FADT_NO_POWER_BUTTON = 1 << 4, FADT_NO_SLEEP_BUTTON = 1 << 5 }; /* table 5.10 */
enum { FADT_RESET_SUPPORTED = 1 << 10, FADT_HEADLESS = 1 << 12, FADT_HW_REDUCED = 1 << 20 };
enum { FADT_8042 = 1 << 1, FADT_NO_VGA = 1 << 2, FADT_NO_CMOS = 1 << 5 }; /* table 5.11 */
enum { GAS_SYSTEM_IO = 1, GAS_BITS = 8, GAS_BYTE_ACCESS = 1 };		  /* 5.2.3.2 */

/* MADT, 5.2.12. */
enum { MADT_LAPIC = 36, MADT_FLAGS = 40, MADT_SIZE = 44, MADT_REVISION = 5 };
enum { MADT_TYPE_LAPIC = 0, MADT_TYPE_IOAPIC = 1, MADT_CPU_ENABLED = 1 };

enum { XSDT_TABLES = 2, XSDT_SIZE = HEADER_SIZE + 8 * XSDT_TABLES, XSDT_REVISION = 1, DSDT_REVISION = 2 };

#define NOTIFY_GENERATION 0x80U /* device-specific: the id has changed */
#define ALIGN 16U		/* for each table's start; the RSDP needs it */
#define PAGE_ROOM (LAYOUT_ACPI_END - LAYOUT_ACPI)
#define ROOM_AFTER_DSDT ((FADT_SIZE + ALIGN - 1) / ALIGN * ALIGN + XSDT_SIZE)

struct madt_lapic { /* 5.2.12.2 */
	uint8_t type;
	uint8_t length;
	uint8_t uid;
	uint8_t apic_id;
	uint32_t flags;
};

struct madt_ioapic { /* 5.2.12.3 */
	uint8_t type;
	uint8_t length;
	uint8_t id;
	uint8_t reserved;
	uint32_t address;
	uint32_t gsi_base;
};

_Static_assert(sizeof(struct madt_lapic) == 8, "5.2.12.2");
_Static_assert(sizeof(struct madt_ioapic) == 12, "5.2.12.3");

_Static_assert(RSDP_SIZE + MADT_SIZE + ACPI_CPUS_MAX * sizeof(struct madt_lapic) + sizeof(struct madt_ioapic) +
			       HEADER_SIZE + ROOM_AFTER_DSDT + 3 * ALIGN <
		       PAGE_ROOM,
	       "all but what is in the DSDT, whose size is checked, fits into the page");

/* The page being filled, each table after those that it points to. */
struct page {
	uint8_t *base;
	size_t len;
};

static void put16(uint8_t *p, uint16_t value)
{
	memcpy(p, &value, sizeof(value));
}

static void put32(uint8_t *p, uint32_t value)
{
	memcpy(p, &value, sizeof(value));
}

static void put64(uint8_t *p, uint64_t value)
{
	memcpy(p, &value, sizeof(value));
}

/* The value that makes the bytes, with their checksum field still 0, add up to 0. */
static uint8_t checksum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + p[i]);
	return (uint8_t)-sum;
}

static uint64_t gpa_of(const struct page *page, const uint8_t *table)
{
	return LAYOUT_ACPI + (uint64_t)(table - page->base);
}

/* Starts a table: a header without length and checksum. The page is zero. */
static uint8_t *begin_table(const struct page *page, const char *signature, uint8_t revision)
{
	uint8_t *t = page->base + page->len;

	memcpy(t, signature, 4);
	t[HEADER_REVISION] = revision;
	memcpy(t + HEADER_OEM, "MAYFLY", 6);
	memcpy(t + HEADER_OEM_TABLE, "MICROVM ", 8);
	put32(t + HEADER_OEM_REVISION, 1);
	memcpy(t + HEADER_CREATOR, "MFLY", 4);
	put32(t + HEADER_CREATOR_REVISION, 1);
	return t;
}

/* Ends it after len bytes, its header included. */
static void end_table(struct page *page, uint8_t *t, size_t len)
{
	put32(t + HEADER_LENGTH, (uint32_t)len);
	t[HEADER_CHECKSUM] = checksum(t, len);
	page->len += mf_align_up(len, ALIGN);
}

static void put_port(uint8_t *gas, uint16_t port)
{
	gas[0] = GAS_SYSTEM_IO;
	gas[1] = GAS_BITS;
	gas[3] = GAS_BYTE_ACCESS;
	put64(gas + 4, port);
}

static uint8_t *write_madt(struct page *page, unsigned cpus)
{
	const struct madt_ioapic ioapic = {
		.type = MADT_TYPE_IOAPIC,
		.length = sizeof(ioapic),
		.address = LAYOUT_IOAPIC,
	};
	uint8_t *t = begin_table(page, "APIC", MADT_REVISION), *at = t + MADT_SIZE;

	put32(t + MADT_LAPIC, LAYOUT_LAPIC);
	for (unsigned i = 0; i < cpus; i++) {
		const struct madt_lapic cpu = {
			.type = MADT_TYPE_LAPIC,
			.length = sizeof(cpu),
			.uid = (uint8_t)i,
			.apic_id = (uint8_t)i,
			.flags = MADT_CPU_ENABLED,
		};

		memcpy(at, &cpu, sizeof(cpu));
		at += sizeof(cpu);
	}
	memcpy(at, &ioapic, sizeof(ioapic));
	end_table(page, t, (size_t)(at - t) + sizeof(ioapic));
	return t;
}

static void describe_serial(struct aml *a, const struct acpi_in *in)
{
	size_t device = aml_begin_device(a, "COM1"), resources;

	aml_name_eisa_id(a, "_HID", "PNP0501");
	aml_name_integer(a, "_UID", 1);
	resources = aml_begin_resources(a);
	aml_ports(a, in->serial_port, 8);
	aml_interrupt(a, in->serial_irq);
	aml_end_resources(a, resources);
	aml_end(a, device);
}

static void describe_keyboard(struct aml *a, const struct acpi_in *in)
{
	size_t device = aml_begin_device(a, "PS2_"), resources;

	aml_name_eisa_id(a, "_HID", "PNP0303");
	resources = aml_begin_resources(a);
	aml_ports(a, in->keyboard_port, 1);
	aml_ports(a, (uint16_t)(in->keyboard_port + 4), 1);
	aml_interrupt(a, in->keyboard_irq);
	aml_end_resources(a, resources);
	aml_end(a, device);
}

/* "Virtual Machine Generation ID", Microsoft, 2012: the _CID by which drivers find it, and ADDR. */
static void describe_generation(struct aml *a, const struct acpi_in *in)
{
	size_t device = aml_begin_device(a, "VGEN"), resources;

	aml_name_string(a, "_HID", "MFLY0001");
	aml_name_string(a, "_CID", "VM_Gen_Counter");
	aml_name_address(a, "ADDR", in->generation_gpa);
	aml_end(a, device);
	device = aml_begin_device(a, "GED_");
	aml_name_string(a, "_HID", "ACPI0013");
	resources = aml_begin_resources(a);
	aml_interrupt(a, in->generation_irq);
	aml_end_resources(a, resources);
	aml_method_notify(a, "_EVT", "VGEN", NOTIFY_GENERATION);
	aml_end(a, device);
}

static void describe_device(struct aml *a, const struct loader_device *d, unsigned index)
{
	char name[8];
	size_t device, resources;

	snprintf(name, sizeof(name), "V%03u", index % 1000);
	device = aml_begin_device(a, name);
	aml_name_string(a, "_HID", "LNRO0005");
	aml_name_integer(a, "_UID", index);
	aml_name_integer(a, "_CCA", 1); /* its DMA is coherent */
	resources = aml_begin_resources(a);
	aml_memory(a, (uint32_t)d->gpa, d->size);
	aml_interrupt(a, d->irq);
	aml_end_resources(a, resources);
	aml_end(a, device);
}

static uint8_t *write_dsdt(struct page *page, const struct acpi_in *in)
{
	const uint8_t s5[] = { in->s5, 0, 0, 0 }; /* 7.4.2: only the first is for us */
	uint8_t *t = begin_table(page, "DSDT", DSDT_REVISION);
	struct aml a = { .buf = t, .size = PAGE_ROOM - page->len - ROOM_AFTER_DSDT, .len = HEADER_SIZE };
	size_t scope = aml_begin_scope(&a, "_SB_");

	describe_serial(&a, in);
	if (in->keyboard_port)
		describe_keyboard(&a, in);
	describe_generation(&a, in);
	for (unsigned i = 0; i < in->num_devices; i++)
		describe_device(&a, &in->devices[i], i);
	aml_end(&a, scope);
	aml_name_package(&a, "_S5_", s5, sizeof(s5));
	if (!aml_fits(&a))
		return NULL;
	end_table(page, t, a.len);
	return t;
}

static uint8_t *write_fadt(struct page *page, const struct acpi_in *in, const uint8_t *dsdt)
{
	uint8_t *t = begin_table(page, "FACP", FADT_REVISION);

	put32(t + FADT_DSDT32, (uint32_t)gpa_of(page, dsdt));
	put16(t + FADT_BOOT_ARCH, FADT_NO_VGA | FADT_NO_CMOS | (in->keyboard_port ? FADT_8042 : 0));
	put32(t + FADT_FLAGS, FADT_WBINVD | FADT_NO_POWER_BUTTON | FADT_NO_SLEEP_BUTTON | FADT_RESET_SUPPORTED |
				      FADT_HEADLESS | FADT_HW_REDUCED);
	put_port(t + FADT_RESET, in->reset_port);
	t[FADT_RESET_VALUE] = in->reset_value;
	t[FADT_MINOR] = FADT_REVISION_MINOR;
	put64(t + FADT_DSDT, gpa_of(page, dsdt));
	put_port(t + FADT_SLEEP_CONTROL, in->sleep_control_port);
	put_port(t + FADT_SLEEP_STATUS, in->sleep_status_port);
	memcpy(t + FADT_HYPERVISOR, "MAYFLY\0", 8);
	end_table(page, t, FADT_SIZE);
	return t;
}

static uint8_t *write_xsdt(struct page *page, const uint8_t *fadt, const uint8_t *madt)
{
	uint8_t *t = begin_table(page, "XSDT", XSDT_REVISION);

	put64(t + HEADER_SIZE, gpa_of(page, fadt));
	put64(t + HEADER_SIZE + 8, gpa_of(page, madt));
	end_table(page, t, XSDT_SIZE);
	return t;
}

static void write_rsdp(const struct page *page, const uint8_t *xsdt)
{
	uint8_t *p = page->base;

	memcpy(p, "RSD PTR ", 8);
	memcpy(p + RSDP_OEM, "MAYFLY", 6);
	p[RSDP_REVISION] = 2;
	put32(p + RSDP_LENGTH, RSDP_SIZE);
	put64(p + RSDP_XSDT, gpa_of(page, xsdt));
	p[RSDP_CHECKSUM] = checksum(p, RSDP_SIZE_V1);
	p[RSDP_CHECKSUM_V2] = checksum(p, RSDP_SIZE);
}

static void write_bios_entry(const struct page *page, const struct acpi_in *in)
{
	const uint8_t code[] = {
		0xba, (uint8_t)in->reset_port, (uint8_t)(in->reset_port >> 8), /* mov dx, port */
		0xb0, in->reset_value,					       /* mov al, value */
		0xee,							       /* out dx, al */
		0xf4,							       /* hlt */
	};

	memcpy(page->base + (LAYOUT_BIOS_ENTRY - LAYOUT_ACPI), code, sizeof(code));
}

static int check(const struct acpi_in *in, struct err *e)
{
	if (in->cpus == 0 || in->cpus > ACPI_CPUS_MAX)
		return err_set(e, -EINVAL, "ACPI: %u CPUs; 1 to %u are possible", in->cpus, ACPI_CPUS_MAX);
	if (in->num_devices > ACPI_DEVICES_MAX)
		return err_set(e, -EINVAL, "ACPI: %u devices; at most %u are possible", in->num_devices,
			       ACPI_DEVICES_MAX);
	for (unsigned i = 0; i < in->num_devices; i++)
		if (!mf_range_within(in->devices[i].gpa, in->devices[i].size, MEM_GAP_END))
			return err_set(e, -EINVAL, "ACPI: device %u is at 0x%llx, above 4 GiB", i,
				       (unsigned long long)in->devices[i].gpa);
	return 0;
}

int acpi_write(struct mem *m, const struct acpi_in *in, struct err *e)
{
	struct page page = { .base = mem_at(m, LAYOUT_ACPI, MF_PAGE_SIZE), .len = mf_align_up(RSDP_SIZE, ALIGN) };
	uint8_t *madt, *dsdt;
	int rc = check(in, e);

	if (rc < 0)
		return rc;
	if (!page.base)
		return err_set(e, -EFAULT, "ACPI: no guest memory at 0x%llx", LAYOUT_ACPI);
	madt = write_madt(&page, in->cpus);
	dsdt = write_dsdt(&page, in);
	if (!dsdt)
		return err_set(e, -ENOSPC, "ACPI: %u devices do not fit into a page", in->num_devices);
	write_bios_entry(&page, in);
	write_rsdp(&page, write_xsdt(&page, write_fadt(&page, in, dsdt), madt));
	return 0;
}
