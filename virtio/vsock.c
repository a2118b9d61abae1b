/*
 * virtio-vsock (virtio 1.2 §5.10); see vsock.h.
 *
 * Theory of operation. There are three queues: rx (packets for the guest), tx (packets of the guest)
 * and events, which is used after a restore (vsock_save.c). A packet is a header and perhaps data. This file takes packets
 * out of tx and hands them to their connection. It gives buffers of rx to connections in the ready
 * list, each in turn: one buffer, or as many as the connection has filled before (conn_batch).
 *
 *   kick -> run
 *   a poll of a socket, a tick -> vsock_wake -> run, at the end of the loop's turn
 *        run_writable: vsock_next_writable -> conn_flush ... sendmsg
 *        run_tx: virtq_pop -> take_packet -> conn_take ... sendmsg -> virtq_push
 *        run_rx: virtq_pop -> conn_next ... recvmsg, or a control packet -> virtq_fill, virtq_flush
 *
 * Guest memory is touched only between pop and push, on this thread: no operation of the ring holds
 * a buffer of the guest. The ring only polls, so reset waits for nothing but cancelled polls.
 *
 * Memory. Answers must not need room in rx, because the guest may wait for us to take packets before
 * it gives buffers (§5.10.6.1). A connection keeps the packets that it owes as bits (vsock_due). A
 * packet without a connection is refused by RST. At most VSOCK_REFUSALS_MAX of these are queued; then
 * tx waits for rx, as the specification allows. Connections and their buffers are mapped once, and
 * their pages are touched when they are used.
 *
 * Hostile packets. A short header, or one with another source than the guest's CID, is dropped. Any
 * other nonsense is answered with RST and ends the connection that it names. An rx buffer without
 * room for data breaks the device.
 */
#include "virtio/vsock.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "virtio/mmio.h"
#include "virtio/vsock_priv.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define RX 0
#define TX 1
/* Each way, in one turn of the loop. */
#define VSOCK_PACKETS_MAX 256
#define VSOCK_BYTES_MAX MIB

#define CONNS_SIZE (sizeof(struct vsock_conn) * VSOCK_CONNS_MAX)
#define BUFS_SIZE ((size_t)VSOCK_BUF_SIZE * VSOCK_CONNS_MAX)

_Static_assert(sizeof(struct virtio_vsock_hdr) == 44, "virtio 1.2 §5.10.6");

static struct vsock *to_vsock(struct virtio_dev *dev)
{
	return MF_CONTAINER_OF(dev, struct vsock, dev);
}

/* From the guest. */

static void take_packet(struct vsock *v, const struct virtq_chain *chain)
{
	struct virtio_vsock_hdr h;
	struct vsock_conn *c;

	/* A false source has nobody to answer to. */
	if (virtq_copy_out(chain, 0, &h, sizeof(h)) < sizeof(h) || h.src_cid != v->cid)
		return;
	if (h.dst_cid == VSOCK_HOST_CID && h.type == VIRTIO_VSOCK_TYPE_STREAM) {
		c = conn_find(v, h.dst_port, h.src_port);
		if (h.len > chain->out_len - sizeof(h) && h.op != VIRTIO_VSOCK_OP_RST)
			h.op = VIRTIO_VSOCK_OP_INVALID;
		if (c) {
			conn_take(c, &h, chain);
			return;
		}
		if (h.op == VIRTIO_VSOCK_OP_REQUEST) {
			conn_request(v, &h);
			return;
		}
	}
	vsock_refuse(v, &h);
}

/*
 * Interrupts for used buffers of tx. The guest only frees memory then, which can wait until there are
 * many, until it is interrupted for rx (the line is the same), or for VSOCK_HELD_NS.
 */

/* The guest gets an interrupt at the end of this turn. */
static void tx_told(struct vsock *v)
{
	if (v->tx_held)
		timer_cancel(loop_timers(v->dev.loop), &v->held);
	v->tx_held = 0;
}

static void tx_tell(struct vsock *v)
{
	mmio_used(&v->dev, TX);
	tx_told(v);
}

static void tx_held_long(struct timer *timer)
{
	tx_tell(MF_CONTAINER_OF(timer, struct vsock, held));
}

