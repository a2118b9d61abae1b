/*
 * Fuzzes the talk with init: a guest that sends any messages and bytes, and clients that come, ask, send nonsense and go.
 * The input is a list of steps: a byte says which, and its arguments follow. The vsock and the command's streams have
 * stand-ins. At the end nothing may be open that was not open before. Seeds: corpus/guest_client, made by
 * corpus/guest_client.py.
 */
#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/fuzz/input.h"
#include "tests/unit/open_fds.h"
#include "virtio/vsock.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/config/config.h"
#include "vmm/guest/guest_client.h"
#include "vmm/guest/stdio_relay.h"

#define STEPS_MAX 64
#define TURNS_MAX 64
#define CLIENTS 4
#define PORTS (INIT_STREAM_PORT(INIT_COMMANDS_MAX, 0) - INIT_STREAM_PORT(0, 0))

enum step { STEP_MESSAGE, STEP_BYTES, STEP_CLIENT, STEP_ASK, STEP_GO, STEP_OUTPUT, STEP_MONITOR, STEP_READ, STEPS };

static char path[64];
static int guest, lent[PORTS], peer[CLIENTS];
static struct stdio_relay *relay;
static unsigned started, exited, first_ended;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* In place of the device. */

int vsock_lend(struct virtio_dev *dev, uint32_t port, int fd)
{
	(void)dev;
	if (port == INIT_CONTROL_PORT) {
		guest = fd;
		return 0;
	}
	port -= INIT_STREAM_PORT(0, 0);
	assert(port < PORTS && port % 4 < STDIO_RELAY_STREAMS && lent[port] < 0);
	lent[port] = fd;
	return 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vsock_revoke(struct virtio_dev *dev, uint32_t port, uint32_t num)
{
	(void)dev;
	port -= INIT_STREAM_PORT(0, 0);
	assert(port < PORTS && port % 4 == 0 && num == STDIO_RELAY_STREAMS);
	assert(port || !first_ended++); /* those of the first command once, when it has ended */
	for (uint32_t i = 0; i < num; i++)
		close_fd(&lent[port + i]);
}

/* In place of the streams. */

int stdio_relay_make_pairs(int fd[STDIO_RELAY_STREAMS], int ret_others[STDIO_RELAY_STREAMS], bool tty, struct err *e)
{
	(void)tty;
	(void)e;
	for (unsigned i = 0; i < STDIO_RELAY_STREAMS; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			abort();
		fd[i] = pair[0];
		ret_others[i] = pair[1];
	}
	return 0;
}

int stdio_relay_start(struct stdio_relay *s, bool tty, const int fd[STDIO_RELAY_STREAMS], struct err *e)
{
	(void)e;
	relay = s;
	s->tty = tty;
	s->changed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	atomic_store(&s->outputs, 2);
	for (unsigned i = 0; i < STDIO_RELAY_STREAMS; i++)
		close(fd[i]);
	return 0;
}

void stdio_relay_open(struct stdio_relay *s, bool tty)
{
	(void)s;
	(void)tty;
	abort(); /* it is no member of a pool */
}

bool stdio_relay_is_done(const struct stdio_relay *s)
{
	return atomic_load(&s->outputs) == 0;
}

void stdio_relay_end(struct stdio_relay *s, unsigned timeout_ms)
{
	(void)s;
	(void)timeout_ms;
}

uint32_t stdio_relay_tty_size(void)
{
	return 24 << 16 | 80;
}

const char *stdio_relay_tty_text(char text[STDIO_RELAY_TTY_TEXT_MAX])
{
	return strcpy(text, "24x80");
}

/* In place of the VM. */

static void check_text(const char *text)
{
	for (; *text; text++)
		assert(*text >= ' ' && *text <= '~');
}

static void on_mark(void *ctx, enum init_mark mark)
{
	(void)ctx;
	assert((unsigned)mark <= INIT_MARK_WAITS);
}

static void on_started(void *ctx)
{
	(void)ctx;
	assert(started++ == 0);
}

static void on_exited(void *ctx, unsigned status, unsigned flags, const char *text)
{
	(void)ctx;
	(void)flags;
	assert(exited++ == 0 && status <= 0xff && stdio_relay_is_done(relay));
	check_text(text);
}

static void on_failed(void *ctx, const char *text)
{
	(void)ctx;
	check_text(text);
}

static void on_left(void *ctx)
{
	(void)ctx;
	abort(); /* no key was typed */
}

static const struct guest_client_ops ops = {
	.mark = on_mark, .started = on_started, .exited = on_exited, .failed = on_failed, .left = on_left
};

static void turn(struct guest_client *a)
{
	struct pollfd fds[GUEST_CLIENT_FDS_MAX];
	unsigned num = guest_client_poll_fds(a, fds);

	for (unsigned i = 0; i < TURNS_MAX && poll(fds, num, 0) > 0; i++) {
		guest_client_serve(a, fds, num);
		num = guest_client_poll_fds(a, fds);
	}
}

/* Types and numbers that mean something, for a half of them. */
static void send_message(int fd, struct input *in)
{
	struct init_msg msg = { .type = input_u8(in) % 24 };
	uint8_t number = input_u8(in), payload[256];

	msg.number = number < 128 ? number % (INIT_COMMANDS_MAX + 2) : input_u32(in);
	msg.value = input_u32(in);
	msg.flags = input_u8(in);
	msg.len = input_u8(in);
	input_bytes(in, payload, msg.len);
	(void)fdio_send_packet(fd, (struct iovec[]){ { &msg, sizeof(msg) }, { payload, msg.len } }, 2, NULL, 0, 0);
}

static void send_bytes(int fd, struct input *in)
{
	uint8_t bytes[256], len = input_u8(in);

	input_bytes(in, bytes, len);
	(void)send(fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void connect_client(int *fd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	close_fd(fd);
	*fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	strcpy(addr.sun_path, path);
	if (connect(*fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		abort();
}

static void ask_monitor(struct guest_client *a, uint8_t what)
{
	assert(!guest_client_signal(a, 2) || (started && !exited));
	if (what & 1)
		guest_client_resize(a);
	if (what & 2)
		(void)guest_client_stop(a, 0, 1000);
	assert(guest_client_timeout(a, 5) <= 5);
}

static void step(struct guest_client *a, struct input *in)
{
	uint8_t kind = input_u8(in);
	int *client = &peer[kind / STEPS % CLIENTS];
	char drained[4096];

	switch ((enum step)(kind % STEPS)) {
	case STEP_MESSAGE:
		send_message(guest, in);
		break;
	case STEP_BYTES:
		send_bytes(kind & 0x80 ? guest : *client, in);
		break;
	case STEP_CLIENT:
		connect_client(client);
		break;
	case STEP_ASK:
		send_message(*client, in);
		break;
	case STEP_GO:
		close_fd(client);
		break;
	case STEP_OUTPUT:
		if (atomic_load(&relay->outputs))
			atomic_fetch_sub(&relay->outputs, 1);
		fdio_event_signal(relay->changed_fd);
		break;
	case STEP_MONITOR:
		ask_monitor(a, input_u8(in));
		break;
	case STEP_READ:
		while (recv(guest, drained, sizeof(drained), MSG_DONTWAIT) > 0)
			;
		break;
	case STEPS:
		break;
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static char dir[] = "/tmp/mayfly-fuzz-XXXXXX";

	(void)argc;
	(void)argv;
	log_setup(LOG_LEVEL_ERROR, -1);
	memset(lent, -1, sizeof(lent));
	memset(peer, -1, sizeof(peer));
	if (!mkdtemp(dir))
		abort();
	snprintf(path, sizeof(path), "%s/control", dir);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char word[] = "true", *args[] = { word };
	const struct config config = { .command = { .args = { args, 1 }, .terminal = size & 1 }, .control = path };
	struct input in = { data, size };
	unsigned before = open_fds();
	struct guest_client *a;
	struct err e;

	started = exited = first_ended = 0;
	if (guest_client_new(&a, NULL, &config, -1, &ops, NULL, &e) < 0)
		abort();
	for (unsigned i = 0; i < STEPS_MAX && in.left > 0; i++) {
		step(a, &in);
		turn(a);
	}
	close(relay->changed_fd);
	guest_client_free(a);
	free(a); /* whose threads are stand-ins */
	close(guest);
	for (unsigned i = 0; i < PORTS; i++)
		close_fd(&lent[i]);
	for (unsigned i = 0; i < CLIENTS; i++)
		close_fd(&peer[i]);
	assert(open_fds() == before);
	return 0;
}
