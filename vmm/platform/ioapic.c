/*
 * The I/O APIC.
 *
 * Theory of operation
 *
 * The local APICs are in the kernel (split irqchip); the I/O APIC (82093AA registers) is
 * here. A device raises a pin on its loop. The pin's redirection entry is translated to
 * an MSI (Intel SDM 3A 11.11), which KVM_SIGNAL_MSI sends. No GSI route exists, so none
 * is ever rewritten while the guest programs its entries.
 *
 * All lines are edges. An entry for a level-triggered line sends a level MSI, once per
 * edge, and its remote IRR stays 0. For a driver that finds its work in a status register
 * this is equivalent. Linux walks every pin several times (about 410 exits with 24 pins),
 * so the guest sees only as many pins as the VM has lines.
 *
 * The state of a pin is one 64-bit word: the entry as the guest sees it, and PIN_PENDING
 * in a bit that is reserved there. vCPUs change the halves of the entry. Threads of
 * devices read it and set or clear PIN_PENDING. Every change is a compare-and-swap of the
 * whole word. So there is no lock, and "masked?" and "pending" are always decided
 * together:
 *
 *	raise      masked, or quiet for a snapshot: sets PENDING. Otherwise: sends.
 *	unmask     keeps PENDING; if it is set, writes the eventfd. A vCPU thread's seccomp filter has KVM_RUN only.
 *	ask        of a thread that may not send: sets PENDING, and writes the eventfd
 *	loop       the eventfd fires: each pin that is PENDING and not masked: clears PENDING, and, if it did, sends.
 *
 * Hardware forgets an edge on a masked pin. Remembering it is safe: an edge means "look
 * at your status register", and one look too many finds nothing. Drivers for shared and
 * edge lines must cope with that: the 8250's IIR, virtio's InterruptStatus. Several edges
 * fold into one, as they do in the local APIC's IRR. Forgetting the edge would hang a
 * device whose driver masks the line for a moment, because a device here does not repeat
 * an edge.
 *
 * If a vCPU masks or redirects the pin while an MSI is being sent, that MSI still follows
 * the old entry, as it would on the APIC bus. The register index is one word for all
 * vCPUs, as in hardware: guests hold a lock over index and data.
 *
 * No extended destination IDs (KVM_FEATURE_MSI_EXT_DEST_ID is not offered): 8 bits are
 * enough for CONFIG_CPUS_MAX.
 *
 * The absent PIC. Nothing of an 8259 is emulated, for MP table and ACPI guests alike:
 * ports 0x20, 0x21, 0xa0 and 0xa1 are unassigned and read 0xff. Linux probes in
 * probe_8259A(): it masks the slave, writes 0xfb to port 0x21 and reads it back. 0xff is
 * not 0xfb, so it takes null_legacy_pic and skips the initialisation and the
 * timer-through-8259 trials. A mask register that remembers its value (the next smallest
 * answer) makes Linux believe in a whole PIC. That costs: measured to PID 1 with 6 pins,
 * 36.1 M instructions against 34.5 M without. IRQs then have no legacy numbers, and the
 * MP table must name each pin in use. With hardware-reduced ACPI, Linux (6.1 and 6.12)
 * does not even probe. The DSDT names the pins, as GSIs, and IRQ numbers are Linux's own:
 * pin 5 may be IRQ 6. No interrupt source override is needed.
 */
#include "vmm/platform/ioapic.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/loop.h"
#include "vmm/core/state.h"

/* Memory-mapped registers. 0x40, the EOI register of version 0x20, is not one of this version's. */
#define REG_SELECT 0x00
#define REG_WINDOW 0x10

/* Behind the window. */
#define INDEX_ID 0x00
#define INDEX_VERSION 0x01
#define INDEX_ARBITRATION 0x02
#define INDEX_ENTRIES 0x10

#define IOAPIC_VERSION 0x11U
#define ID_MASK 0x0f000000U

/* Redirection entry. */
#define ENTRY_VECTOR 0xffULL
#define ENTRY_MODE (7ULL << 8)
#define ENTRY_LOGICAL (1ULL << 11)
#define ENTRY_POLARITY (1ULL << 13)
#define ENTRY_LEVEL (1ULL << 15)
#define ENTRY_MASKED (1ULL << 16)
#define ENTRY_DEST_SHIFT 56
/*
 * The bits that a guest may write. Not: delivery status (12) and remote IRR (14),
 * read-only; 17 to 55, reserved.
 */
#define ENTRY_WRITABLE                                                                                                 \
	(ENTRY_VECTOR | ENTRY_MODE | ENTRY_LOGICAL | ENTRY_POLARITY | ENTRY_LEVEL | ENTRY_MASKED |                     \
	 (0xffULL << ENTRY_DEST_SHIFT))