static void tx_used(struct vsock *v)
{
	struct timers *timers = loop_timers(v->dev.loop);

	if (v->tx_held++ == 0)
		timer_set(timers, &v->held, timers->now_ns + VSOCK_HELD_NS);
	if (v->tx_held >= MF_MIN(VSOCK_HELD_MAX, v->dev.vq[TX].size / 4U))
		tx_tell(v);
	else
		mmio_used_later(&v->dev, TX); /* an interrupt for rx, or a restore, tells of it */
}

/* Takes packets while there are any, and room for refusals. Returns whether another turn is needed. */
static bool run_tx(struct vsock *v)
{
	struct virtq *q = &v->dev.vq[TX];
	struct virtq_chain chain;
	uint64_t bytes = 0;

	virtq_disable_notify(q);
	for (unsigned budget = VSOCK_PACKETS_MAX; budget > 0 && v->num_refusals < VSOCK_REFUSALS_MAX; budget--) {
		const char *why;
		int got = virtq_pop(q, &chain, &why);

		if (got < 0) {
			mmio_broken(&v->dev, why);
			v->tx_more = false;
			return false;
		}
		if (got > 0) {
			take_packet(v, &chain);
			virtq_push(q, chain.head, 0);
			tx_used(v);
			bytes += MF_MIN(chain.out_len, VSOCK_BUF_SIZE); /* of a longer packet nothing was taken */
			if (bytes >= VSOCK_BYTES_MAX)
				break;
		} else if (!virtq_enable_notify(q)) {
			v->tx_more = false;
			return false;
		}
	}
	return v->num_refusals < VSOCK_REFUSALS_MAX;
}

/* To the guest. */

/*
 * Pops receive buffers into v->rx, one or as many as the first ready connection may fill. Returns how
 * many: 0 when the guest has given none, or -1 when the device is broken.
 */
static int pop_buffers(struct vsock *v)
{
	struct vsock_rx *rx = &v->rx;
	const char *why = "receive buffer without room for data";
	uint32_t room = 0;
	unsigned max = v->num_refusals ? 1 : conn_batch(TAILQ_FIRST(&v->ready), &room);
	uint64_t found = 0;

	for (rx->num = 0; rx->num < max && (!rx->num || found < room); rx->num++) {
		struct virtq_chain *chain = &rx->chain[rx->num];
		int got = virtq_pop(&v->dev.vq[RX], chain, &why);

		if (got == 0)
			break;
		if (got < 0 || chain->in_len <= sizeof(struct virtio_vsock_hdr)) {
			mmio_broken(&v->dev, why);
			return -1;
		}
		found += chain->in_len - sizeof(struct virtio_vsock_hdr);
	}
	return (int)rx->num;
}

/* Returns the buffers that have a packet to the guest, and the others to the queue. */
static void push_buffers(struct vsock *v, struct virtio_vsock_hdr *h)
{
	struct virtq *q = &v->dev.vq[RX];
	struct vsock_rx *rx = &v->rx;

	while (rx->num > rx->filled)
		virtq_unpop(q, &rx->chain[--rx->num]);
	for (unsigned i = 0; i < rx->filled; i++) {
		h->len = rx->len[i];
		virtq_copy_in(&rx->chain[i], 0, h, sizeof(*h));
		virtq_fill(q, rx->chain[i].head, (uint32_t)sizeof(*h) + h->len);
	}
	if (rx->filled) {
		virtq_flush(q);
		mmio_used(&v->dev, RX);
		tx_told(v);
	}
}

/* Puts a refusal, or the next packets of a connection, into v->rx. Returns how many bytes of data. */
static uint32_t give_packets(struct vsock *v, struct virtio_vsock_hdr *h)
{
	struct vsock_rx *rx = &v->rx;
	uint32_t bytes = 0;

	rx->filled = 0;
	if ((vsock_next_refusal(v, h) || conn_next(vsock_next_ready(v), h, rx)) && !rx->filled) {
		rx->filled = 1;
		rx->len[0] = 0;
	}
	for (unsigned i = 0; i < rx->filled; i++)
		bytes += rx->len[i];
	return bytes;
}

