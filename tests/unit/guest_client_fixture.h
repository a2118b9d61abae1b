/*
 * What the tests of guest_client.c share: a guest that is the test, which has what it is lent, and clients. Include it once,
 * in the test.
 */
#ifndef MF_TESTS_UNIT_GUEST_CLIENT_FIXTURE_H
#define MF_TESTS_UNIT_GUEST_CLIENT_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/open_fds.h"
#include "virtio/vsock.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/unix_socket.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/guest/control.h"
#include "vmm/guest/guest_client.h"

#define LENT_MAX 256
#define RELAY_FDS 4 /* of a relay, whose threads may be at work until the process ends: three streams and an eventfd */

static struct {
	uint32_t port;
	int fd;
} lent[LENT_MAX];
static unsigned num_lent;

static struct {
	unsigned warm, marks, started, exited, failed, left, snapshots, over, snapper_left;
	unsigned status, flags;
	char text[256];
} told;

static char dir[64], path[80];
static char *until;	     /* of the configuration, */
static int snapshot_fd = -1; /* and the connection of the snapshot's writer */
static struct config config;
static struct guest_client *a, *all[64]; /* guest_client_free leaves them to threads that may be at work */
static unsigned num_all;
static unsigned fds_before;
static int guest; /* the guest's end of the control connection */
static char payload[INIT_PAYLOAD_MAX + 1];

/* In place of the device. */

int vsock_lend(struct virtio_dev *dev, uint32_t port, int fd)
{
	(void)dev;
	if (num_lent == LENT_MAX)
		return -ENOSPC;
	lent[num_lent].port = port;
	lent[num_lent++].fd = fd;
	return 0;
}

static inline int take_lent(uint32_t port)
{
	for (unsigned i = 0; i < num_lent; i++) {
		int fd = lent[i].fd;

		if (lent[i].port != port)
			continue;
		lent[i] = lent[--num_lent];
		return fd;
	}
	return -1;
}

void vsock_revoke(struct virtio_dev *dev, uint32_t port, uint32_t num)
{
	(void)dev;
	for (uint32_t i = 0; i < num; i++) {
		int fd = take_lent(port + i);

		if (fd >= 0)
			close(fd);
	}
}

/* In place of the VM. */

static inline void on_mark(void *ctx, enum init_mark mark)
{
	(void)ctx;
	assert_true(mark <= INIT_MARK_NET);
	told.marks++;
}

static inline void on_started(void *ctx)
{
	(void)ctx;
	told.started++;
}

static inline void on_exited(void *ctx, unsigned status, unsigned flags, const char *text)
{
	(void)ctx;
	told.exited++;
	told.status = status;
	told.flags = flags;
	snprintf(told.text, sizeof(told.text), "%s", text);
}

static inline void on_failed(void *ctx, const char *text)
{
	(void)ctx;
	told.failed++;
	snprintf(told.text, sizeof(told.text), "%s", text);
}

static inline void on_left(void *ctx)
{
	(void)ctx;
	told.left++;
}

static inline int on_snapshot(void *ctx, const int *files, unsigned num, unsigned flags, struct err *e)
{
	(void)ctx;
	(void)e;
	assert_int_equal(flags & CONTROL_STOP, CONTROL_STOP);
	for (unsigned i = 0; i < num; i++)
		assert_true(fcntl(files[i], F_GETFD) >= 0);
	told.snapshots++;
	return 0;
}

static inline void on_snapshot_over(void *ctx, bool in_place)
{
	(void)ctx;
	told.over += in_place;
}

static inline void on_snapper_left(void *ctx)
{
	(void)ctx;
	told.snapper_left++;
}

static inline void on_warm(void *ctx)
{
	(void)ctx;
	told.warm++;
}

#define INFO_TEXT "{\"devices\": []}"

/* What the VM tells of itself, and a descriptor. */
static inline int on_info(void *ctx, char *text, size_t size)
{
	(void)ctx;
	snprintf(text, size, INFO_TEXT);
	return STDERR_FILENO;
}

static const struct guest_client_ops ops = {
	.mark = on_mark,
	.started = on_started,
	.exited = on_exited,
	.failed = on_failed,
	.left = on_left,
	.info = on_info,
	.snapshot = on_snapshot,
	.snapshot_over = on_snapshot_over,
	.snapper_left = on_snapper_left,
	.warm = on_warm,
};

