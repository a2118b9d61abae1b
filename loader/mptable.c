/*
 * The MP table; see mptable.h. Section numbers are those of the Intel MultiProcessor Specification 1.4.
 *
 * Theory of operation. The floating pointer structure (4.1) leads to the configuration table (4.2), whose entries (4.3)
 * list CPUs, one ISA bus, the IOAPIC, its interrupts, and the two local interrupts. Linux walks it twice at start.
 *
 * Where: the specification wants the pointer in the EBDA, the last KiB of base memory, or the BIOS ROM. Linux looks at
 * the first KiB of memory before these, in steps of 16 bytes, and each step maps and unmaps the address; at 0x10
 * the second step finds it, in the last KiB of base memory the 65th would. The table follows in the same page, which
 * Linux takes for the BIOS's and never uses as RAM. Only the words of the BIOS data area at 0x40e and 0x413 are read by
 * Linux and must stay zero.
 *
 * What: every IOAPIC pin costs the guest exits, and a connected one costs more. Therefore only pins with a line are
 * listed, and the caller may put ISA interrupts on any pins (as PCs do with interrupt 0 on pin 2). Linux gives an ISA
 * interrupt below 16 its own number wherever its pin is, provided that it finds an 8259; all others get the number of
 * their pin. Interrupt 2, the cascade of the 8259s, is unusable in Linux.
 */
#include "loader/mptable.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "loader/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

#define MP_SPEC_1_4 4
#define MP_ISA_IRQS 16U

enum { MP_PROCESSOR, MP_BUS, MP_IOAPIC, MP_INTERRUPT, MP_LOCAL_INTERRUPT };  /* table 4-3 */
enum { MP_CPU_ENABLED = 1, MP_CPU_BOOTS = 2, MP_IOAPIC_ENABLED = 1 };	     /* 4.3.1, 4.3.3 */
enum { MP_SOURCE_INT, MP_SOURCE_NMI, MP_SOURCE_SMI, MP_SOURCE_EXTINT };	     /* table 4-11 */
enum { MP_FLAG_ACTIVE_HIGH = 1, MP_FLAG_EDGE = 1 << 2, MP_FLAG_AS_BUS = 0 }; /* table 4-10: PO, EL */
enum { MP_LAPIC_VERSION = 0x14, MP_IOAPIC_VERSION = 0x11, MP_APIC_ALL = 0xff };
enum { MP_CPU_SIGNATURE = 0x600, MP_CPU_FPU_APIC = 0x201, MP_BUS_ISA_ID = 0 };

struct mp_pointer {
	uint8_t signature[4]; /* "_MP_" */
	uint32_t table;
	uint8_t length; /* in units of 16 bytes */
	uint8_t spec;
	uint8_t checksum;
	uint8_t features[5];
};

struct mp_header {
	uint8_t signature[4]; /* "PCMP" */
	uint16_t length;
	uint8_t spec;
	uint8_t checksum;
	uint8_t oem[8];
	uint8_t product[12];
	uint32_t oem_table;
	uint16_t oem_length;
	uint16_t num_entries;
	uint32_t lapic;
	uint16_t extended_length;
	uint8_t extended_checksum;
	uint8_t reserved;
};

struct mp_processor {
	uint8_t type;
	uint8_t lapic_id;
	uint8_t lapic_version;
	uint8_t flags;
	uint32_t signature;
	uint32_t features;
	uint32_t reserved[2];
};

struct mp_bus {
	uint8_t type;
	uint8_t id;
	uint8_t name[6];
};

struct mp_ioapic {
	uint8_t type;
	uint8_t id;
	uint8_t version;
	uint8_t flags;
	uint32_t address;
};

struct mp_interrupt { /* an MP_INTERRUPT or MP_LOCAL_INTERRUPT */
	uint8_t type;
	uint8_t source;
	uint16_t flags;
	uint8_t bus;
	uint8_t irq;
	uint8_t apic;
	uint8_t pin;
};

_Static_assert(sizeof(struct mp_pointer) == 16, "4.1");
_Static_assert(sizeof(struct mp_header) == 44, "4.2");
_Static_assert(sizeof(struct mp_processor) == 20, "4.3.1");
_Static_assert(sizeof(struct mp_bus) == 8, "4.3.2");
_Static_assert(sizeof(struct mp_ioapic) == 8, "4.3.3");
_Static_assert(sizeof(struct mp_interrupt) == 8, "4.3.4");
_Static_assert(sizeof(struct mp_header) + MPTABLE_CPUS_MAX * sizeof(struct mp_processor) + sizeof(struct mp_bus) +
			       sizeof(struct mp_ioapic) + (MPTABLE_PINS_MAX + 2) * sizeof(struct mp_interrupt) <=
		       LAYOUT_MPTABLE_SIZE,
	       "the largest table fits into its place");

/* Appends entries to the table at base, which has room for the largest. */
struct writer {
	uint8_t *base;
	size_t len;
	uint16_t num_entries;
};

static void put(struct writer *w, const void *entry, size_t size)
{
	memcpy(w->base + w->len, entry, size);
	w->len += size;
	w->num_entries++;
}

/* The value that makes the bytes, with their checksum field still 0, add up to 0. */
static uint8_t checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + p[i]);
	return (uint8_t)-sum;
}

