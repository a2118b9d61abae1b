/*
 * The only part of a keyboard controller that a microVM has: the command that resets the
 * machine.
 */
#ifndef MF_PLATFORM_I8042_H
#define MF_PLATFORM_I8042_H

#include <stdbool.h>
#include <stdint.h>

#define I8042_PORT 0x60
#define I8042_PORTS 5

struct i8042 {
	void (*reset)(void *ctx);
	void *ctx;
};

/* A bus_handler with ctx = a struct i8042. vCPU threads. */
void i8042_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len);

#endif
