/* Small helpers for file descriptors, and the clock: see fd.h. */
#include "loader/init/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "loader/init/text.h"

void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void fd_unblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	/* It cannot fail for a descriptor that is open. */
	(void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int fd_write(int fd, const void *data, size_t len)
{
	const char *at = data;

	while (len > 0) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

long fd_read_file(const char *path, void *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	long ret = fd < 0 ? -errno : 0;

	while (ret == 0) {
		ssize_t n = read(fd, (char *)buf + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			ret = -errno;
		else if (n == 0 && len < size)
			break;
		else if (n == 0)
			ret = -EFBIG;
		else
			len += (size_t)n;
	}
	fd_close(&fd);
	return ret < 0 ? ret : (long)len;
}

int fd_write_file(const char *path, const char *s)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_TRUNC);
	size_t len = 0;
	int ret = fd < 0 ? -errno : 0;

	while (s[len] != '\0')
		len++;
	if (ret == 0)
		ret = fd_write(fd, s, len);
	fd_close(&fd);
	return ret;
}

void fd_say(const char *first, const char *second)
{
	struct text line = { 0 };
	int fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);

	text_add(&line, first, second, "\n", NULL);
	if (fd >= 0)
		/* There is no other place to say it. */
		(void)fd_write(fd, line.s, line.len);
	/* The kernel's own lines do not wait for it, and neither would the end of the machine. */
	(void)ioctl(fd, TCSBRK, 1);
	fd_close(&fd);
}

void fd_take_standard(void)
{
	int fd = open("/", O_RDONLY | O_DIRECTORY);

	while (fd >= 0 && fd < 3)
		fd = dup(fd);
	if (fd >= 3)
		close(fd);
}

int64_t clock_ms(void)
{
	struct timespec now;

	/* Not clock_gettime(), which brings a reader of the vDSO's ELF with it. It cannot fail. */
	(void)syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void clock_sleep_ms(unsigned ms)
{
	/* All signals are blocked: nothing shortens it. */
	(void)poll(NULL, 0, (int)ms);
}
