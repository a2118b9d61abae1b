/*
 * Calls from other threads, which run on the loop's thread.
 *
 * They are in a list under a mutex. The wake eventfd, which the loop reads like any
 * other, announces them. A call that waits for something (loop_call_until) is in a list
 * of the loop's thread, which makes the call again at the end of each turn.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>

#include "vmm/base/clock.h"
#include "vmm/base/fdio.h"
#include "vmm/core/engine.h"

struct call {
	int (*fn)(void *arg);
	void *arg;
	int result;
	bool done;
	struct call *next;
};

void loop_run_calls(struct loop *loop)
{
	struct call *call;

	if (!loop->woken)
		return;
	loop->woken = false;
	pthread_mutex_lock(&loop->lock);
	while ((call = loop->calls)) {
		loop->calls = call->next;
		pthread_mutex_unlock(&loop->lock);
		call->result = call->fn(call->arg);
		pthread_mutex_lock(&loop->lock);
		call->done = true;
		pthread_cond_broadcast(&loop->changed);
	}
	pthread_mutex_unlock(&loop->lock);
}

int loop_call(struct loop *loop, int (*fn)(void *arg), void *arg)
{
	struct call call = { .fn = fn, .arg = arg }, **tail;

	if (!loop->running)
		return fn(arg);
	assert(!pthread_equal(pthread_self(), loop->thread));
	pthread_mutex_lock(&loop->lock);
	for (tail = &loop->calls; *tail; tail = &(*tail)->next)
		;
	*tail = &call;
	fdio_event_signal(loop->wake_fd);
	while (!call.done)
		pthread_cond_wait(&loop->changed, &loop->lock);
	pthread_mutex_unlock(&loop->lock);
	return call.result;
}

/* Calls that wait are made again at the end of each turn. */

struct await {
	struct loop *loop;
	int (*fn)(void *arg);
	void *arg;
	int result;
	bool over; /* under the lock */
	struct await *next;
};

static int await_begin(void *arg)
{
	struct await *a = arg;

	a->result = a->fn(a->arg);
	a->next = a->loop->awaits;
	if (a->result > 0)
		a->loop->awaits = a;
	return a->result;
}

static int await_end(void *arg)
{
	const struct await *a = arg;
	struct await **at = &a->loop->awaits;

	while (*at && *at != a)
		at = &(*at)->next;
	if (*at)
		*at = a->next;
	return a->result;
}

void loop_run_awaits(struct loop *loop)
{
	struct await **at = &loop->awaits, *a;

	while ((a = *at)) {
		a->result = a->fn(a->arg);
		if (a->result > 0) {
			at = &a->next;
			continue;
		}
		*at = a->next;
		pthread_mutex_lock(&loop->lock);
		a->over = true; /* invalid once the lock is released */
		pthread_cond_broadcast(&loop->changed);
		pthread_mutex_unlock(&loop->lock);
	}
}

int loop_call_until(struct loop *loop, int (*fn)(void *arg), void *arg, unsigned timeout_ms)
{
	struct await a = { .loop = loop, .fn = fn, .arg = arg };
	const struct timespec until = clock_deadline(timeout_ms);
	bool over = false;

	if (!loop->running)
		return fn(arg);
	if (loop_call(loop, await_begin, &a) <= 0)
		return a.result;
	pthread_mutex_lock(&loop->lock);
	while (!a.over && pthread_cond_clockwait(&loop->changed, &loop->lock, CLOCK_MONOTONIC, &until) != ETIMEDOUT)
		;
	over = a.over;
	pthread_mutex_unlock(&loop->lock);
	return over ? a.result : loop_call(loop, await_end, &a);
}

struct turns_call {
	const struct loop *loop;
	uint64_t turns;
};

static int turns_call(void *arg)
{
	struct turns_call *c = arg;

	c->turns = loop_this_turn(c->loop);
	return 0;
}

uint64_t loop_turns(struct loop *loop)
{
	struct turns_call c = { .loop = loop };

	(void)loop_call(loop, turns_call, &c); /* returns 0 */
	return c.turns;
}
