/* The talk with init in the guest, for clients that come, go, and do not read; and a guest that makes things up. */
#include "tests/unit/guest_client_fixture.h"

static void test_command(void **state)
{
	struct init_msg msg;
	int fd, stream;
	unsigned number;

	(void)state;
	hello();
	fd = client();
	number = run(fd);
	assert_int_equal(answered(fd), INIT_MSG_RUN);
	stream = take_lent(INIT_STREAM_PORT(number, 1));
	assert_true(stream >= 0);
	guest_says((struct init_msg){ .type = INIT_MSG_STARTED, .number = number }, "");
	assert_int_equal(answered(fd), INIT_MSG_STARTED);
	ask(fd, INIT_MSG_SIGNAL);
	turn();
	assert_true(guest_hears(&msg));
	assert_int_equal(msg.type, INIT_MSG_SIGNAL);
	assert_int_equal(msg.number, number);
	guest_says((struct init_msg){ .type = INIT_MSG_EXIT, .number = number, .value = 3 }, "");
	assert_int_equal(answered(fd), INIT_MSG_EXIT);
	assert_int_equal(take_lent(INIT_STREAM_PORT(number, 0)), -1); /* taken back */
	close(fd);
	close(stream);
	turn();
	assert_false(guest_hears(&msg)); /* it is over: nobody to be hung up */
}

/* A member of a pool: a command is tried before there is a client, whose own is then number 0. */
static void test_claim(void **state)
{
	static char word[] = "own", *args[] = { word }, file[] = "state";
	struct unix_socket none = UNIXNAME_INIT;
	unsigned descriptors, number;
	struct init_restored first;
	struct init_msg msg;
	struct err e;
	int fd;

	(void)state;
	vsock_revoke(NULL, INIT_STREAM_PORT(0, 0), 3);
	guest_client_free(a);
	close(guest);
	config.control = NULL;
	config.pool_runs = true;
	config.restore_state = file;
	assert_int_equal(guest_client_new(&a, NULL, &config, -1, &ops, NULL, &e), 0);
	all[num_all++] = a;
	guest = take_lent(INIT_CONTROL_PORT);
	descriptors = open_fds();
	guest_says((struct init_msg){ .type = INIT_MSG_HELLO, .value = INIT_VERSION, .flags = INIT_AGAIN }, "");
	assert_true(guest_hears(&msg));
	assert_int_equal(msg.type, INIT_MSG_RESTORED);
	memcpy(&first, payload, sizeof(first));
	assert_true(guest_hears(&msg));
	assert_int_equal(msg.type, INIT_MSG_RUN);
	number = msg.number;
	assert_true(number > 0);
	assert_int_equal(take_lent(INIT_STREAM_PORT(0, 0)), -1); /* those of the client's come with it */
	/* What the guest makes up is no start, nor is it tried twice. */
	guest_says((struct init_msg){ .type = INIT_MSG_STARTED }, "");
	guest_says((struct init_msg){ .type = INIT_MSG_WARM }, "");
	assert_int_equal(told.started, 0);
	assert_int_equal(told.warm, 0);
	guest_says((struct init_msg){ .type = INIT_MSG_EXIT, .number = number, .value = 127 }, "none");
	assert_int_equal(told.warm, 1);
	guest_says((struct init_msg){ .type = INIT_MSG_HELLO, .value = INIT_VERSION, .flags = INIT_AGAIN }, "");
	assert_false(guest_hears(&msg));
	assert_int_equal(open_fds(), descriptors);
	config.command.args.text = args;
	assert_int_equal(guest_client_claim(a, &config, &none, &e), 0);
	assert_true(guest_hears(&msg));
	assert_int_equal(msg.type, INIT_MSG_RESTORED);
	assert_memory_not_equal(payload + offsetof(struct init_restored, random), first.random, sizeof(first.random));
	assert_true(guest_hears(&msg));
	assert_int_equal(msg.type, INIT_MSG_RUN);
	assert_int_equal(msg.number, 0);
	assert_memory_equal(payload, "aown", sizeof("aown"));
	fd = open_output(1);
	guest_says((struct init_msg){ .type = INIT_MSG_STARTED }, "");
	assert_int_equal(told.started, 1);
	close_output(open_output(2));
	guest_says((struct init_msg){ .type = INIT_MSG_EXIT, .value = 3 }, "");
	assert_int_equal(told.exited, 0); /* an output is not over */
	close_output(fd);
	assert_int_equal(told.exited, 1);
	assert_int_equal(told.status, 3);
	fds_before += RELAY_FDS + 1; /* threads of two relays have theirs, and the second one an eventfd more */
}

static void test_client_goes(void **state)
{
	unsigned number;
	int fd;

	(void)state;
	hello();
	fd = client();
	number = run(fd);
	guest_says((struct init_msg){ .type = INIT_MSG_STARTED, .number = number }, "");
	close(fd);
	turn();
	assert_hung_up(number);
}

