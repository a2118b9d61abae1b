/* Operations as system calls; see sync_io.h. */
#include "vmm/core/sync_io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/util.h"

static int reopen(int fd)
{
	char path[sizeof("/proc/self/fd/") + 12];
	int flags = fcntl(fd, F_GETFL);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return flags < 0 ? -1 : open(path, (flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

struct sync_file sync_file_of(int fd)
{
	struct sync_file f = { .fd = fd, .kind = SYNC_BLOCKING };
	struct stat st;
	bool is_tty;
	int reopened;

	if (fstat(fd, &st) < 0) /* its operations report the error */
		return f;
	is_tty = S_ISCHR(st.st_mode) && isatty(fd);
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) {
		f.kind = SYNC_DISK;
	} else if (S_ISSOCK(st.st_mode)) {
		f.kind = SYNC_SOCKET;
	} else if (is_tty || S_ISFIFO(st.st_mode)) {
		f.write_max = is_tty ? 1 : PIPE_BUF;
		reopened = reopen(fd);
		if (reopened >= 0)
			f = (struct sync_file){ .fd = reopened, .kind = SYNC_NONBLOCK, .own = true };
	} else if (fcntl(fd, F_GETFL) & O_NONBLOCK) {
		f.kind = SYNC_NONBLOCK;
	}
	return f;
}

static int result(ssize_t n)
{
	return n < 0 ? -errno : (int)n;
}

static int transfer(const struct sync_file *file, const struct op *op)
{
	bool out = op->kind == OP_WRITE;
	const struct iovec *iov = op->iov;
	int num = (int)op->num;
	/* Files that are not on disk have no position. */
	off_t offset = file->kind == SYNC_DISK ? (off_t)op->offset : -1;
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = op->num };
	struct iovec one;

	if (file->kind == SYNC_SOCKET)
		return result(out ? sendmsg(file->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) :
				    recvmsg(file->fd, &msg, MSG_DONTWAIT));
	if (out && file->write_max && num > 0) {
		one = iov[0];
		one.iov_len = MF_MIN(one.iov_len, file->write_max);
		iov = &one;
		num = 1;
	}
	return result(out ? pwritev2(file->fd, iov, num, offset, 0) : preadv2(file->fd, iov, num, offset, 0));
}

int sync_io(const struct sync_file *file, const struct op *op)
{
	switch (op->kind) {
	case OP_FSYNC:
		return result(op->flags ? fdatasync(file->fd) : fsync(file->fd));
	case OP_FALLOCATE:
		return result(fallocate(file->fd, op->flags, (off_t)op->offset, (off_t)op->len));
	default:
		return transfer(file, op);
	}
}
