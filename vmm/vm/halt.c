/*
 * When to look whether a guest has halted for ever.
 *
 * A vCPU that executes HLT with interrupts off stays inside KVM_RUN, since the local APIC in the kernel handles HLT, and
 * KVM does not tell. To find one out, all vCPUs have to be stopped (vm_is_halted). That is not done now and then, which
 * would cost every idle guest for ever, but once the guest has been quiet for HALT_QUIET_MS: no exit to us, and no
 * interrupt of ours. What a guest does before it halts are such exits, of Linux the last are to the I/O APIC.
 *
 * What is left is a guest that does something by timer interrupts alone, which KVM's local APIC gives it, and then halts. It
 * is looked at again, after a minute and each time HALT_ASLEEP_GROWTH times as late: it is found when it has been halted
 * for some four times as long as it had been quiet, and the idle guest costs two wake-ups in the first hour.
 */
#include "vmm/vm/halt.h"

#include <limits.h>

#include "vmm/base/util.h"

static void halt_wait(struct halt *h, uint64_t now_ms, uint64_t wait_ms)
{
	h->wait_ms = wait_ms;
	h->due_ms = now_ms + wait_ms;
}

void halt_begin(struct halt *h, uint64_t now_ms)
{
	atomic_store(&h->state, HALT_ACTIVE);
	halt_wait(h, now_ms, HALT_QUIET_MS);
}

bool halt_is_due(struct halt *h, uint64_t now_ms)
{
	int state = atomic_load(&h->state);

	if (state == HALT_ACTIVE && h->wait_ms != HALT_QUIET_MS)
		halt_wait(h, now_ms, HALT_QUIET_MS); /* it woke us */
	if (now_ms < h->due_ms)
		return false;
	if (state == HALT_ASLEEP) {
		halt_wait(h, now_ms, h->wait_ms * HALT_ASLEEP_GROWTH);
		return true;
	}
	/* If the guest is active again meanwhile, it is as if it had been all the time. */
	if (!atomic_compare_exchange_strong(&h->state, &state, state + 1) || state == HALT_ACTIVE) {
		halt_wait(h, now_ms, HALT_QUIET_MS);
		return false;
	}
	halt_wait(h, now_ms, HALT_ASLEEP_MS);
	return true;
}

int halt_timeout(const struct halt *h, uint64_t now_ms)
{
	return h->due_ms > now_ms ? (int)MF_MIN(h->due_ms - now_ms, (uint64_t)INT_MAX) : 0;
}
