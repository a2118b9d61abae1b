/* Ports of the host before passt has them: taken ones, those that are for root, and those that are picked. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_publish.h"
#include "vmm/helper/publish.h"

/* Listens at a port of address, or has it for UDP. Returns it. */
static int take_port(const char *address, bool udp, int *ret_fd)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t len = sizeof(in);

	*ret_fd = socket(AF_INET, udp ? SOCK_DGRAM : SOCK_STREAM, 0);
	assert_int_equal(inet_pton(AF_INET, address, &in.sin_addr), 1);
	assert_int_equal(bind(*ret_fd, (const struct sockaddr *)&in, sizeof(in)), 0);
	if (!udp)
		assert_int_equal(listen(*ret_fd, 1), 0);
	assert_int_equal(getsockname(*ret_fd, (struct sockaddr *)&in, &len), 0);
	return ntohs(in.sin_port);
}

/* The check of one forward, parsed as --publish or as tcp= or udp=. */
static int check(const char *text, bool publish, bool udp, struct err *e)
{
	static struct config_net net;
	char copy[64];
	int r;

	snprintf(copy, sizeof(copy), "%s", text);
	net.num_forwards = 1;
	r = publish ? config_publish_parse(&net.forward[0], text, e) :
		      config_forward_parse(&net.forward[0], udp, text, e);
	if (r < 0)
		fail_msg("%s: %s", text, e->text);
	net.forward[0].text = copy;
	return publish_check(&net, e);
}

static void test_port_that_is_taken(void **state)
{
	static const struct {
		const char *taken, *asked;
		bool udp, free;
	} cases[] = {
		{ "0.0.0.0", "", false, false },
		{ "127.0.0.1", "", false, false },
		{ "127.0.0.1", "", true, false },
		{ "127.0.0.1", "127.0.0.1/", false, false },
		{ "127.0.0.1", "127.0.0.1:", false, false },
		{ "127.0.0.1", "127.0.0.2/", false, true },
		{ "127.0.0.1", "::1/", false, true },
		{ "127.0.0.1", "[::1]:", false, true },
	};
	char text[64], number[16];
	struct err e;
	int fd, port;

	(void)state;
	for (size_t i = 0; i < MF_ARRAY_SIZE(cases); i++) {
		port = take_port(cases[i].taken, cases[i].udp, &fd);
		snprintf(text, sizeof(text), "%s%d:80", cases[i].asked, port);
		snprintf(number, sizeof(number), "%d", port);
		assert_int_equal(check(text, false, cases[i].udp, &e), cases[i].free ? 0 : -EADDRINUSE);
		if (!cases[i].free)
			assert_non_null(strstr(e.text, number));
		close(fd);
	}
}

/* passt would leave it out, and say nothing. */
static void test_one_of_a_range_is_taken(void **state)
{
	char text[64], number[16];
	struct err e;
	int fd, port = take_port("127.0.0.1", false, &fd);

	(void)state;
	snprintf(text, sizeof(text), "%d-%d:80-82", port - 2, port);
	snprintf(number, sizeof(number), "port %d ", port);
	assert_int_equal(check(text, true, false, &e), -EADDRINUSE);
	assert_non_null(strstr(e.text, number));
	close(fd);
}

static void test_address_of_others(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(check("203.0.113.77:47080:80", true, false, &e), -EADDRNOTAVAIL);
	assert_non_null(strstr(e.text, "203.0.113.77"));
}

/* In a child, which may not bind them. */
static void test_port_for_root(void **state)
{
	char start[16] = "";
	FILE *f = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "r");
	int status;
	pid_t pid;

	(void)state;
	if (f) {
		assert_non_null(fgets(start, sizeof(start), f));
		fclose(f);
	}
	if (strcmp(start, "1024\n") != 0)
		skip(); /* this host lets all users bind them */
	pid = fork();
	if (pid == 0) {
		struct err e;

		if (geteuid() == 0 && setuid(65534) < 0)
			_exit(2);
		_exit(check("1000:80", true, false, &e) == -EACCES &&
				      strstr(e.text, "ip_unprivileged_port_start=1000") ?
			      0 :
			      1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Ports that are picked differ, even of two that ask for the same. */
static void test_picked(void **state)
{
	static struct config c;
	static char text[] = "80";
	char argument[PUBLISH_ARGUMENT_MAX], expected[64];
	struct config_forward *f = c.net[0].forward;
	struct err e;

	(void)state;
	c.num_nets = 1;
	c.net[0].num_forwards = 3;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(config_publish_parse(&f[i], i == 2 ? "[::1]::53/udp" : text, &e), 0);
		f[i].text = text;
	}
	assert_int_equal(publish_pick(&c, &e), 0);
	assert_true(f[0].host > 0 && f[1].host > 0 && f[2].host > 0 && f[0].host != f[1].host);
	assert_int_equal(publish_check(&c.net[0], &e), 0);
	publish_argument(argument, &f[2]);
	snprintf(expected, sizeof(expected), "::1/%u:53", f[2].host);
	assert_string_equal(argument, expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_port_that_is_taken),
		cmocka_unit_test(test_one_of_a_range_is_taken),
		cmocka_unit_test(test_address_of_others),
		cmocka_unit_test(test_port_for_root),
		cmocka_unit_test(test_picked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
