/*
 * Reads AML by the grammar of the specification (ACPI 6.5, 20.2), knowing nothing of how it was written: as much of it as
 * describes mayfly's devices. All else fails the test.
 */
#ifndef MF_TESTS_UNIT_READ_AML_H
#define MF_TESTS_UNIT_READ_AML_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the AML says. */
static struct {
	unsigned devices; /* LNRO0005 */
	uint64_t gpa[64];
	uint32_t size[64];
	uint32_t irq[64];
	unsigned serials;
	uint16_t serial_port;
	uint32_t serial_irq;
	unsigned keyboards;
	uint16_t keyboard_port; /* the second of its ports */
	uint32_t keyboard_irq;
	uint32_t generation_gpa, generation_irq;
	bool has_s5, is_notified;
	uint64_t s5;
} aml;

/* The device that is being read. */
static struct {
	char hid[16], cid[16];
	char name[5];
	uint64_t uid;
	uint64_t gpa;
	uint32_t size;
	uint32_t irq;
	uint16_t port;
	uint8_t num_ports;
} dev;

static uint64_t get(const uint8_t *p, unsigned len)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < len; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

/* The interpreter: each function returns where its term ends. Everything that the writer has no use for fails. */
static const uint8_t *parse_terms(const uint8_t *p, const uint8_t *end, bool in_device);

static const uint8_t *parse_length(const uint8_t *p, const uint8_t **ret_end)
{
	unsigned more = p[0] >> 6;
	size_t len = more ? p[0] & 0xfU : p[0] & 0x3fU;

	for (unsigned i = 0; i < more; i++)
		len |= (size_t)p[1 + i] << (4 + 8 * i);
	*ret_end = p + len;
	return p + 1 + more;
}

static void parse_name(const uint8_t *p)
{
	for (unsigned i = 0; i < 4; i++) {
		bool letter = (p[i] >= 'A' && p[i] <= 'Z') || p[i] == '_';

		assert_true(letter || (i > 0 && p[i] >= '0' && p[i] <= '9'));
	}
}

static const uint8_t *parse_integer(const uint8_t *p, uint64_t *ret)
{
	switch (*p) {
	case 0x00:
	case 0x01:
		*ret = *p;
		return p + 1;
	case 0x0a:
		*ret = p[1];
		return p + 2;
	case 0x0b:
		*ret = get(p + 1, 2);
		return p + 3;
	case 0x0c:
		*ret = get(p + 1, 4);
		return p + 5;
	default:
		fail_msg("no integer: 0x%x", *p);
		return NULL;
	}
}

static void parse_resources(const uint8_t *p, const uint8_t *end)
{
	while (*p != 0x79) {
		if (*p == 0x86) {
			assert_int_equal(get(p + 1, 2), 9);
			assert_int_equal(p[3], 1);
			dev.gpa = get(p + 4, 4);
			dev.size = (uint32_t)get(p + 8, 4);
			p += 12;
		} else if (*p == 0x89) {
			assert_int_equal(get(p + 1, 2), 6);
			assert_int_equal(p[3], 3); /* consumer, edge, active high, exclusive */
			assert_int_equal(p[4], 1);
			dev.irq = (uint32_t)get(p + 5, 4);
			p += 9;
		} else {
			assert_int_equal(*p, 0x47);
			assert_int_equal(p[1], 1);
			dev.port = (uint16_t)get(p + 2, 2);
			assert_int_equal(get(p + 4, 2), dev.port);
			dev.num_ports = p[7];
			p += 8;
		}
		assert_true(p < end);
	}
	assert_ptr_equal(p + 2, end);
}

