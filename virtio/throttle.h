/*
 * Limits the rate of a device's operations: a rate limiter (ratelimit.h) with the timer
 * that ends the wait. While the timer is set nothing passes; when it fires, the owner
 * tries again. On the loop's thread, except for throttle_init and throttle_set.
 */
#ifndef MF_VIRTIO_THROTTLE_H
#define MF_VIRTIO_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/ratelimit.h"
#include "vmm/core/timer.h"

struct loop;
struct state_in;
struct state_out;

struct throttle {
	struct ratelimit limit;
	struct timer timer;
	struct loop *loop;
};

/* fire is called when an operation that had to wait may begin; it finds its owner by the timer. */
void throttle_init(struct throttle *t, struct loop *loop, void (*fire)(struct timer *timer),
		   const struct ratelimit_params *bytes, const struct ratelimit_params *ops);

/* Whether an operation of so many bytes may begin now; 0: their number is not known yet. False: fire will be called. */
bool throttle_may(struct throttle *t, uint64_t bytes);

/* Takes the tokens of one operation of so many bytes. */
void throttle_charge(struct throttle *t, uint64_t bytes);

/* Nothing passes for so long. */
void throttle_pause(struct throttle *t, uint64_t ns);

/* fire is not called: nothing waits any more. */
void throttle_cancel(struct throttle *t);

/* ratelimit_save and ratelimit_restore. An operation that had to wait is tried again by the owner. */
void throttle_save(struct throttle *t, struct state_out *out);
void throttle_restore(struct throttle *t, struct state_in *in);

/*
 * Changes the limits at once; a bucket whose params are NULL keeps its limits. Waiting
 * operations try again. On any thread but the loop's, or before the loop runs.
 */
void throttle_set(struct throttle *t, const struct ratelimit_params *bytes, const struct ratelimit_params *ops);

#endif
