/*
 * The keyboard controller; see i8042.h.
 *
 * Theory of operation
 *
 * Without a keyboard, only the reset command works (port 0x64, 0xfe): it is how Linux reboots with
 * reboot=k, and its last resort. The status register answers "output buffer full, input buffer
 * empty" (1). Linux's driver, which drains the output buffer and gives up after 16 bytes, then finds
 * no controller at once; answering 0 makes it probe for 1.3 s. And Linux's reboot, which waits for an
 * empty input buffer before it writes the command, does not wait; answering 0xff, as an absent port
 * does, makes it wait for 65,536 reads.
 *
 * With a keyboard, the controller does what a driver expects of an 8042 whose firmware has tested it,
 * with scan code set 2 as the keyboard sends it (no translation), and no second port. Each command
 * that has a reply gets one at once: Linux's driver waits half a second for one that does not come.
 * Counted with Debian 6.12 in the lab: a boot takes 1.46 G instructions if the driver asks the keyboard, and 1.49 G
 * if it only listens, or is not there.
 * Two kinds of bytes are read at the data port. A reply of the controller comes first and raises no
 * interrupt: the driver waits for it. The keyboard's bytes follow, unless the driver has switched
 * that port off; they raise the interrupt, once for each byte.
 */
#include "vmm/platform/i8042.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/core/state.h"

#define I8042_DATA 0
#define I8042_STATUS 4 /* read: status; write: a command */

#define STATUS_OUTPUT 0x01     /* a byte waits at the data port */
#define STATUS_TESTED 0x04     /* the self-test has passed */
#define STATUS_NOT_LOCKED 0x10 /* the keyboard is not locked by its key */

#define CONTROL_INTERRUPT 0x01 /* for the keyboard's bytes */
#define CONTROL_TESTED 0x04
#define CONTROL_OFF 0x10 /* the keyboard's port */

enum command {
	COMMAND_READ_CONTROL = 0x20,
	COMMAND_WRITE_CONTROL = 0x60,
	COMMAND_TEST_AUX = 0xa9,
	COMMAND_TEST = 0xaa,
	COMMAND_TEST_KEYBOARD = 0xab,
	COMMAND_KEYBOARD_OFF = 0xad,
	COMMAND_KEYBOARD_ON = 0xae,
	COMMAND_READ_OUTPUT = 0xd0,
	COMMAND_WRITE_OUTPUT = 0xd1,
	COMMAND_LOOP_KEYBOARD = 0xd2,
	COMMAND_LOOP_AUX = 0xd3,
	COMMAND_WRITE_AUX = 0xd4,
	COMMAND_RESET = 0xfe,
};

#define TEST_PASSED 0x55
#define TEST_KEYBOARD_PASSED 0x00
#define TEST_AUX_FAILED 0x01 /* its clock line is stuck: there is no second port */
#define OUTPUT_NO_RESET 0x01 /* the output port's line that resets the CPU is not active */

/* Of the keyboard. */
enum key_command {
	KEY_LEDS = 0xed,
	KEY_SET = 0xf0,
	KEY_IDENTIFY = 0xf2,
	KEY_REPEAT = 0xf3,
	KEY_RESET = 0xff,
};

#define KEY_ACK 0xfa
#define KEY_TEST_PASSED 0xaa

static void lock(struct i8042 *c)
{
	int r = pthread_mutex_lock(&c->lock);

	assert(r == 0);
	(void)r; /* a plain mutex in our own memory: it cannot fail */
}

static void unlock(struct i8042 *c)
{
	int r = pthread_mutex_unlock(&c->lock);

	assert(r == 0);
	(void)r; /* the same */
}

/* The functions down to access_keyboard are called with the lock. */

/* Bytes that do not fit are lost, as those of a keyboard are. */
static void push(struct i8042 *c, const uint8_t *bytes, size_t num)
{
	for (size_t i = 0; i < num && c->len < I8042_QUEUE_SIZE; i++)
		c->queue[c->len++] = bytes[i];
}

static void reply(struct i8042 *c, uint8_t byte)
{
	c->has_reply = true;
	c->reply = byte;
}

/* Whether a byte of the keyboard is next at the data port. */
static bool key_is_next(const struct i8042 *c)
{
	return c->len && !c->has_reply && !(c->control & CONTROL_OFF);
}

static uint8_t read_data(struct i8042 *c)
{
	uint8_t byte = c->queue[0];

	if (c->has_reply) {
		c->has_reply = false;
		return c->reply;
	}
	if (!key_is_next(c))
		return 0;
	memmove(c->queue, c->queue + 1, --c->len);
	return byte;
}

static void take_command(struct i8042 *c, uint8_t command)
{
	c->command = 0;
	switch (command) {
	case COMMAND_READ_CONTROL:
		reply(c, c->control);
		break;
	case COMMAND_TEST:
		reply(c, TEST_PASSED);
		break;
	case COMMAND_TEST_KEYBOARD:
		reply(c, TEST_KEYBOARD_PASSED);
		break;
	case COMMAND_TEST_AUX:
		reply(c, TEST_AUX_FAILED);
		break;
	case COMMAND_READ_OUTPUT:
		reply(c, OUTPUT_NO_RESET);
		break;
	case COMMAND_KEYBOARD_OFF:
		c->control |= CONTROL_OFF;
		break;
	case COMMAND_KEYBOARD_ON:
		c->control &= (uint8_t)~CONTROL_OFF;
		break;
	case COMMAND_WRITE_CONTROL:
	case COMMAND_WRITE_OUTPUT:
	case COMMAND_LOOP_KEYBOARD:
	case COMMAND_LOOP_AUX:
	case COMMAND_WRITE_AUX:
		c->command = command;
		break;
	default:
		break;
	}
}

