/*
 * The engine of a loop that has an io_uring.
 *
 * The set-up thread makes the ring, disabled and restricted (ring.c), when it makes the
 * loop: a caller that cannot have it takes the other engine. The loop's own thread enables
 * it. With IORING_SETUP_SINGLE_ISSUER, that makes it the only thread that
 * may submit.
 *
 * A turn submits and waits in one io_uring_enter(2), and then takes all completions off
 * the ring. See engine.h.
 *
 * Quiet polls. The ring also ends a poll on EPOLLRDHUP, the end of the peer's stream,
 * whether or not the caller asked for it (IO_POLL_UNMASK). That event stays, so every
 * later poll for anything else would end at once. Therefore a loop that polls sockets
 * (LOOP_SOCKETS, or one with a file that is a non-blocking socket) adds such a poll to an
 * epoll(7) set, and the ring polls the set. The set adds EPOLLERR and EPOLLHUP and
 * nothing else. These polls are in a list. A socket is in the set once, with the events
 * of all polls that wait for it.
 *
 * Watches. A poll of many shots (IORING_POLL_ADD_MULTI) reports each signal of an eventfd, and
 * stays. Nobody reads the eventfd: a signal wakes the poll whatever the count is. That spares
 * each notification of the guest a read, and the poll that the read waits with.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/engine.h"
#include "vmm/core/ring.h"

#define QUIET_TAKE_MAX 64 /* events in one turn */

#define FEAT_LINUX_6_3 (1U << 13) /* IORING_FEAT_REG_REG_RING: the closest sign of Linux 6.4 */

/* op.state */
enum {
	OP_QUIET = 1, /* in the list of quiet polls */
	OP_SIGNALLED, /* a watch whose done is due */
};

struct ring_loop {
	struct loop loop;
	struct io_uring ring;
	bool has_files;
	bool lets_go;	   /* of the loop's files, for when it ends */
	uint8_t sqe_flags; /* of every operation */
	struct op_list quiet;
	int epoll_file;	 /* the set, as the ring knows it */
	struct op epoll; /* the poll of the set; the loop does not know it */
	bool epoll_armed;
};

static struct ring_loop *to_ring(struct loop *loop)
{
	return MF_CONTAINER_OF(loop, struct ring_loop, loop);
}

static int ring_begin(struct loop *loop)
{
	return MF_MIN(io_uring_enable_rings(&to_ring(loop)->ring), 0);
}

/* A pipe, socket, terminal or tap: its end becomes known through an event elsewhere. */
static bool is_awaited(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3))) /* /dev/null */
		return false;
	return S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || S_ISCHR(st.st_mode);
}

/* A file that would block is polled by the ring itself, as it should be. */
static bool polls_sockets(const struct loop *loop)
{
	for (unsigned i = 0; loop->kind != LOOP_SOCKETS && i < loop->num_files; i++) {
		socklen_t len = sizeof(int);
		int type;

		if (getsockopt(loop->file[i], SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
		    fcntl(loop->file[i], F_GETFL) & O_NONBLOCK)
			return true;
	}
	return loop->kind == LOOP_SOCKETS;
}

static int ring_open(struct loop *loop, struct err *e)
{
	struct ring_loop *r = to_ring(loop);

	STAILQ_INIT(&r->quiet);
	r->sqe_flags = loop->kind != LOOP_SOCKETS ? IOSQE_FIXED_FILE : 0;
	if (ring_make(&r->ring, loop->name, loop->kind, LOOP_ENTRIES, e) < 0)
		return e->code;
	loop->ring_fd = r->ring.ring_fd;
	return 0;
}

static int ring_make_loop(struct loop *loop, struct err *e)
{
	struct ring_loop *r = to_ring(loop);

	if (polls_sockets(loop)) {
		loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		if (loop->epoll_fd < 0)
			return err_sys(e, "make an epoll set of the %s loop", loop->name);
		r->epoll_file = loop->kind == LOOP_SOCKETS ? loop->epoll_fd : loop_add_file(loop, loop->epoll_fd);
		if (r->epoll_file < 0)
			return err_neg(e, r->epoll_file, "add the epoll set of the %s loop", loop->name);
	}
	if (loop->kind != LOOP_SOCKETS && ring_set_files(&r->ring, loop->name, loop->file, loop->num_files, e) < 0)
		return e->code;
	r->has_files = true;
	r->lets_go = r->ring.features & FEAT_LINUX_6_3;
	for (unsigned i = 0; !r->lets_go && i < loop->num_files; i++)
		r->lets_go = is_awaited(loop->file[i]);
	return 0;
}

static struct io_uring_sqe *get_sqe(struct ring_loop *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);

	if (sqe)
		return sqe;
	/*
	 * The queue is full of what this turn started: submit it now. An error shows in
	 * the next attempt.
	 */
	(void)io_uring_submit(&r->ring);
	return io_uring_get_sqe(&r->ring);
}

