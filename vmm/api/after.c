/* The endpoints that change a VM which runs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/api/state.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"

void api_patch_vm(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	const struct api_vm *vm = body;
	bool paused = vm->state == API_PAUSED;
	uint64_t began = clock_now_ns();
	struct err e;

	(void)id;
	if (!paused && a->missing) {
		const struct api_drive *d = api_missing_drive(a);

		api_answer_fault(answer, "Internal VMM error: drive '%s': '%s' does not exist: PATCH the drive first",
				 d->drive_id, d->path_on_host);
		return;
	}
	if (a->vm->set_paused(a->vm->vm, paused, &e) < 0) {
		api_answer_fault(answer, "Internal VMM error: %s", e.text);
		return;
	}
	*(paused ? &a->metrics.pause_us : &a->metrics.resume_us) = (clock_now_ns() - began) / 1000;
	a->state = paused ? API_IS_PAUSED : API_RUNNING;
	api_answer_done(answer);
}

struct limits {
	struct ratelimit_params bandwidth, ops;
	const struct ratelimit_params *new_bandwidth, *new_ops; /* NULL: as before */
};

static void read_limits(struct limits *ret, const struct api_limiter *l)
{
	*ret = (struct limits){ .bandwidth = api_limit_of(&l->bandwidth), .ops = api_limit_of(&l->ops) };
	if (api_has(&api_limiter, l, "bandwidth"))
		ret->new_bandwidth = &ret->bandwidth;
	if (api_has(&api_limiter, l, "ops"))
		ret->new_ops = &ret->ops;
}

/* What is kept for GET /vm/config changes with the device: a bucket that was not given stays. */
static void keep_limits(const struct api_object *object, void *of, const char *key, struct api_limiter *kept,
			const struct api_limiter *l)
{
	if (api_has(&api_limiter, l, "bandwidth"))
		kept->bandwidth = l->bandwidth;
	if (api_has(&api_limiter, l, "ops"))
		kept->ops = l->ops;
	kept->given.bits |= l->given.bits;
	api_trim_limiter(object, of, key, kept);
}

void api_patch_drive(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	struct api_drive *d = body, *kept = api_find_drive(a, id);
	struct limits limits;
	struct err e;

	if (!d->path_on_host && !api_has(&api_drive_update, d, "rate_limiter")) {
		api_answer_fault(answer, "Drive config error: Unable to patch the block device: neither path_on_host "
					 "nor rate_limiter is given. Please verify the request arguments.");
		return;
	}
	if (d->path_on_host && kept && a->layered >> (kept - a->drive) & 1) {
		api_answer_fault(answer,
				 "Drive config error: Unable to patch the block device: drive '%s' has an "
				 "overlay on its image, which cannot be exchanged",
				 id);
		return;
	}
	read_limits(&limits, &d->rate_limiter);
	if (a->vm->change_drive(a->vm->vm, id, d->path_on_host, limits.new_bandwidth, limits.new_ops, &e) < 0) {
		api_answer_fault(answer, "Drive config error: Unable to patch the block device: %s", e.text);
		return;
	}
	if (d->path_on_host) {
		free(kept->path_on_host);
		kept->path_on_host = d->path_on_host;
		d->path_on_host = NULL;
		a->missing &= ~(1U << (kept - a->drive));
	}
	keep_limits(&api_drive, kept, "rate_limiter", &kept->rate_limiter, &d->rate_limiter);
	api_answer_done(answer);
}

void api_patch_net(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	struct api_net *n = body, *kept = api_find_net(a, id);
	struct limits rx, tx;
	struct err e;

	read_limits(&rx, &n->rx_rate_limiter);
	read_limits(&tx, &n->tx_rate_limiter);
	if (a->vm->change_net(a->vm->vm, id, NET_RX, rx.new_bandwidth, rx.new_ops, &e) < 0 ||
	    a->vm->change_net(a->vm->vm, id, NET_TX, tx.new_bandwidth, tx.new_ops, &e) < 0) {
		api_answer_fault(answer, "Network config error: Unable to update the interface: %s", e.text);
		return;
	}
	keep_limits(&api_net, kept, "rx_rate_limiter", &kept->rx_rate_limiter, &n->rx_rate_limiter);
	keep_limits(&api_net, kept, "tx_rate_limiter", &kept->tx_rate_limiter, &n->tx_rate_limiter);
	api_answer_done(answer);
}
