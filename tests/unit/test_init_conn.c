/* The control connection: messages in pieces, too long, too many, and its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/guest/init_conn.h"

struct fix {
	struct init_conn c;
	int guest;
	unsigned num;
	struct init_msg last;
	char text[INIT_PAYLOAD_MAX + 1];
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(init_conn_init(&f->c, pair[0]), 0);
	f->guest = pair[1];
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	init_conn_done(&f->c);
	if (f->guest >= 0)
		close(f->guest);
	free(f);
	return 0;
}

static void handle(void *ctx, const struct init_msg *msg, const char *payload)
{
	struct fix *f = ctx;

	f->num++;
	f->last = *msg;
	assert_int_equal(payload[msg->len], '\0');
	memcpy(f->text, payload, msg->len + 1);
}

static int serve(struct fix *f)
{
	return init_conn_serve(&f->c, handle, f);
}

static void say(struct fix *f, uint32_t type, const char *text, uint32_t len)
{
	const struct init_msg msg = { .type = type, .value = 5, .len = len };

	assert_int_equal(write(f->guest, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(write(f->guest, text, len), len);
}

static void test_messages(void **state)
{
	struct fix *f = *state;

	assert_int_equal(serve(f), 0);
	assert_int_equal(f->num, 0);
	say(f, INIT_MSG_HELLO, "", 0);
	say(f, INIT_MSG_EXIT, "reason", 6);
	say(f, INIT_MSG_MARK, "", 0);
	assert_int_equal(serve(f), 0);
	assert_int_equal(f->num, 3);
	assert_int_equal(f->last.type, INIT_MSG_MARK);
	say(f, INIT_MSG_EXIT, "reason", 6);
	assert_int_equal(serve(f), 0);
	assert_string_equal(f->text, "reason");
	assert_int_equal(f->last.value, 5);
}

static void test_byte_by_byte(void **state)
{
	const struct init_msg msg = { .type = INIT_MSG_EXIT, .len = 3 };
	struct fix *f = *state;
	char bytes[sizeof(msg) + 3];

	memcpy(bytes, &msg, sizeof(msg));
	memcpy(bytes + sizeof(msg), "abc", 3);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		assert_int_equal(f->num, 0);
		assert_int_equal(write(f->guest, bytes + i, 1), 1);
		assert_int_equal(serve(f), 0);
	}
	assert_int_equal(f->num, 1);
	assert_string_equal(f->text, "abc");
}

static void test_longest(void **state)
{
	static char text[INIT_PAYLOAD_MAX];
	struct fix *f = *state;

	memset(text, 'x', sizeof(text));
	say(f, INIT_MSG_EXIT, text, 1000);
	assert_int_equal(serve(f), 0);
	say(f, INIT_MSG_EXIT, text, INIT_PAYLOAD_MAX);
	while (f->num == 1)
		assert_int_equal(serve(f), 0);
	assert_int_equal(strlen(f->text), INIT_PAYLOAD_MAX);
}

static void test_too_long_ends_it(void **state)
{
	const struct init_msg msg = { .type = INIT_MSG_EXIT, .len = INIT_PAYLOAD_MAX + 1 };
	struct fix *f = *state;

	assert_int_equal(write(f->guest, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(serve(f), -EPROTO);
	assert_int_equal(f->c.fd, -1);
	assert_int_equal(serve(f), -EPIPE);
	assert_int_equal(init_conn_send(&f->c, &msg, NULL), -EPIPE);
}

static void test_end(void **state)
{
	struct fix *f = *state;

	say(f, INIT_MSG_HELLO, "", 0);
	close(f->guest);
	f->guest = -1;
	assert_int_equal(serve(f), 0); /* what came before the end counts */
	assert_int_equal(f->num, 1);
	assert_int_equal(serve(f), -EPIPE);
	assert_int_equal(f->c.fd, -1);
}

/* A guest that does not read: what fits waits, the rest is refused, and all that was taken arrives. */
static void test_guest_that_does_not_read(void **state)
{
	static char text[INIT_PAYLOAD_MAX], got[65536];
	const struct init_msg msg = { .type = INIT_MSG_RUN, .len = sizeof(text) };
	struct fix *f = *state;
	size_t taken = 0, came = 0;
	ssize_t n;

	while (init_conn_send(&f->c, &msg, text) == 0) {
		taken += sizeof(msg) + msg.len;
		assert_true(taken < 16U << 20);
	}
	assert_int_equal(init_conn_send(&f->c, &msg, text), -ENOBUFS);
	assert_int_equal(init_conn_events(&f->c), POLLIN | POLLOUT);
	while (came < taken) {
		n = read(f->guest, got, sizeof(got));
		if (n > 0)
			came += (size_t)n;
		assert_int_equal(serve(f), 0);
	}
	assert_int_equal(came, taken);
	assert_int_equal(init_conn_events(&f->c), POLLIN);
	assert_int_equal(init_conn_send(&f->c, &msg, text), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_messages),	  T(test_byte_by_byte), T(test_longest),
		T(test_too_long_ends_it), T(test_end),		T(test_guest_that_does_not_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
