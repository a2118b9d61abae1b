/*
 * The format of a snapshot's `state` (docs/snapshot-format.md): a magic number, then
 * sections. Each object writes its own section, and reads it back, field by field,
 * little-endian.
 *
 *	section = tag u32, instance u32, version u16, 0 u16, length u32, checksum u64, payload
 *
 * The payload is padded with zeros to a multiple of 8 bytes. The file is hostile: a reader
 * checks each value as it checks what a guest writes, and refuses it by state_refuse.
 *
 *	state_begin(o, STATE_SERIAL, 0, 1);          r = state_open(in, STATE_SERIAL, 0, 1, e);
 *	state_put_u8(o, s->ier);                     if (r < 0) return r;
 *	state_end(o);                                s->ier = state_get_u8(in);
 *	                                             if (s->ier > 15) state_refuse(in, "interrupts");
 *	                                             return state_close(in, e);
 *
 * No function allocates or makes a system call.
 */
#ifndef MF_CORE_STATE_H
#define MF_CORE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define STATE_TAG(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

#define STATE_MAX (8U << 20)	  /* bytes of a state */
#define STATE_SECTION_MAX 1048576 /* bytes of a payload */

struct state_out {
	uint8_t *data; /* not owned */
	size_t size, len;
	size_t section; /* where the open section begins */
	int error;	/* sticky: 0 or -errno */
};

struct state_in {
	const uint8_t *at, *end; /* after the last section that was opened */
	const uint8_t *payload, *payload_end;
	uint32_t tag, instance;
	uint16_t version; /* of the open section, in the file */
	const char *why;  /* the first field that was refused, or NULL */
};

/* Begins a state in data, of size bytes. */
void state_out_init(struct state_out *o, void *data, size_t size);

/*
 * Write a section. A state that does not fit makes o->error -ENOMEM, and further calls do
 * nothing. Sections do not nest.
 */
void state_begin(struct state_out *o, uint32_t tag, uint32_t instance, uint16_t version);
void state_put_u8(struct state_out *o, uint8_t v);
void state_put_u16(struct state_out *o, uint16_t v);
void state_put_u32(struct state_out *o, uint32_t v);
void state_put_u64(struct state_out *o, uint64_t v);
void state_put_bytes(struct state_out *o, const void *p, size_t len);
void state_end(struct state_out *o);

/* Ends the state. Returns its length, or -errno. */
int64_t state_out_finish(struct state_out *o);

/*
 * Reads the state in data, of size bytes, which must stay. Checks the frame and checksum
 * of every section up to the last, so that a state that is cut short is refused here.
 * Returns 0 or -errno with e set.
 */
int state_in_init(struct state_in *in, const void *data, size_t size, struct err *e);

struct state_section {
	uint32_t tag;
	uint16_t version; /* the highest that is read */
};

/*
 * Whether every section, from the next one on, has a known tag, and a version that is
 * read: before anything is built from them. Returns 0 or -errno with e set.
 */
int state_check_sections(const struct state_in *in, const struct state_section *known, size_t num, struct err *e);

/* Whether the next section has this tag: for one that not every VM has. */
bool state_next_is(const struct state_in *in, uint32_t tag);

/*
 * Opens the next section, which must have this tag and instance, and version at most;
 * in->version says which. Returns 0 or -errno with e set to what was found instead.
 */
int state_open(struct state_in *in, uint32_t tag, uint32_t instance, uint16_t version, struct err *e);

/*
 * Read the payload. After its end, and after a refusal, they return zeros and state_close
 * fails.
 */
uint8_t state_get_u8(struct state_in *in);
uint16_t state_get_u16(struct state_in *in);
uint32_t state_get_u32(struct state_in *in);
uint64_t state_get_u64(struct state_in *in);
void state_get_bytes(struct state_in *in, void *p, size_t len);

/* The next len bytes of the payload in place, not aligned; or NULL, as above. */
const uint8_t *state_get_ptr(struct state_in *in, size_t len);

/* Bytes of the payload that were not read. */
size_t state_left(const struct state_in *in);

/* A field has a bad value; why is a constant phrase that names the field. The first one stands. */
void state_refuse(struct state_in *in, const char *why);

/* Ends the section: all of it was read, and nothing was refused. Returns 0 or -errno with e set. */
int state_close(struct state_in *in, struct err *e);

/* A section as it is in the file, with its header. */
struct state_raw {
	uint32_t tag;
	const uint8_t *data;
	size_t len;
};

#define STATE_HEADER_LEN 24

/* Passes over the next section. Returns false if there is none. A copy of in looks ahead. */
bool state_next(struct state_in *in, struct state_raw *ret);

/* Adds such a section to a state. */
void state_put_raw(struct state_out *o, const struct state_raw *raw);

/* The checksum of docs/snapshot-format.md, which begins with sum, of len bytes: a multiple of 8. */
uint64_t state_sum(uint64_t sum, const void *data, size_t len);

/* All sections were opened. Returns 0, or -errno with e set to the first that was not. */
int state_in_finish(const struct state_in *in, struct err *e);

#endif