/* Fills buffers while there are any, and packets for them. Returns whether another turn is needed. */
static bool run_rx(struct vsock *v)
{
	struct virtio_vsock_hdr h;
	uint64_t bytes = 0;

	for (unsigned packets = 0; packets < VSOCK_PACKETS_MAX && bytes < VSOCK_BYTES_MAX;) {
		int got;

		if (!v->num_refusals && TAILQ_EMPTY(&v->ready))
			return false;
		got = pop_buffers(v);
		if (got < 0 || (got == 0 && !virtq_enable_notify(&v->dev.vq[RX])))
			return false;
		if (got > 0) {
			bytes += give_packets(v, &h);
			push_buffers(v, &h);
		}
		packets += MF_MAX(v->rx.filled, 1U);
	}
	return true;
}

/* Writes buffers to the host. Returns whether another turn is needed. */
static bool run_writable(struct vsock *v)
{
	struct vsock_conn *c;
	uint64_t bytes = 0;

	while (bytes < VSOCK_BYTES_MAX && (c = vsock_next_writable(v)))
		bytes += conn_flush(c);
	return !TAILQ_EMPTY(&v->writable);
}

/* Moves packets and data, both ways. */
static void run(struct vsock *v)
{
	bool more = run_writable(v);

	more = (v->tx_more && run_tx(v)) || more;
	more = (vsock_tell_reset(v) && run_rx(v)) || more;
	/* run_rx may have made room for refusals. */
	if (more || (v->tx_more && v->num_refusals < VSOCK_REFUSALS_MAX))
		vsock_wake(v);
}

static void vsock_task(struct task *task)
{
	struct vsock *v = MF_CONTAINER_OF(task, struct vsock, task);

	if (!v->active)
		return;
	vsock_retry_polls(v);
	run(v);
}

static void vsock_tick(struct timer *timer)
{
	struct vsock *v = MF_CONTAINER_OF(timer, struct vsock, timer);

	vsock_set_tick(v); /* cancelled if the rest ends the last wait */
	for (unsigned i = 0; i < v->num_touched; i++)
		conn_tick(&v->conn[i]);
	vsock_reset_tick(v);
	if (v->accept_paused)
		vsock_accept_start(v);
	vsock_wake(v);
}

/* The device. */

static void vsock_kick(struct virtio_dev *dev)
{
	struct vsock *v = to_vsock(dev);

	v->tx_more = true;
	run(v); /* at once, since the guest waits; twice in a turn at most, with the task */
}

static int vsock_activate(struct virtio_dev *dev)
{
	struct vsock *v = to_vsock(dev);

	v->active = true;
	virtq_disable_notify(&dev->vq[RX]); /* until a buffer is missing */
	vsock_accept_start(v);
	return 0;
}

static void vsock_reset(struct virtio_dev *dev)
{
	struct vsock *v = to_vsock(dev);

	v->active = false;
	tx_told(v);
	for (unsigned i = 0; i < v->num_touched; i++)
		if (v->conn[i].state != CONN_FREE)
			conn_kill(&v->conn[i]);
	vsock_poll_cancel(v, &v->accept);
	loop_drain(dev->loop, &v->in_flight);
	if (v->accept_paused)
		vsock_wait_end(v);
	vsock_reset_over(v);
	v->accept_paused = v->tx_more = false;
	v->num_refusals = 0;
	assert(v->num_conns == 0);
	assert(v->waiting == 0);
}

static void vsock_config_read(struct virtio_dev *dev, uint32_t offset, void *buf, uint32_t len)
{
	const struct virtio_vsock_config config = { .guest_cid = to_vsock(dev)->cid };

	memcpy(buf, (const char *)&config + offset, len);
}

/* On the loop: takes packets that the guest did not notify us of. */
static int vsock_look_again(void *arg)
{
	struct vsock *v = arg;

	if (v->active && !v->dev.vq[TX].broken) {
		v->tx_more = true;
		run(v);
	}
	return 0;
}

/* On the loop: whether data for the host is left. Packets that wait for room for refusals are none. */
static int vsock_unfinished(void *arg)
{
	const struct vsock *v = arg;

	if (!v->active || v->dev.vq[TX].broken)
		return 0;
	if (v->tx_more && v->num_refusals < VSOCK_REFUSALS_MAX)
		return 1;
	for (unsigned i = 0; i < v->num_touched; i++)
		if (v->conn[i].state != CONN_FREE && v->conn[i].buf_len > 0)
			return 1;
	return 0;
}

