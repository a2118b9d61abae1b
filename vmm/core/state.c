/*
 * The sections of a snapshot's `state`; see state.h.
 *
 * The checksum notices accidents, not attacks. Each of its steps is a bijection of the sum
 * for a given word, and of the word for a given sum: one changed word always changes it.
 * It takes eight bytes at a step, since every restore pays for it.
 */
#include "vmm/core/state.h"

#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define MAGIC "mayfly\x01\n"
#define MAGIC_LEN 8
#define HEADER_LEN STATE_HEADER_LEN
#define LENGTH_AT 12
#define SUM_AT 16
#define STATE_END STATE_TAG('E', 'N', 'D', ' ')
#define END_VERSION 1

static uint64_t read_u64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static uint32_t read_u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static uint16_t read_u16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

uint64_t state_sum(uint64_t sum, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (; len; p += 8, len -= 8) {
		sum = (sum ^ read_u64(p)) * 0x9e3779b97f4a7c15ULL;
		sum ^= sum >> 32;
	}
	return sum;
}

/* Of a section with a padded payload of len bytes; without the field of the sum itself. */
static uint64_t checksum(const uint8_t *section, size_t len)
{
	return state_sum(state_sum(1, section, SUM_AT), section + HEADER_LEN, len);
}

static uint8_t *reserve(struct state_out *o, size_t len)
{
	uint8_t *at = o->data + o->len;

	if (o->error)
		return NULL;
	if (len > o->size - o->len) {
		o->error = -ENOMEM;
		return NULL;
	}
	o->len += len;
	return at;
}

void state_out_init(struct state_out *o, void *data, size_t size)
{
	*o = (struct state_out){ .data = data, .size = size };
	state_put_bytes(o, MAGIC, MAGIC_LEN);
}

void state_begin(struct state_out *o, uint32_t tag, uint32_t instance, uint16_t version)
{
	o->section = o->len;
	state_put_u32(o, tag);
	state_put_u32(o, instance);
	state_put_u16(o, version);
	state_put_u16(o, 0);
	state_put_u32(o, 0); /* length and checksum: state_end */
	state_put_u64(o, 0);
}

void state_put_bytes(struct state_out *o, const void *p, size_t len)
{
	uint8_t *at = reserve(o, len);

	if (at && len)
		memcpy(at, p, len);
}

void state_put_u8(struct state_out *o, uint8_t v)
{
	state_put_bytes(o, &v, sizeof(v));
}

void state_put_u16(struct state_out *o, uint16_t v)
{
	v = htole16(v);
	state_put_bytes(o, &v, sizeof(v));
}

void state_put_u32(struct state_out *o, uint32_t v)
{
	v = htole32(v);
	state_put_bytes(o, &v, sizeof(v));
}

void state_put_u64(struct state_out *o, uint64_t v)
{
	v = htole64(v);
	state_put_bytes(o, &v, sizeof(v));
}

void state_end(struct state_out *o)
{
	static const uint8_t zeros[8];
	size_t len = o->len - o->section - HEADER_LEN, padded = mf_align_up(len, 8);
	uint8_t *section = o->data + o->section;
	uint32_t length = htole32((uint32_t)len);
	uint64_t sum;

	if (!o->error && len > STATE_SECTION_MAX)
		o->error = -ENOMEM;
	state_put_bytes(o, zeros, padded - len);
	if (o->error)
		return;
	memcpy(section + LENGTH_AT, &length, sizeof(length));
	sum = htole64(checksum(section, padded));
	memcpy(section + SUM_AT, &sum, sizeof(sum));
}

int64_t state_out_finish(struct state_out *o)
{
	state_begin(o, STATE_END, 0, END_VERSION);
	state_end(o);
	return o->error ? o->error : (int64_t)o->len;
}

/* A tag as text, for messages. */
static const char *tag_text(char text[8], uint32_t tag)
{
	for (unsigned i = 0; i < 4; i++) {
		unsigned char c = (unsigned char)(tag >> 8 * i);

		text[i] = isprint(c) ? (char)c : '?';
	}
	text[4] = '\0';
	return text;
}

/* The length of the whole section at p, of which left bytes are there; or -errno with e set. */
static int64_t check_section(const uint8_t *p, size_t left, struct err *e)
{
	uint32_t len = left < HEADER_LEN ? 0 : read_u32(p + LENGTH_AT);
	size_t padded = mf_align_up(len, 8);
	char name[8];

	if (left < HEADER_LEN || len > STATE_SECTION_MAX || padded > left - HEADER_LEN)
		return err_set(e, -EBADMSG, "it is cut short");
	if (checksum(p, padded) != read_u64(p + SUM_AT))
		return err_set(e, -EBADMSG, "section '%s' %u is damaged: its checksum differs",
			       tag_text(name, read_u32(p)), read_u32(p + 4));
	return (int64_t)(HEADER_LEN + padded);
}

int state_in_init(struct state_in *in, const void *data, size_t size, struct err *e)
{
	const uint8_t *p = (const uint8_t *)data + MAGIC_LEN, *end = (const uint8_t *)data + size;
	int64_t len = 0;

	if (size < MAGIC_LEN || memcmp(data, MAGIC, MAGIC_LEN - 2) != 0)
		return err_set(e, -EBADMSG, "it is not the state of a mayfly snapshot");
	if (memcmp(data, MAGIC, MAGIC_LEN) != 0)
		return err_set(e, -ENOTSUP, "it has format %u, and this mayfly reads format 1", p[-2]);
	if (size > STATE_MAX)
		return err_set(e, -EFBIG, "it has %zu bytes, more than %u", size, STATE_MAX);
	*in = (struct state_in){ .at = p };
	do {
		p += len;
		len = check_section(p, (size_t)(end - p), e);
		if (len < 0)
			return (int)len;
	} while (read_u32(p) != STATE_END);
	if (p + len != end)
		return err_set(e, -EBADMSG, "%zu bytes follow its end", (size_t)(end - (p + len)));
	in->end = p;
	return 0;
}

