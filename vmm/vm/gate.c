/* The gate between the vCPU threads and the guest; see gate.h. */
#include "vmm/vm/gate.h"

#include <errno.h>

#include "vmm/base/clock.h"

void gate_enter(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	g->inside++;
	pthread_mutex_unlock(&g->lock);
}

void gate_close(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	g->closed = true;
	pthread_mutex_unlock(&g->lock);
}

bool gate_await_parked(struct gate *g, unsigned timeout_ms)
{
	const struct timespec deadline = clock_deadline(timeout_ms);
	bool all;
	int r = 0;

	pthread_mutex_lock(&g->lock);
	while (g->parked != g->inside && r != ETIMEDOUT)
		r = pthread_cond_clockwait(&g->came, &g->lock, CLOCK_MONOTONIC, &deadline);
	all = g->parked == g->inside;
	pthread_mutex_unlock(&g->lock);
	return all;
}

void gate_open(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	g->closed = false;
	pthread_cond_broadcast(&g->opened);
	pthread_mutex_unlock(&g->lock);
}

void gate_await_left(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	while (g->inside > 0)
		pthread_cond_wait(&g->came, &g->lock);
	pthread_mutex_unlock(&g->lock);
}

void gate_park(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	if (g->closed) {
		g->parked++;
		/* Once: threads that woke each other here would keep the lock from the main thread. */
		pthread_cond_signal(&g->came);
		while (g->closed)
			pthread_cond_wait(&g->opened, &g->lock);
		g->parked--;
	}
	pthread_mutex_unlock(&g->lock);
}

void gate_leave(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	g->inside--;
	pthread_cond_signal(&g->came);
	for (;;)
		pthread_cond_wait(&g->opened, &g->lock);
}
