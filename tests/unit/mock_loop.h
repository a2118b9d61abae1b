/*
 * The engine of a loop that is a test's (vmm/core/engine.h): the loop is the real one, and the test is its thread.
 * Operations stay in mock.io until the test completes them, really (mock_do) or with a result of its own (mock_complete),
 * in any order. Time stands still until mock_time. Include it once, in the test or fuzzer.
 */
#ifndef MF_TESTS_UNIT_MOCK_LOOP_H
#define MF_TESTS_UNIT_MOCK_LOOP_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef MOCK_CHECK /* a fuzzer has its own */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MOCK_CHECK(condition) assert_true(condition)
#endif

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/engine.h"

#define MOCK_IO_MAX 4096

/* An operation in flight, as it was when it started. */
struct mock_io {
	struct op *op;
	enum op_kind kind;
	int fd;
	const struct iovec *iov;
	unsigned num;
	uint64_t offset;
	uint64_t len; /* of OP_FALLOCATE */
	int mode;     /* of OP_FALLOCATE; the events of OP_POLL */
	bool cancelled;
};

struct mock {
	struct loop *loop;
	struct mock_io io[MOCK_IO_MAX];
	unsigned num;
	unsigned room;			    /* how many fit */
	void (*check)(const struct op *op); /* of what is started, or NULL */
	size_t bytes_max;		    /* what mock_do moves at most; 0: all */
	bool cancel_in_vain;		    /* cancelled operations are done all the same */
	unsigned cancels;
	unsigned drained; /* operations that ended in loop_drain */
	int replace_err;  /* of loop_replace_file */
	int fsync_err;	  /* errno of mock_do */
	uint64_t now_ns;
	enum engine_wait wait; /* of the last turn */
};

static struct mock mock;

/* In place of clock.c's. */
uint64_t timers_clock_ns(void)
{
	return mock.now_ns;
}

static inline bool mock_is_watch(const struct op *op)
{
	const struct watch *w = mock.loop->watches;

	while (w && &w->op != op)
		w = w->next;
	return w;
}

static bool mock_start(struct loop *loop, struct op *op)
{
	if (mock_is_watch(op))
		return true;
	if (mock.num >= mock.room)
		return false;
	MOCK_CHECK(loop->kind == LOOP_SOCKETS || (op->file >= 0 && (unsigned)op->file < loop->num_files));
	for (unsigned i = 0; i < mock.num; i++)
		MOCK_CHECK(mock.io[i].op != op); /* still in flight */
	if (mock.check)
		mock.check(op);
	mock.io[mock.num++] = (struct mock_io){
		.op = op,
		.kind = op->kind,
		.fd = loop->kind == LOOP_SOCKETS ? op->file : loop->file[op->file],
		.iov = op->iov,
		.num = op->num,
		.offset = op->offset,
		.len = op->len,
		.mode = op->flags,
	};
	return true;
}

static void mock_cancel(struct loop *loop, struct op *op)
{
	(void)loop;
	mock.cancels++;
	for (unsigned i = 0; i < mock.num; i++)
		if (mock.io[i].op == op)
			mock.io[i].cancelled = true;
}

static int mock_replace(struct loop *loop, int file, int fd)
{
	(void)fd;
	MOCK_CHECK(file >= 0 && (unsigned)file < loop->num_files);
	return mock.replace_err;
}

/* Puts operation i among those that have ended; its done is called later. */
static inline void mock_end(unsigned i, int res)
{
	struct op *op = mock.io[i].op;

	MOCK_CHECK(i < mock.num);
	memmove(&mock.io[i], &mock.io[i + 1], sizeof(mock.io[i]) * (--mock.num - i));
	engine_complete(mock.loop, op, res);
}

