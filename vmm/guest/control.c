/* The control socket; see control.h. */
#include "vmm/guest/control.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/own_dir.h"
#include "vmm/base/unix_socket.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"

#define NAME_FREE_MS 1000 /* for a VM in a jail to end after the process outside */
#define PACKET_MAX (sizeof(struct init_msg) + INIT_PAYLOAD_MAX)

/* The directory of path, if it is one that config_control_path has chosen; or "". Of a path that is too long, it is not. */
static const char *name_dir(const char *path, char dir[CONFIG_CONTROL_MAX + 1])
{
	const char *slash = strrchr(path, '/');

	dir[0] = '\0';
	if (slash && slash - path <= CONFIG_CONTROL_MAX)
		snprintf(dir, CONFIG_CONTROL_MAX + 1, "%.*s", (int)(slash - path), path);
	return config_is_control_dir(dir) ? dir : "";
}

/* Checks such a directory, and makes it. */
static int own_directory(const char *path, bool make, struct err *e)
{
	char buf[CONFIG_CONTROL_MAX + 1];
	const char *dir = name_dir(path, buf);
	int fd;

	if (!*dir)
		return 0;
	fd = own_dir_open(AT_FDCWD, dir, make, e);
	if (fd < 0)
		return fd == -ENOENT && !make ? 0 : fd;
	close(fd);
	return 0;
}

/* Waits until deadline_ms for what has come at fd, or its end; with events 0, for the end alone. Returns 0 or -ETIMEDOUT. */
static int await(int fd, short events, uint64_t deadline_ms)
{
	struct pollfd wait = { .fd = fd, .events = events };
	uint64_t now_ms = clock_now_ms();
	int n = 0;

	for (; now_ms < deadline_ms && n <= 0; now_ms = clock_now_ms())
		n = poll(&wait, 1, (int)MF_MIN(deadline_ms - now_ms, (uint64_t)INT_MAX)); /* EINTR: again */
	return n > 0 ? 0 : -ETIMEDOUT;
}

/*
 * Whether it is worthwhile to try again to listen at the path of a name. The name is ours by its record: if its process was killed,
 * a VM in a jail ends a moment after that, and a connection to it then ends, too.
 */
static bool is_free_soon(const char *path, uint64_t deadline_ms)
{
	char dir[CONFIG_CONTROL_MAX + 1];
	MF_CLOSE int fd = -1;

	if (!*name_dir(path, dir))
		return false;
	fd = unix_socket_connect(path, SOCK_SEQPACKET);
	return clock_now_ms() < deadline_ms && (fd < 0 || await(fd, 0, deadline_ms) == 0);
}

int control_listen(struct unix_socket *name, const char *path, struct err *e)
{
	const uint64_t deadline_ms = clock_now_ms() + NAME_FREE_MS;
	mode_t mask;
	int r;

	if (unix_socket_take(name, path))
		return 0;
	r = own_directory(path, true, e);
	if (r < 0)
		return r;
	mask = umask(0177); /* clients can run commands in the guest; no other thread makes files now */
	r = unix_socket_listen(name, path, SOCK_SEQPACKET, e);
	while (r == -EADDRINUSE && is_free_soon(path, deadline_ms))
		r = unix_socket_listen(name, path, SOCK_SEQPACKET, e);
	umask(mask);
	return r;
}

int control_client_open(struct control_client *c, int listen_fd)
{
	c->waits = c->snaps = c->stops = false;
	c->later = 0;
	c->fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	return c->fd < 0 ? -errno : 0;
}

void control_client_close(struct control_client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->later = 0;
	while (c->num_files > 0)
		close(c->file[--c->num_files]);
}

int control_turn_away(int listen_fd)
{
	struct control_client c = { .fd = -1 };
	int r = control_client_open(&c, listen_fd);

	control_client_refuse(&c, "the guest runs as many commands as it can");
	control_client_close(&c);
	return r;
}

