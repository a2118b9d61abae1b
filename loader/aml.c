/*
 * The AML writer; see aml.h. Section numbers are those of the ACPI Specification 6.5.
 *
 * A block has its length in front of it (20.2.4), which is known only at its end: two bytes are reserved for each, the
 * form for lengths up to 4095, and the first nibble is filled in together with the second byte by aml_end.
 */
#include "loader/aml.h"

#include <assert.h>
#include <string.h>

enum {
	AML_NAME = 0x08,
	AML_BYTE = 0x0a,
	AML_WORD = 0x0b,
	AML_DWORD = 0x0c,
	AML_STRING = 0x0d,
	AML_SCOPE = 0x10,
	AML_BUFFER = 0x11,
	AML_PACKAGE = 0x12,
	AML_METHOD = 0x14,
	AML_EXTENDED = 0x5b,
	AML_EXTENDED_DEVICE = 0x82,
	AML_NOTIFY = 0x86,
};

enum {
	RESOURCE_PORTS = 0x47,	   /* 6.4.2.5, small */
	RESOURCE_END = 0x79,	   /* 6.4.2.9, small; a checksum of 0 means "not checked" */
	RESOURCE_MEMORY32 = 0x86,  /* 6.4.3.4 */
	RESOURCE_INTERRUPT = 0x89, /* 6.4.3.6 */
	RESOURCE_DECODE_16 = 1,	   /* all 16 bits of the port number */
	RESOURCE_WRITABLE = 1,
	RESOURCE_CONSUMER = 1,
	RESOURCE_EDGE = 2,
};

#define METHOD_SERIALIZED 8U   /* 20.2.5.2; below it, the number of arguments */
#define LENGTH_TWO_BYTES 0x40U /* the lead byte's upper bits: one byte follows */

static void put(struct aml *a, const void *data, size_t len)
{
	if (a->len <= a->size && len <= a->size - a->len)
		memcpy(a->buf + a->len, data, len);
	a->len += len;
}

static void put_byte(struct aml *a, unsigned value)
{
	const uint8_t byte = (uint8_t)value;

	put(a, &byte, 1);
}

static void put_number(struct aml *a, uint32_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		put_byte(a, value >> 8 * i);
}

static void put_name(struct aml *a, const char *name)
{
	assert(strlen(name) == 4);
	put(a, name, 4);
}

static void begin_name(struct aml *a, const char *name)
{
	put_byte(a, AML_NAME);
	put_name(a, name);
}

bool aml_fits(const struct aml *a)
{
	return a->len <= a->size;
}

static size_t begin_block(struct aml *a)
{
	size_t block = a->len;

	put_number(a, 0, 2);
	return block;
}

void aml_end(struct aml *a, size_t block)
{
	size_t len = a->len - block;

	if (!aml_fits(a))
		return;
	assert(len <= AML_BLOCK_MAX);
	a->buf[block] = (uint8_t)(LENGTH_TWO_BYTES | (len & 0xf));
	a->buf[block + 1] = (uint8_t)(len >> 4);
}

size_t aml_begin_scope(struct aml *a, const char *name)
{
	size_t block;

	put_byte(a, AML_SCOPE);
	block = begin_block(a);
	put_name(a, name);
	return block;
}

size_t aml_begin_device(struct aml *a, const char *name)
{
	size_t block;

	put_byte(a, AML_EXTENDED);
	put_byte(a, AML_EXTENDED_DEVICE);
	block = begin_block(a);
	put_name(a, name);
	return block;
}

void aml_name_integer(struct aml *a, const char *name, uint32_t value)
{
	begin_name(a, name);
	if (value <= 1) {
		put_byte(a, value); /* ZeroOp, OneOp */
	} else if (value <= 0xff) {
		put_byte(a, AML_BYTE);
		put_byte(a, value);
	} else {
		put_byte(a, AML_DWORD);
		put_number(a, value, 4);
	}
}

