/*
 * passt as backend of a network interface: a stream socket. In both directions, each frame comes
 * after its length, 4 bytes in big-endian order. There is no virtio header, so no offload.
 *
 * Receiving. A read is always for exactly what is known to come: the length, or the rest of the
 * frame and the next length. So a frame goes straight into the guest's buffers, in one read while
 * the stream flows, and no byte of the next frame gets there. A frame that does not fit is read
 * into scratch and dropped.
 *
 *	length (0..4 bytes of it) -> frame (rest of it, then length) -> net_received -> ...
 *
 * Sending. One frame at a time, in as many writes as it takes. While passt does not read, the
 * write waits, and the next frames stay in the guest's ring.
 *
 * A reset may come in the middle of a frame, in either direction, and the stream must stay in
 * step. So the rest of an outgoing frame is copied, and sent before anything else; the rest of an
 * incoming one is dropped once there is a driver again.
 *
 * The walls (net_filter.h). The headers of a frame to send are copied before they are checked, and
 * the copy is sent, so the guest cannot change them after the check. The answer to a refused frame
 * goes into the device's buffers while no frame from passt does: the read in flight then waits for
 * a length, and stays in flight. If the filter must know who sends datagrams, the headers of a
 * frame for the guest are read into host memory first.
 *
 * passt is trusted, but its lengths are checked. If it ends, or breaks the protocol, the backend
 * is lost.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "virtio/iov.h"
#include "virtio/net_backend.h"
#include "virtio/net_filter.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

struct passt {
	struct net_backend b;
	int fd, file;
	bool stopping;
	struct task again; /* the ring was full in the middle of a frame, or an answer is due */

	struct net_filter *filter;	   /* or NULL */
	uint8_t answer[NET_FILTER_ANSWER]; /* a frame for the guest */
	uint32_t answer_len;		   /* 0: there is none */

	struct op rx_op;
	bool receiving; /* net_received is due */
	bool rx_in_flight;
	uint8_t rx_prefix[4];
	unsigned rx_prefix_len;		  /* bytes of it that have come */
	uint32_t rx_len;		  /* of the present frame; 0: there is none */
	uint32_t rx_done;		  /* bytes of it that have come */
	bool rx_drop;			  /* it goes into scratch */
	uint8_t rx_head[NET_FILTER_HEAD]; /* its first bytes, if the filter must see them */
	const struct iovec *rx_to;	  /* the device's buffers */
	unsigned rx_to_num;
	uint32_t rx_room;
	struct iovec rx_iov[NET_RX_IOV_MAX + 2];

	struct op tx_op;
	struct net_tx *tx; /* being sent, or NULL */
	bool tx_in_flight;
	struct {
		uint32_t prefix;
		uint8_t head[NET_FILTER_HEAD]; /* the frame's first bytes, as checked, */
	} tx_front;
	uint32_t tx_head_len; /* so many; 0 without a filter */
	uint32_t tx_done;     /* bytes of prefix and frame that have been sent */
	uint32_t rest_len;    /* of a frame that a reset has cut off */
	uint32_t rest_done;
	struct iovec tx_iov[1 + VIRTQ_CHAIN_MAX];

	/* Rarely touched, and pages only then. */
	uint8_t scratch[NET_FRAME_MAX];
	uint8_t rest[NET_FRAME_MAX + 4];
};

static struct passt *to_passt(struct net_backend *b)
{
	return MF_CONTAINER_OF(b, struct passt, b);
}

/* Sending. */

static bool passt_write(struct passt *p)
{
	const struct net_tx *tx = p->tx;
	bool started;

	if (p->rest_done < p->rest_len) {
		started = loop_write(p->b.loop, &p->tx_op, p->file, p->rest + p->rest_done, p->rest_len - p->rest_done,
				     LOOP_NO_OFFSET);
	} else {
		unsigned num = iov_slice(p->tx_iov, tx->iov, tx->num, p->tx_done, UINT32_MAX);

		started = loop_writev(p->b.loop, &p->tx_op, p->file, p->tx_iov, num, LOOP_NO_OFFSET);
	}
	p->tx_in_flight = started;
	p->b.in_flight += started;
	return started;
}

static void passt_sent(struct passt *p, int res)
{
	struct net_tx *tx = p->tx;

	p->tx = NULL;
	net_sent(&p->b, tx, res);
}

static void passt_tx_done(struct op *op, int res)
{
	struct passt *p = MF_CONTAINER_OF(op, struct passt, tx_op);

	p->tx_in_flight = false;
	p->b.in_flight--;
	if (res > 0 && p->rest_done < p->rest_len)
		p->rest_done += (uint32_t)res;
	else if (res > 0)
		p->tx_done += (uint32_t)res;
	if (p->stopping)
		return;
	if (res <= 0 && res != -EINTR && res != -EAGAIN)
		passt_sent(p, NET_LOST);
	else if (p->tx_done == sizeof(p->tx_front.prefix) + p->tx->len)
		passt_sent(p, 0);
	else if (!passt_write(p))
		loop_defer(p->b.loop, &p->again);
}

