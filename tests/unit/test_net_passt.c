/*
 * Frames over passt's socket, whatever pieces the stream comes in: in full and byte by byte, both ways, through resets, and
 * with a peer that breaks the protocol or goes away.
 */
#include "tests/unit/net_backend_results.h"

#include <endian.h>
#include <stdlib.h>

#include "virtio/net_backend.h"
#include "vmm/base/err.h"

#define HDR 12U
#define ROOM 2000U

struct fix {
	struct net_backend *b;
	int peer;
	uint8_t to[ROOM];
	struct iovec iov[3];
	struct net_tx tx;
	uint8_t frame[70000];
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	int pair[2], size = 1 << 20;
	struct err e;

	mock_init();
	received = sent = NONE;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	f->peer = pair[1];
	assert_int_equal(net_fd_open(&f->b, pair[0], mock.loop, &e), 0);
	assert_int_equal(f->b->offered, 0);
	f->b->ops->start(f->b, 0);
	/* The header, and the first bytes of the frame, in pieces. */
	f->iov[0] = (struct iovec){ f->to, 5 };
	f->iov[1] = (struct iovec){ f->to + 5, 15 };
	f->iov[2] = (struct iovec){ f->to + 20, ROOM - 20 };
	for (unsigned i = 0; i < sizeof(f->frame); i++)
		f->frame[i] = (uint8_t)(i * 7 + (i >> 8));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	f->b->ops->stop(f->b);
	assert_int_equal(mock.num, 0);
	assert_int_equal(f->b->in_flight, 0);
	f->b->ops->free(f->b);
	close(f->peer);
	free(f);
	return 0;
}

static void peer_puts(struct fix *f, const void *data, size_t len)
{
	assert_int_equal(send(f->peer, data, len, MSG_DONTWAIT), len);
}

static void peer_sends(struct fix *f, uint32_t len)
{
	uint32_t prefix = htobe32(len);

	peer_puts(f, &prefix, sizeof(prefix));
	peer_puts(f, f->frame, len);
}

static void receive(struct fix *f)
{
	memset(f->to, 0xee, sizeof(f->to));
	received = NONE;
	assert_true(f->b->ops->receive(f->b, f->iov, 3, ROOM));
}