/* Quiet polls. */

static int fd_of(const struct ring_loop *r, const struct op *op)
{
	return r->loop.kind == LOOP_SOCKETS ? op->file : r->loop.file[op->file];
}

/* Sets the set's events for fd to what the list wants. Returns 0 or -errno. */
static int quiet_update(struct ring_loop *r, int fd)
{
	struct epoll_event event = { .data.fd = fd };
	bool wanted = false;

	const struct op *op;

	STAILQ_FOREACH(op, &r->quiet, next)
	{
		if (fd_of(r, op) == fd) {
			event.events |= (uint32_t)op->flags;
			wanted = true;
		}
	}
	if (!wanted) {
		(void)epoll_ctl(r->loop.epoll_fd, EPOLL_CTL_DEL, fd, NULL); /* not in the set: nothing to do */
		return 0;
	}
	if (epoll_ctl(r->loop.epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0)
		return 0;
	if (errno == ENOENT && epoll_ctl(r->loop.epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
		return 0;
	return -errno;
}

static void quiet_end(struct ring_loop *r, struct op *op, int res)
{
	op->state = 0;
	STAILQ_REMOVE(&r->quiet, op, op, next);
	engine_complete(&r->loop, op, res);
}

static void quiet_add(struct ring_loop *r, struct op *op)
{
	int res;

	op->state = OP_QUIET;
	STAILQ_INSERT_TAIL(&r->quiet, op, next);
	res = quiet_update(r, fd_of(r, op));
	if (res < 0)
		quiet_end(r, op, res);
}

/* The set reports events of fd. */
static void quiet_serve(struct ring_loop *r, int fd, uint32_t events)
{
	struct op *op, *next;

	for (op = STAILQ_FIRST(&r->quiet); op; op = next) {
		int res = (int)events & (op->flags | POLLERR | POLLHUP);

		next = STAILQ_NEXT(op, next);
		if (fd_of(r, op) == fd && res)
			quiet_end(r, op, res);
	}
	(void)quiet_update(r, fd); /* fewer events than before: there is room for them */
}

/* The set has events. */
static void quiet_take(struct ring_loop *r)
{
	struct epoll_event event[QUIET_TAKE_MAX];
	int n = epoll_wait(r->loop.epoll_fd, event, QUIET_TAKE_MAX, 0);

	for (int i = 0; i < n; i++)
		quiet_serve(r, event[i].data.fd, event[i].events);
}

/* Polls the set; if the queue is full, the next turn does. */
static void quiet_arm(struct ring_loop *r)
{
	struct io_uring_sqe *sqe;

	if (STAILQ_EMPTY(&r->quiet) || r->epoll_armed || !(sqe = get_sqe(r)))
		return;
	io_uring_prep_poll_add(sqe, r->epoll_file, POLLIN);
	sqe->flags |= r->sqe_flags;
	io_uring_sqe_set_data(sqe, &r->epoll);
	r->epoll_armed = true;
}

/* Operations. */

static void prepare(struct io_uring_sqe *sqe, const struct op *op)
{
	switch (op->kind) {
	case OP_READ: /* a single buffer needs no vector, which the kernel would copy */
		if (op->num == 1)
			io_uring_prep_read(sqe, op->file, op->iov->iov_base, (unsigned)op->iov->iov_len, op->offset);
		else
			io_uring_prep_readv(sqe, op->file, op->iov, op->num, op->offset);
		break;
	case OP_WRITE:
		if (op->num == 1)
			io_uring_prep_write(sqe, op->file, op->iov->iov_base, (unsigned)op->iov->iov_len, op->offset);
		else
			io_uring_prep_writev(sqe, op->file, op->iov, op->num, op->offset);
		break;
	case OP_FSYNC:
		io_uring_prep_fsync(sqe, op->file, op->flags ? IORING_FSYNC_DATASYNC : 0);
		break;
	case OP_FALLOCATE:
		io_uring_prep_fallocate(sqe, op->file, op->flags, op->offset, op->len);
		break;
	case OP_POLL:
		io_uring_prep_poll_add(sqe, op->file, (unsigned)op->flags);
		break;
	case OP_WATCH:
		io_uring_prep_poll_multishot(sqe, op->file, POLLIN);
		break;
	}
}

static bool ring_start(struct loop *loop, struct op *op)
{
	struct ring_loop *r = to_ring(loop);
	struct io_uring_sqe *sqe;

	op->state = 0;
	if (op->kind == OP_POLL && !op->flags && loop->epoll_fd >= 0) {
		quiet_add(r, op); /* for POLLERR and POLLHUP alone: EPOLLRDHUP is often there already */
		return true;
	}
	sqe = get_sqe(r);
	if (!sqe)
		return false;
	prepare(sqe, op);
	sqe->flags |= r->sqe_flags;
	/* Linux before 6.5 would ask such a file for data on this thread, and wait. */
	if (op->kind <= OP_WRITE && loop->kind != LOOP_SOCKETS && loop->access[op->file] == LOOP_ACCESS_STALLS)
		sqe->flags |= IOSQE_ASYNC;
	io_uring_sqe_set_data(sqe, op);
	return true;
}

/* A watch was signalled, or its poll has ended: more says which. Both may come in one turn, and are one done. */
static void ring_signalled(struct ring_loop *r, struct op *op, int res, bool more)
{
	op->flags = more;
	if (op->state == OP_SIGNALLED) {
		r->loop.inflight -= !more;
		return;
	}
	op->state = OP_SIGNALLED;
	r->loop.inflight += more; /* the poll stays in flight, beside what is due */
	engine_complete(&r->loop, op, res);
}

/* An operation of the ring has ended. */
static void ring_complete(struct ring_loop *r, struct op *op, int res)
{
	if (op == &r->epoll) {
		r->epoll_armed = false;
		if (res != -ECANCELED)
			quiet_take(r);
		return;
	}
	if (op->kind == OP_POLL && res > 0 && r->loop.epoll_fd >= 0) {
		res &= op->flags | POLLERR | POLLHUP | POLLNVAL;
		if (!res) {
			quiet_add(r, op);
			return;
		}
	}
	engine_complete(&r->loop, op, res);
}

/* Takes every completion off the ring. */
static void reap(struct ring_loop *r)
{
	struct io_uring_cqe *cqe;
	unsigned head, num = 0;

	io_uring_for_each_cqe(&r->ring, head, cqe) {
		struct op *op = io_uring_cqe_get_data(cqe);

		num++;
		if (op && op->kind == OP_WATCH)
			ring_signalled(r, op, cqe->res, cqe->flags & IORING_CQE_F_MORE);
		else if (op) /* a cancel has none: the cancelled operation reports */
			ring_complete(r, op, cqe->res);
	}
	io_uring_cq_advance(&r->ring, num);
}

/*
 * Waits at most until the next timer: by a timeout of io_uring_enter itself, not by an
 * operation.
 */
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

	quiet_arm(r);
	if (!STAILQ_EMPTY(&loop->completed))
		wait = ENGINE_NO_WAIT;
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
	/*
	 * -EINTR: a signal; -EBUSY, -EAGAIN: completions must be taken first; -ETIME: a
	 * timer. The turn continues.
	 */
	if (n < 0 && n != -EINTR && n != -EBUSY && n != -EAGAIN && n != -ETIME)
		log_warn("io_uring_enter: %s, continuing", strerror(-n));
	reap(r);
}

static void ring_cancel(struct loop *loop, struct op *op)
{
	struct ring_loop *r = to_ring(loop);
	struct io_uring_sqe *sqe;

	if (op->state == OP_QUIET) {
		quiet_end(r, op, -ECANCELED);
		(void)quiet_update(r, fd_of(r, op)); /* fewer events than before: there is room for them */
		return;
	}
	/*
	 * A cancel that is not queued now would be lost. Taking completions off the ring
	 * makes room, so this loop ends.
	 */
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

	while (!STAILQ_EMPTY(&r->quiet))
		ring_cancel(loop, STAILQ_FIRST(&r->quiet));
	if (sqe) {
		io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
		sqe->flags |= r->sqe_flags;
		io_uring_sqe_set_data(sqe, NULL);
	}
}

static int ring_replace(struct loop *loop, int file, int fd)
{
	struct ring_loop *r = to_ring(loop);

	return r->has_files ? MF_MIN(io_uring_register_files_update(&r->ring, (unsigned)file, &fd, 1), 0) : 0;
}

static void ring_end(struct loop *loop)
{
	struct ring_loop *r = to_ring(loop);

	if (loop->kind != LOOP_SOCKETS && r->lets_go)
		(void)io_uring_unregister_files(&r->ring); /* on failure, closing the ring does it later */
}

static void ring_done(struct loop *loop)
{
	if (loop->ring_fd >= 0)
		io_uring_queue_exit(&to_ring(loop)->ring);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
}

const struct engine_ops engine_ring = {
	.size = sizeof(struct ring_loop),
	.watches = true,
	.suffix = "",
	.open = ring_open,
	.make = ring_make_loop,
	.begin = ring_begin,
	.start = ring_start,
	.cancel = ring_cancel,
	.cancel_all = ring_cancel_all,
	.turn = ring_turn,
	.replace = ring_replace,
	.end = ring_end,
	.done = ring_done,
};
