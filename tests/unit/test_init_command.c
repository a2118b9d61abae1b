/*
 * init's commands: the order of their end, their numbers, and what is left of them. Their process is a copy of the test
 * that does what the list says: exits with a status, after it has written.
 */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/init/command.h"
#include "loader/init/control.h"
#include "loader/init/link.h"
#include "loader/init/process.h"
#include "loader/init/proto.h"
#include "tests/unit/open_fds.h"

#define STREAMS 3

static int stream[STREAMS]; /* the host's ends, of the command that was started last */
static unsigned connected, oom_kills;
static unsigned fds_before;

static struct {
	unsigned started, exited;
	uint32_t number, status, flags;
	bool streams_ended; /* before it was said that the command is over */
} told;

/* In place of the kernel's: counts that the test chooses. */
int open(const char *path, int flags, ...)
{
	char text[100];
	int fd, len;

	if (strcmp(path, "/proc/vmstat") != 0)
		return (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0600);
	len = snprintf(text, sizeof(text), "nr_free_pages 1000\noom_kill %u\noom_killed 7\n", oom_kills);
	fd = memfd_create("vmstat", MFD_CLOEXEC);
	if (fd < 0 || write(fd, text, (size_t)len) != len || lseek(fd, 0, SEEK_SET) < 0)
		abort();
	return fd;
}

int link_connect(uint32_t port)
{
	int pair[2];

	assert_int_equal(port % 4, connected % STREAMS);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	stream[connected++ % STREAMS] = pair[1];
	return pair[0];
}

static bool is_at_its_end(int fd)
{
	char bytes[4096];
	ssize_t n;

	while ((n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
		;
	return n == 0;
}

void control_send(enum init_msg_type type, uint32_t number, uint32_t value, uint32_t flags, const char *payload)
{
	(void)payload;
	if (type == INIT_MSG_STARTED) {
		told.started++;
		return;
	}
	assert_int_equal(type, INIT_MSG_EXIT);
	told.exited++;
	told.number = number;
	told.status = value;
	told.flags = flags;
	told.streams_ended = is_at_its_end(stream[0]) && is_at_its_end(stream[1]) && is_at_its_end(stream[2]);
}

/* aSTATUS, or aw: until it is killed. */
void process_run(const struct process *process)
{
	const char *word = text_find(process->list, process->len, 'a');

	if (write(process->fds[1], "out", 3) != 3)
		_exit(99);
	close(process->report);
	if (*word == 'w')
		for (;;)
			pause();
	_exit(atoi(word));
}

static void start(uint32_t number, const char *list)
{
	command_start(number, list, strlen(list) + 1);
}

static void close_streams(void)
{
	for (unsigned i = 0; i < STREAMS; i++)
		close(stream[i]);
}

/* init's loop, until the number of commands is so. */
static void turn_until(unsigned num)
{
	struct pollfd polls[COMMAND_POLLS_MAX];
	int status;
	pid_t pid;

	for (int i = 0; i < 5000 && command_count() != num; i++) {
		size_t count = command_polls(polls);

		(void)poll(polls, count, 1);
		command_turn(polls);
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			command_reaped(pid, status);
	}
	assert_int_equal(command_count(), num);
}

static int setup(void **state)
{
	(void)state;
	memset(&told, 0, sizeof(told));
	connected = 0;
	fds_before = open_fds();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(command_count(), 0);
	assert_int_equal(open_fds(), fds_before);
	return 0;
}

/* The host knows that all output is there when it hears of the end. */
static void test_order_of_the_end(void **state)
{
	(void)state;
	start(3, "a7");
	turn_until(0);
	assert_int_equal(told.started, 1);
	assert_int_equal(told.exited, 1);
	assert_int_equal(told.number, 3);
	assert_int_equal(told.status, 7);
	assert_true(told.streams_ended);
	close_streams();
}

/*
 * After a reset, which closes them while nobody looks at the control connection: they are connected again before the turn
 * that would close them, and what the command has said arrives there.
 */
static void test_streams_that_are_reset(void **state)
{
	struct pollfd polls[COMMAND_POLLS_MAX];
	char said[4] = "";
	int input;

	(void)state;
	start(3, "aw");
	input = stream[0]; /* the end of a Unix socket looks the same as a reset */
	for (unsigned i = 1; i < STREAMS; i++) {
		(void)shutdown(stream[i], SHUT_RDWR); /* the command has a copy of it */
		close(stream[i]);
	}
	for (int i = 0; i < 5000 && !command_has_failed(); i++) {
		(void)poll(polls, command_polls(polls), 1);
		command_turn(polls);
	}
	assert_true(command_has_failed());
	command_reconnect();
	close(input);
	assert_false(command_has_failed());
	assert_int_equal(connected, 2 * STREAMS);
	for (int i = 0; i < 5000 && poll(&(struct pollfd){ .fd = stream[1], .events = POLLIN }, 1, 1) == 0; i++) {
		(void)poll(polls, command_polls(polls), 1);
		command_turn(polls);
	}
	assert_int_equal(read(stream[1], said, sizeof(said)), 3);
	assert_string_equal(said, "out");
	/* If nobody connects them again, the turn after closes them. */
	(void)shutdown(stream[1], SHUT_RDWR);
	close_streams();
	command_signal(3, SIGKILL, false);
	turn_until(0);
	assert_false(command_has_failed());
}

/* A number that runs is left alone, and one above all that there are is nobody's. */
static void test_number_in_use(void **state)
{
	(void)state;
	start(3, "aw");
	start(3, "a9");
	start(0x4000, "a9");
	start(UINT32_MAX, "a9");
	assert_int_equal(connected, STREAMS);
	assert_int_equal(command_count(), 1);
	command_signal(4, SIGKILL, false);
	command_signal(3, SIGKILL, false);
	turn_until(0);
	assert_int_equal(told.exited, 1);
	assert_int_equal(told.status, 128 + SIGKILL);
	close_streams();
	start(3, "a2");
	turn_until(0);
	assert_int_equal(told.status, 2);
	close_streams();
}

static void test_kills_for_want_of_memory(void **state)
{
	(void)state;
	oom_kills = 5;
	start(1, "a0");
	turn_until(0);
	assert_int_equal(told.flags, 0);
	close_streams();
	start(1, "aw");
	oom_kills = 6;
	command_signal(1, SIGKILL, false);
	turn_until(0);
	assert_int_equal(told.flags, INIT_OOM | INIT_SIGNALLED);
	close_streams();
}

static unsigned long address_space(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu", &pages), 1);
	assert_int_equal(fclose(f), 0);
	return pages * 4096;
}

static void test_leaves_nothing(void **state)
{
	unsigned long before = 0;

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		if (i == 8)
			before = address_space();
		start(i % 5, "a0");
		turn_until(0);
		close_streams();
	}
	assert_true(address_space() < before + 8 * PUMP_BYTES);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_order_of_the_end),	  T(test_streams_that_are_reset), T(test_number_in_use),
		T(test_kills_for_want_of_memory), T(test_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