static void take_key_command(struct i8042 *c, uint8_t command)
{
	static const uint8_t identity[] = { KEY_ACK, 0xab, 0x83 }, tested[] = { KEY_ACK, KEY_TEST_PASSED };
	static const uint8_t ack[] = { KEY_ACK };
	bool is_parameter = c->key_command;

	c->key_command = 0;
	if (!is_parameter && command == KEY_IDENTIFY)
		push(c, identity, sizeof(identity));
	else if (!is_parameter && command == KEY_RESET)
		push(c, tested, sizeof(tested));
	else
		push(c, ack, sizeof(ack));
	if (!is_parameter && (command == KEY_LEDS || command == KEY_SET || command == KEY_REPEAT))
		c->key_command = command;
}

static void write_data(struct i8042 *c, uint8_t byte)
{
	uint8_t command = c->command;

	c->command = 0;
	switch (command) {
	case 0:
		c->control &= (uint8_t)~CONTROL_OFF; /* the controller has to listen for the answer */
		take_key_command(c, byte);
		break;
	case COMMAND_WRITE_CONTROL:
		c->control = byte;
		break;
	case COMMAND_LOOP_KEYBOARD:
	case COMMAND_LOOP_AUX: /* without the status bit of a second port: there is none */
		reply(c, byte);
		break;
	default:
		break;
	}
}

/* Returns whether the interrupt is to be raised. */
static bool access_keyboard(struct i8042 *c, uint64_t offset, bool is_write, uint8_t *data)
{
	bool was_next = key_is_next(c) && c->control & CONTROL_INTERRUPT;
	uint8_t len = c->len;

	if (is_write && offset == I8042_STATUS)
		take_command(c, *data);
	else if (is_write && offset == I8042_DATA)
		write_data(c, *data);
	else if (!is_write && offset == I8042_STATUS)
		*data = (uint8_t)(STATUS_TESTED | STATUS_NOT_LOCKED |
				  (c->has_reply || key_is_next(c) ? STATUS_OUTPUT : 0));
	else if (!is_write && offset == I8042_DATA)
		*data = read_data(c);
	return key_is_next(c) && c->control & CONTROL_INTERRUPT && (!was_next || c->len < len);
}

void i8042_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len)
{
	struct i8042 *c = ctx;
	bool raise;

	if (len != 1)
		return;
	if (is_write && offset == I8042_STATUS && *data == COMMAND_RESET) {
		c->reset(c->ctx);
		return;
	}
	if (!c->keyboard) {
		if (!is_write && (offset == I8042_STATUS || offset == I8042_DATA))
			*data = offset == I8042_STATUS ? STATUS_OUTPUT : 0;
		return;
	}
	lock(c);
	raise = access_keyboard(c, offset, is_write, data);
	unlock(c);
	if (raise)
		c->raise(c->raise_ctx);
}

void i8042_connect(struct i8042 *c)
{
	c->keyboard = true;
	c->control = CONTROL_INTERRUPT | CONTROL_TESTED;
}

int i8042_type(struct i8042 *c)
{
	static const uint8_t keys[I8042_KEYS] = {
		0x14, 0x11, 0xe0, 0x71,			  /* Ctrl, Alt, Del pressed */
		0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14, /* and released */
	};
	bool raise = false, fits;

	if (!c->keyboard)
		return -ENODEV;
	lock(c);
	fits = c->len + sizeof(keys) <= I8042_QUEUE_SIZE;
	if (fits) {
		bool was_next = key_is_next(c);

		push(c, keys, sizeof(keys));
		raise = !was_next && key_is_next(c) && c->control & CONTROL_INTERRUPT;
	}
	unlock(c);
	if (raise)
		c->raise(c->raise_ctx);
	return fits ? 0 : -ENOBUFS;
}

#define I8042_STATE_TAG STATE_TAG('k', 'b', 'd', ' ')
#define I8042_STATE_VERSION 1

const struct state_section i8042_section = { I8042_STATE_TAG, I8042_STATE_VERSION };

void i8042_save(struct i8042 *c, struct state_out *out)
{
	if (!c->keyboard)
		return;
	state_begin(out, I8042_STATE_TAG, 0, I8042_STATE_VERSION);
	lock(c);
	state_put_u8(out, c->control);
	state_put_u8(out, c->command);
	state_put_u8(out, c->key_command);
	state_put_u8(out, c->has_reply);
	state_put_u8(out, c->reply);
	state_put_u8(out, c->len);
	state_put_bytes(out, c->queue, c->len);
	unlock(c);
	state_end(out);
}

int i8042_restore(struct i8042 *c, struct state_in *in, struct err *e)
{
	uint8_t has_reply;

	if (!state_next_is(in, I8042_STATE_TAG))
		return 0;
	if (state_open(in, I8042_STATE_TAG, 0, I8042_STATE_VERSION, e) < 0)
		return e->code;
	c->keyboard = true;
	c->control = state_get_u8(in);
	c->command = state_get_u8(in);
	c->key_command = state_get_u8(in);
	has_reply = state_get_u8(in);
	c->reply = state_get_u8(in);
	c->len = state_get_u8(in);
	if (has_reply > 1)
		state_refuse(in, "reply");
	if (c->len > I8042_QUEUE_SIZE) {
		state_refuse(in, "bytes of the keyboard");
		c->len = 0;
	}
	c->has_reply = has_reply;
	state_get_bytes(in, c->queue, c->len);
	return state_close(in, e);
}
