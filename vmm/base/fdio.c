/* System calls on file descriptors; see fdio.h. */
#include "vmm/base/fdio.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/util.h"

#define LINGER_STEP_MS 5

/* offset is NULL for a file without a position. */
static ssize_t read_full(int fd, void *buf, size_t len, const uint64_t *offset)
{
	size_t done = 0;

	while (done < len) {
		char *to = (char *)buf + done;
		ssize_t n = offset ? pread(fd, to, len - done, (off_t)(*offset + done)) : read(fd, to, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t fdio_pread(int fd, void *buf, size_t len, uint64_t offset)
{
	return read_full(fd, buf, len, &offset);
}

int fdio_pread_all(int fd, void *buf, size_t len, uint64_t offset)
{
	ssize_t n = fdio_pread(fd, buf, len, offset);

	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -ENODATA;
}

ssize_t fdio_read(int fd, void *buf, size_t len)
{
	return read_full(fd, buf, len, NULL);
}

int fdio_pwrite_all(int fd, const void *buf, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, (const char *)buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EIO; /* not of a regular file; rather than a loop without end */
		done += (size_t)MF_MAX(n, 0);
	}
	return 0;
}

int fdio_write_all(int fd, const void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, (const char *)buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

void fdio_event_signal(int eventfd)
{
	uint64_t one = 1;

	while (write(eventfd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static const char *file_kind(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFIFO:
		return "a FIFO";
	case S_IFSOCK:
		return "a socket";
	case S_IFCHR:
		return "a character device";
	case S_IFBLK:
		return "a block device";
	default:
		return "a special file";
	}
}

int fdio_open_file(const char *path, int flags, bool allow_block, uint64_t *ret_size, struct err *e)
{
	MF_CLOSE int fd = -1;
	struct stat st;
	uint64_t size;

	/*
	 * O_NONBLOCK: opening a FIFO without a peer must not hang. The flag changes
	 * nothing for files and block devices.
	 */
	fd = fdstore_take(path, flags);
	if (fd < 0)
		fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return err_sys(e, "open '%s'", path);
	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat '%s'", path);
	if (S_ISREG(st.st_mode)) {
		size = (uint64_t)st.st_size;
	} else if (allow_block && S_ISBLK(st.st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, &size) < 0)
			return err_sys(e, "read the size of '%s'", path);
	} else {
		return err_set(e, -EINVAL, "open '%s': it is %s, not a %s", path, file_kind(st.st_mode),
			       allow_block ? "file or block device" : "regular file");
	}
	*ret_size = size;
	return mf_take_fd(&fd);
}

bool fdio_linger(unsigned *tries)
{
	if (*tries >= FDIO_LINGER_MS / LINGER_STEP_MS)
		return false;
	++*tries;
	(void)poll(NULL, 0, LINGER_STEP_MS); /* a signal may cut the sleep short */
	return true;
}

union control {
	char space[CMSG_SPACE(sizeof(int[FDIO_FDS_MAX]))];
	struct cmsghdr align;
};

int fdio_send_packet(int fd, const struct iovec *iov, unsigned num, const int *fds, unsigned num_fds, int flags)
{
	union control control = { 0 };
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = num };
	ssize_t n;

	assert(num_fds <= FDIO_FDS_MAX);
	if (num_fds) {
		struct cmsghdr *c = &control.align;

		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, num_fds * sizeof(int));
	}
	do
		n = sendmsg(fd, &msg, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/*
 * Copies up to max descriptors from a packet's control message. Returns how many the
 * message holds.
 */
static unsigned take_fds(struct msghdr *msg, int *fds, unsigned max)
{
	unsigned num = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		/* The kernel stores no more descriptors than there is room for. */
		num = MF_MIN((unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int)), max);
		memcpy(fds, CMSG_DATA(c), num * sizeof(int));
		break; /* the kernel sends all descriptors in one control message */
	}
	return num;
}

ssize_t fdio_receive_packet(int fd, struct iovec *iov, unsigned num, int *fds, unsigned *num_fds)
{
	union control control = { 0 };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = num };
	unsigned max = *num_fds;
	ssize_t n;

	assert(max <= FDIO_FDS_MAX);
	if (max) { /* not CMSG_SPACE: its padding would have room for one more descriptor */
		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_LEN(max * sizeof(int));
	}
	*num_fds = 0;
	do
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	*num_fds = take_fds(&msg, fds, max);
	if (!(msg.msg_flags & (MSG_CTRUNC | MSG_TRUNC)))
		return n;
	while (*num_fds > 0)
		close(fds[--*num_fds]);
	return msg.msg_flags & MSG_CTRUNC ? -EMFILE : -EMSGSIZE;
}
