/* Programs of the host: what they inherit, and how their end is reported. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/helper/spawn.h"

/* Runs a shell script, and returns what spawn_wait does. */
static int run(const char *script, int stdin_fd, struct err *e)
{
	const char *const argv[] = { "sh", "-c", script, NULL };
	const int fd[SPAWN_FDS] = { stdin_fd, -1, STDERR_FILENO, -1 };
	pid_t pid = spawn_start(argv, fd, SIGKILL, "dash", e);

	assert_true(pid > 0);
	return spawn_wait(pid, "sh", e);
}

/* Descriptors of ours without CLOEXEC: what our own caller has handed down to us. */
static void test_inherits_nothing(void **state)
{
	static const int handed_down[] = { 3, 4, 57, 900 };
	static const char script[] =
		"for fd in /proc/$$/fd/*; do [ \"${fd##*/}\" -le 3 ] || [ ! -e $fd ] || exit 1; done";
	int null = open("/dev/null", O_RDWR);
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(handed_down) / sizeof(int); i++)
		if (fcntl(handed_down[i], F_GETFD) < 0)
			assert_int_equal(dup2(null, handed_down[i]), handed_down[i]);
	assert_int_equal(run(script, -1, &e), 0);
	assert_int_equal(run(script, null, &e), 0);
	close(null);
}

static void test_stdin_is_the_file(void **state)
{
	int pair[2];
	struct err e;

	(void)state;
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	assert_int_equal(write(pair[1], "one\n", 4), 4);
	close(pair[1]);
	assert_int_equal(run("read -r line && [ \"$line\" = one ]", pair[0], &e), 0);
	assert_int_equal(run("! read -r line", -1, &e), 0);
	close(pair[0]);
}

static void test_how_it_failed(void **state)
{
	static const char *const missing[] = { "mayfly-test-is-not-there", NULL };
	struct err e;

	(void)state;
	assert_int_equal(run("exit 3", -1, &e), -ECHILD);
	assert_non_null(strstr(e.text, "3"));
	assert_int_equal(run("kill -KILL $$", -1, &e), -ECHILD);
	assert_int_equal(spawn_start(missing, (const int[SPAWN_FDS]){ -1, -1, -1, -1 }, SIGKILL, "a-package", &e),
			 -ENOENT);
	assert_non_null(strstr(e.text, "a-package"));
}

/* Whatever ends us, SIGKILL too, it does not go on by itself. */
static void test_ends_with_us(void **state)
{
	static const char *const argv[] = { "sleep", "60", NULL };
	int pair[2];
	pid_t child;
	struct err e;
	char byte;

	(void)state;
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		(void)spawn_start(argv, (const int[SPAWN_FDS]){ -1, -1, -1, pair[1] }, SIGKILL, "coreutils", &e);
		(void)kill(getpid(), SIGKILL);
		_exit(1);
	}
	close(pair[1]);
	assert_int_equal(waitpid(child, NULL, 0), child);
	/* The program has the other end, too. */
	assert_int_equal(poll(&(struct pollfd){ .fd = pair[0], .events = POLLIN }, 1, 5000), 1);
	assert_int_equal(read(pair[0], &byte, 1), 0);
	close(pair[0]);
}

static void test_last_line(void **state)
{
	static const char *const skip[] = { "usage", "Options", NULL };
	char said[] = "first\nwhat is \x1b[1mwrong\n\nusage: it\nOptions are\n", only[] = "usage\n";

	(void)state;
	assert_string_equal(spawn_last_line(said, skip), "what is .[1mwrong");
	assert_string_equal(spawn_last_line(only, skip), "it said nothing");
}

static void test_read_end(void **state)
{
	char said[16];
	int ends[2];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	assert_false(spawn_read_end(ends[0], said, sizeof(said)));
	assert_string_equal(said, "");
	assert_int_equal(write(ends[1], "few words", 9), 9);
	assert_false(spawn_read_end(ends[0], said, sizeof(said)));
	assert_string_equal(said, "few words");
	for (int i = 0; i < 3; i++)
		assert_int_equal(write(ends[1], "0123456789", 10), 10);
	close(ends[1]);
	assert_true(spawn_read_end(ends[0], said, sizeof(said)));
	assert_true(strlen(said) >= sizeof(said) / 2);
	assert_memory_equal(said + strlen(said) - 8, "23456789", 8);
	close(ends[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inherits_nothing), cmocka_unit_test(test_stdin_is_the_file),
		cmocka_unit_test(test_how_it_failed),	 cmocka_unit_test(test_ends_with_us),
		cmocka_unit_test(test_last_line),	 cmocka_unit_test(test_read_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
