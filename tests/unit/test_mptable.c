/* The MP table, read back the way a guest does: scan, checksums, entries by their documented offsets. */
#include "tests/unit/loader_fixture.h"

#include "loader/mptable.h"

/* What the parser found. */
static struct {
	unsigned cpus;
	unsigned boot_cpus;
	uint64_t lapic_ids;
	unsigned buses;
	unsigned ioapics;
	unsigned ioapic_id;
	unsigned irqs;
	int pin_of_irq[256];
	unsigned local_extint;
	unsigned local_nmi;
	unsigned entries;
} mp;

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
	return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	while (len-- > 0)
		s = (uint8_t)(s + *p++);
	return s;
}

static void parse_cpu(const uint8_t *p)
{
	assert_int_equal(p[2], 0x14);
	assert_int_equal(p[3] & 1, 1);
	mp.boot_cpus += p[3] >> 1 & 1;
	if (p[3] & 2)
		assert_int_equal(p[1], 0);
	assert_int_equal(get32(p + 4), 0x600);
	assert_int_equal(get32(p + 8), 0x201);
	assert_int_equal(get32(p + 12), 0);
	assert_int_equal(get32(p + 16), 0);
	assert_false(mp.lapic_ids >> p[1] & 1);
	mp.lapic_ids |= 1ULL << p[1];
	mp.cpus++;
}

static void parse_interrupt(const uint8_t *p)
{
	assert_int_equal(p[1], 0);
	assert_int_equal(get16(p + 2), 5); /* active high, edge */
	assert_int_equal(p[4], 0);
	assert_int_equal(p[6], mp.ioapic_id);
	assert_int_equal(mp.pin_of_irq[p[5]], -1);
	mp.pin_of_irq[p[5]] = p[7];
	mp.irqs++;
}

static void parse_local(const uint8_t *p)
{
	assert_int_equal(get16(p + 2), 0);
	if (p[1] == 3) {
		assert_int_equal(p[6], 0);
		assert_int_equal(p[7], 0);
		mp.local_extint++;
	} else {
		assert_int_equal(p[1], 1);
		assert_int_equal(p[6], 0xff);
		assert_int_equal(p[7], 1);
		mp.local_nmi++;
	}
}

static void parse_entries(const uint8_t *p, size_t len)
{
	static const uint8_t sizes[] = { 20, 8, 8, 8, 8 };
	size_t pos = 0;
	unsigned last = 0;

	for (; pos < len; pos += sizes[p[pos]]) {
		assert_in_range(p[pos], last, 4); /* in ascending order of types, as the specification asks */
		last = p[pos];
		mp.entries++;
		if (p[pos] == 0) {
			parse_cpu(p + pos);
		} else if (p[pos] == 1) {
			assert_int_equal(p[pos + 1], 0);
			assert_memory_equal(p + pos + 2, "ISA   ", 6);
			mp.buses++;
		} else if (p[pos] == 2) {
			mp.ioapic_id = p[pos + 1];
			assert_int_equal(p[pos + 2], 0x11);
			assert_int_equal(p[pos + 3], 1);
			assert_int_equal(get32(p + pos + 4), 0xfec00000);
			mp.ioapics++;
		} else if (p[pos] == 3) {
			parse_interrupt(p + pos);
		} else {
			parse_local(p + pos);
		}
	}
	assert_int_equal(pos, len);
}

static void parse(void)
{
	const uint8_t *base = mem_at(&ram, 0, MIB), *pointer = NULL, *table;
	uint32_t at;

	memset(&mp, 0, sizeof(mp));
	for (unsigned i = 0; i < 256; i++)
		mp.pin_of_irq[i] = -1;
	for (at = 0; at < 0x400 && !pointer; at += 16)
		if (memcmp(base + at, "_MP_", 4) == 0)
			pointer = base + at;
	assert_non_null(pointer);
	assert_int_equal(pointer[8], 1);
	assert_int_equal(pointer[9], 4);
	assert_int_equal(sum(pointer, 16), 0);
	for (unsigned i = 11; i < 16; i++)
		assert_int_equal(pointer[i], 0);
	at = get32(pointer + 4);
	table = base + at;
	assert_memory_equal(table, "PCMP", 4);
	assert_true(at >= 0x500 && at + get16(table + 4) <= 0x1000);
	assert_int_equal(table[6], 4);
	assert_int_equal(sum(table, get16(table + 4)), 0);
	assert_memory_equal(table + 8, "MAYFLY  MICROVM     ", 20);
	assert_int_equal(get32(table + 28), 0);
	assert_int_equal(get16(table + 32), 0);
	assert_int_equal(get32(table + 36), 0xfee00000);
	assert_int_equal(get32(table + 40), 0);
	parse_entries(table + 44, get16(table + 4) - 44U);
	assert_int_equal(mp.entries, get16(table + 34));
	/* The BIOS data area that Linux reads: the EBDA's segment, the size of low memory. */
	assert_int_equal(get16(base + 0x40e), 0);
	assert_int_equal(get16(base + 0x413), 0);
}

