/* passt as a child, by a program in its place: what it inherits, and what is quoted of what it said. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
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

/* Runs script as passt; *e is what is said of its end. */
static void run(const char *script, struct err *e)
{
	static char id[] = "net0";
	const struct config_net net = { .kind = CONFIG_NET_USER, .id = id };
	struct passt p;
	char path[100];
	FILE *file;
	int r = 0;

	sprintf(path, "%s/passt", dir);
	file = fopen(path, "w");
	fprintf(file, "#!/bin/sh\n%s\n", script);
	fclose(file);
	assert_int_equal(chmod(path, 0700), 0);
	assert_int_equal(passt_start(&p, &net, 1500, e), 0);
	for (unsigned i = 0; i < 5000 && r == 0; i++) {
		(void)poll(NULL, 0, 2);
		r = passt_check(&p, e);
	}
	assert_int_equal(r, -ECHILD);
	close(p.socket);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_inherits_its_socket_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_last_line_is_printable, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
