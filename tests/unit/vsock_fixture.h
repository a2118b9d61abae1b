/*
 * What the tests of vsock share: a device with real Unix sockets in a directory of its own, a driver that sends what the
 * test asks for, and a loop that turns when the test says so; with FIXTURE_REAL_LOOP defined, one with a thread, of the engine
 * fixture_engine. Include it once, in the test.
 */
#ifndef MF_TESTS_UNIT_VSOCK_FIXTURE_H
#define MF_TESTS_UNIT_VSOCK_FIXTURE_H

#include "tests/unit/mock_driver.h"
#ifdef FIXTURE_REAL_LOOP
#include "tests/unit/real_loop.h"
#else
#include "tests/unit/mock_loop.h"
#endif

#include <fcntl.h>
#include <linux/virtio_vsock.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "virtio/mmio.h"
#include "virtio/vsock.h"
#include "virtio/vsock_priv.h"
#include "vmm/base/log.h"

#define CID 7U
#define RX_DESC 0x5000U
#define RX_AVAIL 0x6000U
#define RX_USED 0x7000U
#define HDR 0x10000U
#define RX_BUF(i) (0x80000U + 0x1000U * (i))
#define PAYLOAD 0x180000U
#define PAYLOAD_MAX 0x70000U
#define HDR_SIZE 44U
#define BUF VSOCK_BUF_SIZE
#define OP(name) VIRTIO_VSOCK_OP_##name

struct fix {
	struct drv d;
	struct virtio_dev *dev;
	struct loop *loop; /* NULL: the mock */
	char dir[64], path[80];
	uint16_t rx_posted, rx_seen;
	struct virtio_vsock_hdr base; /* what send() starts from */
	uint32_t cut;		      /* bytes that the chain is shorter than the header says */
};

static unsigned broken_calls, used_calls[3], used_later_calls[3];

void mmio_used(struct virtio_dev *dev, unsigned index)
{
	(void)dev;
	assert_true(index < 3);
	used_calls[index]++;
}

void mmio_used_later(struct virtio_dev *dev, unsigned index)
{
	(void)dev;
	used_later_calls[index]++;
}

void mmio_broken(struct virtio_dev *dev, const char *why)
{
	(void)why;
	for (unsigned i = 0; i < 3; i++)
		dev->vq[i].broken = true;
	broken_calls++;
}

static inline struct vsock *vsock_of(struct fix *f)
{
	return MF_CONTAINER_OF(f->dev, struct vsock, dev);
}

enum { ACTIVATE = 100, RESET };

struct device_call {
	struct virtio_dev *dev;
	unsigned what; /* or the index of a queue, which is kicked */
};

static int device_call(void *arg)
{
	const struct device_call *c = arg;

	if (c->what == ACTIVATE)
		return c->dev->ops->activate(c->dev);
	if (c->what == RESET)
		c->dev->ops->reset(c->dev);
	else
		c->dev->ops->kick(c->dev);
	return 0;
}

/* On the loop. */
static inline void tell_device(struct fix *f, unsigned what)
{
	struct device_call c = { f->dev, what };

	assert_int_equal(f->loop ? loop_call(f->loop, device_call, &c) : device_call(&c), 0);
}

static inline void activate(struct fix *f)
{
	const char *why = "";

	f->dev->vq[1] = drv_queue(&f->d);
	f->dev->vq[0] = (struct virtq){
		.size = 256, .ready = true, .desc_gpa = RX_DESC, .avail_gpa = RX_AVAIL, .used_gpa = RX_USED
	};
	drv_publish_idx(&f->d, 0);
	drv_put16(&f->d, RX_AVAIL + 2, 0);
	memset(drv_at(&f->d, DRV_USED, 0x1000), 0, 0x1000);
	memset(drv_at(&f->d, RX_USED, 0x1000), 0, 0x1000);
	f->rx_posted = f->rx_seen = 0;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(virtq_start(&f->dev->vq[i], &f->d.mem, false, true, &why), 0);
	tell_device(f, ACTIVATE);
}

static bool fixture_path_later;