/* Sends a packet with num descriptors. Returns 0 or -errno. */
static int send_packet(int fd, const struct init_msg *msg, const void *payload, const int *fds, unsigned num)
{
	const struct iovec iov[] = { { .iov_base = (void *)(uintptr_t)msg, .iov_len = sizeof(*msg) },
				     { .iov_base = (void *)(uintptr_t)payload, .iov_len = msg->len } };

	_Static_assert(STDIO_RELAY_STREAMS <= FDIO_FDS_MAX && CONTROL_FILES_MAX <= FDIO_FDS_MAX &&
			       CONTROL_LAYERS_MAX <= FDIO_FDS_MAX,
		       "all streams of a command, all files of a snapshot, or all memories, in one packet");
	return fdio_send_packet(fd, iov, MF_ARRAY_SIZE(iov), fds, num, 0);
}

/* A message that cannot be sent means that the client has gone or does not read: its connection is closed. */
static void answer(struct control_client *c, const struct init_msg *msg, const void *payload, const int *fds,
		   unsigned num)
{
	if (c->fd >= 0 && send_packet(c->fd, msg, payload, fds, num) < 0)
		control_client_close(c);
}

void control_client_tell(struct control_client *c, const struct init_msg *msg, const char *payload)
{
	answer(c, msg, payload, NULL, 0);
}

void control_client_accept(struct control_client *c, const int fd[STDIO_RELAY_STREAMS])
{
	const struct init_msg msg = { .type = INIT_MSG_RUN, .number = c->number };

	answer(c, &msg, NULL, fd, fd[1] < 0 ? 1 : STDIO_RELAY_STREAMS);
}

void control_client_refuse(struct control_client *c, const char *text)
{
	const struct init_msg msg = { .type = INIT_MSG_FAILED, .len = (uint32_t)strlen(text) };

	answer(c, &msg, text, NULL, 0);
}

void control_client_snapped(struct control_client *c, const char *text, const int *memory, unsigned num)
{
	const struct init_msg msg = { .type = CONTROL_MSG_SNAPSHOT, .len = (uint32_t)strlen(text) };

	answer(c, &msg, text, memory, num);
}

void control_client_inform(struct control_client *c, const char *text, int config_fd)
{
	const struct init_msg msg = { .type = CONTROL_MSG_INFO, .len = (uint32_t)strlen(text) };

	answer(c, &msg, text, &config_fd, config_fd >= 0);
}

/*
 * Receives a packet and its descriptors, at most *num_fds. Returns 0 or -errno, without
 * descriptors; -EPIPE at EOF.
 */
static int receive_packet(int fd, struct init_msg *ret, char *payload, int *fds, unsigned *num_fds)
{
	struct iovec iov[] = { { .iov_base = ret, .iov_len = sizeof(*ret) },
			       { .iov_base = payload, .iov_len = INIT_PAYLOAD_MAX } };
	ssize_t n = fdio_receive_packet(fd, iov, MF_ARRAY_SIZE(iov), fds, num_fds);

	if (n <= 0)
		return n < 0 ? (int)n : -EPIPE;
	if ((size_t)n < sizeof(*ret) || ret->len != (size_t)n - sizeof(*ret)) {
		while (*num_fds > 0)
			close(fds[--*num_fds]);
		return -EPROTO;
	}
	payload[ret->len] = '\0';
	return 0;
}

/* Takes a payload from a memfd, of which alone it is certain that reading it does not block. */
static int take_payload(int fd, struct init_msg *msg, char *payload)
{
	size_t len = 0;
	ssize_t n = 1;

	if (msg->len || fcntl(fd, F_GET_SEALS) < 0)
		return -EPROTO;
	while (n > 0 && len <= INIT_COMMAND_MAX) {
		n = fdio_read(fd, payload + len, INIT_COMMAND_MAX + 1 - len);
		len += n > 0 ? (size_t)n : 0;
	}
	if (n < 0 || len > INIT_COMMAND_MAX)
		return -EPROTO;
	payload[len] = '\0';
	msg->len = (uint32_t)len;
	return 0;
}

