/*
 * A state of one section, for tests of save and restore: a test lets an object write it, changes bytes of the payload, and
 * lets another object read it, with a checksum that is right again. Include it once, in the test.
 */
#ifndef MF_TESTS_UNIT_STATE_FIXTURE_H
#define MF_TESTS_UNIT_STATE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/core/state.h"

#define PAYLOAD_AT 32U /* behind the magic number and the section's header */

static uint8_t state_buf[65536];
static struct state_out state_out;
static struct state_in state_in;
static uint8_t payload[65536];
static size_t payload_len;
static uint32_t payload_tag, payload_instance;
static uint16_t payload_version, part_version = 1; /* the latter: of a device's part, before it is saved */

/* Before an object writes its section into state_out. */
static inline struct state_out *state_begin_save(void)
{
	state_out_init(&state_out, state_buf, sizeof(state_buf));
	return &state_out;
}

/* After it has: keeps the payload for changes. */
static inline void state_end_save(void)
{
	uint32_t len;

	assert_true(state_out_finish(&state_out) > 0);
	memcpy(&payload_tag, state_buf + 8, 4);
	memcpy(&payload_instance, state_buf + 12, 4);
	memcpy(&payload_version, state_buf + 16, 2);
	memcpy(&len, state_buf + 20, 4);
	payload_len = len;
	memcpy(payload, state_buf + PAYLOAD_AT, len);
}

/* The state that has the payload as it is now. */
static inline struct state_in *state_of_payload(void)
{
	struct err e;
	int64_t len;

	state_out_init(&state_out, state_buf, sizeof(state_buf));
	state_begin(&state_out, payload_tag, payload_instance, payload_version);
	state_put_bytes(&state_out, payload, payload_len);
	state_end(&state_out);
	len = state_out_finish(&state_out);
	assert_true(len > 0);
	if (state_in_init(&state_in, state_buf, (size_t)len, &e) < 0)
		fail_msg("%s", e.text);
	return &state_in;
}

/* A device writes into the middle of the transport's section: these are for its part alone. */
static inline struct state_out *state_begin_part(void)
{
	state_begin_save();
	state_begin(&state_out, STATE_TAG('t', 'e', 's', 't'), 0, part_version);
	return &state_out;
}

static inline void state_end_part(void)
{
	state_end(&state_out);
	state_end_save();
}

static inline struct state_in *state_open_part(void)
{
	struct err e;

	state_of_payload();
	assert_int_equal(state_open(&state_in, payload_tag, 0, payload_version, &e), 0);
	return &state_in;
}

/* A value of the payload. */
static inline void payload_put(size_t at, uint64_t value, unsigned bytes)
{
	assert_true(at + bytes <= payload_len);
	memcpy(payload + at, &value, bytes);
}

#endif
