/*
 * What a backend reports to its device: the last result each way, or NONE. A test sets it to NONE again before the next one may
 * come. Include it once, in the test.
 */
#ifndef MF_TESTS_UNIT_NET_BACKEND_RESULTS_H
#define MF_TESTS_UNIT_NET_BACKEND_RESULTS_H

#include "tests/unit/mock_loop.h"
#include "virtio/net_backend.h"

#define NONE INT32_MIN

static int received, sent;

void net_received(struct net_backend *b, int res)
{
	(void)b;
	assert_int_equal(received, NONE);
	received = res;
}

void net_sent(struct net_backend *b, struct net_tx *tx, int res)
{
	(void)b;
	(void)tx;
	assert_int_equal(sent, NONE);
	sent = res;
}

#endif
