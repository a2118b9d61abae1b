/*
 * The connection that carries the messages of proto.h.
 *
 * Each way has one buffer. The one to the host has room above QUEUE_ENOUGH for
 * unsolicited messages: the ends of all commands, each with a sentence. Reading stops at
 * QUEUE_ENOUGH, so no request is accepted while the answers are not.
 */
#include "loader/init/control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "loader/init/fd.h"
#include "loader/init/link.h"

#define QUEUE_BYTES (1U << 16)
#define QUEUE_ENOUGH (1U << 14)

static struct {
	size_t out_len, in_start, in_len;
	bool reset;
	struct init_msg msg;
	char out[QUEUE_BYTES];
	char in[sizeof(struct init_msg) + INIT_COMMAND_MAX];
} control;
static int connection = -1; /* not in there, so that the buffers take no space in the program */

int control_open(void)
{
	int fd;

	control.reset = false;
	fd = link_connect(INIT_CONTROL_PORT);
	if (fd < 0)
		return fd;
	fd_unblock(fd);
	connection = fd;
	return 0;
}

bool control_is_open(void)
{
	return connection >= 0;
}

int control_fd(void)
{
	return connection;
}

short control_events(void)
{
	short events = control.out_len > 0 ? POLLOUT : 0;

	if (control.out_len < QUEUE_ENOUGH)
		events |= POLLIN;
	return events;
}

void control_close(void)
{
	fd_close(&connection);
	control.out_len = 0;
	control.in_start = 0;
	control.in_len = 0;
}

bool control_was_reset(void)
{
	return control.reset;
}

/* An operation has failed. Linux has both errors for a connection that the transport's reset has ended. */
static void control_failed(void)
{
	control.reset = errno == ENOTCONN || errno == ECONNRESET;
	control_close();
}

void control_flush(void)
{
	while (connection >= 0 && control.out_len > 0) {
		ssize_t n = write(connection, control.out, control.out_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (errno != EAGAIN)
				control_failed();
			return;
		}
		control.out_len -= (size_t)n;
		memmove(control.out, control.out + n, control.out_len);
	}
}

void control_drain(int timeout_ms)
{
	int64_t end = clock_ms() + timeout_ms;

	for (control_flush(); connection >= 0 && control.out_len > 0; control_flush()) {
		struct pollfd polled = { .fd = connection, .events = POLLOUT };
		int64_t left = end - clock_ms();

		if (left <= 0 || poll(&polled, 1, (int)left) <= 0)
			return;
	}
}

void control_send(enum init_msg_type type, uint32_t number, uint32_t value, uint32_t flags, const char *payload)
{
	size_t len = payload == NULL ? 0 : strlen(payload);
	const struct init_msg msg = {
		.type = type,
		.number = number,
		.value = value,
		.flags = flags,
		.len = (uint32_t)len,
	};

	if (connection < 0 || sizeof(msg) + len > sizeof(control.out) - control.out_len)
		return;
	memcpy(control.out + control.out_len, &msg, sizeof(msg));
	if (len > 0)
		memcpy(control.out + control.out_len + sizeof(msg), payload, len);
	control.out_len += sizeof(msg) + len;
	control_flush();
}

void control_read(void)
{
	ssize_t n;

	if (connection < 0)
		return;
	if (control.in_start > 0) {
		memmove(control.in, control.in + control.in_start, control.in_len);
		control.in_start = 0;
	}
	/* There is room: a whole message would have been taken by control_next(). */
	n = read(connection, control.in + control.in_len, sizeof(control.in) - control.in_len);
	if (n > 0)
		control.in_len += (size_t)n;
	else if (n == 0)
		control_close();
	else if (errno != EAGAIN && errno != EINTR)
		control_failed();
}

bool control_has_next(void)
{
	struct init_msg msg;

	if (control.in_len < sizeof(msg) || control.out_len >= QUEUE_ENOUGH)
		return false;
	memcpy(&msg, control.in + control.in_start, sizeof(msg));
	return msg.len > INIT_COMMAND_MAX || control.in_len - sizeof(msg) >= msg.len;
}

const struct init_msg *control_next(const char **ret_payload)
{
	if (control.in_len < sizeof(control.msg))
		return NULL;
	memcpy(&control.msg, control.in + control.in_start, sizeof(control.msg));
	if (control.msg.len > INIT_COMMAND_MAX) {
		control_close();
		return NULL;
	}
	if (control.in_len - sizeof(control.msg) < control.msg.len)
		return NULL;
	*ret_payload = control.in + control.in_start + sizeof(control.msg);
	control.in_start += sizeof(control.msg) + control.msg.len;
	control.in_len -= sizeof(control.msg) + control.msg.len;
	return &control.msg;
}

const struct init_msg *control_await(int timeout_ms, const char **ret_payload)
{
	int64_t end = clock_ms() + timeout_ms;
	const struct init_msg *msg = NULL;

	while (connection >= 0 && (msg = control_next(ret_payload)) == NULL && clock_ms() < end) {
		struct pollfd polled = { .fd = connection, .events = POLLIN };

		if (poll(&polled, 1, (int)(end - clock_ms())) > 0)
			control_read();
	}
	return msg;
}
