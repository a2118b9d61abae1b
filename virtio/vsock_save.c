/*
 * The vsock in a snapshot; see device.h.
 *
 * No operation of the loop holds guest memory, so the device is quiet once its queues are paused. The
 * source of a snapshot keeps its connections: they wait until the queues go on.
 *
 * A restored guest has none, because their other ends are programs that talk with the source. It
 * learns that by an event (virtio 1.2 §5.10.6.9), on which Linux reads its CID again, and resets every
 * connection that is established by then. So until the guest has dealt with the event, it gets no
 * packet, and no new connection can be among them: it has, when it gives its buffer back to the queue.
 * A driver that does not is waited for EVENT_WAIT_MS. Listeners stay. Packets for the old connections
 * that are still in the queue get an RST.
 *
 * The event does not reach a socket of the guest that still waits for the answer to its REQUEST, or
 * whose RESPONSE is in the queue. Therefore the RST packets that the source owed the guest are saved,
 * and one for each connection of the guest for which it has sent nothing since its REQUEST. The
 * restored guest gets them after the event.
 *
 * Host ports go on where they were: a new connection cannot have the ports of an old one.
 */
#include "virtio/mmio.h"
#include "virtio/vsock_priv.h"
#include "vmm/base/util.h"
#include "vmm/core/state.h"

#define EVENT 2
#define EVENT_WAIT_MS 1000

static void save_refusal(struct state_out *out, const struct vsock_refusal *r)
{
	state_put_u64(out, r->src_cid);
	state_put_u32(out, r->src_port);
	state_put_u32(out, r->dst_port);
	state_put_u16(out, r->type);
}

/* Whether the guest may wait for an answer to its REQUEST. */
static bool may_wait(const struct vsock_conn *c)
{
	return (c->state == CONN_OPEN || c->state == CONN_RESET) && c->hashed && !c->heard;
}

void vsock_save(struct virtio_dev *dev, struct state_out *out)
{
	const struct vsock *v = MF_CONTAINER_OF(dev, struct vsock, dev);
	unsigned num = v->num_refusals;

	state_put_u32(out, v->last_port);
	for (unsigned i = 0; i < v->num_touched; i++)
		num += may_wait(&v->conn[i]);
	num = MF_MIN(num, VSOCK_REFUSALS_ALL); /* more: of a VM that was restored from such a state just now */
	state_put_u16(out, (uint16_t)num);
	for (unsigned i = 0; i < v->num_refusals && num > 0; i++, num--)
		save_refusal(out, &v->refusal[(v->refusal_head + i) % VSOCK_REFUSALS_ALL]);
	for (unsigned i = 0; i < v->num_touched && num > 0; i++) {
		const struct vsock_conn *c = &v->conn[i];
		const struct vsock_refusal r = {
			.src_cid = VSOCK_HOST_CID,
			.src_port = c->host_port,
			.dst_port = c->guest_port,
			.type = VIRTIO_VSOCK_TYPE_STREAM,
		};

		if (may_wait(c)) {
			save_refusal(out, &r);
			num--;
		}
	}
}

/* Versions before had none. */
static void restore_refusals(struct vsock *v, struct state_in *in)
{
	unsigned num = in->version > 1 ? state_get_u16(in) : 0;

	if (num > VSOCK_REFUSALS_ALL)
		state_refuse(in, "RST packets due");
	for (unsigned i = 0; i < num && !in->why; i++) {
		struct vsock_refusal r;

		r.src_cid = state_get_u64(in);
		r.src_port = state_get_u32(in);
		r.dst_port = state_get_u32(in);
		r.type = state_get_u16(in);
		if (v->active)
			vsock_add_refusal(v, &r);
	}
}

/* Before the guest has dealt with the event, the queue holds hardly anything else. */
void vsock_forget_refusals(struct vsock *v, const struct virtio_vsock_hdr *h)
{
	const unsigned num = v->transport == TRANSPORT_KNOWN ? 0 : v->num_refusals;

	if (num)
		v->num_refusals = 0;
	for (unsigned i = 0; i < num; i++) {
		const struct vsock_refusal r = v->refusal[(v->refusal_head + i) % VSOCK_REFUSALS_ALL];

		if (r.src_port != h->dst_port || r.dst_port != h->src_port)
			vsock_add_refusal(v, &r);
	}
}

void vsock_restore(struct virtio_dev *dev, struct state_in *in)
{
	struct vsock *v = MF_CONTAINER_OF(dev, struct vsock, dev);

	v->last_port = state_get_u32(in);
	if (v->last_port < VSOCK_PORT_BASE - 1 || v->last_port > 2 * VSOCK_PORT_BASE - 1)
		state_refuse(in, "port of the newest client");
	else if (dev->vq[EVENT].ready)
		v->transport = TRANSPORT_RESET_DUE;
	restore_refusals(v, in);
}

void vsock_resume(struct virtio_dev *dev)
{
	struct vsock *v = MF_CONTAINER_OF(dev, struct vsock, dev);

	if (v->transport == TRANSPORT_KNOWN || v->event_ticks)
		return;
	v->event_ticks = EVENT_WAIT_MS / VSOCK_TICK_MS + 1;
	vsock_wait(v);
}

void vsock_reset_over(struct vsock *v)
{
	v->transport = TRANSPORT_KNOWN;
	if (v->event_ticks)
		vsock_wait_end(v);
	v->event_ticks = 0;
}

void vsock_reset_tick(struct vsock *v)
{
	if (v->event_ticks == 1)
		vsock_reset_over(v);
	else if (v->event_ticks)
		v->event_ticks--;
}

static void send_event(struct vsock *v)
{
	static const struct virtio_vsock_event event = { .id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET };
	struct virtq *q = &v->dev.vq[EVENT];
	struct virtq_chain chain;
	const char *why;
	int got = virtq_pop(q, &chain, &why);

	if (got < 0) {
		mmio_broken(&v->dev, why);
	} else if (got > 0) {
		v->event_bufs = virtq_await_more(q);
		virtq_push(q, chain.head, (uint32_t)virtq_copy_in(&chain, 0, &event, sizeof(event)));
		mmio_used(&v->dev, EVENT);
		v->transport = TRANSPORT_RESET_SENT;
	} else if (virtq_enable_notify(q)) {
		vsock_wake(v);
	}
}

bool vsock_tell_reset(struct vsock *v)
{
	if (v->transport == TRANSPORT_RESET_DUE)
		send_event(v);
	else if (v->transport == TRANSPORT_RESET_SENT && virtq_await_more(&v->dev.vq[EVENT]) > v->event_bufs)
		vsock_reset_over(v);
	return v->transport == TRANSPORT_KNOWN;
}
