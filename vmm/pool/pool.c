/* The books of a pool; see pool.h. */
#include "vmm/pool/pool.h"

#include <assert.h>
#include <limits.h>

#include "vmm/base/util.h"

void pool_init(struct pool *p, unsigned size, uint64_t max_age_ms)
{
	assert(size >= 1 && size <= POOL_SIZE_MAX);
	*p = (struct pool){ .size = size, .max_age_ms = max_age_ms };
	for (unsigned i = 0; i < POOL_PLACES; i++)
		p->member[i].fd = -1;
}

static bool is_stale(const struct pool *p, const struct pool_member *m)
{
	return (m->state == POOL_STARTING || m->state == POOL_WAITING) && m->number <= p->stale;
}

unsigned pool_count(const struct pool *p, enum pool_state state)
{
	unsigned num = 0;

	for (unsigned i = 0; i < POOL_PLACES; i++)
		num += p->member[i].state == state && !is_stale(p, &p->member[i]);
	return num;
}

static bool has_enough(const struct pool *p)
{
	const unsigned starting = pool_count(p, POOL_STARTING), waiting = pool_count(p, POOL_WAITING);

	return p->closed || starting >= POOL_STARTING_MAX || starting + waiting >= p->size ||
	       (waiting && pool_count(p, POOL_CLAIMED));
}

/* When the next may be started: deaths that are long past do not count. */
static uint64_t start_ms(const struct pool *p)
{
	const uint64_t credit = POOL_DEATHS_AT_ONCE * POOL_DEATH_MS;

	return p->quiet_ms > credit ? p->quiet_ms - credit : 0;
}

int pool_wants(const struct pool *p, uint64_t now_ms)
{
	if (has_enough(p) || start_ms(p) > now_ms)
		return -1;
	for (unsigned i = 0; i < POOL_PLACES; i++)
		if (p->member[i].state == POOL_FREE)
			return (int)i;
	return -1;
}

void pool_started(struct pool *p, unsigned i, int fd)
{
	p->member[i] = (struct pool_member){ .state = POOL_STARTING, .fd = fd, .number = ++p->started };
}

void pool_ready(struct pool *p, unsigned i, uint64_t now_ms)
{
	if (p->member[i].state != POOL_STARTING)
		return; /* it has to leave meanwhile */
	p->member[i].state = POOL_WAITING;
	p->member[i].since_ms = now_ms;
	p->ready++;
}

static void set_free(struct pool *p, unsigned i)
{
	p->member[i] = (struct pool_member){ .state = POOL_FREE, .fd = -1 };
}

int pool_oldest(const struct pool *p)
{
	int oldest = -1;

	for (unsigned i = 0; i < POOL_PLACES; i++) {
		const struct pool_member *m = &p->member[i];

		if (m->state == POOL_WAITING && !is_stale(p, m) && (oldest < 0 || m->number < p->member[oldest].number))
			oldest = (int)i;
	}
	return oldest;
}

void pool_claimed(struct pool *p, unsigned i)
{
	p->member[i].state = POOL_CLAIMED;
	p->claimed++;
}

void pool_replace(struct pool *p)
{
	p->stale = p->started;
}

static uint64_t aged_ms(const struct pool *p)
{
	int oldest = p->max_age_ms ? pool_oldest(p) : -1;

	return oldest < 0 ? UINT64_MAX : p->member[oldest].since_ms + p->max_age_ms;
}

int pool_outdated(const struct pool *p, uint64_t now_ms)
{
	if (pool_count(p, POOL_LEAVING) >= POOL_LEAVING_MAX)
		return -1; /* the end of one of them comes first */
	for (unsigned i = 0; i < POOL_PLACES; i++)
		if (is_stale(p, &p->member[i]))
			return (int)i;
	return aged_ms(p) <= now_ms ? pool_oldest(p) : -1;
}

void pool_leaves(struct pool *p, unsigned i)
{
	p->member[i].state = POOL_LEAVING;
}

void pool_ended(struct pool *p, unsigned i, uint64_t now_ms)
{
	const enum pool_state state = p->member[i].state;

	if ((state == POOL_STARTING || state == POOL_WAITING) && !is_stale(p, &p->member[i])) {
		p->died++;
		p->quiet_ms = MF_MAX(p->quiet_ms, now_ms) + POOL_DEATH_MS;
	}
	set_free(p, i);
}

int pool_timeout(const struct pool *p, uint64_t now_ms)
{
	uint64_t due = pool_count(p, POOL_LEAVING) >= POOL_LEAVING_MAX ? UINT64_MAX : aged_ms(p);

	if (!has_enough(p))
		due = MF_MIN(due, start_ms(p));
	if (due == UINT64_MAX)
		return -1;
	return due > now_ms ? (int)MF_MIN(due - now_ms, (uint64_t)INT_MAX) : 0;
}