static void put_cpus_and_ioapic(struct writer *w, unsigned cpus)
{
	struct mp_bus bus = { .type = MP_BUS, .id = MP_BUS_ISA_ID, .name = { 'I', 'S', 'A', ' ', ' ', ' ' } };
	struct mp_ioapic ioapic = {
		.type = MP_IOAPIC,
		.id = (uint8_t)cpus,
		.version = MP_IOAPIC_VERSION,
		.flags = MP_IOAPIC_ENABLED,
		.address = LAYOUT_IOAPIC,
	};

	for (unsigned i = 0; i < cpus; i++) {
		struct mp_processor cpu = {
			.type = MP_PROCESSOR,
			.lapic_id = (uint8_t)i,
			.lapic_version = MP_LAPIC_VERSION,
			.flags = i == 0 ? MP_CPU_ENABLED | MP_CPU_BOOTS : MP_CPU_ENABLED,
			.signature = MP_CPU_SIGNATURE,
			.features = MP_CPU_FPU_APIC,
		};

		put(w, &cpu, sizeof(cpu));
	}
	put(w, &bus, sizeof(bus));
	put(w, &ioapic, sizeof(ioapic));
}

static void put_interrupts(struct writer *w, unsigned cpus, const uint8_t *irq_of_pin, unsigned num_pins)
{
	struct mp_interrupt local = { .type = MP_LOCAL_INTERRUPT, .flags = MP_FLAG_AS_BUS, .bus = MP_BUS_ISA_ID };

	for (unsigned pin = 0; pin < num_pins; pin++) {
		struct mp_interrupt line = {
			.type = MP_INTERRUPT,
			.source = MP_SOURCE_INT,
			.flags = MP_FLAG_ACTIVE_HIGH | MP_FLAG_EDGE,
			.bus = MP_BUS_ISA_ID,
			.irq = irq_of_pin[pin],
			.apic = (uint8_t)cpus,
			.pin = (uint8_t)pin,
		};

		if (irq_of_pin[pin] != MPTABLE_PIN_UNUSED)
			put(w, &line, sizeof(line));
	}
	local.source = MP_SOURCE_EXTINT; /* LINT0 of the boot CPU */
	put(w, &local, sizeof(local));
	local.source = MP_SOURCE_NMI; /* LINT1 of every CPU */
	local.apic = MP_APIC_ALL;
	local.pin = 1;
	put(w, &local, sizeof(local));
}

static int check(unsigned cpus, const uint8_t *irq_of_pin, unsigned num_pins, struct err *e)
{
	if (cpus == 0 || cpus > MPTABLE_CPUS_MAX)
		return err_set(e, -EINVAL, "MP table: %u CPUs; 1 to %u are possible", cpus, MPTABLE_CPUS_MAX);
	if (num_pins > MPTABLE_PINS_MAX)
		return err_set(e, -EINVAL, "MP table: %u IOAPIC pins; at most %u are possible", num_pins,
			       MPTABLE_PINS_MAX);
	for (unsigned pin = 0; pin < num_pins; pin++) {
		unsigned irq = irq_of_pin[pin];

		if (irq != MPTABLE_PIN_UNUSED && (irq == 2 || (irq >= MP_ISA_IRQS && irq != pin)))
			return err_set(e, -EINVAL, "MP table: interrupt %u cannot be on pin %u", irq, pin);
	}
	return 0;
}

int mptable_write(struct mem *m, unsigned cpus, const uint8_t *irq_of_pin, unsigned num_pins, struct err *e)
{
	uint8_t *pointer_at = mem_at(m, LAYOUT_MPTABLE_POINTER, sizeof(struct mp_pointer));
	uint8_t *table_at = mem_at(m, LAYOUT_MPTABLE, LAYOUT_MPTABLE_SIZE);
	struct mp_pointer pointer = {
		.signature = { '_', 'M', 'P', '_' },
		.table = LAYOUT_MPTABLE,
		.length = sizeof(pointer) / 16,
		.spec = MP_SPEC_1_4,
	};
	struct mp_header header = {
		.signature = { 'P', 'C', 'M', 'P' },
		.spec = MP_SPEC_1_4,
		.oem = { 'M', 'A', 'Y', 'F', 'L', 'Y', ' ', ' ' },
		.product = { 'M', 'I', 'C', 'R', 'O', 'V', 'M', ' ', ' ', ' ', ' ', ' ' },
		.lapic = LAYOUT_LAPIC,
	};
	struct writer w = { .base = table_at, .len = sizeof(header) };
	int rc = check(cpus, irq_of_pin, num_pins, e);

	if (rc < 0)
		return rc;
	if (!pointer_at || !table_at)
		return err_set(e, -EFAULT, "MP table: no guest memory at 0x%llx", LAYOUT_MPTABLE);
	put_cpus_and_ioapic(&w, cpus);
	put_interrupts(&w, cpus, irq_of_pin, num_pins);
	header.length = (uint16_t)w.len;
	header.num_entries = w.num_entries;
	memcpy(table_at, &header, sizeof(header));
	table_at[offsetof(struct mp_header, checksum)] = checksum(table_at, w.len);
	pointer.checksum = checksum(&pointer, sizeof(pointer));
	memcpy(pointer_at, &pointer, sizeof(pointer));
	return 0;
}
