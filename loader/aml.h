/*
 * Writes the few parts of AML (ACPI 6.5, chapter 20) and of resource descriptors (6.4)
 * that describe devices, with no more code than a Notify. Bytes that do not fit are counted and not written:
 * the caller checks aml_fits() at the end.
 */
#ifndef MF_LOADER_AML_H
#define MF_LOADER_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AML_BLOCK_MAX 4095U /* bytes of one block: every length takes two bytes */

struct aml {
	uint8_t *buf;
	size_t size;
	size_t len; /* so far; above size: too much */
};

bool aml_fits(const struct aml *a);

/* Blocks: Scope (NAME) and Device (NAME). Returns what aml_end takes. Names have four characters, as everywhere here. */
size_t aml_begin_scope(struct aml *a, const char *name);
size_t aml_begin_device(struct aml *a, const char *name);
void aml_end(struct aml *a, size_t block);

/* Name (NAME, value). */
void aml_name_integer(struct aml *a, const char *name, uint32_t value);
void aml_name_string(struct aml *a, const char *name, const char *value);
void aml_name_package(struct aml *a, const char *name, const uint8_t *elements, uint8_t num);

/* Name (NAME, Package () { low, high }): an address below 4 GiB, in two halves. */
void aml_name_address(struct aml *a, const char *name, uint32_t gpa);

/* Method (NAME, 1, Serialized) { Notify (DEVICE, value) }: the device is in the same scope, or in one around it. */
void aml_method_notify(struct aml *a, const char *name, const char *device, uint8_t value);

/* Name (NAME, EisaId ("PNP0501")): three letters, four hexadecimal digits. */
void aml_name_eisa_id(struct aml *a, const char *name, const char *id);

/* Name (_CRS, ResourceTemplate () { ... }): begin, descriptors, end. */
size_t aml_begin_resources(struct aml *a);
void aml_end_resources(struct aml *a, size_t block);

/* Descriptors: a register window, a range of ports, an edge-triggered and active high interrupt that is not shared. */
void aml_memory(struct aml *a, uint32_t gpa, uint32_t size);
void aml_ports(struct aml *a, uint16_t port, uint8_t num);
void aml_interrupt(struct aml *a, uint32_t gsi);

#endif