/* Turns of the loop until the frame is there or nothing more has come. */
static void turn(void)
{
	for (unsigned i = 0; i < 10000 && received == NONE && mock.num; i++) {
		mock_do(0);
		mock_run_tasks();
	}
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void assert_got(struct fix *f, uint32_t len)
{
	static const uint8_t zero[HDR];

	assert_int_equal(received, HDR + len);
	assert_memory_equal(f->to, zero, HDR);
	assert_memory_equal(f->to + HDR, f->frame, len);
	assert_int_equal(f->to[HDR + len], 0xee);
}

static void test_receive(void **state)
{
	struct fix *f = *state;

	for (uint32_t len = 14; len < 1500; len += 97) {
		peer_sends(f, len);
		receive(f);
		turn();
		assert_got(f, len);
	}
	/* Several in the stream already: none is read into another's buffers. */
	for (uint32_t len = 14; len < 100; len++)
		peer_sends(f, len);
	for (uint32_t len = 14; len < 100; len++) {
		receive(f);
		turn();
		assert_got(f, len);
	}
}

/* In pieces of every size from one byte up. */
static void test_receive_pieces(void **state)
{
	struct fix *f = *state;

	for (mock.bytes_max = 1; mock.bytes_max < 40; mock.bytes_max++) {
		peer_sends(f, 100);
		peer_sends(f, 14);
		receive(f);
		turn();
		assert_got(f, 100);
		receive(f);
		turn();
		assert_got(f, 14);
	}
}

static void test_too_large_is_dropped(void **state)
{
	struct fix *f = *state;
	static const uint32_t lens[] = { ROOM - HDR + 1, 40000, NET_FRAME_MAX };

	for (unsigned i = 0; i < MF_ARRAY_SIZE(lens); i++) {
		peer_sends(f, lens[i]);
		peer_sends(f, 60);
		receive(f);
		turn();
		assert_int_equal(received, ROOM + 1);
		assert_int_equal(f->to[0], 0xee);
		receive(f);
		turn();
		assert_got(f, 60);
	}
	peer_sends(f, ROOM - HDR);
	receive(f);
	turn();
	assert_int_equal(received, ROOM);
}

static void test_bad_lengths(void **state)
{
	static const uint32_t bad[] = { 0, 1, 13, NET_FRAME_MAX + 1, 0x7fffffff, 0xffffffff };

	for (unsigned i = 0; i < MF_ARRAY_SIZE(bad); i++) {
		struct fix *f;
		uint32_t prefix = htobe32(bad[i]);

		setup(state);
		f = *state;
		peer_puts(f, &prefix, sizeof(prefix));
		receive(f);
		turn();
		assert_int_equal(received, NET_LOST);
		teardown(state);
	}
}

/* The bad length comes together with the frame before it: it is found when the device asks for the next. */
static void test_bad_length_after_a_frame(void **state)
{
	struct fix *f = *state;

	peer_sends(f, 60);
	peer_puts(f, "\xff\xff\xff\xff", 4);
	receive(f);
	turn();
	assert_got(f, 60);
	receive(f);
	assert_int_equal(received, NONE);
	mock_run_tasks();
	assert_int_equal(received, NET_LOST);
}

static void test_peer_goes(void **state)
{
	struct fix *f = *state;

	peer_puts(f,
		  "\0\0\0\x3c"
		  "half",
		  8);
	receive(f);
	assert_int_equal(shutdown(f->peer, SHUT_RDWR), 0);
	turn();
	assert_int_equal(received, NET_LOST);
	f->tx = (struct net_tx){ .len = 60, .num = 2, .iov[1] = { f->frame, 60 } };
	assert_true(f->b->ops->send(f->b, &f->tx));
	mock_do_all();
	assert_int_equal(sent, NET_LOST);
}

/* A reset after each number of bytes of a frame: the next driver gets the next frame whole. */
static void test_reset_while_receiving(void **state)
{
	struct fix *f = *state;
	uint8_t stream[4 + 60];

	memcpy(stream, "\0\0\0\x3c", 4);
	memcpy(stream + 4, f->frame, 60);
	for (unsigned cut = 0; cut <= sizeof(stream); cut++) {
		if (cut)
			peer_puts(f, stream, cut);
		receive(f);
		while (received == NONE && readable(mock.loop->file[0]))
			mock_do(0);
		f->b->ops->stop(f->b);
		assert_int_equal(mock.num, 0);
		f->b->ops->start(f->b, 0);
		if (cut < sizeof(stream))
			peer_puts(f, stream + cut, sizeof(stream) - cut);
		peer_sends(f, 99);
		for (unsigned k = 0; k < 2 && received != (int)(HDR + 99); k++) {
			receive(f);
			turn();
			if (received == (int)(HDR + 60))
				assert_got(f, 60); /* whole, or not at all */
			else if (received != (int)(HDR + 99))
				assert_int_equal(received, ROOM + 1);
		}
		assert_got(f, 99);
	}
}

static void assert_peer_gets(struct fix *f, uint32_t len)
{
	static uint8_t got[70000];
	uint32_t prefix;

	assert_int_equal(recv(f->peer, &prefix, sizeof(prefix), MSG_DONTWAIT), sizeof(prefix));
	assert_int_equal(be32toh(prefix), len);
	assert_int_equal(recv(f->peer, got, len, MSG_DONTWAIT), len);
	assert_memory_equal(got, f->frame, len);
}

static void begin_send(struct fix *f, uint32_t len)
{
	sent = NONE;
	f->tx = (struct net_tx){ .len = len, .num = 3, .iov[1] = { f->frame, 9 }, .iov[2] = { f->frame + 9, len - 9 } };
	assert_true(f->b->ops->send(f->b, &f->tx));
}

static void test_send(void **state)
{
	struct fix *f = *state;
	static const uint32_t lens[] = { 14, 60, 1514, 65534, NET_FRAME_MAX };

	for (unsigned i = 0; i < MF_ARRAY_SIZE(lens); i++) {
		for (mock.bytes_max = 0; mock.bytes_max < 5000; mock.bytes_max += 777) {
			begin_send(f, lens[i]);
			mock_do_all();
			assert_int_equal(sent, 0);
			assert_peer_gets(f, lens[i]);
		}
	}
}

/* A reset after each number of bytes: the frame is finished before the next one begins. */
static void test_reset_while_sending(void **state)
{
	struct fix *f = *state;

	for (unsigned cut = 0; cut < 64; cut++) {
		begin_send(f, 60);
		mock.bytes_max = cut;
		if (cut)
			mock_do(0);
		f->b->ops->stop(f->b);
		assert_int_equal(mock.num, 0);
		assert_int_equal(sent, cut ? 0 : -ECANCELED);
		memset(&f->tx, 0xff, sizeof(f->tx));
		f->b->ops->start(f->b, 0);
		mock.bytes_max = 5;
		begin_send(f, 100);
		mock_do_all();
		assert_int_equal(sent, 0);
		if (cut)
			assert_peer_gets(f, 60);
		assert_peer_gets(f, 100);
	}
}

/* A second reset while the rest of the first frame is still on its way. */
static void test_reset_twice(void **state)
{
	struct fix *f = *state;

	begin_send(f, 60);
	mock.bytes_max = 10;
	mock_do(0);
	f->b->ops->stop(f->b);
	f->b->ops->start(f->b, 0);
	begin_send(f, 100);
	mock_do(0);
	f->b->ops->stop(f->b);
	f->b->ops->start(f->b, 0);
	begin_send(f, 200);
	mock_do_all();
	assert_int_equal(sent, 0);
	assert_peer_gets(f, 60);
	assert_peer_gets(f, 200); /* of the second frame nothing had been sent */
}

/* The ring is full at each step: it continues when there is room. */
static void test_ring_full(void **state)
{
	struct fix *f = *state;

	mock.room = 0;
	assert_false(f->b->ops->receive(f->b, f->iov, 3, ROOM));
	f->tx = (struct net_tx){ .len = 60, .num = 2, .iov[1] = { f->frame, 60 } };
	assert_false(f->b->ops->send(f->b, &f->tx));
	mock.room = MOCK_IO_MAX;
	peer_sends(f, 300);
	receive(f);
	mock.bytes_max = 7;
	for (unsigned i = 0; i < 1000 && received == NONE; i++) {
		mock.room = 0;
		if (mock.num)
			mock_do(0);
		mock_run_tasks();
		mock.room = i % 3 == 0 ? MOCK_IO_MAX : 0;
		mock_run_tasks();
	}
	assert_got(f, 300);
	mock.room = MOCK_IO_MAX;
	begin_send(f, 300);
	for (unsigned i = 0; i < 1000 && sent == NONE; i++) {
		mock.room = 0;
		if (mock.num)
			mock_do(0);
		mock.room = MOCK_IO_MAX;
		mock_run_tasks();
	}
	assert_int_equal(sent, 0);
	assert_peer_gets(f, 300);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_receive),
		T(test_receive_pieces),
		T(test_too_large_is_dropped),
		cmocka_unit_test(test_bad_lengths),
		T(test_bad_length_after_a_frame),
		T(test_peer_goes),
		T(test_reset_while_receiving),
		T(test_send),
		T(test_reset_while_sending),
		T(test_reset_twice),
		T(test_ring_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
