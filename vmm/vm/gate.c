/* The gate between the vCPU threads and the guest; see gate.h. */
#include "vmm/vm/gate.h"

#include <errno.h>
#include <time.h>

void gate_init(struct gate *g)
{
	*g = (struct gate){ .closed = false };
	/* With default attributes these cannot fail. */
	(void)pthread_mutex_init(&g->lock, NULL);
	(void)pthread_cond_init(&g->came, NULL);
	(void)pthread_cond_init(&g->opened, NULL);
}

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
	struct timespec deadline;
	bool all;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += timeout_ms / 1000;
	deadline.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (deadline.tv_nsec >= 1000000000) {
		deadline.tv_nsec -= 1000000000;
		deadline.tv_sec++;
	}
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
