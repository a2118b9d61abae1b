/*
 * A connection of virtio-vsock: one stream each way between a port of the guest and a Unix socket
 * of the host.
 *
 *                  line                 RESPONSE            SHUTDOWN both ways, but
 *   accept -> LINE ----> REQUESTED ----------------> OPEN -------------------------> DRAIN
 *              |             |      guest's REQUEST ->|     the buffer is not empty    |
 *              +-------------+------------------------+-- conn_kill, conn_reset -------+--> RESET -> DEAD -> FREE
 *
 * Events come from below as results: of a poll (conn_in_done, conn_out_done), of moving data
 * (conn_follow), of the CONNECT line (conn_read_line). This file alone decides what they mean in
 * the connection's state.
 *
 * Half-close. EOF of the host's stream becomes SHUTDOWN(SEND) for the guest. The guest's SHUTDOWN
 * becomes shutdown(2), for SEND after the buffer has drained. When the host's program has closed
 * its socket (POLLHUP after EOF), the guest gets SHUTDOWN both ways if no data was lost, else RST.
 * A host that reads no more (EPIPE) causes SHUTDOWN(RCV), and RST once its own stream has ended.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/vsock_priv.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define WAIT_TICKS (VSOCK_WAIT_MS / VSOCK_TICK_MS + 1)

/* Life. */

/* A guest that picks colliding ports slows down only its own packets: 1023 steps at most. */
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

static void conn_name(struct vsock_conn *c, uint32_t host_port, uint32_t guest_port)
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

/* Starts the time limit, or starts it again. */
static void conn_wait(struct vsock_conn *c)
{
	if (!c->ticks)
		vsock_wait(c->v);
	c->ticks = WAIT_TICKS;
}

static void conn_wait_end(struct vsock_conn *c)
{
	if (c->ticks)
		vsock_wait_end(c->v);
	c->ticks = 0;
}

/* The connection owes the guest packets of these kinds. */
static void conn_due(struct vsock_conn *c, unsigned due)
{
	c->due |= due;
	vsock_ready(c);
}

static bool conn_is_over(const struct vsock_conn *c)
{
	return c->state == CONN_RESET || c->state == CONN_DEAD;
}

/* Closes the socket of a connection that is over once no poll is in flight; frees the slot unless an RST is due. */
static void conn_let_go(struct vsock_conn *c)
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
	bool was_over = conn_is_over(c);

	conn_wait_end(c);
	vsock_unlist(c);
	c->readable = false;
	c->due = 0;
	c->state = state;
	if (state == CONN_DEAD)
		conn_unname(c);
	if (!was_over) {
		vsock_poll_cancel(c->v, &c->in);
		vsock_poll_cancel(c->v, &c->out);
	}
	conn_let_go(c);
}

void conn_kill(struct vsock_conn *c)
{
	conn_end(c, CONN_DEAD);
}

