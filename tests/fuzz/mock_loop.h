/*
 * A loop for fuzzers: operations wait in a table until the fuzzer completes them, in any order and with any result. It
 * checks that each one is given buffers in guest RAM only, and is in flight once. Include it once, in the fuzzer.
 */
#ifndef MF_TESTS_FUZZ_MOCK_LOOP_H
#define MF_TESTS_FUZZ_MOCK_LOOP_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/util.h"
#include "vmm/core/loop.h"
#include "vmm/core/mem.h"
#include "vmm/core/timer.h"

#define FUZZ_IO_MAX 512
#define FUZZ_CHECK(condition)                                                                                          \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			abort();                                                                                       \
	} while (0)

enum fuzz_kind { FUZZ_READ, FUZZ_WRITE, FUZZ_FSYNC, FUZZ_TRIM };

struct fuzz_io {
	enum fuzz_kind kind;
	struct op *op;
	int fd;
	const struct iovec *iov; /* NULL: buf, a buffer of ours */
	struct iovec buf;
	unsigned num;
	uint64_t offset, len; /* len: of a trim, */
	int mode;	      /* and its mode */
	bool cancelled;
};

static struct {
	const struct mem *mem;
	struct fuzz_io io[FUZZ_IO_MAX];
	unsigned num, room;
	int fd[LOOP_FILES_MAX];
	unsigned num_fds;
	struct watch *watch[4];
	unsigned num_watches;
	struct task *tasks;
	struct timers timers; /* stand still: nothing here has a limit */
} fuzz;

int loop_add_file(struct loop *loop, int fd)
{
	(void)loop;
	fuzz.fd[fuzz.num_fds] = fd;
	return (int)fuzz.num_fds++;
}

int loop_watch(struct loop *loop, struct watch *watch, int eventfd)
{
	watch->file = loop_add_file(loop, eventfd);
	fuzz.watch[fuzz.num_watches++] = watch;
	return 0;
}

int loop_call(struct loop *loop, int (*fn)(void *arg), void *arg)
{
	(void)loop;
	return fn(arg);
}

void loop_defer(struct loop *loop, struct task *task)
{
	(void)loop;
	if (task->queued)
		return;
	task->queued = true;
	task->next = fuzz.tasks;
	fuzz.tasks = task;
}

static inline bool fuzz_in_ram(const void *at, size_t len)
{
	const struct mem_region *r = &fuzz.mem->region[0];

	return (const uint8_t *)at >= r->host && len <= r->size &&
	       (uint64_t)((const uint8_t *)at - r->host) <= r->size - len;
}

static inline bool fuzz_start(struct fuzz_io io, int file)
{
	if (fuzz.num >= fuzz.room)
		return false;
	for (unsigned i = 0; i < fuzz.num; i++)
		FUZZ_CHECK(fuzz.io[i].op != io.op);
	for (unsigned i = 0; io.iov && i < io.num; i++)
		FUZZ_CHECK(io.iov[i].iov_len > 0 && fuzz_in_ram(io.iov[i].iov_base, io.iov[i].iov_len));
	FUZZ_CHECK(file >= 0 && (unsigned)file < fuzz.num_fds);
	io.fd = fuzz.fd[file];
	fuzz.io[fuzz.num++] = io;
	return true;
}

bool loop_readv(struct loop *loop, struct op *op, int file, const struct iovec *iov, unsigned num, uint64_t offset)
{
	(void)loop;
	return fuzz_start((struct fuzz_io){ .kind = FUZZ_READ, .op = op, .iov = iov, .num = num, .offset = offset },
			  file);
}

bool loop_writev(struct loop *loop, struct op *op, int file, const struct iovec *iov, unsigned num, uint64_t offset)
{
	(void)loop;
	return fuzz_start((struct fuzz_io){ .kind = FUZZ_WRITE, .op = op, .iov = iov, .num = num, .offset = offset },
			  file);
}

bool loop_read(struct loop *loop, struct op *op, int file, void *buf, unsigned len, uint64_t offset)
{
	(void)loop;
	return fuzz_start((struct fuzz_io){ .kind = FUZZ_READ,
					    .op = op,
					    .buf = { buf, len },
					    .num = 1,
					    .offset = offset },
			  file);
}

