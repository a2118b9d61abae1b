/* The log: levels, the form of a line, lines that are too long, and a log that cannot be written. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/log.h"

static int log_pipe[2];

static int open_pipe(void **state)
{
	(void)state;
	return pipe2(log_pipe, O_CLOEXEC | O_NONBLOCK);
}

static int close_pipe(void **state)
{
	(void)state;
	log_setup(LOG_LEVEL_WARN, STDERR_FILENO);
	close(log_pipe[0]);
	close(log_pipe[1]);
	return 0;
}

/* What has been logged since the last call. */
static const char *logged(void)
{
	static char text[4 * LOG_LINE_MAX];
	ssize_t n = read(log_pipe[0], text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* As a device says the first of a row of faults as a warning: the second is one for developers. */
static enum log_level quieter(unsigned *num)
{
	return (*num)++ == 0 ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG;
}

static void test_level_is_evaluated_once(void **state)
{
	unsigned num = 0;

	(void)state;
	log_setup(LOG_LEVEL_DEBUG, log_pipe[1]);
	log_at(quieter(&num), "first");
	assert_non_null(strstr(logged(), " warn "));
	log_at(quieter(&num), "second");
	assert_non_null(strstr(logged(), " debug "));
	assert_int_equal(num, 2);
}

static void test_levels(void **state)
{
	(void)state;
	log_setup(LOG_LEVEL_WARN, log_pipe[1]);
	log_info("not this");
	assert_string_equal(logged(), "");
	log_warn("this");
	assert_non_null(strstr(logged(), " warn "));
	log_setup(LOG_LEVEL_ERROR, -1);
	log_warn("not this");
	assert_string_equal(logged(), "");
	log_setup(LOG_LEVEL_DEBUG, -1);
	log_debug("this");
	assert_non_null(strstr(logged(), " debug "));
}

static void test_line(void **state)
{
	const char *line;

	(void)state;
	log_setup(LOG_LEVEL_INFO, log_pipe[1]);
	log_info("number %d", 5);
	line = logged();
	/* 2024-01-02T03:04:05.678901Z info [thread] test_log: number 5 */
	assert_int_equal(line[4], '-');
	assert_int_equal(line[10], 'T');
	assert_int_equal(line[26], 'Z');
	assert_memory_equal(line + 27, " info [", 7);
	assert_non_null(strstr(line, "] test_log: number 5\n"));
	assert_null(strchr(strchr(line, '\n') + 1, '\n'));
}

static void test_too_long(void **state)
{
	char text[2 * LOG_LINE_MAX];
	const char *line;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_setup(LOG_LEVEL_INFO, log_pipe[1]);
	log_info("%s", text);
	line = logged();
	assert_in_range(strlen(line), LOG_LINE_MAX - 8, LOG_LINE_MAX);
	assert_int_equal(line[strlen(line) - 1], '\n');
	assert_int_equal(line[strlen(line) - 2], 'x');
	log_info("next");
	assert_non_null(strstr(logged(), "next\n"));
}

static void test_unwritable(void **state)
{
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	(void)state;
	assert_true(full >= 0);
	log_setup(LOG_LEVEL_INFO, full);
	log_info("lost"); /* and the caller continues */
	log_setup(LOG_LEVEL_INFO, log_pipe[1]);
	log_info("kept");
	assert_non_null(strstr(logged(), "kept\n"));
	close(full);
}

/* Of a pipe that is full, the number of lost lines is reported as soon as there is room, and not twice. */
static void test_slow_reader(void **state)
{
	char text[4 * LOG_LINE_MAX];
	const char *told;

	(void)state;
	log_setup(LOG_LEVEL_INFO, log_pipe[1]);
	memset(text, 'x', sizeof(text));
	while (write(log_pipe[1], text, sizeof(text)) > 0)
		;
	log_info("lost");
	log_info("lost");
	log_tell_lost(); /* neither is there room for this */
	while (*logged())
		;
	log_info("kept");
	log_info("and this");
	told = logged();
	assert_non_null(strstr(told, " warn "));
	assert_non_null(strstr(told, "] log: 2 lines lost"));
	assert_true(strstr(told, "lines lost") < strstr(told, "kept\n"));
	assert_null(strstr(strstr(told, "kept\n"), "lines lost"));
}

/* Whatever a line quotes, it is one line, and moves no cursor. */
static void test_control_characters(void **state)
{
	const char *line;

	(void)state;
	log_setup(LOG_LEVEL_WARN, log_pipe[1]);
	log_warn("it says '%s'", "\033[2J\r\n\x7f\a\xc2\x9b\xc3\xa4");
	line = logged();
	assert_non_null(strstr(line, "it says '?[2J??????\xc3\xa4'\n"));
	assert_string_equal(strchr(line, '\n'), "\n");
	assert_null(strpbrk(line, "\033\r\x7f\a"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_level_is_evaluated_once),
		cmocka_unit_test(test_line),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_unwritable),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_control_characters),
	};

	return cmocka_run_group_tests(tests, open_pipe, close_pipe);
}
