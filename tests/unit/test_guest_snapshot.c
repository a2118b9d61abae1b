/* The snapshot of `mayfly run --snapshot`: when init is asked to hold all processes, and when it begins. */
#include <sys/mman.h>

#include "tests/unit/guest_client_fixture.h"
#include "vmm/guest/until.h"

static int writer; /* its end of the connection */

static int begin(void **state, char *when)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	writer = pair[1];
	snapshot_fd = pair[0];
	until = when;
	setup(state);
	fds_before--; /* the client's own is closed with it */
	return 0;
}

static int begin_ready(void **state)
{
	return begin(state, NULL);
}

static int begin_text(void **state)
{
	static char when[] = "is up";

	return begin(state, when);
}

static int begin_time(void **state)
{
	static char when[] = "20ms";

	return begin(state, when);
}

static int end(void **state)
{
	int r = teardown(state);

	close(writer);
	return r;
}

/* The writer's request. */
static void request(void)
{
	const struct init_msg msg = { .type = CONTROL_MSG_SNAPSHOT, .value = CONTROL_LATER };
	int file = memfd_create("state", MFD_CLOEXEC);
	char room[CMSG_SPACE(sizeof(file))] = { 0 };
	struct iovec iov = { (void *)(uintptr_t)&msg, sizeof(msg) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(file));
	memcpy(CMSG_DATA(c), &file, sizeof(file));
	assert_true(sendmsg(writer, &m, 0) > 0);
	close(file);
	turn();
}

static bool was_asked_to_hold(void)
{
	struct init_msg msg;

	return recv(guest, &msg, sizeof(msg), MSG_DONTWAIT) == sizeof(msg) && msg.type == INIT_MSG_HOLD;
}

static void test_order(void **state)
{
	const struct init_msg stop = { .type = CONTROL_MSG_STOP };

	(void)state;
	guest_says((struct init_msg){ .type = INIT_MSG_HELLO }, "");
	guest_says((struct init_msg){ .type = INIT_MSG_HELD }, ""); /* which nobody has asked for */
	request();
	assert_false(was_asked_to_hold());
	assert_int_equal(told.snapshots, 0);
	guest_says((struct init_msg){ .type = INIT_MSG_WARM }, "");
	assert_int_equal(told.started, 1); /* the limit of the boot ends with it */
	assert_true(was_asked_to_hold());
	assert_int_equal(told.snapshots, 0);
	guest_says((struct init_msg){ .type = INIT_MSG_HELD }, "");
	assert_int_equal(told.snapshots, 1);
	guest_says((struct init_msg){ .type = INIT_MSG_HELD }, "");
	guest_says((struct init_msg){ .type = INIT_MSG_WARM }, "");
	assert_int_equal(told.snapshots, 1);
	assert_false(was_asked_to_hold());
	guest_client_snapshot_done(a, 1, NULL);
	assert_int_equal(told.over, 0);
	assert_int_equal(send(writer, &stop, sizeof(stop), 0), sizeof(stop));
	turn();
	assert_int_equal(told.over, 1);
	assert_int_equal(told.snapper_left, 0);
}

static void test_late_writer(void **state)
{
	(void)state;
	guest_says((struct init_msg){ .type = INIT_MSG_WARM }, "");
	assert_false(was_asked_to_hold());
	request();
	assert_true(was_asked_to_hold());
}

static void test_writer_goes(void **state)
{
	(void)state;
	request();
	shutdown(writer, SHUT_RDWR);
	turn();
	assert_int_equal(told.snapper_left, 1);
	guest_says((struct init_msg){ .type = INIT_MSG_WARM }, "");
	assert_false(was_asked_to_hold());
}

static void test_text(void **state)
{
	static const char in[] = "it is is u";

	(void)state;
	request();
	guest_says((struct init_msg){ .type = INIT_MSG_WARM }, ""); /* the text counts alone */
	assert_false(guest_client_scan(a, in, sizeof(in) - 1));
	turn();
	assert_false(was_asked_to_hold());
	assert_true(guest_client_scan(a, "p", 1));
	assert_false(guest_client_scan(a, "is up", 5)); /* once */
	guest_says((struct init_msg){ .type = INIT_MSG_MARK }, "");
	assert_true(was_asked_to_hold());
}

static void test_time(void **state)
{
	struct pollfd fds[GUEST_CLIENT_FDS_MAX];
	int wait_ms;

	(void)state;
	assert_int_equal(guest_client_timeout(a, -1), -1);
	request();
	wait_ms = guest_client_timeout(a, -1);
	assert_in_range(wait_ms, 0, 20);
	usleep(1000 * (unsigned)wait_ms);
	(void)guest_client_poll_fds(a, fds);
	for (unsigned i = 0; i < 3; i++)
		fds[i].revents = 0;
	guest_client_serve(a, fds, 0);
	assert_true(was_asked_to_hold());
	assert_int_equal(guest_client_timeout(a, 1000), 1000); /* nothing turns */
}

/* An init that cannot be asked yet keeps the snapshot from its beginning, and nobody waits for a time that is over. */
static void test_time_is_over(void **state)
{
	struct until u = { .when = CONFIG_UNTIL_TIME, .text = "", .due_ms = 100 };

	(void)state;
	assert_false(until_is_due(&u, 40));
	assert_int_equal(until_timeout(&u, 40, -1), 60);
	assert_int_equal(until_timeout(&u, 40, 50), 50);
	assert_int_equal(until_timeout(&u, 100, -1), 0);
	for (int i = 0; i < 2; i++) {
		assert_true(until_is_due(&u, 100));
		assert_int_equal(until_timeout(&u, 100, -1), -1);
	}
}

#define T_(test, begin) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T_(test_order, begin_ready), T_(test_late_writer, begin_ready), T_(test_writer_goes, begin_ready),
		T_(test_text, begin_text),   T_(test_time, begin_time),		cmocka_unit_test(test_time_is_over),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