static bool passt_admit(struct net_backend *b, struct net_tx *tx)
{
	struct passt *p = to_passt(b);
	uint32_t len = MF_MIN(tx->len, NET_FILTER_HEAD);
	enum net_verdict verdict;

	if (!p->filter)
		return true;
	(void)iov_get(tx->iov + 1, tx->num - 1, 0, p->tx_front.head, len); /* it is that long */
	verdict = net_filter_check(p->filter, p->tx_front.head, tx->len);
	if (verdict == NET_PASS) {
		tx->num = 1 + iov_slice(tx->iov + 1, tx->iov + 1, tx->num - 1, len, UINT32_MAX);
		p->tx_head_len = len;
		return true;
	}
	/* One answer at a time: a guest that sends faster gets the others when it sends again. */
	if (verdict == NET_REFUSE && p->answer_len == 0) {
		p->answer_len = net_filter_answer(p->answer, p->tx_front.head);
		loop_defer(b->loop, &p->again);
	}
	return false;
}

static bool passt_send(struct net_backend *b, struct net_tx *tx)
{
	struct passt *p = to_passt(b);

	p->tx_front.prefix = htobe32(tx->len);
	tx->iov[0] = (struct iovec){ .iov_base = &p->tx_front, .iov_len = sizeof(p->tx_front.prefix) + p->tx_head_len };
	p->tx = tx;
	p->tx_done = 0;
	if (passt_write(p))
		return true;
	p->tx = NULL;
	return false;
}

/* Receiving. */

/* A length has come. False: it is invalid, and the stream is lost. */
static bool passt_begin_frame(struct passt *p)
{
	uint32_t len;

	memcpy(&len, p->rx_prefix, sizeof(len));
	len = be32toh(len);
	if (len < NET_FRAME_MIN || len > NET_FRAME_MAX)
		return false;
	p->rx_len = len;
	p->rx_prefix_len = 0;
	return true;
}

/* Describes in rx_iov where the frame's next bytes go, left of them. Returns the entries. */
static unsigned passt_rx_slice(struct passt *p, uint32_t left)
{
	uint32_t head = net_filter_notes(p->filter) ? MF_MIN(p->rx_len, NET_FILTER_HEAD) : 0, part = 0;
	unsigned num = 0;

	if (p->rx_done < head) {
		part = head - p->rx_done;
		p->rx_iov[num++] = (struct iovec){ .iov_base = p->rx_head + p->rx_done, .iov_len = part };
	}
	return num +
	       iov_slice(p->rx_iov + num, p->rx_to, p->rx_to_num, NET_HEADER_LEN + p->rx_done + part, left - part);
}

/* Starts the next read. 1: started; 0: the ring is full; NET_LOST. */
static int passt_read(struct passt *p)
{
	unsigned num = 0;

	if (p->rx_len == 0 && p->rx_prefix_len == sizeof(p->rx_prefix) && !passt_begin_frame(p))
		return NET_LOST;
	if (p->rx_len > 0) {
		uint32_t left = p->rx_len - p->rx_done;

		if (p->rx_done == 0)
			p->rx_drop = NET_HEADER_LEN + p->rx_len > p->rx_room;
		if (p->rx_drop)
			p->rx_iov[num++] = (struct iovec){ .iov_base = p->scratch, .iov_len = left };
		else
			num = passt_rx_slice(p, left);
	}
	p->rx_iov[num++] = (struct iovec){
		.iov_base = p->rx_prefix + p->rx_prefix_len,
		.iov_len = sizeof(p->rx_prefix) - p->rx_prefix_len,
	};
	p->rx_in_flight = loop_readv(p->b.loop, &p->rx_op, p->file, p->rx_iov, num, LOOP_NO_OFFSET);
	p->b.in_flight += p->rx_in_flight;
	return p->rx_in_flight;
}

static void passt_received(struct passt *p, int res)
{
	p->receiving = false;
	net_received(&p->b, res);
}

/* Notes that n bytes have come. Returns whether they completed a frame. */
static bool passt_take(struct passt *p, uint32_t n)
{
	uint32_t part = MF_MIN(n, p->rx_len - p->rx_done);

	p->rx_done += part;
	p->rx_prefix_len += n - part;
	return p->rx_len > 0 && p->rx_done == p->rx_len;
}

/* A frame is in the device's buffers: adds what is missing in front. There is room. */
static void passt_finish_frame(struct passt *p, const uint8_t *head, uint32_t head_len)
{
	static const struct virtio_net_hdr_v1 no_offload = { .gso_type = VIRTIO_NET_HDR_GSO_NONE };

	(void)iov_put(p->rx_to, p->rx_to_num, 0, &no_offload, sizeof(no_offload));
	(void)iov_put(p->rx_to, p->rx_to_num, NET_HEADER_LEN, head, head_len);
}

