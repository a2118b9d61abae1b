/*
 * The operations of a loop, on its thread. Most are the engine's. An operation that needs no
 * wait is a system call of this thread where that takes less: on files in memory, and reads that
 * the page cache has (enum loop_access; virtio/blk_file.c decides for drives).
 */
#include <errno.h>
#include <sys/uio.h>

#include "vmm/core/engine.h"

/* Reads that go to the engine untried, after one that the page cache did not have. */
#define LOOP_COLD_READS 15

void loop_set_access(struct loop *loop, int file, enum loop_access access)
{
	/* The guard has pinned the descriptors of those that writes reach by calls. */
	if (access >= LOOP_ACCESS_MEMORY && (loop->running || loop->num_in_memory == LOOP_MEMORY_FILES_MAX))
		access = LOOP_ACCESS_ENGINE;
	if (access >= LOOP_ACCESS_MEMORY)
		loop->in_memory[loop->num_in_memory++] = file;
	loop->access[file] = (uint8_t)access;
}

/*
 * Whether a system call of this thread is the shortest way to read. A ring takes the reads of a
 * turn in one call: for 32 of 4 KiB that is 10.0 against 10.6 thousand instructions each. But a
 * read alone costs a call in either case, and the ring's work besides (39.9 against 42.7). So the
 * first read of a turn is tried. An engine that hands reads to another thread would wake that for
 * each (59.0 against 42.0): all are tried. After one in vain, the next LOOP_COLD_READS are not.
 */
static bool is_lone_read(struct loop *loop, int file)
{
	if (loop->read_turn == loop->turns && !loop->engine->hands_over)
		return false;
	if (loop->cold[file] > 0) {
		loop->cold[file]--;
		return false;
	}
	loop->read_turn = loop->turns;
	return true;
}

/* Whether op, which was not started yet, is a system call of this thread. */
static bool is_call(struct loop *loop, const struct op *op)
{
	if (op->kind > OP_FSYNC || loop->kind == LOOP_SOCKETS || loop->access[op->file] < LOOP_ACCESS_CACHED)
		return false;
	if (op->kind == OP_READ && loop->access[op->file] != LOOP_ACCESS_PROMPT)
		return is_lone_read(loop, op->file);
	return loop->access[op->file] >= LOOP_ACCESS_MEMORY;
}

/* Makes it. False: it is the engine's all the same. A sync in memory has nothing to do: the kernel's does nothing either. */
static bool perform(struct loop *loop, struct op *op)
{
	bool in_memory = loop->access[op->file] >= LOOP_ACCESS_MEMORY;
	int fd = loop->file[op->file], num = (int)op->num;
	ssize_t n = 0;

	if (op->kind == OP_WRITE)
		n = pwritev2(fd, op->iov, num, (off_t)op->offset, 0);
	else if (op->kind == OP_READ)
		n = preadv2(fd, op->iov, num, (off_t)op->offset, in_memory ? 0 : RWF_NOWAIT);
	if (n < 0 && op->kind == OP_READ && !in_memory) {
		loop->cold[op->file] = LOOP_COLD_READS;
		return false;
	}
	op->state = 0; /* not in the engine: a cancel finds nothing */
	engine_complete(loop, op, n < 0 ? -errno : (int)n);
	return true;
}

bool loop_start_op(struct loop *loop, struct op *op, enum op_kind kind, int file)
{
	bool started;

	op->kind = kind;
	op->file = file;
	started = (is_call(loop, op) && perform(loop, op)) || loop->engine->start(loop, op);
	loop->inflight += started;
	return started;
}

bool loop_readv(struct loop *loop, struct op *op, int file, const struct iovec *iov, unsigned num, uint64_t offset)
{
	op->iov = iov;
	op->num = num;
	op->offset = offset;
	return loop_start_op(loop, op, OP_READ, file);
}

bool loop_writev(struct loop *loop, struct op *op, int file, const struct iovec *iov, unsigned num, uint64_t offset)
{
	op->iov = iov;
	op->num = num;
	op->offset = offset;
	return loop_start_op(loop, op, OP_WRITE, file);
}

bool loop_read(struct loop *loop, struct op *op, int file, void *buf, unsigned len, uint64_t offset)
{
	op->buf = (struct iovec){ .iov_base = buf, .iov_len = len };
	return loop_readv(loop, op, file, &op->buf, 1, offset);
}

bool loop_write(struct loop *loop, struct op *op, int file, const void *buf, unsigned len, uint64_t offset)
{
	op->buf = (struct iovec){ .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	return loop_writev(loop, op, file, &op->buf, 1, offset);
}

bool loop_fsync(struct loop *loop, struct op *op, int file, bool data_only)
{
	op->flags = data_only;
	return loop_start_op(loop, op, OP_FSYNC, file);
}

bool loop_fallocate(struct loop *loop, struct op *op, int file, int mode, uint64_t offset, uint64_t len)
{
	op->flags = mode;
	op->offset = offset;
	op->len = len;
	return loop_start_op(loop, op, OP_FALLOCATE, file);
}

bool loop_poll(struct loop *loop, struct op *op, int file, short events)
{
	op->flags = (unsigned short)events;
	return loop_start_op(loop, op, OP_POLL, file);
}

void loop_cancel(struct loop *loop, struct op *op)
{
	loop->engine->cancel(loop, op);
}
