/* A network interface without another end; see net_backend.h. */
#include <errno.h>
#include <stdlib.h>

#include "virtio/net_backend.h"
#include "vmm/base/err.h"

#define NOTHING_TX_MAX 1U

static void nothing_start(struct net_backend *b, uint64_t features)
{
	(void)b;
	(void)features;
}

static bool nothing_admit(struct net_backend *b, struct net_tx *tx)
{
	(void)b;
	(void)tx;
	return false;
}

static bool nothing_send(struct net_backend *b, struct net_tx *tx)
{
	net_sent(b, tx, -ENETDOWN); /* not reached: none is admitted */
	return true;
}

/* No frame comes, so nothing is in flight. */
static bool nothing_receive(struct net_backend *b, const struct iovec *iov, unsigned num, uint32_t room)
{
	(void)b;
	(void)iov;
	(void)num;
	(void)room;
	return true;
}

static void nothing_stop(struct net_backend *b)
{
	(void)b;
}

static void nothing_free(struct net_backend *b)
{
	free(b);
}

static const struct net_backend_ops nothing_ops = {
	.tx_max = NOTHING_TX_MAX,
	.start = nothing_start,
	.admit = nothing_admit,
	.send = nothing_send,
	.receive = nothing_receive,
	.stop = nothing_stop,
	.free = nothing_free,
};

int net_nothing_open(struct net_backend **ret, uint64_t offered, struct err *e)
{
	struct net_backend *b = malloc(sizeof(*b));

	if (!b)
		return err_set(e, -ENOMEM, "out of memory");
	*b = (struct net_backend){ .ops = &nothing_ops, .offered = offered };
	*ret = b;
	return 0;
}