int control_client_receive(struct control_client *c, struct init_msg *ret, char *payload)
{
	unsigned num = CONTROL_FILES_MAX;
	int fd[CONTROL_FILES_MAX], r = receive_packet(c->fd, ret, payload, fd, &num);

	if (r < 0)
		return r;
	if (ret->type == CONTROL_MSG_SNAPSHOT && num > 0) {
		memcpy(c->file, fd, num * sizeof(*fd));
		c->num_files = num;
		return 0;
	}
	if (num == 0)
		return ret->type == CONTROL_MSG_SNAPSHOT ? -EPROTO : 0;
	r = num == 1 ? take_payload(fd[0], ret, payload) : -EPROTO;
	while (num > 0)
		close(fd[--num]);
	return r;
}

/* Sends text with msg, or in a memfd if it is too long for a packet. Returns 0 or -errno. */
static int send_text(int fd, struct init_msg *msg, const char *text, size_t len)
{
	MF_CLOSE int file = -1;
	int r;

	if (len <= INIT_PAYLOAD_MAX) {
		msg->len = (uint32_t)len;
		return send_packet(fd, msg, text, NULL, 0);
	}
	file = memfd_create("command", MFD_CLOEXEC);
	if (file < 0)
		return -errno;
	r = fdio_write_all(file, text, len);
	if (r < 0 || lseek(file, 0, SEEK_SET) < 0)
		return r < 0 ? r : -errno;
	return send_packet(fd, msg, NULL, &file, 1);
}

int control_request(int fd, const char *text, size_t len, bool tty, int ret_fd[STDIO_RELAY_STREAMS], struct err *e)
{
	struct init_msg msg = { .type = INIT_MSG_RUN, .value = tty };
	MF_FREE char *payload = malloc(INIT_PAYLOAD_MAX + 1);
	unsigned num = STDIO_RELAY_STREAMS;
	int r;

	for (unsigned i = 0; i < STDIO_RELAY_STREAMS; i++)
		ret_fd[i] = -1;
	if (!payload)
		return err_set(e, -ENOMEM, "out of memory");
	r = send_text(fd, &msg, text, len);
	if (r == 0)
		r = receive_packet(fd, &msg, payload, ret_fd, &num);
	if (r < 0)
		return err_neg(e, r, "ask for the command");
	if (msg.type == INIT_MSG_RUN && num == (tty ? 1 : STDIO_RELAY_STREAMS))
		return 0;
	while (num > 0)
		close(ret_fd[--num]);
	if (msg.type == INIT_MSG_FAILED)
		return err_set(e, -EBUSY, "%s", payload);
	return err_set(e, -EPROTO, "what answers is not mayfly");
}

int control_snapshot(int fd, const int *files, unsigned num_files, unsigned flags, char *ret_text, int *memory,
		     unsigned *ret_num, struct err *e)
{
	struct init_msg msg = { .type = CONTROL_MSG_SNAPSHOT, .value = flags };
	MF_FREE char *payload = malloc(INIT_PAYLOAD_MAX + 1);
	unsigned num = memory ? CONTROL_LAYERS_MAX : 0;
	int r = send_packet(fd, &msg, NULL, files, num_files);

	if (!payload)
		return err_set(e, -ENOMEM, "out of memory");
	if (r == 0)
		r = receive_packet(fd, &msg, payload, memory, &num);
	if (r < 0)
		return r == -EPIPE || r == -ECONNRESET ? err_set(e, r, "the VM has ended") :
							 err_neg(e, r, "ask for the snapshot");
	if (memory)
		*ret_num = num;
	if (msg.type == INIT_MSG_FAILED)
		return err_set(e, -EBUSY, "%s", payload);
	if (msg.type != CONTROL_MSG_SNAPSHOT || msg.len >= CONTROL_INFO_MAX)
		return err_set(e, -EPROTO, "what answers is not mayfly");
	memcpy(ret_text, payload, msg.len + 1);
	return 0;
}

