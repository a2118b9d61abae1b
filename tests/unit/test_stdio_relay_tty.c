/* A command's input from a terminal: in the background nothing is read, nothing stops, and the foreground gets it all. */
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/guest/stdio_relay.h"

#define WAIT_MS 5000
#define IDLE_MS 300

#define EXPECT(cond)                                                                                                   \
	do {                                                                                                           \
		if (!(cond))                                                                                           \
			return __LINE__;                                                                               \
	} while (0)

static struct stdio_relay relay;
static int master, slave;

static bool is_readable(int fd, int timeout_ms)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };

	return poll(&wait, 1, timeout_ms) == 1;
}

/* In a process group that is not the terminal's foreground: what is wrong, or 0. */
static int behind(bool tty)
{
	int fd[STDIO_RELAY_STREAMS], guest[STDIO_RELAY_STREAMS];
	char typed[16] = "";
	struct err e;

	EXPECT(setpgid(0, 0) == 0 && tcgetpgrp(slave) != getpgrp());
	EXPECT(dup2(slave, STDIN_FILENO) == STDIN_FILENO);
	EXPECT(stdio_relay_make_pairs(fd, guest, tty, &e) == 0 && stdio_relay_start(&relay, tty, fd, &e) == 0);
	EXPECT(write(master, "a\n", 2) == 2);
	EXPECT(!is_readable(guest[0], IDLE_MS));
	EXPECT(!atomic_load(&relay.foreground));
	signal(SIGTTOU, SIG_IGN); /* as a shell has it, which is who does this */
	EXPECT(tcsetpgrp(slave, getpgrp()) == 0);
	signal(SIGTTOU, SIG_DFL);
	EXPECT(is_readable(guest[0], WAIT_MS) && read(guest[0], typed, sizeof(typed)) == 2);
	EXPECT(strcmp(typed, "a\n") == 0);
	EXPECT(is_readable(relay.changed_fd, WAIT_MS) && atomic_load(&relay.foreground));
	EXPECT(write(master, "b\n", 2) == 2);
	EXPECT(is_readable(guest[0], WAIT_MS) && read(guest[0], typed, sizeof(typed)) == 2 && typed[0] == 'b');
	/* The end of a terminal. */
	EXPECT(write(master, "\x04", 1) == 1);
	EXPECT(is_readable(guest[0], WAIT_MS) && read(guest[0], typed, sizeof(typed)) == 0);
	return 0;
}

/* In a session of its own, which has the terminal. */
static int session(bool tty)
{
	int status;
	pid_t pid;

	EXPECT(setsid() > 0 && ioctl(slave, TIOCSCTTY, 0) == 0);
	signal(SIGHUP, SIG_IGN);
	pid = fork();
	if (pid == 0)
		_exit(behind(tty));
	EXPECT(waitpid(pid, &status, WUNTRACED) == pid);
	EXPECT(WIFEXITED(status)); /* not stopped */
	return WEXITSTATUS(status);
}

static void in_background(bool tty)
{
	int status;
	pid_t pid;

	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	pid = fork();
	if (pid == 0)
		_exit(session(tty));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(master);
	close(slave);
	if (status)
		fail_msg("status %d: signal %d or line %d", status, WTERMSIG(status), WEXITSTATUS(status));
}

static void test_background(void **state)
{
	(void)state;
	in_background(true);
}

static void test_background_without_a_terminal_for_the_command(void **state)
{
	(void)state;
	in_background(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_background),
		cmocka_unit_test(test_background_without_a_terminal_for_the_command),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