void aml_name_string(struct aml *a, const char *name, const char *value)
{
	begin_name(a, name);
	put_byte(a, AML_STRING);
	put(a, value, strlen(value) + 1);
}

void aml_name_package(struct aml *a, const char *name, const uint8_t *elements, uint8_t num)
{
	size_t block;

	begin_name(a, name);
	put_byte(a, AML_PACKAGE);
	block = begin_block(a);
	put_byte(a, num);
	for (unsigned i = 0; i < num; i++) {
		put_byte(a, AML_BYTE);
		put_byte(a, elements[i]);
	}
	aml_end(a, block);
}

void aml_name_address(struct aml *a, const char *name, uint32_t gpa)
{
	size_t block;

	begin_name(a, name);
	put_byte(a, AML_PACKAGE);
	block = begin_block(a);
	put_byte(a, 2);
	put_byte(a, AML_DWORD);
	put_number(a, gpa, 4);
	put_byte(a, 0); /* ZeroOp */
	aml_end(a, block);
}

void aml_method_notify(struct aml *a, const char *name, const char *device, uint8_t value)
{
	size_t block;

	put_byte(a, AML_METHOD);
	block = begin_block(a);
	put_name(a, name);
	put_byte(a, METHOD_SERIALIZED | 1);
	put_byte(a, AML_NOTIFY);
	put_name(a, device);
	put_byte(a, AML_BYTE);
	put_byte(a, value);
	aml_end(a, block);
}

static unsigned hex_digit(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

void aml_name_eisa_id(struct aml *a, const char *name, const char *id)
{
	unsigned maker = 0, product = 0;

	assert(strlen(id) == 7);
	for (unsigned i = 0; i < 3; i++) /* 5 bits a letter, 'A' being 1 */
		maker = maker << 5 | ((unsigned)id[i] & 0x1f);
	for (unsigned i = 3; i < 7; i++)
		product = product << 4 | hex_digit(id[i]);
	begin_name(a, name);
	put_byte(a, AML_DWORD);
	/* The one number here that is big-endian. */
	put_byte(a, maker >> 8);
	put_byte(a, maker);
	put_byte(a, product >> 8);
	put_byte(a, product);
}

/* A Buffer: its own length, how many bytes it has (as a WordConst), the bytes. */
size_t aml_begin_resources(struct aml *a)
{
	size_t block;

	begin_name(a, "_CRS");
	put_byte(a, AML_BUFFER);
	block = begin_block(a);
	put_byte(a, AML_WORD);
	put_number(a, 0, 2);
	return block;
}

void aml_end_resources(struct aml *a, size_t block)
{
	size_t data = block + 2 + 3, len;

	put_byte(a, RESOURCE_END);
	put_byte(a, 0);
	if (!aml_fits(a))
		return;
	len = a->len - data;
	a->buf[data - 2] = (uint8_t)len;
	a->buf[data - 1] = (uint8_t)(len >> 8);
	aml_end(a, block);
}

void aml_memory(struct aml *a, uint32_t gpa, uint32_t size)
{
	put_byte(a, RESOURCE_MEMORY32);
	put_number(a, 9, 2);
	put_byte(a, RESOURCE_WRITABLE);
	put_number(a, gpa, 4);
	put_number(a, size, 4);
}

void aml_ports(struct aml *a, uint16_t port, uint8_t num)
{
	put_byte(a, RESOURCE_PORTS);
	put_byte(a, RESOURCE_DECODE_16);
	put_number(a, port, 2); /* from here */
	put_number(a, port, 2); /* to here is where it may start */
	put_byte(a, 1);
	put_byte(a, num);
}

void aml_interrupt(struct aml *a, uint32_t gsi)
{
	put_byte(a, RESOURCE_INTERRUPT);
	put_number(a, 6, 2);
	put_byte(a, RESOURCE_CONSUMER | RESOURCE_EDGE);
	put_byte(a, 1);
	put_number(a, gsi, 4);
}