#define PIN_PENDING (1ULL << 32) /* ours */

/* MSI address and data. */
#define MSI_ADDRESS 0xfee00000U
#define MSI_ADDRESS_DEST_SHIFT 12
#define MSI_ADDRESS_LOGICAL (1U << 2)
#define MSI_DATA_ASSERT (1U << 14)
#define MSI_DATA_LEVEL (1U << 15)

_Static_assert((ENTRY_WRITABLE & PIN_PENDING) == 0, "the pending bit is never the guest's");
_Static_assert(INDEX_ENTRIES + 2 * IOAPIC_PINS_MAX <= 0x100, "every entry has an index");

struct ioapic {
	ioapic_send *send_msi;
	void *ctx;
	int eventfd;
	struct watch watch;
	struct loop *loop;  /* delivers what was unmasked */
	atomic_bool quiet;  /* send nothing */
	atomic_bool failed; /* an MSI was refused, and that was logged */
	_Atomic uint8_t select;
	_Atomic uint32_t id;
	unsigned pins;
	_Atomic uint64_t pin[IOAPIC_PINS_MAX];
};

static void ioapic_send_entry(struct ioapic *a, unsigned pin, uint64_t entry)
{
	uint32_t address = MSI_ADDRESS | (uint32_t)(entry >> ENTRY_DEST_SHIFT) << MSI_ADDRESS_DEST_SHIFT;
	uint32_t data = (uint32_t)(entry & (ENTRY_VECTOR | ENTRY_MODE));

	if (entry & ENTRY_LOGICAL)
		address |= MSI_ADDRESS_LOGICAL;
	if (entry & ENTRY_LEVEL)
		data |= MSI_DATA_LEVEL | MSI_DATA_ASSERT;
	/* The guest chose address and data, so an error is its own affair; it is logged once. */
	if (a->send_msi(a->ctx, address, data) < 0 && !atomic_exchange(&a->failed, true))
		log_warn("pin %u: no local APIC took the interrupt (address %#x, data %#x), continuing", pin, address,
			 data);
}

/* After an unmask, on the loop, or a resume. */
static void ioapic_deliver_pending(struct ioapic *a)
{
	for (unsigned i = 0; i < a->pins; i++) {
		uint64_t old = atomic_load(&a->pin[i]);

		while ((old & PIN_PENDING) && !(old & ENTRY_MASKED) && !atomic_load(&a->quiet)) {
			if (atomic_compare_exchange_weak(&a->pin[i], &old, old & ~PIN_PENDING)) {
				ioapic_send_entry(a, i, old);
				break;
			}
		}
	}
}

void ioapic_raise(struct ioapic *a, unsigned pin)
{
	uint64_t old;

	assert(pin < a->pins);
	old = atomic_load(&a->pin[pin]);
	while (old & ENTRY_MASKED || atomic_load(&a->quiet)) {
		if (!atomic_compare_exchange_weak(&a->pin[pin], &old, old | PIN_PENDING))
			continue;
		/* Either this sees that it is quiet no more, or ioapic_resume has the loop see the pin. */
		ioapic_deliver_pending(a);
		return;
	}
	ioapic_send_entry(a, pin, old);
}

void ioapic_ask(struct ioapic *a, unsigned pin)
{
	assert(pin < a->pins);
	atomic_fetch_or(&a->pin[pin], PIN_PENDING);
	fdio_event_signal(a->eventfd);
}

static void ioapic_fire(struct watch *watch)
{
	ioapic_deliver_pending(MF_CONTAINER_OF(watch, struct ioapic, watch));
}

static void ioapic_write_entry(struct ioapic *a, unsigned pin, bool high, uint32_t value)
{
	uint64_t half = high ? 0xffffffff00000000ULL : 0xffffffffULL;
	uint64_t bits = (high ? (uint64_t)value << 32 : value) & ENTRY_WRITABLE;
	uint64_t old = atomic_load(&a->pin[pin]), next;

	do {
		next = (old & ~(half & ENTRY_WRITABLE)) | bits;
	} while (!atomic_compare_exchange_weak(&a->pin[pin], &old, next));
	if ((next & PIN_PENDING) && !(next & ENTRY_MASKED))
		fdio_event_signal(a->eventfd);
}

static uint32_t ioapic_read_index(struct ioapic *a, unsigned index)
{
	unsigned pin = (index - INDEX_ENTRIES) / 2;
	uint64_t entry;

	switch (index) {
	case INDEX_ID:
	case INDEX_ARBITRATION:
		return atomic_load(&a->id);
	case INDEX_VERSION:
		return IOAPIC_VERSION | (a->pins - 1) << 16;
	default:
		if (index < INDEX_ENTRIES || pin >= a->pins)
			return 0;
		entry = atomic_load(&a->pin[pin]) & ENTRY_WRITABLE;
		return (uint32_t)(index & 1 ? entry >> 32 : entry);
	}
}

