/* The smallest PIC that Linux believes in: two mask registers. */
#ifndef MF_VMM_I8259_H
#define MF_VMM_I8259_H

#include <stdbool.h>
#include <stdint.h>

#define I8259_MASTER_PORT 0x20
#define I8259_SLAVE_PORT 0xa0
#define I8259_PORTS 2

/* One of the two chips. */
struct i8259 {
	uint8_t mask;
};

/* A bus_handler with ctx = a struct i8259. vCPU threads; a race of two guest writes loses one, as on hardware. */
void i8259_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len);

#endif