/* It has asked, and is gone before it is served. */
static void test_client_goes_before_the_answer(void **state)
{
	struct init_msg msg;
	int fd;

	(void)state;
	hello();
	fd = client();
	turn();
	ask(fd, INIT_MSG_RUN);
	close(fd);
	turn();
	assert_true(guest_hears(&msg));
	assert_int_equal(msg.type, INIT_MSG_RUN);
	assert_hung_up(msg.number);
}

/* It is gone when the guest's answer is handed on. */
static void test_client_goes_before_it_is_told(void **state)
{
	int fd, again[INIT_COMMANDS_MAX - 1];
	unsigned number;

	(void)state;
	hello();
	fd = client();
	number = run(fd);
	close(fd);
	guest_says((struct init_msg){ .type = INIT_MSG_STARTED, .number = number }, "");
	assert_hung_up(number);
	guest_says((struct init_msg){ .type = INIT_MSG_EXIT, .number = number, .value = 129 }, "");
	/* Its slot is free again: as many clients as ever. */
	for (unsigned i = 0; i < MF_ARRAY_SIZE(again); i++) {
		again[i] = client();
		(void)run(again[i]);
		assert_int_equal(answered(again[i]), INIT_MSG_RUN);
	}
	for (unsigned i = 0; i < MF_ARRAY_SIZE(again); i++)
		close(again[i]);
}

/* A guest that says so much to a client that does not read that no more fits. */
static void test_client_does_not_read(void **state)
{
	struct init_msg msg;
	unsigned number;
	int fd;

	(void)state;
	hello();
	fd = client();
	number = run(fd);
	for (unsigned i = 0; i < 100000; i++) {
		guest_says((struct init_msg){ .type = INIT_MSG_STARTED, .number = number }, "");
		if (recv(guest, &msg, sizeof(msg), MSG_DONTWAIT | MSG_PEEK) > 0)
			break;
	}
	assert_hung_up(number);
	close(fd);
}

/* The guest does not listen when its client goes: it gets the message when it does. */
static void test_full_channel(void **state)
{
	struct init_msg msg;
	unsigned first, number, seen = 0;
	int fd, other;

	(void)state;
	hello();
	fd = client();
	other = client();
	number = run(fd);
	first = run(other);
	for (unsigned i = 0; i < 200000; i++) {
		const struct init_msg size = { .type = INIT_MSG_SIZE };

		assert_int_equal(send(other, &size, sizeof(size), MSG_NOSIGNAL), sizeof(size));
		if (i % 64 == 0)
			turn();
	}
	turn();
	close(fd);
	turn();
	while (guest_hears(&msg)) {
		if (msg.type == INIT_MSG_SIGNAL) {
			assert_int_equal(msg.number, number);
			assert_int_equal(msg.value, SIGHUP);
			seen++;
		} else {
			assert_int_equal(msg.number, first);
		}
		turn();
	}
	assert_int_equal(seen, 1);
	close(other);
}

/* The end is reported once, when all output is written; until then no signal is the command's any more. */
static void test_end_waits_for_output(void **state)
{
	int out = open_output(1), err = open_output(2);

	(void)state;
	hello();
	assert_false(guest_client_signal(a, SIGINT));
	guest_says((struct init_msg){ .type = INIT_MSG_STARTED }, "");
	guest_says((struct init_msg){ .type = INIT_MSG_STARTED }, "");
	assert_int_equal(told.started, 1);
	assert_true(guest_client_signal(a, SIGINT));
	guest_says((struct init_msg){ .type = INIT_MSG_EXIT, .value = 3, .flags = INIT_OOM }, "first");
	assert_false(guest_client_signal(a, SIGINT));
	close_output(out);
	assert_int_equal(told.exited, 0);
	guest_says((struct init_msg){ .type = INIT_MSG_EXIT, .value = 4, .flags = INIT_LOST }, "second");
	guest_says((struct init_msg){ .type = INIT_MSG_FAILED }, "it has not run");
	assert_int_equal(told.failed, 0);
	assert_int_equal(told.exited, 0);
	close_output(err);
	guest_says((struct init_msg){ .type = INIT_MSG_EXIT, .value = 5 }, "third");
	assert_int_equal(told.exited, 1);
	assert_int_equal(told.status, 3);
	assert_int_equal(told.flags, INIT_OOM);
	assert_string_equal(told.text, "first");
}

/* The guest chooses status and text: eight bits, and nothing that a terminal obeys. */
static void test_end_is_cut(void **state)
{
	int out = open_output(1), err = open_output(2);

	(void)state;
	hello();
	guest_says((struct init_msg){ .type = INIT_MSG_EXIT, .value = 0xffffff07 }, "\033[2J\a\r\n\x9b");
	close_output(out);
	close_output(err);
	assert_int_equal(told.exited, 1);
	assert_int_equal(told.status, 7);
	for (const char *c = told.text; *c; c++)
		assert_in_range((unsigned char)*c, ' ', '~');
}