static inline ssize_t mock_transfer(const struct mock_io *io, void *buf, size_t len, ssize_t at)
{
	bool reads = io->kind == OP_READ;

	if (io->offset == LOOP_NO_OFFSET) /* a socket, which does not wait here */
		return reads ? recv(io->fd, buf, len, MSG_DONTWAIT) :
			       send(io->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	return reads ? pread(io->fd, buf, len, (off_t)io->offset + at) :
		       pwrite(io->fd, buf, len, (off_t)io->offset + at);
}

/* Really does what operation i asks for. Returns its result. */
static inline int mock_perform(unsigned i)
{
	const struct mock_io *io = &mock.io[i];
	ssize_t total = 0;

	if (io->kind == OP_FALLOCATE)
		return fallocate(io->fd, io->mode, (off_t)io->offset, (off_t)io->len) < 0 ? -errno : 0;
	if (io->kind == OP_FSYNC)
		return -mock.fsync_err;
	for (unsigned k = 0; k < io->num; k++) {
		size_t len = io->iov[k].iov_len;
		ssize_t n;

		if (mock.bytes_max)
			len = MF_MIN(len, mock.bytes_max - (size_t)total);
		MOCK_CHECK(io->iov[k].iov_len > 0);
		n = mock_transfer(io, io->iov[k].iov_base, len, total);
		if (n < 0)
			return total > 0 && errno == EAGAIN ? (int)total : -errno;
		total += n;
		if (n < (ssize_t)io->iov[k].iov_len)
			break;
	}
	return (int)total;
}

/* Inside of loop_drain, the engine ends one operation, the first; watches fire there, too. */
static void mock_drain_one(void)
{
	MOCK_CHECK(mock.num > 0);
	MOCK_CHECK(mock.io[0].kind != OP_POLL || mock.io[0].cancelled); /* nothing else would end it */
	mock.drained++;
	if (mock.io[0].cancelled && (!mock.cancel_in_vain || mock.io[0].kind == OP_POLL))
		mock_end(0, -ECANCELED);
	else
		mock_end(0, mock_perform(0));
}

static void mock_turn(struct loop *loop, enum engine_wait wait)
{
	mock.wait = wait;
	if (wait == ENGINE_WAIT && STAILQ_EMPTY(&loop->completed))
		mock_drain_one();
}

static void mock_done(struct loop *loop)
{
	(void)loop;
}

static const struct engine_ops engine_mock = {
	.size = sizeof(struct loop),
	.suffix = "",
	.start = mock_start,
	.cancel = mock_cancel,
	.turn = mock_turn,
	.replace = mock_replace,
	.done = mock_done,
};

static inline void mock_init_kind(enum loop_kind kind)
{
	struct err e;

	loop_free(mock.loop);
	mock = (struct mock){ .room = MOCK_IO_MAX };
	MOCK_CHECK(loop_new_on(&mock.loop, "mock", &engine_mock, kind, &e) == 0);
}

static inline void mock_init(void)
{
	mock_init_kind(LOOP_EXCHANGEABLE);
}

/* Lets the loop have room for no more than num files. */
static inline void mock_leave_files(unsigned num)
{
	while (mock.loop->num_files + num < LOOP_FILES_MAX)
		MOCK_CHECK(loop_add_file(mock.loop, -1) >= 0);
}

/* Calls done of what has ended. */
static inline void mock_run_completed(void)
{
	static const unsigned none = 0;

	loop_drain(mock.loop, &none);
}

/* Ends operation i of mock.io with res. */
static inline void mock_complete(unsigned i, int res)
{
	mock_end(i, res);
	mock_run_completed();
}

/* Really does operation i. */
static inline void mock_do(unsigned i)
{
	MOCK_CHECK(i < mock.num);
	mock_complete(i, mock_perform(i));
}

static inline void mock_do_all(void)
{
	while (mock.num)
		mock_do(0);
}

static inline void mock_run_tasks(void)
{
	loop_turn(mock.loop);
}

/* A turn at that time. */
static inline void mock_time(uint64_t now_ns)
{
	mock.now_ns = now_ns;
	loop_turn(mock.loop);
}

/* Whether a turn would have something to do. */
static inline bool mock_has_tasks(void)
{
	return !STAILQ_EMPTY(&mock.loop->tasks);
}

/* Completes the polls that are cancelled, and those that have something to say. Returns how many. */
static inline unsigned mock_run_polls(void)
{
	unsigned done = 0;

	for (unsigned i = mock.num; i-- > 0;) {
		struct pollfd p = { .fd = mock.io[i].fd, .events = (short)mock.io[i].mode };

		if (i >= mock.num || mock.io[i].kind != OP_POLL) /* a callback has ended others */
			continue;
		if (!mock.io[i].cancelled && poll(&p, 1, 0) != 1)
			continue;
		mock_complete(i, mock.io[i].cancelled ? -ECANCELED : p.revents);
		done++;
	}
	return done;
}

/* Fires every watch whose eventfd was signalled. Returns how many. */
static inline unsigned mock_poll_watches(void)
{
	unsigned fired = 0;

	MOCK_CHECK(mock.loop->kind != LOOP_SOCKETS);
	for (struct watch *w = mock.loop->watches; w; w = w->next) {
		struct pollfd p = { .fd = mock.loop->file[w->file], .events = POLLIN };

		if (!w->op.done)
			loop_begin(mock.loop); /* as the thread does first */
		if (poll(&p, 1, 0) != 1)
			continue;
		MOCK_CHECK(read(p.fd, &w->count, sizeof(w->count)) == sizeof(w->count));
		engine_complete(mock.loop, &w->op, sizeof(w->count));
		mock_run_completed();
		fired++;
	}
	return fired;
}

/* For a fixture that has a mock or a real loop (real_loop.h). */

static enum loop_kind fixture_kind = LOOP_SOCKETS;

/* When the files are known: the test completes also what would be calls of the loop's thread. */
static inline void mock_take_calls(void)
{
	memset(mock.loop->access, LOOP_ACCESS_ENGINE, sizeof(mock.loop->access));
}

static inline struct loop *fixture_loop_new(void)
{
	mock_init_kind(fixture_kind);
	return mock.loop;
}

static inline void fixture_loop_start(struct loop *loop)
{
	(void)loop;
}

/* After the reset of all devices. */
static inline void fixture_loop_done(struct loop *loop)
{
	(void)loop;
	MOCK_CHECK(mock.num == 0);
}

/* Turns it until nothing happens any more. */
static inline void fixture_loop_turn(void)
{
	unsigned limit = 100000;

	for (;;) {
		bool tasks = mock_has_tasks();

		mock_run_tasks();
		if (!mock_run_polls() && !tasks)
			break;
		MOCK_CHECK(limit-- > 0);
	}
}

#endif
