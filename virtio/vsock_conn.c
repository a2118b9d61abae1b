/*
 * A connection of virtio-vsock: one stream each way between a port of the guest and a Unix socket of the host.
 *
 *                  line                 RESPONSE             SHUTDOWN, both ways, but
 *   accept -> LINE ----> REQUESTED ----------------> OPEN --------------------------> DRAIN
 *              |             |      guest's REQUEST ->|      the buffer is not empty     |
 *              +-------------+------------------------+-- conn_kill, conn_reset ---------+--> RESET -> DEAD -> FREE
 *
 * Half-close. The end of the host's stream becomes SHUTDOWN(SEND) for the guest, and the guest's SHUTDOWN becomes
 * shutdown(2), for SEND after the buffer has drained. When the host's program has gone (POLLHUP after the end of its
 * stream) the guest gets SHUTDOWN with both flags if nothing was lost, else RST. A host that takes nothing more (EPIPE)
 * makes SHUTDOWN(RCV), and RST when its own stream ends, too.
 */
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/vsock_priv.h"
#include "vmm/base/util.h"

#define WAIT_TICKS (VSOCK_WAIT_MS / VSOCK_TICK_MS + 1)

/* Life. */

struct vsock_conn *conn_new(struct vsock *v, enum vsock_conn_state state, int fd)
{
	struct vsock_conn *c;

	if (v->num_conns >= v->max_conns)
		return NULL;
	c = &v->conn[v->num_free > 0 ? v->free[--v->num_free] : v->num_touched++];
	*c = (struct vsock_conn){
		.v = v, .in.op.done = flow_in_done, .out.op.done = flow_out_done, .state = state, .fd = fd
	};
	v->num_conns++;
	return c;
}

/* A guest that chooses its ports so that they collide makes its own packets slow: 1023 steps at most. */
static unsigned bucket_of(uint32_t host_port, uint32_t guest_port)
{
	return ((host_port ^ guest_port * 0x9e3779b1U) * 0x85ebca6bU) >> 16 & (VSOCK_BUCKETS - 1);
}

struct vsock_conn *conn_find(struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_conn *c;

	for (c = LIST_FIRST(&v->bucket[bucket_of(host_port, guest_port)]); c; c = LIST_NEXT(c, in_bucket))
		if (c->host_port == host_port && c->guest_port == guest_port)
			break;
	return c;
}

void conn_name(struct vsock_conn *c, uint32_t host_port, uint32_t guest_port)
{
	c->host_port = host_port;
	c->guest_port = guest_port;
	c->hashed = true;
	LIST_INSERT_HEAD(&c->v->bucket[bucket_of(host_port, guest_port)], c, in_bucket);
}

static void conn_unname(struct vsock_conn *c)
{
	if (c->hashed)
		LIST_REMOVE(c, in_bucket);
	c->hashed = false;
}

void conn_wait(struct vsock_conn *c)
{
	if (!c->ticks)
		vsock_wait(c->v);
	c->ticks = WAIT_TICKS;
}

void conn_wait_end(struct vsock_conn *c)
{
	if (c->ticks)
		vsock_wait_end(c->v);
	c->ticks = 0;
}

void conn_due(struct vsock_conn *c, unsigned due)
{
	c->due |= due;
	if (!c->ready)
		TAILQ_INSERT_TAIL(&c->v->ready, c, in_ready);
	c->ready = true;
}

void conn_let_go(struct vsock_conn *c)
{
	struct vsock *v = c->v;

	if (c->in.armed || c->out.armed)
		return;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	if (c->state != CONN_DEAD)
		return;
	if (c->buf_touched) /* it cannot fail on a mapping of ours, and would cost only memory */
		(void)madvise(vsock_buf(c), VSOCK_BUF_SIZE, MADV_DONTNEED);
	c->state = CONN_FREE;
	v->free[v->num_free++] = (uint16_t)(c - v->conn);
	v->num_conns--;
}

static void conn_end(struct vsock_conn *c, enum vsock_conn_state state)
{
	struct vsock *v = c->v;
	bool was_over = conn_is_over(c);

	conn_wait_end(c);
	if (c->ready)
		TAILQ_REMOVE(&v->ready, c, in_ready);
	if (c->writable)
		TAILQ_REMOVE(&v->writable, c, in_writable);
	c->ready = c->writable = c->readable = false;
	c->due = 0;
	c->state = state;
	if (state == CONN_DEAD)
		conn_unname(c);
	c->in.wanted = c->out.wanted = false;
	if (!was_over && c->in.armed)
		loop_cancel(v->dev.loop, &c->in.op);
	if (!was_over && c->out.armed)
		loop_cancel(v->dev.loop, &c->out.op);
	conn_let_go(c);
}

void conn_kill(struct vsock_conn *c)
{
	conn_end(c, CONN_DEAD);
}

void conn_reset(struct vsock_conn *c)
{
	if (!c->hashed) { /* the guest knows nothing of it, or no more */
		conn_kill(c);
		return;
	}
	conn_end(c, CONN_RESET);
	conn_due(c, DUE_RST);
}