/* The guest of a snapshot has closed an output before that: nothing connects it any more, and the end does not wait for it. */
static void test_end_without_outputs(void **state)
{
	struct pollfd fds[GUEST_CLIENT_FDS_MAX];
	int err = open_output(2);

	(void)state;
	hello();
	guest_says((struct init_msg){ .type = INIT_MSG_STARTED }, "");
	close_output(err);
	assert_int_equal(told.exited, 0);
	guest_says((struct init_msg){ .type = INIT_MSG_EXIT, .value = 7 }, "");
	for (unsigned i = 0; i < 10 && !told.exited; i++) {
		assert_true(poll(fds, guest_client_poll_fds(a, fds), 5000) > 0);
		turn();
	}
	assert_int_equal(told.exited, 1);
	assert_int_equal(told.status, 7);
}

/* A command that no client asked for: whatever is said of it, the next client gets its number, and nothing but answers. */
static void test_command_of_nobody(void **state)
{
	struct init_msg msg;
	unsigned number;
	int fd;

	(void)state;
	hello();
	fd = client();
	turn();
	for (uint32_t n = 1; n <= INIT_COMMANDS_MAX + 1; n++)
		guest_says((struct init_msg){ .type = INIT_MSG_EXIT, .number = n, .value = 1 }, "");
	assert_int_equal(answered(fd), -1);
	number = run(fd);
	assert_int_equal(answered(fd), INIT_MSG_RUN);
	guest_says((struct init_msg){ .type = INIT_MSG_EXIT, .number = number }, "");
	assert_int_equal(answered(fd), INIT_MSG_EXIT);
	guest_says((struct init_msg){ .type = INIT_MSG_EXIT, .number = number }, "");
	assert_int_equal(answered(fd), -1);
	assert_false(guest_hears(&msg));
	close(fd);
}

/* A number is free when the guest has said that its command is over, not when the client has gone. */
static void test_number_of_a_client_that_went(void **state)
{
	unsigned first, second;
	int fd, other, stream;

	(void)state;
	hello();
	fd = client();
	first = run(fd);
	close(fd);
	turn();
	assert_hung_up(first);
	other = client();
	second = run(other);
	assert_int_not_equal(first, second);
	stream = take_lent(INIT_STREAM_PORT(first, 1));
	assert_true(stream >= 0);
	close(stream);
	guest_says((struct init_msg){ .type = INIT_MSG_EXIT, .number = first }, "");
	assert_int_equal(take_lent(INIT_STREAM_PORT(first, 2)), -1);
	fd = client();
	assert_int_equal(run(fd), first);
	close(fd);
	close(other);
}

/* A guest that makes up what it says. */
static void test_nonsense_of_the_guest(void **state)
{
	static const uint32_t numbers[] = { 1, 63, 64, 0x4000, 0x80000000, UINT32_MAX };
	struct init_msg msg;
	int fd;

	(void)state;
	hello();
	for (size_t i = 0; i < MF_ARRAY_SIZE(numbers); i++)
		for (uint32_t type = 0; type < 24; type++)
			guest_says((struct init_msg){ .type = type, .number = numbers[i], .value = UINT32_MAX },
				   "\033[2J");
	assert_false(guest_hears(&msg));
	fd = client();
	assert_true(run(fd) > 0);
	close(fd);
	turn();
	(void)guest_hears(&msg);
	assert_int_equal(told.exited, 0);
	told.failed = 0;
	guest_says((struct init_msg){ .type = INIT_MSG_FAILED }, "no \033[31mroot");
	assert_int_equal(told.failed, 1);
	assert_null(strchr(told.text, '\033'));
	/* A message without form ends the connection, and nothing else. */
	guest_says((struct init_msg){ .type = INIT_MSG_EXIT, .value = 9 }, "");
	msg = (struct init_msg){ .type = INIT_MSG_MARK, .len = INIT_PAYLOAD_MAX + 1 };
	assert_int_equal(write(guest, &msg, sizeof(msg)), sizeof(msg));
	turn();
	assert_int_equal(recv(guest, &msg, sizeof(msg), MSG_DONTWAIT), 0);
	fd = client();
	turn();
	ask(fd, INIT_MSG_RUN);
	turn();
	assert_int_equal(answered(fd), INIT_MSG_FAILED);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_command),
		T(test_claim),
		T(test_client_goes),
		T(test_client_goes_before_the_answer),
		T(test_client_goes_before_it_is_told),
		T(test_client_does_not_read),
		T(test_full_channel),
		T(test_end_waits_for_output),
		T(test_end_is_cut),
		T(test_end_without_outputs),
		T(test_command_of_nobody),
		T(test_number_of_a_client_that_went),
		T(test_nonsense_of_the_guest),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
