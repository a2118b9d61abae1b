/*
 * When to check whether a guest has halted for good; see halt.c. All is the main thread's, except halt_active.
 */
#ifndef MF_VM_HALT_H
#define MF_VM_HALT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define HALT_QUIET_MS 500    /* a guest is checked after it has done nothing for this long, */
#define HALT_ASLEEP_MS 60000 /* again after this long, if it still does nothing, */
#define HALT_ASLEEP_GROWTH 4 /* and then at intervals that grow by this factor */

enum halt_state {
	HALT_ACTIVE, /* the guest has done something since the main thread last looked */
	HALT_QUIET,  /* it has not */
	HALT_ASLEEP, /* it was checked; its next activity must wake the main thread */
};

struct halt {
	atomic_int state;
	uint64_t due_ms, wait_ms;
};

/* The guest runs from now on. */
void halt_begin(struct halt *h, uint64_t now_ms);

/* The guest has done something, or gets an interrupt. Returns whether to wake the main thread. Any thread. */
static inline bool halt_active(struct halt *h)
{
	/* Almost always only a read of a cache line that is not written. */
	return atomic_load_explicit(&h->state, memory_order_relaxed) != HALT_ACTIVE &&
	       atomic_exchange(&h->state, HALT_ACTIVE) == HALT_ASLEEP;
}

/* Whether to check now. Called whenever the main thread is awake. */
bool halt_is_due(struct halt *h, uint64_t now_ms);

/* Milliseconds, for poll(2), until halt_is_due must be called. */
int halt_timeout(const struct halt *h, uint64_t now_ms);

#endif
