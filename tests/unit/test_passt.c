/* passt as a child, by a program in its place: what it inherits, and what is quoted of what it said. */
#include <errno.h>
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
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/passt.h"

static char dir[64], path_before[4096];

static int setup(void **state)
{
	char path[5000];

	(void)state;
	strcpy(dir, "/tmp/mayfly-test-passt-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path_before, sizeof(path_before), "%s", getenv("PATH"));
	snprintf(path, sizeof(path), "%s:%s", dir, path_before);
	return setenv("PATH", path, 1);
}

static int teardown(void **state)
{
	char command[100];

	(void)state;
	sprintf(command, "rm -rf %s", dir);
	return setenv("PATH", path_before, 1) || system(command);
}

/* Makes script the passt that is found. */
static void install(const char *script)
{
	char path[100];
	FILE *file;

	sprintf(path, "%s/passt", dir);
	file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file, "#!/bin/sh\n%s\n", script);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, 0700), 0);
}

/* Runs it for a network until it ends; *e is what is said of that. */
static void run_for(const struct config_net *net, struct err *e)
{
	struct passt p;
	int r = 0;

	assert_int_equal(passt_start(&p, net, 1500, e), 0);
	for (unsigned i = 0; i < 5000 && r == 0; i++) {
		(void)poll(NULL, 0, 2);
		r = passt_check(&p, e);
	}
	assert_int_equal(r, -ECHILD);
	close(p.socket);
}

static char id[] = "net0";
static const struct config_net plain = { .kind = CONFIG_NET_USER, .id = id };

static void run(const char *script, struct err *e)
{
	install(script);
	run_for(&plain, e);
}

static void test_inherits_its_socket_alone(void **state)
{
	int null = open("/dev/null", O_RDWR);
	struct err e;

	(void)state;
	for (int fd = 20; fd < 900; fd += 200)
		assert_int_equal(dup2(null, fd), fd);
	/* 10 is the script, which the shell has open for itself. */
	run("for fd in /proc/$$/fd/*; do n=${fd##*/}\n"
	    "[ \"$n\" -le 3 ] || [ \"$n\" = 10 ] || [ ! -e \"$fd\" ] || more=$more:$n\n"
	    "done; [ -S /proc/$$/fd/3 ] && echo has${more:-:none} >&2",
	    &e);
	assert_non_null(strstr(e.text, "has:none"));
	close(null);
}

static void test_last_line_is_printable(void **state)
{
	struct err e;

	(void)state;
	run("printf 'first\\nlast \\033[2J\\r\\302\\233 line\\n' >&2", &e);
	assert_non_null(strstr(e.text, "last .[2J... line"));
	run("exit 1", &e);
	assert_non_null(strstr(e.text, "net0"));
}

/* What each passt says where there is no syslog, or to root, is not why it ended. */
static void test_chatter_is_not_the_reason(void **state)
{
	struct err e;

	(void)state;
	run("{ echo cause; echo; echo \"Don't run as root\"; echo 'Failed to send 9 bytes to syslog'; } >&2", &e);
	assert_non_null(strstr(e.text, "cause"));
}

static void test_arguments(void **state)
{
	static char ip[] = "10.1.2.3/24", gateway[] = "10.1.2.1", dns[] = "10.0.2.3", ip6[] = "fd00:1::3/64",
		    gateway6[] = "fd00:1::1", other[] = "192.0.2.9";
	const struct config_forward forward[] = {
		{ .host = 47080, .guest = 8080, .num = 1 },
		{ .host = 47053, .guest = 5353, .num = 1, .udp = true, .address = "127.0.0.1" },
		{ .host = 47100, .guest = 100, .num = 11, .address = "::1" },
	};
	struct config_net net = plain;
	struct err e;

	(void)state;
	install("echo \"<$*>\" >&2");
	run_for(&net, &e);
	assert_non_null(strstr(e.text, "<--foreground --quiet --stderr --fd 3 --mtu 1500 --pid /proc/self/fd/1>"));
	net.ip = ip;
	net.gateway = gateway;
	net.dns = dns;
	memcpy(net.forward, forward, sizeof(forward));
	net.num_forwards = MF_ARRAY_SIZE(forward);
	run_for(&net, &e);
	assert_non_null(strstr(e.text, "--address 10.1.2.3 --netmask 24 --gateway 10.1.2.1 --dns-forward 10.0.2.3 "
				       "--tcp-ports 47080:8080 --udp-ports 127.0.0.1/47053:5353 "
				       "--tcp-ports ::1/47100-47110:100-110>"));
	net.ip6 = ip6;
	net.gateway6 = gateway6;
	net.no_ra = true;
	net.num_forwards = 0;
	net.dns = other; /* not to be forwarded to the host's resolver */
	run_for(&net, &e);
	assert_non_null(strstr(e.text, "--address fd00:1::3 --gateway fd00:1::1 --no-ra --no-map-gw --dns 192.0.2.9>"));
}

/* It is waited for until it says that it is ready, or has ended. */
static void test_ready(void **state)
{
	struct passt p;
	struct err e;

	(void)state;
	install("sleep 0.2; echo $$ > /proc/self/fd/1; exec sleep 1000");
	assert_int_equal(passt_start(&p, &plain, 1500, &e), 0);
	assert_int_equal(passt_await(&p, &e), 0);
	assert_int_equal(passt_await(&p, &e), 0);
	(void)kill(p.pid, SIGKILL);
	close(p.socket);
	p.socket = -1;
	passt_end(&p);
	install("sleep 0.2; echo why >&2; exit 1");
	assert_int_equal(passt_start(&p, &plain, 1500, &e), 0);
	assert_int_equal(passt_await(&p, &e), -ECHILD);
	assert_non_null(strstr(e.text, "why"));
	close(p.socket);
	p = (struct passt){ 0 };
	assert_int_equal(passt_await(&p, &e), 0);
}

/* Ctrl-C on the terminal of mayfly is not passt's. */
static void test_has_a_group_of_its_own(void **state)
{
	struct err e;

	(void)state;
	run("read -r pid name state parent group rest < /proc/$$/stat\n"
	    "[ \"$pid\" = \"$group\" ] && echo its own >&2 || echo \"$pid in $group\" >&2",
	    &e);
	assert_non_null(strstr(e.text, "its own"));
}

/* Whatever ends mayfly, here a child of the test, passt ends with it. */
static void test_ends_with_its_parent(void **state)
{
	int pair[2], status = 0;
	pid_t child, pid = 0;

	(void)state;
	install("exec sleep 1000");
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	assert_int_equal(pipe(pair), 0);
	child = fork();
	if (child == 0) {
		struct passt p;
		struct err e;
		bool ok = passt_start(&p, &plain, 1500, &e) == 0 && write(pair[1], &p.pid, sizeof(p.pid)) > 0;

		_exit(ok ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(read(pair[0], &pid, sizeof(pid)), sizeof(pid));
	for (unsigned i = 0; i < 5000 && waitpid(pid, &status, WNOHANG) == 0; i++)
		(void)poll(NULL, 0, 1);
	(void)kill(pid, SIGKILL); /* or it is gone */
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGTERM);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_inherits_its_socket_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_last_line_is_printable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chatter_is_not_the_reason, setup, teardown),
		cmocka_unit_test_setup_teardown(test_arguments, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ready, setup, teardown),
		cmocka_unit_test_setup_teardown(test_has_a_group_of_its_own, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ends_with_its_parent, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
