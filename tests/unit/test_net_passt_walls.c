/*
 * The walls of a user network between a guest and passt: the bytes that are checked are those that are sent, whatever the
 * guest does to its memory meanwhile, and the answer to a refused frame disturbs no frame of the stream.
 */
#include "tests/unit/net_backend_results.h"

#include <endian.h>
#include <stdlib.h>

#include "tests/unit/net_frames.h"
#include "virtio/net_backend.h"
#include "virtio/net_filter.h"
#include "vmm/base/err.h"

#define HDR 12U
#define ROOM 2000U
#define REFUSED "192.168.1.1"
#define ALLOWED "192.0.2.1"

struct fix {
	struct net_backend *b;
	int peer;
	uint8_t to[ROOM], guest[70000];
	struct iovec iov[3];
	struct net_tx tx;
};

static int setup(void **state)
{
	const struct net_rule rule = {
		.net.s6_addr = { [10] = 0xff, [11] = 0xff, [12] = 192, [13] = 168 },
		.prefix = 112,
		.protocols = NET_RULE_ALL,
		.last = UINT16_MAX,
	};
	const struct net_filter_params params = { .id = "net0", .rules = &rule, .num_rules = 1, .answers = true };
	struct fix *f = calloc(1, sizeof(*f));
	struct net_filter *filter;
	int pair[2];
	struct err e;

	mock_init();
	received = sent = NONE;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	f->peer = pair[1];
	assert_int_equal(net_filter_new(&filter, &params, &e), 0);
	assert_int_equal(net_passt_open(&f->b, pair[0], filter, mock.loop, &e), 0);
	f->b->ops->start(f->b, 0);
	f->iov[0] = (struct iovec){ f->to, 5 };
	f->iov[1] = (struct iovec){ f->to + 5, 40 };
	f->iov[2] = (struct iovec){ f->to + 45, ROOM - 45 };
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	f->b->ops->stop(f->b);
	mock_run_tasks();
	assert_int_equal(mock.num, 0);
	f->b->ops->free(f->b);
	close(f->peer);
	free(f);
	return 0;
}

/* The guest posts a frame, its first bytes as they are and len bytes in all, in pieces of piece bytes at first. */
static bool post(struct fix *f, const struct frame *frame, uint32_t len, size_t piece)
{
	for (uint32_t i = 0; i < len; i++)
		f->guest[i] = i < frame->len ? frame->bytes[i] : (uint8_t)(i * 7);
	f->tx = (struct net_tx){ .len = len, .num = 1 };
	for (size_t at = 0; at < len; at += f->tx.iov[f->tx.num - 1].iov_len) {
		size_t part = f->tx.num < 40 ? MF_MIN(piece, len - at) : len - at;

		f->tx.iov[f->tx.num++] = (struct iovec){ f->guest + at, part };
	}
	return f->b->ops->admit(f->b, &f->tx);
}

/* An IPv4 frame of TCP whose packet has len - 14 bytes. */
static struct frame syn(const char *to, uint32_t len)
{
	struct frame frame = frame_tcp("10.0.2.15", to, 40000, 80, FRAME_SYN);

	frame.bytes[16] = (uint8_t)((len - 14) >> 8);
	frame.bytes[17] = (uint8_t)(len - 14);
	return frame;
}

static void send_it(struct fix *f)
{
	sent = NONE;
	assert_true(f->b->ops->send(f->b, &f->tx));
	mock_do_all();
}

static void assert_peer_gets(struct fix *f, const uint8_t *frame, uint32_t len)
{
	static uint8_t got[70000];
	uint32_t prefix;

	assert_int_equal(recv(f->peer, &prefix, sizeof(prefix), MSG_DONTWAIT), sizeof(prefix));
	assert_int_equal(be32toh(prefix), len);
	assert_int_equal(recv(f->peer, got, len, MSG_DONTWAIT), len);
	assert_memory_equal(got, frame, len);
}

