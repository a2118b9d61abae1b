/*
 * A loop for unit tests that does nothing by itself: it defines all functions of loop.h that devices use, so that loop.o
 * of the library is not linked. Operations are kept in mock.io until the test completes them, really (mock_do) or with a
 * result of its own (mock_complete), in any order. Include it once, in the test.
 */
#ifndef MF_TESTS_UNIT_MOCK_LOOP_H
#define MF_TESTS_UNIT_MOCK_LOOP_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/util.h"
#include "vmm/core/loop.h"
#include "vmm/core/timer.h"

#define MOCK_IO_MAX 4096

enum mock_kind { MOCK_READ, MOCK_WRITE, MOCK_FSYNC, MOCK_FALLOCATE, MOCK_POLL };

struct mock_io {
	enum mock_kind kind;
	struct op *op;
	int fd;
	const struct iovec *iov; /* NULL: buf */
	struct iovec buf;
	unsigned num;
	uint64_t offset; /* of a poll: its events */
	bool cancelled;
	int mode;     /* of MOCK_FALLOCATE */
	uint64_t len; /* of MOCK_FALLOCATE */
};

struct mock {
	struct mock_io io[MOCK_IO_MAX];
	unsigned num;
	unsigned room;	     /* how many fit */
	size_t bytes_max;    /* what mock_do moves at most; 0: all */
	bool cancel_in_vain; /* cancelled operations are done all the same */
	int fd[LOOP_FILES_MAX];
	unsigned num_fds, files_max;
	struct watch *watch[8];
	unsigned num_watches;
	struct task *tasks;
	unsigned calls;
	unsigned cancels;
	unsigned drained; /* operations that ended in loop_drain */
	bool calls_fail;
	int replace_err;      /* of loop_replace_file */
	int fsync_err;	      /* errno of mock_do */
	struct timers timers; /* the test moves the time, by mock_time */
};

static struct mock mock;

static inline void mock_init(void)
{
	mock = (struct mock){ .room = MOCK_IO_MAX, .files_max = LOOP_FILES_MAX };
}

int loop_add_file(struct loop *loop, int fd)
{
	(void)loop;
	if (mock.num_fds == mock.files_max)
		return -EMFILE;
	mock.fd[mock.num_fds] = fd;
	return (int)mock.num_fds++;
}

int loop_watch(struct loop *loop, struct watch *watch, int eventfd)
{
	int file = loop_add_file(loop, eventfd);

	if (file < 0)
		return file;
	watch->file = file;
	mock.watch[mock.num_watches++] = watch;
	return 0;
}

int loop_replace_file(struct loop *loop, int file, int fd)
{
	(void)loop;
	assert_true(file >= 0 && (unsigned)file < mock.num_fds);
	if (!mock.replace_err)
		mock.fd[file] = fd;
	return mock.replace_err;
}

int loop_call(struct loop *loop, int (*fn)(void *arg), void *arg)
{
	static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER; /* as on a loop's thread */
	int r;

	(void)loop;
	pthread_mutex_lock(&one_at_a_time);
	mock.calls++;
	r = fn(arg);
	pthread_mutex_unlock(&one_at_a_time);
	return r;
}

int loop_call_until(struct loop *loop, int (*fn)(void *arg), void *arg, unsigned timeout_ms)
{
	(void)timeout_ms;
	return loop_call(loop, fn, arg);
}

void loop_defer(struct loop *loop, struct task *task)
{
	(void)loop;
	if (task->queued)
		return;
	task->queued = true;
	task->next = mock.tasks;
	mock.tasks = task;
}

static inline bool mock_start(enum mock_kind kind, struct op *op, int file, const struct iovec *iov, unsigned num,
			      uint64_t offset)
{
	if (mock.num >= mock.room)
		return false;
	assert_true(file >= 0 && (unsigned)file < mock.num_fds);
	for (unsigned i = 0; i < mock.num; i++)
		assert_ptr_not_equal(mock.io[i].op, op); /* still in flight */
	mock.io[mock.num++] = (struct mock_io){
		.kind = kind, .op = op, .fd = mock.fd[file], .iov = iov, .num = num, .offset = offset
	};
	return true;
}

