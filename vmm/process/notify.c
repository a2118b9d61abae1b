/* Reports to systemd; see notify.h. */
#include "vmm/process/notify.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define NOTIFY_TRIES 3 /* for a supervisor whose queue is full */
#define NOTIFY_WAIT_MS 500
#define NOTIFY_TEXT_MAX 128

static struct {
	int fd;
	bool ready, stopping;
} notify = { .fd = -1 };

static int notify_connect(const char *name)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	MF_CLOSE int fd = -1;
	size_t len = strlen(name);

	if (*name != '/' && *name != '@')
		return -EAFNOSUPPORT; /* systemd also has vsock:CID:PORT, for guests */
	if (len > sizeof(to.sun_path))
		return -ENAMETOOLONG;
	memcpy(to.sun_path, name, len);
	if (*name == '@')
		to.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    connect(fd, (struct sockaddr *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		return -errno;
	return mf_take_fd(&fd);
}

void notify_open(void)
{
	const char *name = getenv("NOTIFY_SOCKET");

	if (!name || !*name)
		return;
	notify.fd = notify_connect(name);
	if (notify.fd < 0)
		log_warn("NOTIFY_SOCKET '%s': %s; continuing", name, strerror(-notify.fd));
	(void)unsetenv("NOTIFY_SOCKET"); /* cannot fail: the name is valid */
}

int notify_fd(void)
{
	return notify.fd < 0 ? -1 : notify.fd;
}

void notify_leave(void)
{
	if (notify.fd >= 0)
		close(mf_take_fd(&notify.fd));
}

static void notify_send(const char *text)
{
	struct pollfd p = { .fd = notify.fd, .events = POLLOUT };

	/* Any error but EAGAIN: the supervisor has gone, and nobody misses the report. */
	for (unsigned tries = 0; notify.fd >= 0 && tries < NOTIFY_TRIES; tries++)
		if (send(notify.fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != EAGAIN ||
		    poll(&p, 1, NOTIFY_WAIT_MS) <= 0)
			return;
}

void notify_ready(void)
{
	if (!notify.ready)
		notify_send("READY=1\nSTATUS=running");
	notify.ready = true;
}

void notify_stopping(void)
{
	if (!notify.stopping)
		notify_send("STOPPING=1\nSTATUS=stopping");
	notify.stopping = true;
}

void notify_status(const char *status)
{
	char text[NOTIFY_TEXT_MAX];

	snprintf(text, sizeof(text), "STATUS=%s", status);
	notify_send(text);
}