static void test_frames_arrive_whole(void **state)
{
	static const uint32_t lens[] = { 54, 95, 96, 97, 1514, 65535 };
	static uint8_t whole[70000];
	struct fix *f = *state;

	for (unsigned i = 0; i < MF_ARRAY_SIZE(lens); i++) {
		const struct frame frame = syn(ALLOWED, lens[i]);

		for (size_t piece = 1; piece < 120; piece += 7) {
			assert_true(post(f, &frame, lens[i], piece));
			memcpy(whole, f->guest, lens[i]);
			mock.bytes_max = piece == 1 ? 1000 : 0;
			send_it(f);
			assert_int_equal(sent, 0);
			assert_peer_gets(f, whole, lens[i]);
		}
	}
}

/* The guest redirects the frame to a denied address after the check: passt gets what was checked. */
static void test_guest_changes_a_checked_frame(void **state)
{
	struct fix *f = *state;
	const struct frame good = syn(ALLOWED, 200), evil = syn(REFUSED, 200);
	uint8_t whole[200];

	for (size_t piece = 1; piece <= 200; piece = piece * 2 + 1) {
		for (mock.bytes_max = 0; mock.bytes_max < 60; mock.bytes_max += 13) {
			assert_true(post(f, &good, 200, piece));
			memcpy(whole, f->guest, 200);
			memcpy(f->guest, evil.bytes, evil.len);
			send_it(f);
			assert_peer_gets(f, whole, 200);
		}
	}
}

/* The same when a reset has cut the frame off: the rest that is kept is the checked one too. */
static void test_guest_changes_a_frame_that_a_reset_cuts(void **state)
{
	struct fix *f = *state;
	const struct frame good = syn(ALLOWED, 200), evil = syn(REFUSED, 200);
	uint8_t whole[200];

	for (unsigned cut = 1; cut < 100; cut++) {
		assert_true(post(f, &good, 200, 200));
		memcpy(whole, f->guest, 200);
		sent = NONE;
		assert_true(f->b->ops->send(f->b, &f->tx));
		mock.bytes_max = cut;
		mock_do(0);
		memcpy(f->guest, evil.bytes, evil.len);
		f->b->ops->stop(f->b);
		f->b->ops->start(f->b, 0);
		mock.bytes_max = 0;
		assert_true(post(f, &good, 200, 200));
		send_it(f);
		assert_peer_gets(f, whole, 200);
		assert_peer_gets(f, whole, 200);
	}
}

static void receive(struct fix *f)
{
	memset(f->to, 0xee, sizeof(f->to));
	received = NONE;
	assert_true(f->b->ops->receive(f->b, f->iov, 3, ROOM));
}

static void peer_sends(struct fix *f, const uint8_t *frame, uint32_t len, uint32_t from, uint32_t to)
{
	uint8_t stream[4 + 1500];
	uint32_t prefix = htobe32(len);

	memcpy(stream, &prefix, 4);
	memcpy(stream + 4, frame, len);
	assert_int_equal(send(f->peer, stream + from, to - from, MSG_DONTWAIT), to - from);
}

static bool readable(const struct fix *f)
{
	struct pollfd p = { .fd = mock.loop->file[0], .events = POLLIN };

	(void)f;
	return poll(&p, 1, 0) == 1;
}

static void turn(struct fix *f)
{
	for (unsigned i = 0; i < 1000 && received == NONE; i++) {
		if (mock.num && readable(f))
			mock_do(0);
		mock_run_tasks();
	}
}

static void refuse(struct fix *f)
{
	const struct frame evil = syn(REFUSED, 200);

	assert_false(post(f, &evil, 200, 33));
}

static void assert_answered(const struct fix *f)
{
	static const uint8_t zero[HDR];

	assert_int_equal(received, HDR + 70);
	assert_memory_equal(f->to, zero, HDR);
	assert_memory_equal(f->to + HDR, f->guest + 6, 6);
	assert_int_equal(f->to[HDR + 23], IPPROTO_ICMP);
	assert_int_equal(f->to[HDR + 70], 0xee);
}