/* Ends it with an RST, if the guest knows the connection. */
static void conn_reset(struct vsock_conn *c)
{
	if (!c->hashed) {
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

/* What happens to the streams. */

static void conn_drained(struct vsock_conn *c)
{
	if (c->state == CONN_DRAIN)
		conn_kill(c);
	else if (c->guest_shut & VSOCK_SHUT_SEND)
		(void)shutdown(c->fd, SHUT_WR); /* fails if the host has closed, which a poll reports */
}

/* The host reads no more. Its own stream may still have something for the guest. */
static void conn_deafen(struct vsock_conn *c)
{
	c->deaf = true;
	c->buf_len = 0;
	if (c->state != CONN_OPEN || c->eof) {
		conn_reset(c);
		return;
	}
	c->host_shut |= VSOCK_SHUT_RCV;
	c->readable = true; /* it may have closed altogether */
	conn_due(c, DUE_SHUTDOWN);
}

static void conn_eof(struct vsock_conn *c)
{
	c->eof = true;
	if (c->deaf) {
		conn_reset(c);
		return;
	}
	c->host_shut |= VSOCK_SHUT_SEND;
	conn_due(c, DUE_SHUTDOWN);
	vsock_poll(c->v, &c->in, c->fd, 0);
}

/* After EOF, the host's program has closed its socket. */
static void conn_hang_up(struct vsock_conn *c)
{
	if (c->buf_len || c->deaf) {
		conn_reset(c);
		return;
	}
	c->host_shut = VSOCK_SHUT_BOTH;
	conn_due(c, DUE_SHUTDOWN);
}

/* Acts on what a flow function found. */
static void conn_follow(struct vsock_conn *c, unsigned found)
{
	if (found & FLOW_UPDATE && c->state == CONN_OPEN)
		conn_due(c, DUE_CREDIT_UPDATE);
	if (found & FLOW_NO_CREDIT)
		conn_due(c, DUE_CREDIT_REQUEST);
	if (found & FLOW_DRAINED)
		conn_drained(c);
	if (found & FLOW_DEAF)
		conn_deafen(c);
	if (found & FLOW_EOF)
		conn_eof(c);
	if (found & FLOW_BAD)
		conn_reset(c);
}

uint32_t conn_flush(struct vsock_conn *c)
{
	uint32_t before = c->fwd_cnt;

	conn_follow(c, flow_flush(c));
	return c->fwd_cnt - before;
}

/* Beginnings. */

/* A host port that is free together with guest_port. There is one: ports outnumber connections. */
static uint32_t new_port(struct vsock *v, uint32_t guest_port)
{
	do {
		v->last_port = VSOCK_PORT_BASE | ((v->last_port + 1) & (VSOCK_PORT_BASE - 1));
	} while (conn_find(v, v->last_port, guest_port));
	return v->last_port;
}

static void conn_read_line(struct vsock_conn *c)
{
	uint32_t port;
	int r = vsock_unix_read_line(c, &port);

	if (r < 0) {
		conn_kill(c);
	} else if (r > 0) {
		c->state = CONN_REQUESTED;
		conn_name(c, new_port(c->v, port), port);
		conn_wait(c);
		conn_due(c, DUE_REQUEST);
	}
}

/* A poll has ended. Returns whether the connection continues. */
static bool conn_polled(struct vsock_conn *c, struct vsock_poll *poll, int res)
{
	vsock_poll_ended(c->v, poll);
	if (conn_is_over(c)) {
		conn_let_go(c);
		return false;
	}
	if (res == -ECANCELED)
		return false; /* the loop ends */
	if (res < 0)
		conn_reset(c); /* the socket cannot be polled */
	vsock_wake(c->v);
	return res >= 0;
}

static void conn_in_done(struct op *op, int res)
{
	struct vsock_conn *c = MF_CONTAINER_OF(op, struct vsock_conn, in.op);

	if (!conn_polled(c, &c->in, res))
		return;
	if (c->state == CONN_LINE) {
		conn_read_line(c);
	} else if (c->state == CONN_OPEN && !c->eof) {
		c->readable = true;
		vsock_ready(c);
	} else if (c->state == CONN_OPEN && res & (POLLHUP | POLLERR)) {
		conn_hang_up(c);
	} else if (c->state == CONN_OPEN) {
		vsock_poll(c->v, &c->in, c->fd, 0); /* data that the guest does not want any more */
	}
}

static void conn_out_done(struct op *op, int res)
{
	struct vsock_conn *c = MF_CONTAINER_OF(op, struct vsock_conn, out.op);

	if (conn_polled(c, &c->out, res) && c->buf_len)
		vsock_writable(c);
}

/* A connection that owns fd; NULL if there are too many. */
static struct vsock_conn *conn_new(struct vsock *v, enum vsock_conn_state state, int fd)
{
	struct vsock_conn *c;

	if (v->num_conns >= v->max_conns)
		return NULL;
	c = &v->conn[v->num_free > 0 ? v->free[--v->num_free] : v->num_touched++];
	*c = (struct vsock_conn){
		.v = v, .in.op.done = conn_in_done, .out.op.done = conn_out_done, .state = state, .fd = fd
	};
	v->num_conns++;
	return c;
}

void conn_accept(struct vsock *v, int fd)
{
	struct vsock_conn *c = conn_new(v, CONN_LINE, fd);

	if (!c) {
		close(fd); /* the client sees EOF */
		return;
	}
	conn_wait(c);
	conn_read_line(c);
}

static void conn_take_credit(struct vsock_conn *c, const struct virtio_vsock_hdr *h)
{
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
}

void conn_request(struct vsock *v, const struct virtio_vsock_hdr *h)
{
	struct vsock_conn *c = NULL;
	int fd = -EMFILE;

	vsock_forget_refusals(v, h);
	if (v->num_conns < v->max_conns) {
		fd = vsock_take_lent(v, h->dst_port, h->src_port);
		if (fd < 0)
			fd = vsock_unix_connect(v, h->dst_port);
	}
	if (fd >= 0)
		c = conn_new(v, CONN_OPEN, fd);
	if (!c) {
		log_debug("connection of the guest to port %u: %s", h->dst_port, strerror(-fd));
		vsock_refuse(v, h);
		return;
	}
	conn_name(c, h->dst_port, h->src_port);
	conn_take_credit(c, h);
	c->readable = true;
	conn_due(c, DUE_RESPONSE);
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
		/* The guest may use its ports again, and a slow host still gets all that was sent. */
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
		(void)shutdown(c->fd, SHUT_RD); /* as in conn_drained */
		vsock_poll(c->v, &c->in, c->fd, 0);
	}
	if (new &VSOCK_SHUT_SEND && !c->buf_len)
		conn_drained(c);
}

static void conn_take_response(struct vsock_conn *c)
{
	if (c->state != CONN_REQUESTED || c->due & DUE_REQUEST || !vsock_unix_say_ok(c)) {
		conn_reset(c);
		return;
	}
	conn_wait_end(c);
	c->state = CONN_OPEN;
	c->readable = true; /* the client may have sent data after its line */
	vsock_ready(c);
}

void conn_take(struct vsock_conn *c, const struct virtio_vsock_hdr *h, const struct virtq_chain *chain)
{
	c->heard = true;
	if (h->op == VIRTIO_VSOCK_OP_RST) {
		conn_kill(c);
		return;
	}
	if (c->state == CONN_RESET)
		return; /* an RST is due */
	conn_take_credit(c, h);
	if (c->readable)
		vsock_ready(c);
	switch (h->op) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		conn_take_response(c);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		conn_take_shutdown(c, h);
		break;
	case VIRTIO_VSOCK_OP_RW:
		if (c->state == CONN_OPEN && !(c->guest_shut & VSOCK_SHUT_SEND))
			conn_follow(c, flow_take(c, h->len, chain));
		else
			conn_reset(c);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		conn_due(c, DUE_CREDIT_UPDATE);
		break;
	default: /* a second REQUEST, or an unknown operation */
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

/* Packets that open or end the connection go before data, the others after it. */
#define DUE_BEFORE_DATA (DUE_RST | DUE_REQUEST | DUE_RESPONSE)

unsigned conn_batch(const struct vsock_conn *c, uint32_t *ret_room)
{
	*ret_room = MF_MIN(flow_credit(c), VSOCK_READ_MAX);
	return c->readable && !(c->due & DUE_BEFORE_DATA) ? MF_MAX(c->batch, 1U) : 1;
}

bool conn_next(struct vsock_conn *c, struct virtio_vsock_hdr *h, struct vsock_rx *rx)
{
	unsigned due = conn_take_due(c, DUE_BEFORE_DATA);

	rx->filled = 0;
	if (!due && c->state == CONN_OPEN)
		conn_follow(c, flow_read(c, rx));
	if (!due && !rx->filled && c->state != CONN_RESET)
		due = conn_take_due(c, ~0U);
	if (!due && !rx->filled)
		return false;
	c->due &= ~(unsigned)DUE_CREDIT_UPDATE; /* every packet carries fwd_cnt */
	c->told_fwd = c->fwd_cnt;
	*h = (struct virtio_vsock_hdr){
		.src_cid = VSOCK_HOST_CID,
		.dst_cid = c->v->cid,
		.src_port = c->host_port,
		.dst_port = c->guest_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = due ? op_of(due) : VIRTIO_VSOCK_OP_RW,
		.flags = due == DUE_SHUTDOWN ? c->host_shut : 0,
		.buf_alloc = VSOCK_BUF_SIZE,
		.fwd_cnt = c->fwd_cnt,
	};
	if (due == DUE_RST || (due == DUE_SHUTDOWN && c->host_shut == VSOCK_SHUT_BOTH))
		conn_kill(c);
	else if (c->due || (c->readable && (flow_credit(c) || !c->asked)))
		vsock_ready(c);
	return true;
}
