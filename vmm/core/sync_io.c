/* System calls in place of io_uring's operations; see sync_io.h. */
#include "vmm/core/sync_io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/util.h"

static int open_anew(int fd)
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
	int anew;

	if (fstat(fd, &st) < 0) /* its operations will tell */
		return f;
	is_tty = S_ISCHR(st.st_mode) && isatty(fd);
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) {
		f.kind = SYNC_DISK;
	} else if (S_ISSOCK(st.st_mode)) {
		f.kind = SYNC_SOCKET;
	} else if (is_tty || S_ISFIFO(st.st_mode)) {
		f.write_max = is_tty ? 1 : PIPE_BUF;
		anew = open_anew(fd);
		if (anew >= 0)
			f = (struct sync_file){ .fd = anew, .kind = SYNC_NONBLOCK, .own = true };
	} else if (fcntl(fd, F_GETFL) & O_NONBLOCK) {
		f.kind = SYNC_NONBLOCK;
	}
	return f;
}

static int result(ssize_t n)
{
	return n < 0 ? -errno : (int)n;
}

static int transfer(const struct sync_io *io)
{
	bool vector = io->opcode == IORING_OP_READV || io->opcode == IORING_OP_WRITEV, out = io->events == POLLOUT;
	struct iovec one = { .iov_base = (void *)(uintptr_t)io->addr, .iov_len = io->len };
	const struct iovec *iov = vector ? io->addr : &one;
	int num = vector ? (int)io->len : 1;
	/* What is not on disk has no position. */
	off_t offset = io->file.kind == SYNC_DISK ? (off_t)io->offset : -1;
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)num };

	if (io->file.kind == SYNC_SOCKET)
		return result(out ? sendmsg(io->file.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) :
				    recvmsg(io->file.fd, &msg, MSG_DONTWAIT));
	if (out && io->file.write_max && num > 0) {
		one = iov[0];
		one.iov_len = MF_MIN(one.iov_len, io->file.write_max);
		iov = &one;
		num = 1;
	}
	return result(out ? pwritev2(io->file.fd, iov, num, offset, 0) : preadv2(io->file.fd, iov, num, offset, 0));
}

int sync_io(const struct sync_io *io)
{
	switch (io->opcode) {
	case IORING_OP_FSYNC:
		return result(io->flags & IORING_FSYNC_DATASYNC ? fdatasync(io->file.fd) : fsync(io->file.fd));
	case IORING_OP_FALLOCATE: /* as io_uring has it, the mode is in len and the length in addr */
		return result(fallocate(io->file.fd, (int)io->len, (off_t)io->offset, (off_t)(uintptr_t)io->addr));
	default:
		return transfer(io);
	}
}