void conn_tick(struct vsock_conn *c)
{
	if (c->ticks && --c->ticks == 0) {
		vsock_wait_end(c->v);
		conn_reset(c);
	}
}

/* Packets of the guest. */

static void conn_take_shutdown(struct vsock_conn *c, const struct virtio_vsock_hdr *h)
{
	unsigned new = h->flags &VSOCK_SHUT_BOTH & ~c->guest_shut;

	if (c->state != CONN_OPEN) {
		conn_reset(c);
		return;
	}
	c->guest_shut |= new;
	if (c->guest_shut == VSOCK_SHUT_BOTH) {
		if (!c->buf_len) {
			conn_reset(c);
			return;
		}
		/* Its ports are free again for the guest, and a slow host still gets all that was sent. */
		conn_wait_end(c);
		vsock_refuse(c->v, h);
		conn_unname(c);
		c->state = CONN_DRAIN;
		c->due = 0;
		return;
	}
	if (new &VSOCK_SHUT_RCV) {
		c->readable = false;
		c->eof = true;
		(void)shutdown(c->fd, SHUT_RD); /* as above */
		vsock_poll(c->v, &c->in, c->fd, 0);
	}
	if (new &VSOCK_SHUT_SEND && !c->buf_len)
		flow_drained(c);
}

static void conn_take_response(struct vsock_conn *c)
{
	if (c->state != CONN_REQUESTED || c->due & DUE_REQUEST || !vsock_unix_say_ok(c)) {
		conn_reset(c);
		return;
	}
	conn_wait_end(c);
	c->state = CONN_OPEN;
	c->readable = true; /* it may have sent more behind its line */
	conn_due(c, 0);
}

void conn_take_credit(struct vsock_conn *c, const struct virtio_vsock_hdr *h)
{
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
}

void conn_take(struct vsock_conn *c, const struct virtio_vsock_hdr *h, const struct virtq_chain *chain)
{
	if (h->op == VIRTIO_VSOCK_OP_RST) {
		conn_kill(c);
		return;
	}
	if (c->state == CONN_RESET)
		return; /* the guest is about to be told */
	conn_take_credit(c, h);
	if (c->readable)
		conn_due(c, 0);
	switch (h->op) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		conn_take_response(c);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		conn_take_shutdown(c, h);
		break;
	case VIRTIO_VSOCK_OP_RW:
		flow_take(c, h->len, chain);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		conn_due(c, DUE_CREDIT_UPDATE);
		break;
	default: /* a second REQUEST, or what does not exist */
		conn_reset(c);
	}
}

/* Packets for the guest. */

/* Takes the first of these kinds that is due. */
static unsigned conn_take_due(struct vsock_conn *c, unsigned kinds)
{
	unsigned due = c->due & kinds;

	due &= ~due + 1; /* the lowest bit */
	c->due &= ~due;
	return due;
}

static uint16_t op_of(unsigned due)
{
	switch ((enum vsock_due)due) {
	case DUE_RST:
		return VIRTIO_VSOCK_OP_RST;
	case DUE_REQUEST:
		return VIRTIO_VSOCK_OP_REQUEST;
	case DUE_RESPONSE:
		return VIRTIO_VSOCK_OP_RESPONSE;
	case DUE_SHUTDOWN:
		return VIRTIO_VSOCK_OP_SHUTDOWN;
	case DUE_CREDIT_REQUEST:
		return VIRTIO_VSOCK_OP_CREDIT_REQUEST;
	case DUE_CREDIT_UPDATE:
		return VIRTIO_VSOCK_OP_CREDIT_UPDATE;
	}
	return VIRTIO_VSOCK_OP_INVALID; /* does not happen */
}

bool conn_next(struct vsock_conn *c, struct virtio_vsock_hdr *h, const struct virtq_chain *chain)
{
	/* What opens or ends it goes before data, the rest behind: it goes with the data. */
	unsigned due = conn_take_due(c, DUE_RST | DUE_REQUEST | DUE_RESPONSE);
	uint32_t len = 0;

	if (!due && c->state == CONN_OPEN)
		len = flow_read(c, chain);
	if (!due && !len && c->state != CONN_RESET)
		due = conn_take_due(c, ~0U);
	if (!due && !len)
		return false;
	c->due &= ~(unsigned)DUE_CREDIT_UPDATE; /* each packet is one */
	c->told_fwd = c->fwd_cnt;
	*h = (struct virtio_vsock_hdr){
		.src_cid = VSOCK_HOST_CID,
		.dst_cid = c->v->cid,
		.src_port = c->host_port,
		.dst_port = c->guest_port,
		.len = len,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = len ? VIRTIO_VSOCK_OP_RW : op_of(due),
		.flags = due == DUE_SHUTDOWN ? c->host_shut : 0,
		.buf_alloc = VSOCK_BUF_SIZE,
		.fwd_cnt = c->fwd_cnt,
	};
	if (due == DUE_RST || (due == DUE_SHUTDOWN && c->host_shut == VSOCK_SHUT_BOTH))
		conn_kill(c);
	else if (c->due || (c->readable && (flow_credit(c) || !c->asked)))
		conn_due(c, 0);
	return true;
}
