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
 * Host ports go on where they were: a new connection cannot have the ports of an old one.
 */
#include "virtio/mmio.h"
#include "virtio/vsock_priv.h"
#include "vmm/base/util.h"
#include "vmm/core/state.h"

#define EVENT 2
#define EVENT_WAIT_MS 1000

void vsock_save(struct virtio_dev *dev, struct state_out *out)
{
	state_put_u32(out, MF_CONTAINER_OF(dev, struct vsock, dev)->last_port);
}

void vsock_restore(struct virtio_dev *dev, struct state_in *in)
{
	struct vsock *v = MF_CONTAINER_OF(dev, struct vsock, dev);

	v->last_port = state_get_u32(in);
	if (v->last_port < VSOCK_PORT_BASE - 1 || v->last_port > 2 * VSOCK_PORT_BASE - 1)
		state_refuse(in, "port of the newest client");
	else if (dev->vq[EVENT].ready)
		v->transport = TRANSPORT_RESET_DUE;
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
