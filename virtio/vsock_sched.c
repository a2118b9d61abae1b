/*
 * The scheduler of virtio-vsock: notes what is to be done and defers the device's task, which
 * does it. It calls nothing of the other parts.
 */
#include <assert.h>

#include "virtio/vsock_priv.h"

void vsock_wake(struct vsock *v)
{
	loop_defer(v->dev.loop, &v->task);
}

/* Lists. */

void vsock_ready(struct vsock_conn *c)
{
	if (!c->ready)
		TAILQ_INSERT_TAIL(&c->v->ready, c, in_ready);
	c->ready = true;
}

void vsock_writable(struct vsock_conn *c)
{
	if (!c->writable)
		TAILQ_INSERT_TAIL(&c->v->writable, c, in_writable);
	c->writable = true;
}

struct vsock_conn *vsock_next_ready(struct vsock *v)
{
	struct vsock_conn *c = TAILQ_FIRST(&v->ready);

	if (c) {
		TAILQ_REMOVE(&v->ready, c, in_ready);
		c->ready = false;
	}
	return c;
}

struct vsock_conn *vsock_next_writable(struct vsock *v)
{
	struct vsock_conn *c = TAILQ_FIRST(&v->writable);

	if (c) {
		TAILQ_REMOVE(&v->writable, c, in_writable);
		c->writable = false;
	}
	return c;
}

void vsock_unlist(struct vsock_conn *c)
{
	if (c->ready)
		TAILQ_REMOVE(&c->v->ready, c, in_ready);
	if (c->writable)
		TAILQ_REMOVE(&c->v->writable, c, in_writable);
	c->ready = c->writable = false;
}

/* Refusals. */

void vsock_add_refusal(struct vsock *v, const struct vsock_refusal *r)
{
	assert(v->num_refusals < VSOCK_REFUSALS_ALL);
	v->refusal[(v->refusal_head + v->num_refusals++) % VSOCK_REFUSALS_ALL] = *r;
}

void vsock_refuse(struct vsock *v, const struct virtio_vsock_hdr *h)
{
	if (h->op == VIRTIO_VSOCK_OP_RST)
		return;
	vsock_add_refusal(v, &(struct vsock_refusal){
				     .src_cid = h->dst_cid,
				     .src_port = h->dst_port,
				     .dst_port = h->src_port,
				     .type = h->type,
			     });
}

bool vsock_next_refusal(struct vsock *v, struct virtio_vsock_hdr *h)
{
	const struct vsock_refusal *r = &v->refusal[v->refusal_head];

	if (!v->num_refusals)
		return false;
	*h = (struct virtio_vsock_hdr){
		.src_cid = r->src_cid,
		.dst_cid = v->cid,
		.src_port = r->src_port,
		.dst_port = r->dst_port,
		.type = r->type,
		.op = VIRTIO_VSOCK_OP_RST,
	};
	v->refusal_head = (v->refusal_head + 1) % VSOCK_REFUSALS_ALL;
	v->num_refusals--;
	return true;
}

/* Polls. */

void vsock_poll(struct vsock *v, struct vsock_poll *poll, int fd, short events)
{
	if (poll->armed)
		return;
	poll->events = events;
	poll->armed = loop_poll(v->dev.loop, &poll->op, fd, events);
	poll->wanted = !poll->armed;
	if (poll->armed) {
		v->in_flight++;
	} else {
		v->polls_wanted = true;
		vsock_wake(v);
	}
}

static void retry_poll(struct vsock *v, struct vsock_poll *poll, int fd)
{
	if (poll->wanted)
		vsock_poll(v, poll, fd, poll->events);
}

void vsock_retry_polls(struct vsock *v)
{
	if (!v->polls_wanted)
		return;
	v->polls_wanted = false;
	retry_poll(v, &v->accept, v->name.fd);
	for (unsigned i = 0; i < v->num_touched; i++) {
		retry_poll(v, &v->conn[i].in, v->conn[i].fd);
		retry_poll(v, &v->conn[i].out, v->conn[i].fd);
	}
}

void vsock_poll_ended(struct vsock *v, struct vsock_poll *poll)
{
	poll->armed = false;
	v->in_flight--;
}

void vsock_poll_cancel(struct vsock *v, struct vsock_poll *poll)
{
	poll->wanted = false;
	if (poll->armed)
		loop_cancel(v->dev.loop, &poll->op);
}

/* Time. */

void vsock_set_tick(struct vsock *v)
{
	struct timers *timers = loop_timers(v->dev.loop);

	timer_set(timers, &v->timer, timers->now_ns + VSOCK_TICK_MS * 1000000ULL);
}

void vsock_wait(struct vsock *v)
{
	if (v->waiting++ == 0)
		vsock_set_tick(v);
}

void vsock_wait_end(struct vsock *v)
{
	if (--v->waiting == 0)
		timer_cancel(loop_timers(v->dev.loop), &v->timer);
}
