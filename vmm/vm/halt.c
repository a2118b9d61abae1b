/*
 * When to check whether a guest has halted for good.
 *
 * A vCPU that executes HLT with interrupts off stays inside KVM_RUN: the local APIC in the kernel handles HLT, and KVM does
 * not report it. The check stops all vCPUs (vm_is_halted), which must not become a periodic cost of every idle guest. So it
 * is made once the guest has been quiet for HALT_QUIET_MS: no exit to us, and no interrupt from us. A guest makes such
 * exits before it halts; Linux's last ones are to the IOAPIC.
 *
 * A guest may also live on the timer interrupts of KVM's local APIC alone, and halt later. So the check is repeated after a
 * minute, and then at intervals that grow by HALT_ASLEEP_GROWTH. It finds a halt after about four times as long as the
 * guest had been quiet. An idle guest costs two wake-ups in the first hour.
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
		halt_wait(h, now_ms, HALT_QUIET_MS); /* the guest has woken us */
	if (now_ms < h->due_ms)
		return false;
	if (state == HALT_ASLEEP) {
		halt_wait(h, now_ms, h->wait_ms * HALT_ASLEEP_GROWTH);
		return true;
	}
	/* A guest that has become active meanwhile counts as one that was active all the time. */
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
