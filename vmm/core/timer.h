/*
 * The timers of a loop: a sorted list, since there are a few of them at most. A timer is embedded in its owner and fires
 * once. All on the loop's thread; devices reach the list by loop_timers().
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
	uint64_t now_ns; /* CLOCK_MONOTONIC, as of the beginning of this turn */
	struct timer *first;
};

/* Lets timer fire in the first turn that begins at deadline_ns or later. A timer that is set is set anew. */
void timer_set(struct timers *t, struct timer *timer, uint64_t deadline_ns);

/* The timer does not fire. One that is not set is fine. */
void timer_cancel(struct timers *t, struct timer *timer);

/* A new turn: fires what is due, in the order of the deadlines. What fires may set timers, which wait for the next turn. */
void timers_run(struct timers *t, uint64_t now_ns);

/* How long the loop may sleep from now_ns on. False: for ever, no timer is set. */
bool timers_sleep(const struct timers *t, uint64_t now_ns, struct __kernel_timespec *ret);

/* CLOCK_MONOTONIC (clock.c). */
uint64_t timers_clock_ns(void);

#endif
