/*
 * Fuzzes vsock: a guest that sends any packets and gives any buffers, and a host whose programs connect, write, read,
 * half-close and go, on a real loop with real sockets. The input is a list of steps of 8 bytes: what, and its arguments.
 * Afterwards the device is reset, and nothing may be left.
 */
#include <assert.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "virtio/mmio.h"
#include "virtio/vsock_priv.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/mem.h"

#define CID 3
#define STEPS_MAX 64
#define PEERS 4
#define QUEUE(q) (0x1000U + 0x4000U * (q))
#define DATA 0x20000U

static struct mem mem;
static struct loop *loop;
static struct virtio_dev *dev;
static struct mmio *mmio;
static char dir[] = "/tmp/mayfly-fuzz-XXXXXX", path[64];
static int listener, peer[PEERS];
static uint16_t avail[2];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static void nothing(void *ctx, unsigned line)
{
	(void)ctx;
	(void)line;
}

static void clean_up(void)
{
	char command[64];

	sprintf(command, "rm -rf %s", dir);
	assert(system(command) == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct vsock_params params = { .path = path, .cid = CID };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct mmio_irq irq = { .raise = nothing };
	struct err e;

	(void)argc;
	(void)argv;
	log_setup(LOG_LEVEL_ERROR, -1);
	if (!mkdtemp(dir))
		abort();
	atexit(clean_up);
	sprintf(path, "%s/v", dir);
	if (mem_init(&mem, MIB, &e) < 0 || loop_new(&loop, "fuzz", LOOP_ENGINE_RING, LOOP_SOCKETS, &e) < 0 ||
	    vsock_new(&dev, &params, loop, &mem, &e) < 0 || mmio_new(&mmio, dev, NULL, 0, irq, &e) < 0 ||
	    loop_start(loop, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	sprintf(a.sun_path, "%s_1", path);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 2) < 0)
		abort();
	for (int i = 0; i < PEERS; i++)
		peer[i] = -1;
	return 0;
}

/* Makes descriptor 0 or 1, 2 of queue q available: a header and len bytes. */
static void publish(unsigned q, uint32_t header, uint32_t len)
{
	unsigned flags = q == 0 ? VRING_DESC_F_WRITE : 0;
	unsigned head = q == 0 ? (avail[0] * 2U) % 256 : 0;
	struct vring_desc desc[2] = {
		{ .addr = DATA + 0x10000 * q, .len = header, .flags = (uint16_t)(flags | VRING_DESC_F_NEXT) },
		{ .addr = DATA + 0x10000 * q + 0x100, .len = len, .flags = (uint16_t)flags },
	};
	uint16_t *ring = mem_at(&mem, QUEUE(q) + 0x2000, 0x1000);

	desc[0].next = (uint16_t)(head + 1);
	memcpy((char *)mem_at(&mem, QUEUE(q), 0x1000) + head * sizeof(desc[0]), desc, sizeof(desc));
	ring[2 + avail[q]++ % 256] = (uint16_t)head;
	ring[1] = avail[q];
	if (!dev->vq[q].broken)
		dev->ops->kick(dev);
}

static void guest_sends(const uint8_t *s)
{
	static const uint32_t odd[] = { 0, 1, 100, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff };
	struct virtio_vsock_hdr h = {
		.src_cid = s[1] == 0xff ? 9 : CID,
		.dst_cid = s[1] == 0xfe ? 9 : VSOCK_HOST_CID,
		.src_port = s[2] % 4,
		.dst_port = s[2] & 0x80 ? VSOCK_PORT_BASE + (s[2] >> 2) % 8 : 1,
		.len = s[3] & 0x80 ? odd[s[3] % 8] : s[3] * 600U,
		.type = s[1] == 0xfd ? s[4] : VIRTIO_VSOCK_TYPE_STREAM,
		.op = s[4] % 9,
		.flags = s[5],
		.buf_alloc = s[6] & 0x80 ? odd[s[6] % 8] : 65536,
		.fwd_cnt = s[7] & 0x80 ? odd[s[7] % 8] : s[7] * 100U,
	};

	if (s[2] & 0x80 && s[2] & 0x40)
		h.dst_port = ((struct vsock *)dev)->last_port;
	memcpy(mem_at(&mem, DATA + 0x10000, sizeof(h)), &h, sizeof(h));
	publish(1, s[1] == 0xfc ? s[4] : sizeof(h), s[3] & 0x80 ? s[5] * 200U : h.len);
}

static void host_connects(const uint8_t *s)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int *p = &peer[s[1] % PEERS], n;
	char line[40];

	if (*p >= 0)
		close(*p);
	*p = -1;
	if (s[2] & 1) {
		*p = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
		return;
	}
	strcpy(a.sun_path, path);
	*p = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (connect(*p, (struct sockaddr *)&a, sizeof(a)) < 0)
		return;
	n = snprintf(line, sizeof(line), "%s %u%s", s[2] & 2 ? "CONNECT" : "connec", s[3], s[2] & 4 ? "" : "\nmore");
	(void)!send(*p, line, (size_t)n, MSG_NOSIGNAL);
}

