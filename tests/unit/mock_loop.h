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
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/util.h"
#include "vmm/core/loop.h"
#include "vmm/core/timer.h"

#define MOCK_IO_MAX 1024

enum mock_kind { MOCK_READ, MOCK_WRITE, MOCK_FSYNC, MOCK_FALLOCATE };

struct mock_io {
	enum mock_kind kind;
	struct op *op;
	int fd;
	const struct iovec *iov;
	unsigned num;
	uint64_t offset;
	bool cancelled;
	int mode;	  /* of MOCK_FALLOCATE */
	uint64_t len;	  /* of MOCK_FALLOCATE */
	struct iovec one; /* of loop_read and loop_write: iov is NULL then */
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
	struct timers timers; /* now_ns is the test's to set */
	unsigned calls;
	unsigned cancels;
	unsigned drained; /* operations that ended in loop_drain */
	bool calls_fail;
	int replace_err; /* of loop_replace_file */
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
	(void)loop;
	mock.calls++;
	return fn(arg);
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

struct timers *loop_timers(struct loop *loop)
{
	(void)loop;
	return &mock.timers;
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

bool loop_read(struct loop *loop, struct op *op, int file, void *buf, unsigned len, uint64_t offset)
{
	(void)loop;
	if (!mock_start(MOCK_READ, op, file, NULL, 1, offset))
		return false;
	mock.io[mock.num - 1].one = (struct iovec){ buf, len };
	return true;
}

bool loop_write(struct loop *loop, struct op *op, int file, const void *buf, unsigned len, uint64_t offset)
{
	(void)loop;
	if (!mock_start(MOCK_WRITE, op, file, NULL, 1, offset))
		return false;
	mock.io[mock.num - 1].one = (struct iovec){ (void *)(uintptr_t)buf, len };
	return true;
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

/* Really does operation i. */
static inline void mock_do(unsigned i)
{
	const struct mock_io *io = &mock.io[i];
	ssize_t total = 0;

	assert_true(i < mock.num);
	if (io->kind == MOCK_FALLOCATE) {
		mock_complete(i, fallocate(io->fd, io->mode, (off_t)io->offset, (off_t)io->len) < 0 ? -errno : 0);
		return;
	}
	for (unsigned k = 0; k < io->num && total >= 0; k++) {
		const struct iovec *iov = io->iov ? &io->iov[k] : &io->one;
		size_t len = iov->iov_len;
		ssize_t n;

		if (mock.bytes_max)
			len = MF_MIN(len, mock.bytes_max - (size_t)total);
		assert_true(iov->iov_len > 0);
		n = io->kind == MOCK_READ ? pread(io->fd, iov->iov_base, len, (off_t)io->offset + total) :
					    pwrite(io->fd, iov->iov_base, len, (off_t)io->offset + total);
		total = n < 0 ? -errno : total + n;
		if (n < (ssize_t)iov->iov_len)
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
		if (mock.io[0].cancelled && !mock.cancel_in_vain)
			mock_complete(0, -ECANCELED);
		else
			mock_do(0);
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