void vsock_finish(struct virtio_dev *dev, unsigned timeout_ms)
{
	struct vsock *v = to_vsock(dev);

	(void)loop_call(dev->loop, vsock_look_again, v);		   /* returns 0 */
	(void)loop_call_until(dev->loop, vsock_unfinished, v, timeout_ms); /* the rest is lost */
}

static void vsock_free(struct virtio_dev *dev)
{
	struct vsock *v = to_vsock(dev);

	for (unsigned i = 0; i < v->num_touched; i++) /* of a device whose loop was stopped without a reset */
		if (v->conn[i].state != CONN_FREE && v->conn[i].fd >= 0)
			close(v->conn[i].fd);
	for (unsigned i = 0; i < v->num_lent; i++)
		close(v->lent[i].fd);
	unix_socket_done(&v->name);
	if (v->reserved_fd >= 0)
		close(v->reserved_fd);
	if (v->conn)
		munmap(v->conn, CONNS_SIZE);
	if (v->buf)
		munmap(v->buf, BUFS_SIZE);
	munmap(v, sizeof(*v));
}

/* Address space whose pages cost nothing until they are touched. NULL: out of memory. */
static void *map_lazily(size_t size)
{
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return NULL;
	/* A hint: huge pages would touch what is to stay untouched. A kernel without them returns an error. */
	(void)madvise(map, size, MADV_NOHUGEPAGE);
	return map;
}

static int vsock_build(struct vsock *v, const struct vsock_params *params, struct err *e)
{
	int r = vsock_accept_init(v, params->path_later);

	if (r < 0)
		return err_neg(e, r, "make a socket");
	v->conn = map_lazily(CONNS_SIZE);
	v->buf = map_lazily(BUFS_SIZE);
	if (!v->conn || !v->buf)
		return err_set(e, -ENOMEM, "out of memory");
	return params->path ? vsock_unix_listen(v, params->path, e) : 0;
}

int vsock_listen_fd(struct virtio_dev *dev)
{
	const struct vsock *v = to_vsock(dev);

	return v->reserved_fd >= 0 ? v->reserved_fd : v->name.fd;
}

static const struct virtio_ops vsock_ops;

int vsock_new(struct virtio_dev **ret, const struct vsock_params *params, struct loop *loop, const struct mem *mem,
	      struct err *e)
{
	const char *id = params->path ? params->path : "init";
	struct vsock *v = map_lazily(sizeof(*v)); /* most of it is places of connections */

	if (!v)
		return err_set(e, -ENOMEM, "vsock '%s': out of memory", id);
	v->dev = (struct virtio_dev){ .ops = &vsock_ops, .loop = loop, .mem = mem, .id = id };
	v->cid = params->cid;
	v->connect = params->connect;
	v->connect_ctx = params->ctx;
	v->name = UNIXNAME_INIT;
	v->task.run = vsock_task;
	v->reserved_fd = -1;
	v->timer.fire = vsock_tick;
	v->held.fire = tx_held_long;
	v->max_conns = params->max_conns ? MF_MIN(params->max_conns, VSOCK_CONNS_MAX) : VSOCK_CONNS_MAX;
	v->last_port = VSOCK_PORT_BASE - 1;
	TAILQ_INIT(&v->ready);
	TAILQ_INIT(&v->writable);
	if (vsock_build(v, params, e) < 0) {
		err_wrap(e, "vsock '%s'", id);
		vsock_free(&v->dev);
		return e->code;
	}
	*ret = &v->dev;
	return 0;
}

static const struct virtio_ops vsock_ops = {
	.name = "vsock",
	.device_id = VIRTIO_ID_VSOCK,
	.num_queues = 3,
	.config_len = sizeof(struct virtio_vsock_config),
	.config_read = vsock_config_read,
	.activate = vsock_activate,
	.kick = vsock_kick,
	.reset = vsock_reset,
	.resume = vsock_resume,
	.save = vsock_save,
	.restore = vsock_restore,
	.free = vsock_free,
};
