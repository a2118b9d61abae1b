/*
 * The reset command of the keyboard controller (port 0x64, 0xfe): how Linux reboots with reboot=k, and its last resort.
 *
 * The status register answers "output buffer full, input buffer empty" (1). Linux's driver, which drains the output
 * buffer and gives up after 16 bytes, then finds no controller at once; answering 0 makes it probe for 1.3 s. And
 * Linux's reboot, which waits for an empty input buffer before it writes the command, does not wait; answering 0xff, as
 * an absent port does, makes it wait for 65,536 reads.
 */
#include "vmm/platform/i8042.h"

#define I8042_DATA 0
#define I8042_STATUS 4
#define I8042_STATUS_OBF 0x01
#define I8042_COMMAND_RESET 0xfe

void i8042_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len)
{
	struct i8042 *kbd = ctx;

	if (len != 1)
		return;
	if (is_write && offset == I8042_STATUS && *data == I8042_COMMAND_RESET)
		kbd->reset(kbd->ctx);
	if (!is_write && offset == I8042_STATUS)
		*data = I8042_STATUS_OBF;
	if (!is_write && offset == I8042_DATA)
		*data = 0;
}
