/*
 * Connections to the host's part of the tests: to the Unix socket v_PORT beside the texts, as the hybrid vsock has it.
 * And without effect, what only a machine of its own may do after a restore.
 */
#include "loader/init/link.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/random.h>

#include "loader/init/text.h"

int link_connect(uint32_t port)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct text path = { 0 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	text_add(&path, "/.mayfly/v_", NULL);
	text_add_number(&path, port);
	memcpy(address.sun_path, path.s, path.len + 1);
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	return fd;
}

void link_settle(void)
{
}

int clock_settime(clockid_t clock, const struct timespec *time)
{
	(void)clock;
	(void)time;
	return 0;
}

int ioctl(int fd, int request, ...); /* as musl has it */

int ioctl(int fd, int request, ...)
{
	va_list more;
	void *arg;

	va_start(more, request);
	arg = va_arg(more, void *);
	va_end(more);
	if ((unsigned)request == RNDADDENTROPY || (unsigned)request == RNDRESEEDCRNG)
		return 0;
	return (int)syscall(SYS_ioctl, fd, request, arg);
}