static void assert_parsed(unsigned cpus, unsigned irqs)
{
	assert_int_equal(mp.cpus, cpus);
	assert_int_equal(mp.boot_cpus, 1);
	assert_int_equal(mp.lapic_ids, (1ULL << cpus) - 1);
	assert_int_equal(mp.buses, 1);
	assert_int_equal(mp.ioapics, 1);
	assert_int_equal(mp.ioapic_id, cpus);
	assert_int_equal(mp.irqs, irqs);
	assert_int_equal(mp.local_extint, 1);
	assert_int_equal(mp.local_nmi, 1);
}

static void test_identity(void **state)
{
	const uint8_t irq[7] = { 0, 1, MPTABLE_PIN_UNUSED, 3, 4, 5, 6 };

	(void)state;
	assert_int_equal(mptable_write(&ram, 1, irq, 7, &err), 0);
	parse();
	assert_parsed(1, 6);
	for (int i = 0; i < 7; i++)
		assert_int_equal(mp.pin_of_irq[i], i == 2 ? -1 : i);
}

static void test_compact(void **state)
{
	const uint8_t irq[3] = { 4, 5, 6 };

	(void)state;
	assert_int_equal(mptable_write(&ram, 4, irq, 3, &err), 0);
	parse();
	assert_parsed(4, 3);
	assert_int_equal(mp.pin_of_irq[4], 0);
	assert_int_equal(mp.pin_of_irq[5], 1);
	assert_int_equal(mp.pin_of_irq[6], 2);
}

static void test_no_pins(void **state)
{
	(void)state;
	assert_int_equal(mptable_write(&ram, 2, NULL, 0, &err), 0);
	parse();
	assert_parsed(2, 0);
}

static void test_largest(void **state)
{
	uint8_t irq[MPTABLE_PINS_MAX];

	(void)state;
	for (unsigned i = 0; i < MPTABLE_PINS_MAX; i++)
		irq[i] = i == 2 ? MPTABLE_PIN_UNUSED : (uint8_t)i;
	assert_int_equal(mptable_write(&ram, MPTABLE_CPUS_MAX, irq, MPTABLE_PINS_MAX, &err), 0);
	parse();
	assert_parsed(32, 31);
}

static void test_refused(void **state)
{
	const uint8_t irq2[3] = { 0, 1, 2 }, high[2] = { 4, 16 };
	uint8_t unused[MPTABLE_PINS_MAX + 1];
	const uint8_t *base = mem_at(&ram, 0, 4096);

	(void)state;
	memset(unused, MPTABLE_PIN_UNUSED, sizeof(unused));
	assert_int_equal(mptable_write(&ram, 0, unused, 1, &err), -EINVAL);
	assert_string_equal(err.text, "MP table: 0 CPUs; 1 to 32 are possible");
	assert_int_equal(mptable_write(&ram, 33, unused, 1, &err), -EINVAL);
	assert_string_equal(err.text, "MP table: 33 CPUs; 1 to 32 are possible");
	assert_int_equal(mptable_write(&ram, 1, unused, 33, &err), -EINVAL);
	assert_string_equal(err.text, "MP table: 33 IOAPIC pins; at most 32 are possible");
	assert_int_equal(mptable_write(&ram, 1, irq2, 3, &err), -EINVAL);
	assert_string_equal(err.text, "MP table: interrupt 2 cannot be on pin 2");
	assert_int_equal(mptable_write(&ram, 1, high, 2, &err), -EINVAL);
	assert_string_equal(err.text, "MP table: interrupt 16 cannot be on pin 1");
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(base[i], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compact, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_pins, setup, teardown),
		cmocka_unit_test_setup_teardown(test_largest, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
	};

	return cmocka_run_group_tests_name("mptable", tests, NULL, NULL);
}
