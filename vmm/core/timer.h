/*
 * The timers of a loop: a sorted list, which is short. A timer is embedded in its owner
 * and fires once. All on the loop's thread; devices reach the list by loop_timers().
 */
#ifndef MF_CORE_TIMER_H
#define MF_CORE_TIMER_H

#include <linux/time_types.h>
#include <stdbool.h>
#include <stdint.h>

struct timer {
	void (*fire)(struct timer *timer);
	bool set;
	uint64_t deadline_ns; /* list's */
	struct timer *next;   /* list's */
};

struct timers {
	uint64_t now_ns; /* CLOCK_MONOTONIC, read at the beginning of this turn */
	struct timer *first;
};

/*
 * Sets timer to fire in the first turn that begins at deadline_ns or later. A timer that
 * is already set gets the new deadline.
 */
void timer_set(struct timers *t, struct timer *timer, uint64_t deadline_ns);

/* Clears the timer, so that it does not fire. It need not be set. */
void timer_cancel(struct timers *t, struct timer *timer);

/*
 * A new turn: fires what is due, in the order of the deadlines. Timers that these
 * callbacks set wait for the next turn.
 */
void timers_run(struct timers *t, uint64_t now_ns);

/*
 * How long the loop may sleep, from now_ns on. False: no timer is set, so without a
 * limit.
 */
bool timers_sleep(const struct timers *t, uint64_t now_ns, struct __kernel_timespec *ret);

/* CLOCK_MONOTONIC (clock.c). */
uint64_t timers_clock_ns(void);

#endif