/* Gives the guest the answer, unless its buffers are missing or being filled: then later. */
static void passt_give_answer(struct passt *p)
{
	uint32_t len = NET_HEADER_LEN + p->answer_len;

	if (p->answer_len == 0 || !p->receiving || p->rx_len > 0)
		return;
	if (len <= p->rx_room)
		passt_finish_frame(p, p->answer, p->answer_len);
	p->answer_len = 0;
	passt_received(p, (int)len);
}

static void passt_rx_done(struct op *op, int res)
{
	struct passt *p = MF_CONTAINER_OF(op, struct passt, rx_op);
	int read = 1;

	p->rx_in_flight = false;
	p->b.in_flight--;
	if (res > 0 && passt_take(p, (uint32_t)res)) {
		int len = (int)(p->rx_drop ? p->rx_room + 1 : NET_HEADER_LEN + p->rx_len);

		if (!p->rx_drop && !p->stopping && net_filter_notes(p->filter)) {
			net_filter_note(p->filter, p->rx_head, p->rx_len);
			passt_finish_frame(p, p->rx_head, MF_MIN(p->rx_len, NET_FILTER_HEAD));
		} else if (!p->rx_drop && !p->stopping) {
			passt_finish_frame(p, NULL, 0);
		}
		p->rx_len = p->rx_done = 0;
		if (!p->stopping)
			passt_received(p, len);
		return;
	}
	if (p->stopping || !p->receiving)
		return; /* not receiving: an answer took the buffers; the next passt_receive continues */
	if (res <= 0 && res != -EINTR && res != -EAGAIN)
		passt_received(p, NET_LOST);
	else
		read = passt_read(p);
	if (read < 0)
		passt_received(p, read);
	else if (read == 0)
		loop_defer(p->b.loop, &p->again);
}

static bool passt_receive(struct net_backend *b, const struct iovec *iov, unsigned num, uint32_t room)
{
	struct passt *p = to_passt(b);
	int read;

	p->rx_to = iov;
	p->rx_to_num = num;
	p->rx_room = room;
	read = p->rx_in_flight ? 1 : passt_read(p); /* in flight: since before an answer */
	p->receiving = read != 0;
	if (read < 0 || p->answer_len > 0)
		loop_defer(b->loop, &p->again); /* net_received must come in a later turn */
	return read != 0;
}

/* Life. */

static void passt_again(struct task *task)
{
	struct passt *p = MF_CONTAINER_OF(task, struct passt, again);
	int read = 1;

	if (p->tx && !p->tx_in_flight && !passt_write(p))
		loop_defer(p->b.loop, task);
	if (p->receiving && !p->rx_in_flight)
		read = passt_read(p);
	if (read < 0)
		passt_received(p, read);
	else if (read == 0)
		loop_defer(p->b.loop, task);
	passt_give_answer(p);
}

static void passt_start(struct net_backend *b, uint64_t features)
{
	(void)features; /* none concern it */
	to_passt(b)->stopping = false;
}

static void passt_stop(struct net_backend *b)
{
	struct passt *p = to_passt(b);

	p->stopping = true;
	if (p->rx_in_flight)
		loop_cancel(b->loop, &p->rx_op);
	if (p->tx_in_flight)
		loop_cancel(b->loop, &p->tx_op);
	loop_drain(b->loop, &b->in_flight);
	p->receiving = false;
	p->answer_len = 0;
	p->rx_drop = true; /* the rest of this frame; the next one is looked at again */
	if (p->tx && p->tx_done > 0 && p->tx_done < sizeof(p->tx_front.prefix) + p->tx->len) {
		p->rest_len = (uint32_t)iov_get(p->tx->iov, p->tx->num, p->tx_done, p->rest, sizeof(p->rest));
		p->rest_done = 0;
	}
	if (p->tx)
		passt_sent(p, p->tx_done > 0 ? 0 : -ECANCELED);
}

static void passt_free(struct net_backend *b)
{
	struct passt *p = to_passt(b);

	close(p->fd);
	net_filter_free(p->filter);
	free(p);
}

static const struct net_backend_ops passt_ops = {
	.tx_max = 1,
	.start = passt_start,
	.admit = passt_admit,
	.send = passt_send,
	.receive = passt_receive,
	.stop = passt_stop,
	.free = passt_free,
};

int net_passt_open(struct net_backend **ret, int fd, struct net_filter *filter, struct loop *loop, struct err *e)
{
	struct passt *p = calloc(1, sizeof(*p));
	int flags = fcntl(fd, F_GETFL), file = loop_add_file(loop, fd);

	if (!p) {
		err_set(e, -ENOMEM, "out of memory");
	} else if (file < 0) {
		err_set(e, file, "its loop has too many files");
	} else if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
		err_sys(e, "set its socket up");
	} else {
		p->b = (struct net_backend){ .ops = &passt_ops, .loop = loop };
		p->fd = fd;
		p->file = file;
		p->filter = filter;
		p->again.run = passt_again;
		p->rx_op.done = passt_rx_done;
		p->tx_op.done = passt_tx_done;
		*ret = &p->b;
		return 0;
	}
	close(fd);
	net_filter_free(filter);
	free(p);
	return e->code;
}