static inline int setup_inactive(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct vsock_params params = { .path = fixture_path_later ? NULL : f->path,
				       .path_later = fixture_path_later,
				       .cid = CID };
	struct err e;

	struct rlimit limit;

	/* In the monitor, nofile.c does this. */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	f->loop = fixture_loop_new();
	broken_calls = 0;
	log_setup(LOG_LEVEL_ERROR, -1);
	drv_init(&f->d, 256, DRV_MEM);
	strcpy(f->dir, "/tmp/mayfly-test-vsock-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	sprintf(f->path, "%s/v", f->dir);
	f->base = (struct virtio_vsock_hdr){
		.src_cid = CID, .dst_cid = 2, .src_port = 1000, .dst_port = 52, .type = 1, .buf_alloc = BUF
	};
	assert_int_equal(vsock_new(&f->dev, &params, f->loop, &f->d.mem, &e), 0);
	fixture_loop_start(f->loop);
	*state = f;
	return 0;
}

static inline int setup(void **state)
{
	setup_inactive(state);
	activate(*state);
	return 0;
}

static inline int teardown(void **state)
{
	struct fix *f = *state;
	char command[160];

	if (vsock_of(f)->active)
		tell_device(f, RESET);
	fixture_loop_done(f->loop);
	f->dev->ops->free(f->dev);
	assert_int_equal(access(f->path, F_OK), -1);
	sprintf(command, "rm -rf %s", f->dir);
	assert_int_equal(system(command), 0);
	drv_done(&f->d);
	free(f);
	return 0;
}

/* Turns the loop until nothing happens any more. */
static inline void turn(void)
{
	fixture_loop_turn();
}

/* Gives the device n buffers of len bytes. */
static inline void post_len(struct fix *f, unsigned n, uint32_t len)
{
	for (unsigned i = 0; i < n; i++) {
		uint16_t slot = f->rx_posted++ % 256;

		drv_desc_at(&f->d, RX_DESC, slot, RX_BUF(slot), len, WRITE, 0);
		drv_put16(&f->d, RX_AVAIL + 4 + 2U * slot, slot);
	}
	drv_put16(&f->d, RX_AVAIL + 2, f->rx_posted);
	tell_device(f, 0);
	turn();
}

static inline void post(struct fix *f, unsigned n)
{
	post_len(f, n, 4096);
}

/* The next packet that the device has sent; data, if it is not NULL, is where its data is. */
static inline bool next_packet(struct fix *f, struct virtio_vsock_hdr *h, const uint8_t **data)
{
	uint16_t slot;

	if (f->rx_seen == drv_get16(&f->d, RX_USED + 2))
		return false;
	slot = (uint16_t)drv_get32(&f->d, RX_USED + 4 + 8U * (f->rx_seen % 256));
	memcpy(h, drv_at(&f->d, RX_BUF(slot), HDR_SIZE), HDR_SIZE);
	assert_int_equal(drv_get32(&f->d, RX_USED + 8 + 8U * (f->rx_seen % 256)), HDR_SIZE + h->len);
	assert_int_equal(h->dst_cid, CID);
	if (data)
		*data = (const uint8_t *)drv_at(&f->d, RX_BUF(slot), HDR_SIZE) + HDR_SIZE;
	f->rx_seen++;
	return true;
}

static inline bool silent(struct fix *f)
{
	struct virtio_vsock_hdr h;

	return !next_packet(f, &h, NULL);
}

/* The device's next packet is op, between the ports of f->base. */
static inline struct virtio_vsock_hdr expect(struct fix *f, uint16_t op)
{
	struct virtio_vsock_hdr h;

	assert_true(next_packet(f, &h, NULL));
	assert_int_equal(h.op, op);
	assert_int_equal(h.src_port, f->base.dst_port);
	assert_int_equal(h.dst_port, f->base.src_port);
	assert_int_equal(h.src_cid, f->base.dst_cid);
	assert_int_equal(h.type, f->base.type);
	return h;
}

/* Writes a packet as send_data does, and tells the device, but the loop does not turn. */
static inline void send_still(struct fix *f, uint16_t op, const void *data, uint32_t len)
{
	struct virtio_vsock_hdr h = f->base;

	assert_true(len <= PAYLOAD_MAX);
	h.op = op;
	h.len = len;
	memcpy(drv_at(&f->d, HDR, HDR_SIZE), &h, HDR_SIZE);
	memcpy(drv_at(&f->d, PAYLOAD, len), data, len);
	drv_desc(&f->d, 0, HDR, HDR_SIZE, NEXT, 1);
	drv_desc(&f->d, 1, PAYLOAD, len - f->cut, 0, 0);
	drv_publish(&f->d, 0);
	tell_device(f, 1);
}

/* Sends a packet as f->base says, with this op, and len bytes of data. */
static inline void send_data(struct fix *f, uint16_t op, const void *data, uint32_t len)
{
	send_still(f, op, data, len);
	turn();
	if (!broken_calls)
		assert_int_equal(drv_used_idx(&f->d), f->d.avail_idx); /* it was taken */
}

static inline void send_op(struct fix *f, uint16_t op)
{
	send_data(f, op, "", 0);
}

static inline void send_flags(struct fix *f, uint16_t op, uint32_t flags)
{
	f->base.flags = flags;
	send_op(f, op);
	f->base.flags = 0;
}

/* The host's programs. */

static inline struct sockaddr_un address(const struct fix *f, const char *suffix)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof(a.sun_path), "%s%s", f->path, suffix);
	return a;
}

