/* A rate limiter with its timer; see throttle.h. */
#include "virtio/throttle.h"

#include "vmm/core/loop.h"

void throttle_init(struct throttle *t, struct loop *loop, void (*fire)(struct timer *timer),
		   const struct ratelimit_params *bytes, const struct ratelimit_params *ops)
{
	*t = (struct throttle){ .timer.fire = fire, .loop = loop };
	ratelimit_set(&t->limit, bytes, ops, timers_clock_ns());
}

bool throttle_may(struct throttle *t, uint64_t bytes)
{
	struct timers *timers = loop_timers(t->loop);
	uint64_t retry_ns;

	if (t->timer.set)
		return false;
	if (ratelimit_ready(&t->limit, bytes, 1, timers->now_ns, &retry_ns))
		return true;
	timer_set(timers, &t->timer, retry_ns);
	return false;
}

void throttle_charge(struct throttle *t, uint64_t bytes)
{
	ratelimit_charge(&t->limit, bytes, 1, loop_timers(t->loop)->now_ns);
}

void throttle_pause(struct throttle *t, uint64_t ns)
{
	struct timers *timers = loop_timers(t->loop);

	timer_set(timers, &t->timer, timers->now_ns + ns);
}

void throttle_cancel(struct throttle *t)
{
	timer_cancel(loop_timers(t->loop), &t->timer);
}

void throttle_save(struct throttle *t, struct state_out *out)
{
	ratelimit_save(&t->limit, loop_timers(t->loop)->now_ns, out);
}

void throttle_restore(struct throttle *t, struct state_in *in)
{
	ratelimit_restore(&t->limit, loop_timers(t->loop)->now_ns, in);
}

struct throttle_change {
	struct throttle *throttle;
	const struct ratelimit_params *bytes, *ops;
};

static int throttle_do_change(void *arg)
{
	const struct throttle_change *c = arg;

	ratelimit_set(&c->throttle->limit, c->bytes, c->ops, loop_timers(c->throttle->loop)->now_ns);
	if (c->throttle->timer.set)
		throttle_pause(c->throttle, 0);
	return 0;
}

void throttle_set(struct throttle *t, const struct ratelimit_params *bytes, const struct ratelimit_params *ops)
{
	struct throttle_change c = { .throttle = t, .bytes = bytes, .ops = ops };

	(void)loop_call(t->loop, throttle_do_change, &c); /* it returns 0 */
}
