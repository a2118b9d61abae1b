/* The vsock in a snapshot: the source keeps its connections, a restored guest learns that it has none. */
#include "tests/unit/state_fixture.h"
#include "tests/unit/vsock_fixture.h"

#define EV_DESC 0xa000U
#define EV_AVAIL 0xb000U
#define EV_USED 0xc000U
#define EV_BUF(i) (0xd000U + 8U * (i))
#define TICK_NS (VSOCK_TICK_MS * 1000000ULL)

static void saved(struct fix *f)
{
	part_version = 2;
	f->dev->ops->save(f->dev, state_begin_part());
	state_end_part();
}

static void pause_queues(struct fix *f, bool paused)
{
	for (unsigned i = 0; i < 3; i++)
		f->dev->vq[i].paused = paused;
}

/* Buffers of the event queue, as Linux gives them: num of them from the beginning, or back. */
static void give_events(struct fix *f, uint16_t upto)
{
	for (uint16_t i = 0; i < upto; i++) {
		drv_desc_at(&f->d, EV_DESC, i % 8, EV_BUF(i % 8), 4, WRITE, 0);
		drv_put16(&f->d, EV_AVAIL + 4 + 2U * (i % 8), i % 8);
	}
	drv_put16(&f->d, EV_AVAIL + 2, upto);
}

/* A new device in place of f->dev: the old one has gone, with its sockets. */
static void replace(struct fix *f, bool has_events)
{
	struct vsock_params params = { .path = f->path, .cid = CID };
	const char *why = "";
	struct err e;

	tell_device(f, RESET);
	f->dev->ops->free(f->dev);
	f->loop = fixture_loop_new();
	assert_int_equal(vsock_new(&f->dev, &params, f->loop, &f->d.mem, &e), 0);
	f->dev->vq[2] = (struct virtq){
		.size = 8, .ready = has_events, .desc_gpa = EV_DESC, .avail_gpa = EV_AVAIL, .used_gpa = EV_USED
	};
	drv_put16(&f->d, EV_USED + 2, 0);
	if (has_events)
		assert_int_equal(virtq_start(&f->dev->vq[2], &f->d.mem, true, true, &why), 0);
	activate(f);
}

static void restore(struct fix *f, bool has_events)
{
	struct state_in *in;
	struct err e;

	replace(f, has_events);
	pause_queues(f, true);
	in = state_open_part();
	f->dev->ops->restore(f->dev, in);
	if (state_close(in, &e) < 0)
		fail_msg("%s", e.text);
	turn();
	assert_int_equal(drv_get16(&f->d, EV_USED + 2), 0); /* not before it resumes */
	pause_queues(f, false);
	f->dev->ops->resume(f->dev);
	tell_device(f, 1);
	turn();
}

static uint16_t events(struct fix *f)
{
	return drv_get16(&f->d, EV_USED + 2);
}

