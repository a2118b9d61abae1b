/*
 * The engine of a loop that has an io_uring.
 *
 * The set-up thread makes the ring, disabled and restricted (ring.c); the loop's own thread enables it, which with
 * IORING_SETUP_SINGLE_ISSUER makes that thread the only one that may submit.
 *
 * A turn submits and waits in one io_uring_enter(2), and then takes all completions off the ring. See engine.h.
 */
#include <errno.h>
#include <liburing.h>
#include <string.h>

#include "vmm/base/err.h"
#define MF_LOG_MODULE "loop"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/engine.h"
#include "vmm/core/ring.h"

struct ring_loop {
	struct loop loop;
	struct io_uring ring;
	bool made;
	uint8_t sqe_flags; /* of every operation */
};

static struct ring_loop *to_ring(struct loop *loop)
{
	return MF_CONTAINER_OF(loop, struct ring_loop, loop);
}

static int ring_begin(struct loop *loop)
{
	return MF_MIN(io_uring_enable_rings(&to_ring(loop)->ring), 0);
}

static int ring_make_loop(struct loop *loop, struct err *e)
{
	struct ring_loop *r = to_ring(loop);
	struct err why;

	r->sqe_flags = loop->kind != RING_SOCKETS ? IOSQE_FIXED_FILE : 0;
	if (ring_make(&r->ring, loop->name, loop->kind, LOOP_ENTRIES, loop->file, loop->num_files, &why) < 0)
		return err_set(e, why.code, "%s, or use --io-engine=sync", why.text);
	r->made = true;
	loop->ring_fd = r->ring.ring_fd;
	return 0;
}

static struct io_uring_sqe *get_sqe(struct ring_loop *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);

	if (sqe)
		return sqe;
	/* The queue is full of what this turn started: hand it over now. What fails shows in the next get. */
	(void)io_uring_submit(&r->ring);
	return io_uring_get_sqe(&r->ring);
}

/* The operation's own flags share a place in the entry. */
static bool ring_start(struct loop *loop, struct op *op, int opcode, int file, const void *addr, unsigned len,
		       uint64_t offset, int flags)
{
	struct ring_loop *r = to_ring(loop);
	struct io_uring_sqe *sqe = get_sqe(r);

	if (!sqe)
		return false;
	io_uring_prep_rw(opcode, sqe, file, addr, len, offset);
	sqe->rw_flags = flags;
	sqe->flags |= r->sqe_flags;
	io_uring_sqe_set_data(sqe, op);
	return true;
}

/* Takes every completion off the ring. */
static void reap(struct ring_loop *r)
{
	struct io_uring_cqe *cqe;
	unsigned head, num = 0;

	io_uring_for_each_cqe(&r->ring, head, cqe) {
		struct op *op = io_uring_cqe_get_data(cqe);

		num++;
		if (op) /* a cancel has none: its target reports */
			engine_complete(&r->loop, op, cqe->res);
	}
	io_uring_cq_advance(&r->ring, num);
}

/* Waits for the next timer at most: a timeout of io_uring_enter itself, not an operation. */
static int submit_and_sleep(struct ring_loop *r)
{
	struct __kernel_timespec ts;
	struct io_uring_cqe *cqe;

	if (!timers_sleep(&r->loop.timers, timers_clock_ns(), &ts))
		return io_uring_submit_and_wait(&r->ring, 1);
	return io_uring_submit_and_wait_timeout(&r->ring, &cqe, 1, &ts, NULL);
}

static void ring_turn(struct loop *loop, enum engine_wait wait)
{
	struct ring_loop *r = to_ring(loop);
	int n = 0;

	switch (wait) {
	case ENGINE_NO_WAIT:
		n = io_uring_submit_and_get_events(&r->ring);
		break;
	case ENGINE_WAIT:
		n = io_uring_submit_and_wait(&r->ring, 1);
		break;
	case ENGINE_WAIT_TIMERS:
		n = submit_and_sleep(r);
		break;
	}
	/* -EINTR: a signal; -EBUSY, -EAGAIN: completions must be taken first; -ETIME: a timer. The turn goes on. */
	if (n < 0 && n != -EINTR && n != -EBUSY && n != -EAGAIN && n != -ETIME)
		log_warn("io_uring_enter: %s, continuing", strerror(-n));
	reap(r);
}

static void ring_cancel(struct loop *loop, struct op *op)
{
	struct ring_loop *r = to_ring(loop);
	struct io_uring_sqe *sqe;

	/* A cancel that cannot be queued now would be lost; taking completions off the ring makes room, so this ends. */
	while (!(sqe = get_sqe(r)))
		ring_turn(loop, ENGINE_NO_WAIT);
	io_uring_prep_cancel(sqe, op, 0);
	sqe->flags |= r->sqe_flags;
	io_uring_sqe_set_data(sqe, NULL);
}

static void ring_cancel_all(struct loop *loop)
{
	struct ring_loop *r = to_ring(loop);
	struct io_uring_sqe *sqe = get_sqe(r);

	if (sqe) {
		io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
		sqe->flags |= r->sqe_flags;
		io_uring_sqe_set_data(sqe, NULL);
	}
}

static int ring_replace(struct loop *loop, int file, int fd)
{
	int n = io_uring_register_files_update(&to_ring(loop)->ring, (unsigned)file, &fd, 1);

	return MF_MIN(n, 0);
}

static void ring_done(struct loop *loop)
{
	if (to_ring(loop)->made)
		io_uring_queue_exit(&to_ring(loop)->ring);
}

const struct engine_ops engine_ring = {
	.size = sizeof(struct ring_loop),
	.suffix = "",
	.make = ring_make_loop,
	.begin = ring_begin,
	.start = ring_start,
	.cancel = ring_cancel,
	.cancel_all = ring_cancel_all,
	.turn = ring_turn,
	.replace = ring_replace,
	.done = ring_done,
};