static int check_known(const uint8_t *p, const struct state_section *known, size_t num, struct err *e)
{
	unsigned version = read_u16(p + 8);
	char tag[8];

	while (num && known->tag != read_u32(p)) {
		known++;
		num--;
	}
	tag_text(tag, read_u32(p));
	if (!num)
		return err_set(e, -ENOTSUP, "section '%s' is unknown to this mayfly", tag);
	if (version == 0 || version > known->version || read_u16(p + 10) != 0)
		return err_set(e, -ENOTSUP, "section '%s' %u has version %u, and this mayfly reads 1 to %u", tag,
			       read_u32(p + 4), version, known->version);
	return 0;
}

int state_check_sections(const struct state_in *in, const struct state_section *known, size_t num, struct err *e)
{
	int r = 0;

	/* state_in_init has checked their frames. */
	for (const uint8_t *p = in->at; !r && p < in->end; p += HEADER_LEN + mf_align_up(read_u32(p + LENGTH_AT), 8))
		r = check_known(p, known, num, e);
	return r;
}

bool state_next_is(const struct state_in *in, uint32_t tag)
{
	return in->at != in->end && read_u32(in->at) == tag;
}

int state_open(struct state_in *in, uint32_t tag, uint32_t instance, uint16_t version, struct err *e)
{
	const uint8_t *p = in->at;
	char want[8], have[8];
	uint32_t len;

	if (p == in->end)
		return err_set(e, -ENOTSUP, "section '%s' %u is missing", tag_text(want, tag), instance);
	if (read_u32(p) != tag || read_u32(p + 4) != instance)
		return err_set(e, -ENOTSUP, "section '%s' %u is where this mayfly expects '%s' %u",
			       tag_text(have, read_u32(p)), read_u32(p + 4), tag_text(want, tag), instance);
	in->version = read_u16(p + 8);
	if (in->version == 0 || in->version > version || read_u16(p + 10) != 0)
		return err_set(e, -ENOTSUP, "section '%s' %u has version %u, and this mayfly reads 1 to %u",
			       tag_text(want, tag), instance, in->version, version);
	len = read_u32(p + LENGTH_AT);
	in->tag = tag;
	in->instance = instance;
	in->why = NULL;
	in->payload = p + HEADER_LEN;
	in->payload_end = in->payload + len;
	in->at = in->payload + mf_align_up(len, 8);
	return 0;
}

void state_refuse(struct state_in *in, const char *why)
{
	if (!in->why)
		in->why = why;
}

size_t state_left(const struct state_in *in)
{
	return in->why ? 0 : (size_t)(in->payload_end - in->payload);
}

const uint8_t *state_get_ptr(struct state_in *in, size_t len)
{
	const uint8_t *p = in->payload;

	if (in->why)
		return NULL;
	if (len > state_left(in)) {
		state_refuse(in, "it is too short");
		return NULL;
	}
	in->payload += len;
	return p;
}

uint8_t state_get_u8(struct state_in *in)
{
	const uint8_t *p = state_get_ptr(in, sizeof(uint8_t));

	return p ? *p : 0;
}

uint16_t state_get_u16(struct state_in *in)
{
	const uint8_t *p = state_get_ptr(in, sizeof(uint16_t));

	return p ? read_u16(p) : 0;
}

uint32_t state_get_u32(struct state_in *in)
{
	const uint8_t *p = state_get_ptr(in, sizeof(uint32_t));

	return p ? read_u32(p) : 0;
}

uint64_t state_get_u64(struct state_in *in)
{
	const uint8_t *p = state_get_ptr(in, sizeof(uint64_t));

	return p ? read_u64(p) : 0;
}

void state_get_bytes(struct state_in *in, void *p, size_t len)
{
	const uint8_t *from = state_get_ptr(in, len);

	if (from && len)
		memcpy(p, from, len);
	else if (len)
		memset(p, 0, len);
}

int state_close(struct state_in *in, struct err *e)
{
	char name[8];

	if (!in->why && in->payload != in->payload_end)
		in->why = "it is too long";
	if (in->why)
		return err_set(e, -EINVAL, "section '%s' %u is refused: %s", tag_text(name, in->tag), in->instance,
			       in->why);
	return 0;
}

bool state_next(struct state_in *in, struct state_raw *ret)
{
	size_t len = in->at == in->end ? 0 : HEADER_LEN + mf_align_up(read_u32(in->at + LENGTH_AT), 8);

	if (!len)
		return false;
	*ret = (struct state_raw){ read_u32(in->at), in->at, len };
	in->at += len;
	return true;
}

void state_put_raw(struct state_out *o, const struct state_raw *raw)
{
	state_put_bytes(o, raw->data, raw->len);
}

int state_in_finish(const struct state_in *in, struct err *e)
{
	char name[8];

	if (in->at == in->end)
		return 0;
	return err_set(e, -ENOTSUP, "this mayfly does not know section '%s' %u", tag_text(name, read_u32(in->at)),
		       read_u32(in->at + 4));
}
