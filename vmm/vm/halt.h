/*
 * When to look whether a guest has halted for ever; see halt.c. The main thread's, but for halt_active.
 */
#ifndef MF_VM_HALT_H
#define MF_VM_HALT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define HALT_QUIET_MS 500    /* a guest that has done nothing for as long is looked at */
#define HALT_ASLEEP_MS 60000 /* and after that once more, if it goes on so, and */
#define HALT_ASLEEP_GROWTH 4 /* so many times later each time */

enum halt_state {
	HALT_ACTIVE, /* the guest has done something since the main thread saw to it */
	HALT_QUIET,  /* it has not */
	HALT_ASLEEP, /* it was looked at; the main thread wants to be told if it does something */
};

struct halt {
	atomic_int state;
	uint64_t due_ms, wait_ms;
};

/* The guest runs from now on. */
void halt_begin(struct halt *h, uint64_t now_ms);

/* Any thread: the guest has done something, or hears of something. Returns whether to wake the main thread. */
static inline bool halt_active(struct halt *h)
{
	/* Most of the time, a read of what nobody has written. */
	return atomic_load_explicit(&h->state, memory_order_relaxed) != HALT_ACTIVE &&
	       atomic_exchange(&h->state, HALT_ACTIVE) == HALT_ASLEEP;
}

/* Whenever the main thread is awake: whether to look now. */
bool halt_is_due(struct halt *h, uint64_t now_ms);

/* Milliseconds, as of poll(2), until halt_is_due has something to do. */
int halt_timeout(const struct halt *h, uint64_t now_ms);

#endif
