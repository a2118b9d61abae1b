/* The log of threads that may not write it: by the main thread, in order, whole, and counted where it is too much. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/log.h"
#include "vmm/process/log_relay.h"

static int log_pipe[2], wake_fd;
static unsigned num_lines;

static void *write_lines(void *arg)
{
	(void)arg;
	log_set_thread("vcpu7");
	log_relay_use();
	for (unsigned i = 0; i < num_lines; i++)
		log_warn("line %u", i);
	return NULL;
}

static void relay(unsigned lines)
{
	pthread_t thread;

	num_lines = lines;
	assert_int_equal(pthread_create(&thread, NULL, write_lines, NULL), 0);
	pthread_join(thread, NULL);
}

static size_t logged(char *text, size_t size)
{
	ssize_t n = read(log_pipe[0], text, size - 1);

	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

static void test_in_order(void **state)
{
	char text[8192], *at = text, want[32];
	uint64_t count;

	(void)state;
	relay(3);
	assert_int_equal(logged(text, sizeof(text)), 0); /* not by the thread itself */
	assert_int_equal(read(wake_fd, &count, sizeof(count)), sizeof(count));
	assert_int_equal(count, 1); /* one signal will do */
	log_relay_flush();
	logged(text, sizeof(text));
	for (unsigned i = 0; i < 3; i++) {
		snprintf(want, sizeof(want), "[vcpu7] test_log_relay: line %u\n", i);
		at = strstr(at, want);
		assert_non_null(at);
	}
	log_relay_flush();
	assert_int_equal(logged(text, sizeof(text)), 0);
}

static void test_too_many(void **state)
{
	static char text[65536];
	unsigned lines = 0;

	(void)state;
	relay(1000);
	log_relay_flush();
	logged(text, sizeof(text));
	for (char *at = text; (at = strstr(at, "] test_log_relay: line ")); at++)
		lines++;
	assert_in_range(lines, 10, 999);
	snprintf(text + 60000, 64, "log_relay: %u lines of vCPUs were lost", 1000 - lines);
	assert_non_null(strstr(text, text + 60000));
}

/* A reader that is too slow: no line is cut, and all that are lost are counted. */
static void test_slow_reader(void **state)
{
	static char text[1 << 17], fill[4096];
	char want[32];
	size_t len, room = 0;

	(void)state;
	memset(fill, '-', sizeof(fill));
	while (write(log_pipe[1], fill, sizeof(fill)) > 0)
		room++;
	assert_true(room > 0);
	relay(5);
	log_relay_flush();
	len = logged(text, sizeof(text));
	assert_int_equal(len, room * sizeof(fill)); /* none of them, nor a part */
	log_tell_lost();
	logged(text, sizeof(text));
	snprintf(want, sizeof(want), "%u lines lost", 5);
	assert_non_null(strstr(text, want));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_order),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_slow_reader),
	};

	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wake_fd < 0 || pipe2(log_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return EXIT_FAILURE;
	log_setup(LOG_LEVEL_WARN, log_pipe[1]);
	log_relay_init(wake_fd);
	return cmocka_run_group_tests_name("log relay", tests, NULL, NULL);
}