bool loop_readv(struct loop *loop, struct op *op, int file, const struct iovec *iov, unsigned num, uint64_t offset)
{
	(void)loop;
	return mock_start(MOCK_READ, op, file, iov, num, offset);
}

bool loop_writev(struct loop *loop, struct op *op, int file, const struct iovec *iov, unsigned num, uint64_t offset)
{
	(void)loop;
	return mock_start(MOCK_WRITE, op, file, iov, num, offset);
}

static inline bool mock_start_buf(enum mock_kind kind, struct op *op, int file, struct iovec buf, uint64_t offset)
{
	if (!mock_start(kind, op, file, NULL, 1, offset))
		return false;
	mock.io[mock.num - 1].buf = buf;
	return true;
}

bool loop_read(struct loop *loop, struct op *op, int file, void *buf, unsigned len, uint64_t offset)
{
	(void)loop;
	return mock_start_buf(MOCK_READ, op, file, (struct iovec){ .iov_base = buf, .iov_len = len }, offset);
}

bool loop_write(struct loop *loop, struct op *op, int file, const void *buf, unsigned len, uint64_t offset)
{
	(void)loop;
	return mock_start_buf(MOCK_WRITE, op, file,
			      (struct iovec){ .iov_base = (void *)(uintptr_t)buf, .iov_len = len }, offset);
}

struct timers *loop_timers(struct loop *loop)
{
	(void)loop;
	return &mock.timers;
}

/* A turn at that time. */
static inline void mock_time(uint64_t now_ns)
{
	timers_run(&mock.timers, now_ns);
}

bool loop_fallocate(struct loop *loop, struct op *op, int file, int mode, uint64_t offset, uint64_t len)
{
	(void)loop;
	if (!mock_start(MOCK_FALLOCATE, op, file, NULL, 0, offset))
		return false;
	mock.io[mock.num - 1].mode = mode;
	mock.io[mock.num - 1].len = len;
	return true;
}

bool loop_fsync(struct loop *loop, struct op *op, int file, bool data_only)
{
	(void)loop;
	assert_true(data_only);
	return mock_start(MOCK_FSYNC, op, file, NULL, 0, 0);
}

/* On a file descriptor, as on a loop for sockets; mock_run_polls completes it. */
bool loop_poll(struct loop *loop, struct op *op, int file, short events)
{
	(void)loop;
	if (mock.num >= mock.room)
		return false;
	for (unsigned i = 0; i < mock.num; i++)
		assert_ptr_not_equal(mock.io[i].op, op);
	mock.io[mock.num++] = (struct mock_io){ .kind = MOCK_POLL, .op = op, .fd = file, .offset = (uint16_t)events };
	return true;
}

void loop_cancel(struct loop *loop, struct op *op)
{
	(void)loop;
	mock.cancels++;
	for (unsigned i = 0; i < mock.num; i++)
		if (mock.io[i].op == op)
			mock.io[i].cancelled = true;
}

/* Ends operation i of mock.io with res. */
static inline void mock_complete(unsigned i, int res)
{
	struct mock_io io = mock.io[i];

	assert_true(i < mock.num);
	memmove(&mock.io[i], &mock.io[i + 1], sizeof(io) * (--mock.num - i));
	io.op->done(io.op, res);
}