static void ioapic_write_index(struct ioapic *a, unsigned index, uint32_t value)
{
	unsigned pin = (index - INDEX_ENTRIES) / 2;

	if (index == INDEX_ID)
		atomic_store(&a->id, value & ID_MASK);
	else if (index >= INDEX_ENTRIES && pin < a->pins)
		ioapic_write_entry(a, pin, index & 1, value);
}

void ioapic_access(void *ctx, uint64_t offset, bool is_write, uint8_t *data, unsigned len)
{
	struct ioapic *a = ctx;
	uint32_t value = 0;

	/* Registers are 32 bits wide, accessed whole. Anything else reads 0 and writes nothing. */
	if (len != sizeof(value) || (offset != REG_SELECT && offset != REG_WINDOW)) {
		if (!is_write)
			memset(data, 0, len);
		return;
	}
	if (is_write) {
		memcpy(&value, data, sizeof(value));
		if (offset == REG_SELECT)
			atomic_store(&a->select, (uint8_t)value);
		else
			ioapic_write_index(a, atomic_load(&a->select), value);
	} else {
		value = offset == REG_SELECT ? atomic_load(&a->select) : ioapic_read_index(a, atomic_load(&a->select));
		memcpy(data, &value, sizeof(value));
	}
}

#define IOAPIC_STATE_TAG STATE_TAG('i', 'o', 'a', 'p')
#define IOAPIC_STATE_VERSION 1

const struct state_section ioapic_section = { IOAPIC_STATE_TAG, IOAPIC_STATE_VERSION };

void ioapic_save(struct ioapic *a, struct state_out *out)
{
	state_begin(out, IOAPIC_STATE_TAG, 0, IOAPIC_STATE_VERSION);
	state_put_u8(out, atomic_load(&a->select));
	state_put_u32(out, atomic_load(&a->id));
	state_put_u8(out, (uint8_t)a->pins);
	for (unsigned i = 0; i < a->pins; i++)
		state_put_u64(out, atomic_load(&a->pin[i]));
	state_end(out);
}

int ioapic_restore(struct ioapic *a, struct state_in *in, struct err *e)
{
	int r = state_open(in, IOAPIC_STATE_TAG, 0, IOAPIC_STATE_VERSION, e);

	if (r < 0)
		return r;
	atomic_store(&a->quiet, true);
	atomic_store(&a->select, state_get_u8(in));
	atomic_store(&a->id, state_get_u32(in));
	if (atomic_load(&a->id) & ~ID_MASK)
		state_refuse(in, "ID");
	if (state_get_u8(in) != a->pins)
		state_refuse(in, "number of pins");
	for (unsigned i = 0; i < a->pins && !in->why; i++) {
		uint64_t pin = state_get_u64(in);

		if (pin & ~(ENTRY_WRITABLE | PIN_PENDING))
			state_refuse(in, "redirection entry");
		else
			atomic_store(&a->pin[i], pin);
	}
	return state_close(in, e);
}

static int nothing(void *arg)
{
	(void)arg;
	return 0;
}

void ioapic_quiet(struct ioapic *a)
{
	atomic_store(&a->quiet, true);
	(void)loop_call(a->loop, nothing, NULL); /* what the loop is sending is sent then; returns 0 */
}

void ioapic_resume(struct ioapic *a)
{
	atomic_store(&a->quiet, false);
	fdio_event_signal(a->eventfd);
}

int ioapic_event_fd(const struct ioapic *a)
{
	return a->eventfd;
}

int ioapic_attach_loop(struct ioapic *a, struct loop *loop)
{
	a->watch.fire = ioapic_fire;
	a->loop = loop;
	return loop_watch(loop, &a->watch, a->eventfd);
}

int ioapic_new(struct ioapic **ret, unsigned pins, ioapic_send *send_msi, void *ctx, struct err *e)
{
	struct ioapic *a;

	assert(pins > 0 && pins <= IOAPIC_PINS_MAX);
	a = calloc(1, sizeof(*a));
	if (!a)
		return err_set(e, -ENOMEM, "no memory for the I/O APIC");
	a->send_msi = send_msi;
	a->ctx = ctx;
	a->pins = pins;
	for (unsigned i = 0; i < pins; i++)
		atomic_init(&a->pin[i], ENTRY_MASKED);
	a->eventfd = eventfd(0, EFD_CLOEXEC);
	if (a->eventfd < 0) {
		err_sys(e, "make an eventfd for the I/O APIC");
		ioapic_free(a);
		return e->code;
	}
	*ret = a;
	return 0;
}

void ioapic_free(struct ioapic *a)
{
	if (!a)
		return;
	if (a->eventfd >= 0)
		close(a->eventfd);
	free(a);
}