static void host_acts(const uint8_t *s)
{
	static char buf[65536];
	int p = peer[s[1] % PEERS];

	switch (s[2] % 4) {
	case 0:
		(void)!send(p, buf, s[3] * 256U, MSG_NOSIGNAL);
		break;
	case 1:
		(void)!recv(p, buf, s[3] * 256U, 0);
		break;
	case 2:
		(void)shutdown(p, s[3] % 3);
		break;
	default:
		if (p >= 0)
			close(p);
		peer[s[1] % PEERS] = -1;
	}
}

static int step(void *arg)
{
	const uint8_t *s = arg;
	struct vsock *v = (struct vsock *)dev;

	switch (s[0] % 8) {
	case 0:
	case 1:
	case 2:
		guest_sends(s);
		break;
	case 3:
		for (unsigned i = 0; i < s[1] % 8U; i++)
			publish(0, s[2] == 0xff ? s[3] : 44, s[4] * 20U);
		break;
	case 4:
		host_connects(s);
		break;
	case 5:
	case 6:
		host_acts(s);
		break;
	default:
		if (s[1] % 8 == 0 && v->timer.set)
			v->timer.fire(&v->timer);
	}
	return 0;
}

static int begin(void *arg)
{
	const char *why;

	(void)arg;
	memset(mem_at(&mem, 0, DATA), 0, DATA);
	for (unsigned q = 0; q < 2; q++) {
		avail[q] = 0;
		dev->vq[q] = (struct virtq){ .size = 256,
					     .ready = true,
					     .desc_gpa = QUEUE(q),
					     .avail_gpa = QUEUE(q) + 0x2000,
					     .used_gpa = QUEUE(q) + 0x3000 };
		assert(virtq_start(&dev->vq[q], &mem, false, true, &why) == 0);
	}
	return dev->ops->activate(dev);
}

static int end(void *arg)
{
	const struct vsock *v = (struct vsock *)dev;

	(void)arg;
	dev->ops->reset(dev);
	assert(v->num_conns == 0 && v->in_flight == 0 && v->waiting == 0 && v->num_free == v->num_touched);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t copy[8];
	int fd;

	loop_call(loop, begin, NULL);
	for (unsigned i = 0; i < STEPS_MAX && size >= sizeof(copy); i++, data += sizeof(copy), size -= sizeof(copy)) {
		memcpy(copy, data, sizeof(copy));
		loop_call(loop, step, copy);
	}
	loop_call(loop, end, NULL);
	for (int i = 0; i < PEERS; i++)
		if (peer[i] >= 0)
			close(peer[i]);
	for (int i = 0; i < PEERS; i++)
		peer[i] = -1;
	while ((fd = accept4(listener, NULL, NULL, 0)) >= 0)
		close(fd);
	return 0;
}
