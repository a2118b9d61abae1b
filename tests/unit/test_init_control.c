/* init's messages: a host that does not read them, and one that sends what is none. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/init/control.h"
#include "loader/init/fd.h"
#include "loader/init/link.h"

#define MESSAGES 4000U

static int host;

int link_connect(uint32_t port)
{
	int pair[2];

	assert_int_equal(port, INIT_CONTROL_PORT);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	host = pair[1];
	assert_int_equal(fcntl(host, F_SETFL, O_NONBLOCK), 0);
	return pair[0];
}

static int setup(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN); /* as init has it */
	return control_open();
}

static int teardown(void **state)
{
	(void)state;
	control_close();
	fd_close(&host);
	return 0;
}

/* All that the host gets, whole messages in their order; returns how many. The last number that was sent is not known. */
static unsigned read_all(void)
{
	static char text[INIT_PAYLOAD_MAX + 1];
	struct init_msg msg;
	unsigned num = 0;
	ssize_t n;

	for (;;) {
		n = recv(host, &msg, sizeof(msg), MSG_DONTWAIT);
		if (n < 0)
			control_flush();
		if (n < 0 && (n = recv(host, &msg, sizeof(msg), MSG_DONTWAIT)) < 0)
			return num;
		assert_int_equal(n, sizeof(msg));
		assert_int_equal(msg.type, INIT_MSG_EXIT);
		assert_int_equal(msg.number, num++);
		assert_int_equal(msg.len, 100);
		n = recv(host, text, msg.len, MSG_DONTWAIT);
		if (n < (ssize_t)msg.len) { /* the rest is in the queue */
			control_flush();
			n = (n < 0 ? 0 : n) + recv(host, text, msg.len - (size_t)(n < 0 ? 0 : n), MSG_DONTWAIT);
		}
		assert_int_equal(n, msg.len);
	}
}

static void test_host_that_does_not_read(void **state)
{
	char why[101];
	unsigned answers = 0, sent = 0;

	(void)state;
	memset(why, 'x', 100);
	why[100] = '\0';
	assert_int_equal(control_events(), POLLIN);
	/* Of what the host asks for while reading is not stopped, each answer arrives. */
	for (; sent < MESSAGES && control_events() & POLLIN; sent++)
		control_send(INIT_MSG_EXIT, sent, 126, 0, why);
	assert_true(sent < MESSAGES);
	assert_int_equal(control_events(), POLLOUT);
	/* There is room for the ends of all commands that run then, and what has none is dropped whole. */
	for (answers = sent; answers < sent + MESSAGES; answers++)
		control_send(INIT_MSG_EXIT, answers, 126, 0, why);
	answers = read_all();
	assert_in_range(answers, sent + INIT_COMMANDS_MAX, sent + MESSAGES / 2);
	assert_int_equal(control_events(), POLLIN);
}

static void test_message_that_is_too_long(void **state)
{
	struct init_msg msg = { .type = INIT_MSG_RUN, .len = INIT_COMMAND_MAX };
	const char *payload;

	(void)state;
	assert_int_equal(write(host, &msg, sizeof(msg)), sizeof(msg));
	control_read();
	assert_null(control_next(&payload));
	assert_true(control_is_open());
	teardown(state);
	setup(state);
	msg.len++;
	assert_int_equal(write(host, &msg, sizeof(msg)), sizeof(msg));
	control_read();
	assert_null(control_next(&payload));
	assert_false(control_is_open());
}

static void test_host_that_goes(void **state)
{
	struct init_msg msg = { .type = INIT_MSG_STOP, .value = 5, .len = 2 };
	const struct init_msg *got;
	const char *payload;

	(void)state;
	assert_int_equal(write(host, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(write(host, "ab", 2), 2);
	fd_close(&host);
	control_read();
	got = control_next(&payload);
	assert_non_null(got);
	assert_int_equal(got->value, 5);
	assert_memory_equal(payload, "ab", 2);
	control_read();
	assert_null(control_next(&payload));
	assert_false(control_is_open());
}

/* It is a restore of the machine that resets a connection; a host that has gone does not. */
static void test_reset(void **state)
{
	const char *payload;

	control_send(INIT_MSG_HELLO, 0, 0, 0, NULL);
	fd_close(&host); /* which has not read it: ECONNRESET */
	assert_null(control_await(1000, &payload));
	assert_false(control_is_open());
	assert_true(control_was_reset());
	setup(state);
	assert_false(control_was_reset());
	fd_close(&host);
	control_send(INIT_MSG_HELLO, 0, 0, 0, NULL); /* EPIPE */
	assert_false(control_is_open());
	assert_false(control_was_reset());
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_host_that_does_not_read),
		T(test_message_that_is_too_long),
		T(test_host_that_goes),
		T(test_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
