/*
 * The books of a pool: its members and their states, when one is to be started, and when one is to leave. No descriptors and
 * no clock: the loop (serve.h) does what these functions say.
 *
 *	FREE -> STARTING -> WAITING -> CLAIMED -> FREE: a client has it, its guest runs, and the pool forgets it
 *	            `----------`-> LEAVING -> FREE: it is too old, or the snapshot was replaced
 *	            `----------`---------`-> FREE: it has ended
 */
#ifndef MF_POOL_POOL_H
#define MF_POOL_POOL_H

#include <stdbool.h>
#include <stdint.h>

#define POOL_SIZE_MAX 128
#define POOL_PLACES (2 * POOL_SIZE_MAX) /* members that leave have successors already */
#define POOL_STARTING_MAX 2		/* at a time: a start takes a CPU that clients could need, */
#define POOL_LEAVING_MAX 4		/* and so does an end */
/* Members that die by themselves are replaced at once up to a number, and then one in a second. */
#define POOL_DEATHS_AT_ONCE 8U
#define POOL_DEATH_MS 1000U

enum pool_state { POOL_FREE, POOL_STARTING, POOL_WAITING, POOL_CLAIMED, POOL_LEAVING };

struct pool_member {
	enum pool_state state;
	int fd;		   /* the loop's: where it waits; -1 if it is FREE */
	uint64_t since_ms; /* it waits since then */
	uint64_t number;   /* of members in the order of their start, from 1 */
};

struct pool {
	unsigned size;
	uint64_t max_age_ms;		/* or 0: they do not age */
	uint64_t started, ready;	/* how many, in all */
	uint64_t stale;			/* members up to this number are of a snapshot that was replaced */
	uint64_t claimed, missed, died; /* the same; missed: claims that found no member */
	uint64_t quiet_ms;		/* after the deaths so far: POOL_DEATH_MS for each, from when it happened */
	bool closed;			/* nothing is started any more */
	struct pool_member member[POOL_PLACES];
};

/* size: 1 to POOL_SIZE_MAX. */
void pool_init(struct pool *p, unsigned size, uint64_t max_age_ms);

/* How many members are in that state; of WAITING: for clients. */
unsigned pool_count(const struct pool *p, enum pool_state state);

/*
 * A free place for a member that is to be started now, or -1: there are enough, or it is too early. As long as there are others,
 * successors of members that have just been claimed are made when these run: they would take the CPU from a client that waits.
 */
int pool_wants(const struct pool *p, uint64_t now_ms);

/* It was started, and waits at fd; it is ready. */
void pool_started(struct pool *p, unsigned i, int fd);
void pool_ready(struct pool *p, unsigned i, uint64_t now_ms);

/* The member that has waited for longest, or -1. pool_claimed: a client has it. */
int pool_oldest(const struct pool *p);
void pool_claimed(struct pool *p, unsigned i);

/* The snapshot was replaced: no client gets a member of the old one. */
void pool_replace(struct pool *p);

/* A member that is to leave now, or -1: of a replaced snapshot, or too old. pool_leaves: it knows. */
int pool_outdated(const struct pool *p, uint64_t now_ms);
void pool_leaves(struct pool *p, unsigned i);

/* It has ended, by itself if it did not have to leave; or it was claimed, and runs. */
void pool_ended(struct pool *p, unsigned i, uint64_t now_ms);

/* In so many ms something is due; -1: nothing is. */
int pool_timeout(const struct pool *p, uint64_t now_ms);

#endif