static inline int host_listen(const struct fix *f, const char *suffix, int backlog)
{
	struct sockaddr_un a = address(f, suffix);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

/* Connects to the device and writes text. */
static inline int host_connect(const struct fix *f, const char *text)
{
	struct sockaddr_un a = address(f, "");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	turn();
	return fd;
}

/* Nothing to read and not closed; or closed. */
static inline bool is_open(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK) == -1 && errno == EAGAIN;
}

static inline bool is_closed(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, 0);

	return n == 0 || (n < 0 && errno == ECONNRESET);
}

static inline void expect_text(int fd, const char *text)
{
	char got[64] = "";

	assert_int_equal(recv(fd, got, strlen(text), 0), strlen(text));
	assert_string_equal(got, text);
}

/* A connection of the guest to port 52; returns the host's end. Port 1000 + i of the guest. */
static inline int guest_connects(struct fix *f, int listener)
{
	int fd;

	send_op(f, OP(REQUEST));
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(expect(f, OP(RESPONSE)).buf_alloc, BUF);
	return fd;
}

/* A connection of the host to port 1000 of the guest; returns the host's end. */
static inline int host_connects(struct fix *f, const char *more)
{
	char text[64];
	int fd;

	sprintf(text, "CONNECT 1000\n%s", more);
	fd = host_connect(f, text);
	f->base.dst_port = vsock_of(f)->last_port;
	expect(f, OP(REQUEST));
	send_op(f, OP(RESPONSE));
	sprintf(text, "OK %u\n", f->base.dst_port);
	expect_text(fd, text);
	return fd;
}

/* The byte of a stream at this place. */
static inline uint8_t pattern(uint32_t at)
{
	return (uint8_t)(at * 31 + at / 251);
}

/* The only connection. */
static inline struct vsock_conn *conn_of(struct fix *f)
{
	assert_int_equal(vsock_of(f)->num_conns, 1);
	for (unsigned i = 0; i < vsock_of(f)->num_touched; i++)
		if (vsock_of(f)->conn[i].state != CONN_FREE)
			return &vsock_of(f)->conn[i];
	return NULL;
}

/* A connection of the guest to port 52, with 64 receive buffers; returns the host's end. */
static inline int connected(struct fix *f)
{
	int listener = host_listen(f, "_52", 8), fd;

	post(f, 64);
	fd = guest_connects(f, listener);
	return close(listener) ? -1 : fd;
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define T_INACTIVE(fn) cmocka_unit_test_setup_teardown(fn, setup_inactive, teardown)

#endif