bool loop_write(struct loop *loop, struct op *op, int file, const void *buf, unsigned len, uint64_t offset)
{
	(void)loop;
	return fuzz_start((struct fuzz_io){ .kind = FUZZ_WRITE,
					    .op = op,
					    .buf = { (void *)(uintptr_t)buf, len },
					    .num = 1,
					    .offset = offset },
			  file);
}

bool loop_fsync(struct loop *loop, struct op *op, int file, bool data_only)
{
	(void)loop;
	(void)data_only;
	return fuzz_start((struct fuzz_io){ .kind = FUZZ_FSYNC, .op = op }, file);
}

bool loop_fallocate(struct loop *loop, struct op *op, int file, int mode, uint64_t offset, uint64_t len)
{
	struct stat st;

	(void)loop;
	FUZZ_CHECK(fuzz.num_fds > (unsigned)file && fstat(fuzz.fd[file], &st) == 0);
	FUZZ_CHECK(len > 0 && mf_range_within(offset, len, (uint64_t)st.st_size));
	return fuzz_start((struct fuzz_io){ .kind = FUZZ_TRIM, .op = op, .offset = offset, .len = len, .mode = mode },
			  file);
}

int loop_replace_file(struct loop *loop, int file, int fd)
{
	(void)loop;
	fuzz.fd[file] = fd;
	return 0;
}

struct timers *loop_timers(struct loop *loop)
{
	(void)loop;
	return &fuzz.timers;
}

void loop_cancel(struct loop *loop, struct op *op)
{
	(void)loop;
	for (unsigned i = 0; i < fuzz.num; i++)
		if (fuzz.io[i].op == op)
			fuzz.io[i].cancelled = true;
}

/* What the operation moves in truth, or at most one buffer of it. */
static inline int fuzz_move(const struct fuzz_io *io, bool part)
{
	const struct iovec *iov = io->iov ? io->iov : &io->buf;
	int num = part ? 1 : (int)io->num;
	ssize_t n = 0;

	if (io->kind == FUZZ_READ)
		n = preadv(io->fd, iov, num, (off_t)io->offset);
	else if (io->kind == FUZZ_WRITE)
		n = pwritev(io->fd, iov, num, (off_t)io->offset);
	else if (io->kind == FUZZ_TRIM)
		n = fallocate(io->fd, io->mode, (off_t)io->offset, (off_t)io->len);
	return n < 0 ? -errno : (int)n;
}

/* Ends operation i; how says with what. */
static inline void fuzz_complete(unsigned i, unsigned how)
{
	static const int error[] = { -EIO, -ENOSPC, -EAGAIN, -EINTR, -ECANCELED, 0 };
	struct fuzz_io io = fuzz.io[i];
	int res = how < MF_ARRAY_SIZE(error) ? error[how] : fuzz_move(&io, how & 1);

	memmove(&fuzz.io[i], &fuzz.io[i + 1], sizeof(io) * (--fuzz.num - i));
	io.op->done(io.op, res);
}

#define FUZZ_WELL 100 /* as how: all of it, as it should be */

static inline void fuzz_run_tasks(void)
{
	struct task *task = fuzz.tasks, *next;

	for (fuzz.tasks = NULL; task; task = next) {
		next = task->next;
		task->queued = false;
		task->run(task);
	}
}

static inline void fuzz_poll_watches(void)
{
	for (unsigned i = 0; i < fuzz.num_watches; i++) {
		struct pollfd p = { .fd = fuzz.fd[fuzz.watch[i]->file], .events = POLLIN };
		uint64_t count;

		if (poll(&p, 1, 0) != 1)
			continue;
		FUZZ_CHECK(read(p.fd, &count, sizeof(count)) == sizeof(count));
		fuzz.watch[i]->fire(fuzz.watch[i]);
	}
}

void loop_drain(struct loop *loop, const unsigned *counter)
{
	(void)loop;
	while (*counter) {
		FUZZ_CHECK(fuzz.num > 0);
		fuzz_complete(0, fuzz.io[0].cancelled && fuzz.num & 1 ? 4 : FUZZ_WELL);
	}
}

/* Lets everything come to rest. */
static inline void fuzz_settle(void)
{
	for (unsigned turn = 0; turn < 64 && (fuzz.num || fuzz.tasks); turn++) {
		while (fuzz.num)
			fuzz_complete(0, FUZZ_WELL);
		fuzz_run_tasks();
	}
}

#endif