/* The guest gets the event first. New connections wait, both ways, until it has given the buffer back. */
static void test_reset_event(void **state)
{
	struct fix *f = *state;
	int old = connected(f), listener, client, fd;

	saved(f);
	close(old);
	assert_int_equal(unlink(address(f, "_52").sun_path), 0);
	listener = host_listen(f, "_52", 8);
	give_events(f, 8);
	drv_put16(&f->d, EV_BUF(0), 0xffff);
	restore(f, true);
	assert_int_equal(events(f), 1);
	assert_int_equal(drv_get32(&f->d, EV_USED + 4), 0);
	assert_int_equal(drv_get32(&f->d, EV_USED + 8), 4);
	assert_int_equal(drv_get32(&f->d, EV_BUF(0)), VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	assert_int_equal(drv_get16(&f->d, EV_USED + 4 + 64), 8); /* avail_event: notify of the ninth buffer */
	post(f, 16);
	client = host_connect(f, "CONNECT 1000\n");
	send_op(f, OP(REQUEST));
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	assert_true(silent(f));
	give_events(f, 9);
	tell_device(f, 2);
	turn();
	f->base.dst_port = vsock_of(f)->last_port;
	expect(f, OP(REQUEST)); /* they go on in the order in which they came */
	f->base.dst_port = 52;
	expect(f, OP(RESPONSE));
	assert_int_equal(events(f), 1);
	close(client);
	close(fd);
	close(listener);
	turn();
}

/* Packets for an old connection, in flight when the state was saved, are answered with RST. */
static void test_old_packets(void **state)
{
	struct fix *f = *state;

	saved(f);
	give_events(f, 8);
	restore(f, true);
	post(f, 16);
	send_data(f, OP(RW), "old", 3);
	assert_true(silent(f));
	give_events(f, 9);
	tell_device(f, 2);
	turn();
	expect(f, OP(RST));
}

/*
 * The source has taken REQUESTs, and could not answer them before the snapshot: accepted, refused, and
 * accepted with a RESPONSE that the guest has not looked at. The restored guest gets an RST for each,
 * after the event; nothing for a connection that has been used.
 */
static void test_unanswered_requests(void **state)
{
	struct fix *f = *state;
	int used = connected(f), listener, fd[2];
	struct virtio_vsock_hdr h;
	uint16_t seen;

	assert_int_equal(unlink(address(f, "_52").sun_path), 0);
	listener = host_listen(f, "_52", 8);
	send_data(f, OP(RW), "used", 4);
	f->base.src_port = 1001;
	send_op(f, OP(REQUEST));
	expect(f, OP(RESPONSE));
	while (f->rx_posted != drv_get16(&f->d, RX_USED + 2)) { /* there is no room for more */
		f->base.src_port = 900;
		send_op(f, OP(RW));
		next_packet(f, &h, NULL);
	}
	f->base.src_port = 1002;
	send_op(f, OP(REQUEST));
	f->base.src_port = 1003;
	f->base.dst_port = 53;
	send_op(f, OP(REQUEST));
	assert_true(silent(f));
	for (unsigned i = 0; i < 2; i++)
		fd[i] = accept(listener, NULL, NULL);
	saved(f);
	give_events(f, 8);
	restore(f, true);
	post(f, 16);
	assert_true(silent(f));
	give_events(f, 9);
	tell_device(f, 2);
	turn();
	seen = 0;
	f->base.dst_port = 53;
	for (uint16_t port = 1003; next_packet(f, &h, NULL); port = port == 1003 ? 1001 : port + 1) {
		assert_int_equal(h.op, OP(RST));
		assert_int_equal(h.src_cid, 2);
		assert_int_equal(h.dst_cid, CID);
		assert_int_equal(h.src_port, port == 1003 ? 53 : 52);
		assert_int_equal(h.dst_port, port);
		seen++;
	}
	assert_int_equal(seen, 3);
	close(fd[0]);
	close(fd[1]);
	close(used);
	close(listener);
	turn();
}

/* A state of the first version has none; and none is more than a device can have. */
static void test_number_of_unanswered(void **state)
{
	struct fix *f = *state;
	struct state_in *in;
	struct err e;

	saved(f);
	payload_put(4, VSOCK_REFUSALS_ALL + 1, 2);
	in = state_open_part();
	f->dev->ops->restore(f->dev, in);
	assert_int_equal(state_close(in, &e), -EINVAL);
	assert_non_null(strstr(e.text, "RST packets"));
	payload_version = 1;
	payload_len = 4;
	restore(f, false);
}

/* A driver that gives no buffer, or does not give it back, is not waited for indefinitely. */
static void test_deaf_driver(void **state)
{
	struct fix *f = *state;

	for (unsigned bufs = 0; bufs < 2; bufs++) {
		give_events(f, (uint16_t)bufs);
		saved(f);
		restore(f, true);
		post(f, 16);
		send_op(f, OP(REQUEST));
		assert_int_equal(events(f), bufs);
		mock_time(mock.now_ns + TICK_NS);
		turn();
		assert_true(silent(f));
		for (unsigned i = 0; i < 6; i++) {
			mock_time(mock.now_ns + TICK_NS);
			turn();
		}
		expect(f, OP(RST));
		assert_null(mock.loop->timers.first);
	}
}

/* The buffer comes late: the event goes out then. */
static void test_buffer_comes_late(void **state)
{
	struct fix *f = *state;

	give_events(f, 0);
	saved(f);
	restore(f, true);
	assert_int_equal(events(f), 0);
	give_events(f, 8);
	tell_device(f, 2);
	turn();
	assert_int_equal(events(f), 1);
}

static void test_without_event_queue(void **state)
{
	struct fix *f = *state;

	saved(f);
	restore(f, false);
	post(f, 16);
	send_op(f, OP(REQUEST));
	expect(f, OP(RST));
	assert_null(mock.loop->timers.first);
}

/* A reset of the device ends the waiting. */
static void test_device_reset(void **state)
{
	struct fix *f = *state;

	saved(f);
	give_events(f, 8);
	restore(f, true);
	tell_device(f, RESET);
	assert_null(mock.loop->timers.first);
	virtq_stop(&f->dev->vq[2]);
	activate(f);
	post(f, 16);
	send_op(f, OP(REQUEST));
	expect(f, OP(RST));
}

/* A host port is not used again at once: the guest may still think that it has a connection there. */
static void test_host_ports_go_on(void **state)
{
	struct fix *f = *state;
	uint32_t port;
	int fd;

	post(f, 64);
	fd = host_connects(f, "");
	port = vsock_of(f)->last_port;
	saved(f);
	close(fd);
	restore(f, false);
	post(f, 64);
	fd = host_connects(f, "");
	assert_int_equal(f->base.dst_port, port + 1);
	close(fd);
	turn();
}

/* The source: data of both directions waits, and comes; nothing is lost. */
static void test_source_is_undisturbed(void **state)
{
	struct fix *f = *state;
	struct virtio_vsock_hdr h;
	int fd = connected(f);

	pause_queues(f, true);
	assert_int_equal(send(fd, "to guest", 8, 0), 8);
	send_still(f, OP(RW), "to host", 7);
	turn();
	assert_true(silent(f));
	assert_true(is_open(fd));
	saved(f);
	pause_queues(f, false);
	f->dev->ops->resume(f->dev);
	tell_device(f, 0);
	turn();
	assert_true(next_packet(f, &h, NULL));
	assert_int_equal(h.op, OP(RW));
	assert_int_equal(h.len, 8);
	expect_text(fd, "to host");
	assert_null(mock.loop->timers.first);
	close(fd);
	turn();
}

static void test_hostile(void **state)
{
	static const uint32_t ports[] = { 0, VSOCK_PORT_BASE - 2, 2 * VSOCK_PORT_BASE, UINT32_MAX };
	struct fix *f = *state;
	struct err e;

	saved(f);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(ports); i++) {
		struct state_in *in;

		payload_put(0, ports[i], 4);
		in = state_open_part();
		f->dev->ops->restore(f->dev, in);
		assert_int_equal(state_close(in, &e), -EINVAL);
		assert_non_null(strstr(e.text, "port"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* clang-format off */
		T(test_reset_event),
		T(test_old_packets),
		T(test_unanswered_requests),
		T(test_number_of_unanswered),
		T(test_deaf_driver),
		T(test_buffer_comes_late),
		T(test_without_event_queue),
		T(test_device_reset),
		T(test_host_ports_go_on),
		T(test_source_is_undisturbed),
		T(test_hostile),
		/* clang-format on */
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