static inline int setup(void **state)
{
	static char word[] = "true", *args[] = { word };
	struct err e;

	(void)state;
	log_setup(LOG_LEVEL_ERROR, -1);
	memset(&told, 0, sizeof(told));
	fds_before = open_fds();
	strcpy(dir, "/tmp/mayfly-test-guest-XXXXXX");
	assert_non_null(mkdtemp(dir));
	sprintf(path, "%s/control", dir);
	config = (struct config){ .command = { .args = { args, 1 }, .tty = CONFIG_TTY_OFF }, .control = path };
	config.until = until;
	assert_int_equal(guest_client_new(&a, NULL, &config, snapshot_fd, &ops, NULL, &e), 0);
	all[num_all++] = a;
	guest = take_lent(INIT_CONTROL_PORT);
	assert_true(guest >= 0);
	return 0;
}

static inline int teardown(void **state)
{
	char command[100];

	(void)state;
	vsock_revoke(NULL, INIT_STREAM_PORT(0, 0), 3); /* its threads end */
	guest_client_free(a);
	close(guest);
	while (num_lent > 0)
		close(lent[--num_lent].fd);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(open_fds(), fds_before + RELAY_FDS);
	sprintf(command, "rm -rf %s", dir);
	return system(command);
}

/* The main loop, until nothing happens any more. */
static inline void turn(void)
{
	struct pollfd fds[GUEST_CLIENT_FDS_MAX];

	for (unsigned i = 0; i < 1000; i++) {
		unsigned num = guest_client_poll_fds(a, fds);

		assert_true(num <= GUEST_CLIENT_FDS_MAX);
		if (poll(fds, num, 0) == 0)
			return;
		guest_client_serve(a, fds, num);
	}
	fail_msg("the main loop turns");
}

static inline void guest_says(struct init_msg msg, const char *text)
{
	msg.len = (uint32_t)strlen(text);
	assert_int_equal(write(guest, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(write(guest, text, msg.len), msg.len);
	turn();
}

/* The next message for the guest; false: there is none. */
static inline bool guest_hears(struct init_msg *msg)
{
	if (recv(guest, msg, sizeof(*msg), MSG_DONTWAIT) < 0)
		return false;
	if (msg->len)
		assert_int_equal(recv(guest, payload, msg->len, MSG_WAITALL), msg->len);
	return true;
}

static inline void hello(void)
{
	guest_says((struct init_msg){ .type = INIT_MSG_HELLO, .value = INIT_VERSION }, "");
}

/* A client, not yet served. */
static inline int client(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static inline void ask(int fd, enum init_msg_type type)
{
	const struct init_msg msg = { .type = type, .len = 4 };
	char packet[sizeof(msg) + 4];

	memcpy(packet, &msg, sizeof(msg));
	memcpy(packet + sizeof(msg), "als", 4);
	assert_int_equal(send(fd, packet, sizeof(packet), MSG_NOSIGNAL), sizeof(packet));
}

/* What a client has got; its type, or -1. Descriptors that came with it are closed. */
static inline int answered(int fd)
{
	struct control_client c = { .fd = fd };
	struct init_msg msg;

	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	/* A monitor expects no such descriptors. */
	switch (control_client_receive(&c, &msg, payload)) {
	case 0:
		return (int)msg.type;
	case -EPROTO:
		return msg.type == INIT_MSG_RUN ? INIT_MSG_RUN : -1;
	default:
		return -1;
	}
}

/* The guest connects an output of command 0, before it reports the start. */
static inline int open_output(unsigned n)
{
	int fd = take_lent(INIT_STREAM_PORT(0, n));

	assert_true(fd >= 0);
	return fd;
}

/* The guest closes it, and it is written: until the main loop has heard of that. */
static inline void close_output(int fd)
{
	struct pollfd fds[GUEST_CLIENT_FDS_MAX];

	close(fd);
	assert_true(poll(fds, guest_client_poll_fds(a, fds), 5000) > 0);
	turn();
}

/* A command of a client: its number. */
static inline unsigned run(int fd)
{
	struct init_msg msg;

	ask(fd, INIT_MSG_RUN);
	turn();
	assert_true(guest_hears(&msg));
	assert_int_equal(msg.type, INIT_MSG_RUN);
	assert_memory_equal(payload, "als", 4);
	return msg.number;
}

static inline void assert_hung_up(unsigned number)
{
	struct init_msg msg;

	assert_true(guest_hears(&msg));
	assert_int_equal(msg.type, INIT_MSG_SIGNAL);
	assert_int_equal(msg.number, number);
	assert_int_equal(msg.value, SIGHUP);
	turn();
	assert_false(guest_hears(&msg)); /* once */
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static __attribute__((unused)) char other_path[80];

/* At other_path, in place of a monitor's. */
static inline int a_listener(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(other_path, sizeof(other_path), "%s/other", dir);
	strcpy(addr.sun_path, other_path);
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

#endif
