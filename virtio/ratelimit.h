/*
 * A rate limiter: two token buckets, one of bytes (bandwidth) and one of operations, as
 * Firecracker defines them. A bucket holds size tokens, is full at the start, and refills from
 * empty to full in refill_ms at a constant rate. A one-time burst comes on top: it is used first
 * and never refills. A bucket of size 0 or refill time 0 is no limit.
 *
 * It has no clock and no timer; throttle.h adds them. The owner asks ratelimit_ready before an
 * operation. It calls ratelimit_charge when the operation has started or, if its size shows only
 * then, has ended.
 *
 * An operation of more tokens than the bucket's size passes when there is no debt, and leaves one;
 * so does a charge whose size was not known before. Everything waits until the debt is paid: over
 * time the rate is exact.
 */
#ifndef MF_VIRTIO_RATELIMIT_H
#define MF_VIRTIO_RATELIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct state_in;
struct state_out;

/* Zero: no limit. */
struct ratelimit_params {
	uint64_t size;		 /* tokens */
	uint64_t one_time_burst; /* tokens */
	uint64_t refill_ms;	 /* from empty to full */
};

struct ratelimit_bucket {
	uint64_t size, refill_ns; /* either 0: no limit */
	uint64_t burst;
	uint64_t tokens;
	uint64_t debt;	   /* tokens is 0 then */
	uint64_t fraction; /* of the next token, in 1/refill_ns */
	uint64_t last_ns;  /* when tokens were last added */
};

struct ratelimit {
	struct ratelimit_bucket bytes, ops;
};

/*
 * Sets the buckets, full, at the time now_ns; also at run time. A bucket whose params are NULL
 * stays as it is. A zeroed struct is a limiter without limits.
 */
void ratelimit_set(struct ratelimit *r, const struct ratelimit_params *bytes, const struct ratelimit_params *ops,
		   uint64_t now_ns);

/*
 * Whether an operation of so many bytes may start now; 0 if its size is not known. False: it may
 * at *ret_retry_ns, if nothing else is charged until then. now_ns is CLOCK_MONOTONIC.
 */
bool ratelimit_ready(struct ratelimit *r, uint64_t bytes, uint64_t ops, uint64_t now_ns, uint64_t *ret_retry_ns);

/* Takes the tokens of an operation that started or ended at now_ns. */
void ratelimit_charge(struct ratelimit *r, uint64_t bytes, uint64_t ops, uint64_t now_ns);

/*
 * Writes what the buckets hold at now_ns, and reads it into a limiter that was just set. The clock of the other host
 * may be another one: the time of a snapshot does not count. A bucket whose limits have changed stays full.
 */
void ratelimit_save(struct ratelimit *r, uint64_t now_ns, struct state_out *out);
void ratelimit_restore(struct ratelimit *r, uint64_t now_ns, struct state_in *in);

#endif
