/* The server's ticks: its thread makes them, beside the requests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/api/http.h"
#include "vmm/base/err.h"

static int no_guard(void *ctx)
{
	(void)ctx;
	return 0;
}

static void await(const struct http *http)
{
	struct pollfd fd = { .fd = http_fd(http), .events = POLLIN };

	assert_int_equal(poll(&fd, 1, 60000), 1);
}

static int ask(const char *path)
{
	static const char text[] = "GET /a HTTP/1.1\r\n\r\n";
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	return fd;
}

static void test_ticks(void **state)
{
	char dir[] = "/tmp/test_http.XXXXXX", path[64], answer[16];
	unsigned ticks = 0, requests = 0;
	struct http_request request;
	struct http *http;
	struct err e;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	assert_int_equal(http_new(&http, path, 100, &e), 0);
	assert_int_equal(http_start(http, no_guard, NULL, &e), 0);
	assert_false(http_take_tick(http));
	fd = ask(path);
	while (ticks < 3 || requests < 1) {
		await(http);
		ticks += http_take_tick(http);
		if (!http_take(http, &request))
			continue;
		assert_string_equal(request.path, "/a");
		requests++;
		http_set_tick(http, 5); /* the reply wakes the thread, which begins to count */
		http_reply(http, &(struct http_reply){ .status = 204 });
	}
	assert_int_equal(requests, 1);
	assert_int_equal(read(fd, answer, sizeof(answer)), sizeof(answer));
	assert_memory_equal(answer, "HTTP/1.1 204 \r\nS", sizeof(answer));
	close(fd);
	http_free(http);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_ticks) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
