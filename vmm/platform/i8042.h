/*
 * The keyboard controller, ports 0x60 and 0x64. A microVM has two commands of it: the reset of
 * the machine; and with Firecracker's API, a keyboard that types Ctrl+Alt+Del and nothing else.
 */
#ifndef MF_PLATFORM_I8042_H
#define MF_PLATFORM_I8042_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct err;
struct state_in;
struct state_out;
struct state_section;

#define I8042_PORT 0x60
#define I8042_PORTS 5
#define I8042_IRQ 1
#define I8042_KEYS 11			  /* bytes of Ctrl+Alt+Del, pressed and released */
#define I8042_QUEUE_SIZE (4 * I8042_KEYS) /* as often as Firecracker's buffer takes it */

struct i8042 {
	void (*reset)(void *ctx); /* of the machine; on a vCPU thread, not locked */
	void *ctx;
	void (*raise)(void *raise_ctx); /* an edge on I8042_IRQ; any thread, not locked */
	void *raise_ctx;

	pthread_mutex_t lock; /* all below; never held across a callback */
	bool keyboard;	      /* there is one; constant once the guest runs */
	uint8_t control;      /* the controller's command byte */
	uint8_t command;      /* whose parameter comes next at the data port; or 0 */
	uint8_t key_command;  /* the same of the keyboard */
	bool has_reply;	      /* of the controller, which is read before the keyboard's bytes */
	uint8_t reply;
	uint8_t queue[I8042_QUEUE_SIZE]; /* of the keyboard */
	uint8_t len;
};

#define I8042_INIT                                                                                                     \
	{                                                                                                              \
		.lock = PTHREAD_MUTEX_INITIALIZER                                                                      \
	}

/* Connects the keyboard, as after a firmware's self-test. Before the guest runs. */
void i8042_connect(struct i8042 *c);

/* A bus_handler with ctx = a struct i8042. vCPU threads, several at once. */
void i8042_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len);

/*
 * Types Ctrl+Alt+Del, for the guest to read. Any thread. Returns 0; -ENODEV: there is no keyboard;
 * -ENOBUFS: the guest has not read what was typed before.
 */
int i8042_type(struct i8042 *c);

/*
 * Snapshots. Main thread, with every vCPU parked. A controller without a keyboard has no state, and
 * no section. i8042_restore connects the keyboard if the next section is one's; it returns 0, or
 * -errno with e set.
 */
extern const struct state_section i8042_section; /* for state_check_sections */
void i8042_save(struct i8042 *c, struct state_out *out);
int i8042_restore(struct i8042 *c, struct state_in *in, struct err *e);

#endif