/* After each number of bytes of the frame that is coming, it and the answer arrive, each once and whole. */
static void test_answers_between_frames(void **state)
{
	struct fix *f = *state;
	const struct frame in = frame_tcp(ALLOWED, "10.0.2.15", 80, 40000, FRAME_ACK);

	for (uint32_t cut = 0; cut <= 4 + in.len; cut++) {
		bool answered = false, arrived = false;

		receive(f);
		if (cut)
			peer_sends(f, in.bytes, in.len, 0, cut);
		while (mock.num && readable(f) && received == NONE)
			mock_do(0);
		refuse(f);
		for (unsigned i = 0; i < 3 && !(answered && arrived); i++) {
			if (i == 1 && cut < 4 + in.len && !arrived)
				peer_sends(f, in.bytes, in.len, cut, 4 + in.len);
			else if (i == 0 && cut >= 4 && cut < 4 + in.len) {
				mock_run_tasks();
				assert_int_equal(received, NONE); /* the buffers are the frame's */
				continue;
			}
			turn(f);
			assert_int_not_equal(received, NONE);
			if (received == (int)(HDR + in.len)) {
				assert_memory_equal(f->to + HDR, in.bytes, in.len);
				assert_int_equal(f->to[HDR + in.len], 0xee);
				arrived = true;
			} else {
				assert_answered(f);
				answered = true;
			}
			receive(f);
		}
		assert_true(answered);
		assert_true(arrived);
		f->b->ops->stop(f->b);
		f->b->ops->start(f->b, 0);
	}
}

/* While the device has no buffers, the answer waits; a second one is not kept; a reset forgets it. */
static void test_answers_wait(void **state)
{
	struct fix *f = *state;

	refuse(f);
	refuse(f);
	mock_run_tasks();
	receive(f);
	assert_int_equal(received, NONE); /* not within the call */
	turn(f);
	assert_answered(f);
	receive(f);
	mock_run_tasks();
	assert_int_equal(received, NONE);
	refuse(f);
	f->b->ops->stop(f->b);
	f->b->ops->start(f->b, 0);
	receive(f);
	mock_run_tasks();
	assert_int_equal(received, NONE);
	/* Buffers that are too small for it. */
	f->b->ops->stop(f->b);
	f->b->ops->start(f->b, 0);
	refuse(f);
	assert_true(f->b->ops->receive(f->b, f->iov, 2, 45));
	turn(f);
	assert_true(received > 45);
	assert_int_equal(f->to[0], 0xee);
}

/* passt goes while the device has no buffers, because of an answer: it is found when there are some. */
static void test_passt_goes_after_an_answer(void **state)
{
	struct fix *f = *state;

	receive(f);
	refuse(f);
	turn(f);
	assert_answered(f);
	received = NONE;
	assert_int_equal(shutdown(f->peer, SHUT_RDWR), 0);
	mock_do_all();
	assert_int_equal(received, NONE);
	receive(f);
	turn(f);
	assert_int_equal(received, NET_LOST);
}

/* A datagram from a denied address may be answered, as it came from passt, not as the guest has changed it. */
static void test_answers_of_published_ports(void **state)
{
	struct fix *f = *state;
	struct frame in = frame_udp("192.168.1.7", "10.0.2.15", 5353, 53),
		     out = frame_udp("10.0.2.15", "192.168.1.7", 53, 5353),
		     other = frame_udp("10.0.2.15", "192.168.9.9", 53, 5353);

	for (mock.bytes_max = 1; mock.bytes_max < 60; mock.bytes_max += 3) {
		assert_false(post(f, &other, other.len, 99));
		receive(f);
		turn(f); /* the answer */
		receive(f);
		peer_sends(f, in.bytes, in.len, 0, 4 + in.len);
		while (received == NONE) {
			mock_do(0);
			/* The guest writes into its buffers all the time. */
			if (received == NONE)
				memcpy(f->to + HDR + 26, other.bytes + 30, 4);
		}
		assert_int_equal(received, HDR + in.len);
		assert_memory_equal(f->to + HDR, in.bytes, in.len);
		assert_true(post(f, &out, out.len, 99));
		send_it(f);
		assert_peer_gets(f, out.bytes, out.len);
		assert_false(post(f, &other, other.len, 99));
		f->b->ops->stop(f->b);
		f->b->ops->start(f->b, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_frames_arrive_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guest_changes_a_checked_frame, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guest_changes_a_frame_that_a_reset_cuts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers_between_frames, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(test_passt_goes_after_an_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_answers_of_published_ports, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