int control_stop(int fd, struct err *e)
{
	const struct init_msg msg = { .type = CONTROL_MSG_STOP };
	int r = send_packet(fd, &msg, NULL, NULL, 0);

	return r < 0 ? err_neg(e, r, "end the VM") : 0;
}

/* Watches path's directory. Returns an inotify descriptor, or -errno with e set. */
static int watch_directory(const char *path, struct err *e)
{
	const char *slash = strrchr(path, '/');
	MF_FREE char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	MF_CLOSE int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (!dir || fd < 0 || inotify_add_watch(fd, dir, IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE) < 0)
		return err_sys(e, "wait for a socket in '%s'", dir ? dir : path);
	return mf_take_fd(&fd);
}

/* Connects as soon as something listens at path. unix_socket_listen makes an event when it does. */
static int connect_later(const char *path, uint64_t deadline_ms, struct err *e)
{
	MF_CLOSE int events = watch_directory(path, e);
	char some[4096];
	int fd = events;

	while (events >= 0) {
		fd = unix_socket_connect(path, SOCK_SEQPACKET);
		if ((fd != -ENOENT && fd != -ECONNREFUSED) || await(events, POLLIN, deadline_ms) < 0)
			return fd;
		while (read(events, some, sizeof(some)) > 0)
			;
	}
	return fd;
}

/* Asks, and waits for INIT_MSG_HELLO. */
static int ask(int fd, enum control_msg_type type, uint32_t value, uint64_t deadline_ms, struct err *e)
{
	struct init_msg msg = { .type = type, .value = value };
	MF_FREE char *payload = malloc(INIT_PAYLOAD_MAX + 1);
	unsigned num = 0;
	int r = send_packet(fd, &msg, NULL, NULL, 0);

	if (!payload)
		return err_set(e, -ENOMEM, "out of memory");
	if (r == 0)
		r = await(fd, POLLIN, deadline_ms);
	if (r == -ETIMEDOUT)
		return err_set(e, r,
			       type == CONTROL_MSG_WAIT ? "the guest is not ready yet, and the time of --wait is over" :
							  "the monitor does not answer");
	if (r == 0)
		r = receive_packet(fd, &msg, payload, NULL, &num);
	if (r < 0)
		return r == -EPIPE ? err_set(e, r, "the guest has ended") : err_neg(e, r, "wait for the guest");
	return msg.type == INIT_MSG_HELLO ? 0 : err_set(e, -EBUSY, "%s", payload);
}

int control_ask(int fd, enum control_msg_type type, uint32_t value, struct err *e)
{
	return ask(fd, type, value, clock_now_ms() + CONTROL_ASK_MS, e);
}

int control_connect(const char *target, uint64_t wait_ms, struct err *e)
{
	const uint64_t deadline_ms = clock_now_ms() + wait_ms;
	MF_FREE char *path = NULL;
	MF_CLOSE int fd = -1;

	if (strchr(target, '/'))
		path = strdup(target);
	else if (config_control_path(&path, target, e) < 0)
		return e->code;
	if (!path)
		return err_set(e, -ENOMEM, "out of memory");
	if (strlen(path) > UNIXNAME_MAX)
		return err_set(e, -ENAMETOOLONG, "'%s' is longer than a socket's name can be", path);
	if (own_directory(path, wait_ms > 0, e) < 0)
		return e->code;
	*e = (struct err){ 0 };
	fd = wait_ms ? connect_later(path, deadline_ms, e) : unix_socket_connect(path, SOCK_SEQPACKET);
	if (fd < 0 && e->code)
		return e->code;
	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return err_set(e, fd, "no guest listens at '%s'", path);
	if (fd < 0)
		return err_neg(e, fd, "connect to '%s'", path);
	(void)fcntl(fd, F_SETFL, 0); /* cannot fail */
	if (wait_ms && ask(fd, CONTROL_MSG_WAIT, 0, deadline_ms, e) < 0)
		return e->code;
	return mf_take_fd(&fd);
}
