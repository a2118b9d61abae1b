/* Token buckets; see ratelimit.h. Times are uint64_t nanoseconds, products have 128 bits, sums saturate. */
#include "virtio/ratelimit.h"

#include "vmm/base/util.h"
#include "vmm/core/state.h"

#define NS_PER_MS 1000000U

__extension__ typedef unsigned __int128 wide;

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static bool bucket_limits(const struct ratelimit_bucket *b)
{
	return b->size && b->refill_ns;
}

static void bucket_set(struct ratelimit_bucket *b, const struct ratelimit_params *p, uint64_t now_ns)
{
	uint64_t refill_ns;

	if (__builtin_mul_overflow(p->refill_ms, (uint64_t)NS_PER_MS, &refill_ns))
		refill_ns = UINT64_MAX;
	*b = (struct ratelimit_bucket){
		.size = p->size,
		.refill_ns = refill_ns,
		.burst = p->one_time_burst,
		.tokens = p->size,
		.last_ns = now_ns,
	};
}

/* Adds the tokens since the last time. The fraction is kept, so asking often loses nothing. */
static void bucket_fill(struct ratelimit_bucket *b, uint64_t now_ns)
{
	wide share, added;

	if (now_ns <= b->last_ns)
		return;
	share = (wide)(now_ns - b->last_ns) * b->size + b->fraction;
	added = share / b->refill_ns;
	b->last_ns = now_ns;
	b->fraction = (uint64_t)(share % b->refill_ns);
	if (added < b->debt) {
		b->debt -= (uint64_t)added;
		return;
	}
	added -= b->debt;
	b->debt = 0;
	if (added >= b->size - b->tokens) {
		b->tokens = b->size;
		b->fraction = 0;
	} else {
		b->tokens += (uint64_t)added;
	}
}

static bool bucket_ready(struct ratelimit_bucket *b, uint64_t want, uint64_t now_ns, uint64_t *retry_ns)
{
	uint64_t missing;
	wide ns;

	if (!bucket_limits(b))
		return true;
	bucket_fill(b, now_ns);
	want = want > b->burst ? want - b->burst : 0;
	if (want > b->size)
		want = 0; /* larger than the bucket: let it pass and go into debt */
	if (b->debt == 0 && b->tokens >= want)
		return true;
	missing = add_saturated(b->debt, want - MF_MIN(b->tokens, want));
	ns = ((wide)missing * b->refill_ns - b->fraction + b->size - 1) / b->size;
	*retry_ns = MF_MAX(*retry_ns, add_saturated(now_ns, ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns));
	return false;
}

static void bucket_charge(struct ratelimit_bucket *b, uint64_t n, uint64_t now_ns)
{
	uint64_t part;

	if (!bucket_limits(b))
		return;
	bucket_fill(b, now_ns); /* tokens that come later must not pay for it */
	part = MF_MIN(n, b->burst);
	b->burst -= part;
	n -= part;
	part = MF_MIN(n, b->tokens);
	b->tokens -= part;
	b->debt = add_saturated(b->debt, n - part);
}

void ratelimit_set(struct ratelimit *r, const struct ratelimit_params *bytes, const struct ratelimit_params *ops,
		   uint64_t now_ns)
{
	if (bytes)
		bucket_set(&r->bytes, bytes, now_ns);
	if (ops)
		bucket_set(&r->ops, ops, now_ns);
}

bool ratelimit_ready(struct ratelimit *r, uint64_t bytes, uint64_t ops, uint64_t now_ns, uint64_t *ret_retry_ns)
{
	uint64_t retry_ns = 0;
	bool bytes_ready = bucket_ready(&r->bytes, bytes, now_ns, &retry_ns);
	bool ops_ready = bucket_ready(&r->ops, ops, now_ns, &retry_ns);

	if (bytes_ready && ops_ready)
		return true;
	*ret_retry_ns = retry_ns;
	return false;
}

void ratelimit_charge(struct ratelimit *r, uint64_t bytes, uint64_t ops, uint64_t now_ns)
{
	bucket_charge(&r->bytes, bytes, now_ns);
	bucket_charge(&r->ops, ops, now_ns);
}

static void bucket_save(struct ratelimit_bucket *b, uint64_t now_ns, struct state_out *out)
{
	if (bucket_limits(b))
		bucket_fill(b, now_ns);
	state_put_u64(out, b->size);
	state_put_u64(out, b->refill_ns);
	state_put_u64(out, b->burst);
	state_put_u64(out, b->tokens);
	state_put_u64(out, b->debt);
	state_put_u64(out, b->fraction);
}

static void bucket_restore(struct ratelimit_bucket *b, uint64_t now_ns, struct state_in *in)
{
	struct ratelimit_bucket was = { .last_ns = now_ns };

	was.size = state_get_u64(in);
	was.refill_ns = state_get_u64(in);
	was.burst = state_get_u64(in);
	was.tokens = state_get_u64(in);
	was.debt = state_get_u64(in);
	was.fraction = state_get_u64(in);
	if (was.size != b->size || was.refill_ns != b->refill_ns)
		return;
	if (was.tokens > was.size || (was.debt && was.tokens))
		state_refuse(in, "tokens of a rate limit");
	else if (was.fraction && was.fraction >= was.refill_ns)
		state_refuse(in, "fraction of a rate limit");
	else
		*b = was;
}

void ratelimit_save(struct ratelimit *r, uint64_t now_ns, struct state_out *out)
{
	bucket_save(&r->bytes, now_ns, out);
	bucket_save(&r->ops, now_ns, out);
}

void ratelimit_restore(struct ratelimit *r, uint64_t now_ns, struct state_in *in)
{
	bucket_restore(&r->bytes, now_ns, in);
	bucket_restore(&r->ops, now_ns, in);
}
