/*
 * The smallest PIC that Linux believes in.
 *
 * Linux probes the PIC by writing its mask register and reading it back (probe_8259A). If nothing answers, it has no
 * legacy interrupts: it then numbers the IOAPIC's pins as they come, and the serial driver's interrupt 4 exists only on
 * pin 4. If something answers, the MP table's word counts, interrupt 4 may be on pin 0, and the IOAPIC needs to show no
 * pin without a line. Each pin costs about 40 exits by MMIO, the PIC's set-up 22 by ports, once.
 *
 * So the masks are what can be read back; commands go nowhere, and no interrupt ever comes from here.
 */
#include "vmm/i8259.h"

#define I8259_MASK 1

void i8259_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len)
{
	struct i8259 *pic = ctx;

	if (len != 1)
		return;
	if (offset != I8259_MASK) {
		if (!is_write)
			*data = 0; /* nothing requested, nothing in service */
	} else if (is_write) {
		pic->mask = *data;
	} else {
		*data = pic->mask;
	}
}