static inline ssize_t mock_transfer(const struct mock_io *io, void *buf, size_t len, ssize_t at)
{
	bool reads = io->kind == MOCK_READ;

	if (io->offset == LOOP_NO_OFFSET) /* a socket, which does not wait here */
		return reads ? recv(io->fd, buf, len, MSG_DONTWAIT) :
			       send(io->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	return reads ? pread(io->fd, buf, len, (off_t)io->offset + at) :
		       pwrite(io->fd, buf, len, (off_t)io->offset + at);
}

/* Really does operation i. */
static inline void mock_do(unsigned i)
{
	const struct mock_io *io = &mock.io[i];
	const struct iovec *iov = io->iov ? io->iov : &io->buf;
	ssize_t total = 0;

	assert_true(i < mock.num);
	if (io->kind == MOCK_FALLOCATE) {
		mock_complete(i, fallocate(io->fd, io->mode, (off_t)io->offset, (off_t)io->len) < 0 ? -errno : 0);
		return;
	}
	if (io->kind == MOCK_FSYNC && mock.fsync_err)
		total = -mock.fsync_err;
	for (unsigned k = 0; k < io->num && total >= 0; k++) {
		size_t len = iov[k].iov_len;
		ssize_t n;

		if (mock.bytes_max)
			len = MF_MIN(len, mock.bytes_max - (size_t)total);
		assert_true(iov[k].iov_len > 0);
		n = mock_transfer(io, iov[k].iov_base, len, total);
		if (n < 0 && errno == EAGAIN && total > 0)
			break;
		total = n < 0 ? -errno : total + n;
		if (n < (ssize_t)iov[k].iov_len)
			break;
	}
	mock_complete(i, (int)total);
}

static inline void mock_do_all(void)
{
	while (mock.num)
		mock_do(0);
}

static inline void mock_run_tasks(void)
{
	struct task *task = mock.tasks;

	mock.tasks = NULL;
	while (task) {
		struct task *next = task->next;

		task->queued = false;
		task->run(task);
		task = next;
	}
}

void loop_drain(struct loop *loop, const unsigned *counter)
{
	(void)loop;
	while (*counter) {
		assert_true(mock.num > 0);
		mock.drained++;
		assert_true(mock.io[0].kind != MOCK_POLL || mock.io[0].cancelled); /* it would be waited for for ever */
		if (mock.io[0].cancelled && (!mock.cancel_in_vain || mock.io[0].kind == MOCK_POLL))
			mock_complete(0, -ECANCELED);
		else
			mock_do(0);
	}
}

/* Completes the polls that are cancelled, and those that have something to say. Returns how many. */
static inline unsigned mock_run_polls(void)
{
	unsigned done = 0;

	for (unsigned i = mock.num; i-- > 0;) {
		struct pollfd p = { .fd = mock.io[i].fd, .events = (short)mock.io[i].offset };

		if (i >= mock.num || mock.io[i].kind != MOCK_POLL) /* a callback has ended others */
			continue;
		if (!mock.io[i].cancelled && poll(&p, 1, 0) != 1)
			continue;
		mock_complete(i, mock.io[i].cancelled ? -ECANCELED : p.revents);
		done++;
	}
	return done;
}

/* For a fixture that has a mock or a real loop (real_loop.h). */

static inline struct loop *fixture_loop_new(void)
{
	mock_init();
	return NULL;
}

static inline void fixture_loop_start(struct loop *loop)
{
	(void)loop;
}

/* After the reset of all devices. */
static inline void fixture_loop_done(struct loop *loop)
{
	(void)loop;
	assert_int_equal(mock.num, 0);
}

/* Turns it until nothing happens any more. */
static inline void fixture_loop_turn(void)
{
	unsigned limit = 100000;

	for (;;) {
		bool tasks = mock.tasks;

		mock_run_tasks();
		if (!mock_run_polls() && !tasks)
			break;
		assert_true(limit-- > 0);
	}
}

/* Fires every watch whose eventfd was signalled. Returns how many. */
static inline unsigned mock_poll_watches(void)
{
	unsigned fired = 0;

	for (unsigned i = 0; i < mock.num_watches; i++) {
		struct pollfd p = { .fd = mock.fd[mock.watch[i]->file], .events = POLLIN };
		uint64_t count;

		if (poll(&p, 1, 0) != 1)
			continue;
		assert_int_equal(read(p.fd, &count, sizeof(count)), sizeof(count));
		mock.watch[i]->fire(mock.watch[i]);
		fired++;
	}
	return fired;
}

#endif