static const uint8_t *parse_object(const uint8_t *p, const char *name)
{
	const uint8_t *end;
	uint64_t value = 0;

	if (*p == 0x0d) {
		if (strcmp(name, "_CID") == 0)
			snprintf(dev.cid, sizeof(dev.cid), "%s", (const char *)p + 1);
		else
			snprintf(dev.hid, sizeof(dev.hid), "%s", (const char *)p + 1);
		return p + 2 + strlen((const char *)p + 1);
	}
	if (*p == 0x11) {
		p = parse_length(p + 1, &end);
		p = parse_integer(p, &value);
		assert_int_equal(value, end - p);
		parse_resources(p, end);
		return end;
	}
	if (*p == 0x12) {
		p = parse_length(p + 1, &end);
		if (strcmp(name, "ADDR") == 0) {
			assert_int_equal(*p, 2);
			p = parse_integer(parse_integer(p + 1, &dev.gpa), &value);
			assert_int_equal(value, 0);
			assert_ptr_equal(p, end);
			return end;
		}
		assert_int_equal(*p, 4);
		assert_string_equal(name, "_S5_");
		parse_integer(p + 1, &aml.s5);
		aml.has_s5 = true;
		for (unsigned i = *p++; i > 0; i--)
			p = parse_integer(p, &value);
		assert_ptr_equal(p, end);
		return end;
	}
	p = parse_integer(p, &value);
	if (strcmp(name, "_UID") == 0)
		dev.uid = value;
	if (strcmp(name, "_HID") == 0) /* of PNP0501: three letters of 5 bits, big-endian */
		snprintf(dev.hid, sizeof(dev.hid), "%08x", __builtin_bswap32((uint32_t)value));
	return p;
}

static void end_device(void)
{
	if (strcmp(dev.hid, "41d00501") == 0) {
		aml.serials++;
		aml.serial_port = dev.port;
		aml.serial_irq = dev.irq;
		assert_int_equal(dev.num_ports, 8);
		return;
	}
	if (strcmp(dev.hid, "41d00303") == 0) {
		aml.keyboards++;
		aml.keyboard_port = dev.port;
		aml.keyboard_irq = dev.irq;
		assert_int_equal(dev.num_ports, 1);
		return;
	}
	if (strcmp(dev.hid, "MFLY0001") == 0) {
		assert_string_equal(dev.cid, "VM_Gen_Counter");
		assert_string_equal(dev.name, "VGEN");
		aml.generation_gpa = (uint32_t)dev.gpa;
		return;
	}
	if (strcmp(dev.hid, "ACPI0013") == 0) {
		aml.generation_irq = dev.irq;
		return;
	}
	assert_string_equal(dev.hid, "LNRO0005");
	assert_int_equal(dev.uid, aml.devices);
	assert_int_equal(dev.name[0], 'V');
	assert_int_equal(atoi(dev.name + 1), aml.devices);
	aml.gpa[aml.devices] = dev.gpa;
	aml.size[aml.devices] = dev.size;
	aml.irq[aml.devices] = dev.irq;
	aml.devices++;
}

static const uint8_t *parse_term(const uint8_t *p, bool in_device)
{
	const uint8_t *end;
	char name[5] = "";

	if (*p == 0x08) {
		parse_name(p + 1);
		memcpy(name, p + 1, 4);
		assert_int_equal(in_device, strcmp(name, "_S5_") != 0);
		return parse_object(p + 5, name);
	}
	if (*p == 0x10) {
		p = parse_length(p + 1, &end);
		assert_memory_equal(p, "_SB_", 4);
		parse_terms(p + 4, end, false);
		return end;
	}
	if (*p == 0x14) { /* _EVT: one argument, serialized; it notifies VGEN */
		p = parse_length(p + 1, &end);
		assert_true(in_device);
		assert_memory_equal(p, "_EVT\x09\x86VGEN\x0a\x80", 12);
		assert_ptr_equal(p + 12, end);
		aml.is_notified = true;
		return end;
	}
	assert_int_equal(*p, 0x5b);
	assert_int_equal(p[1], 0x82);
	assert_false(in_device);
	p = parse_length(p + 2, &end);
	parse_name(p);
	memset(&dev, 0, sizeof(dev));
	memcpy(dev.name, p, 4);
	parse_terms(p + 4, end, true);
	end_device();
	return end;
}

static const uint8_t *parse_terms(const uint8_t *p, const uint8_t *end, bool in_device)
{
	while (p < end)
		p = parse_term(p, in_device);
	assert_ptr_equal(p, end);
	return p;
}

#endif
