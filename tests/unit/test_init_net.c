/* The root's files of names: in a root that stays they are not changed. In a mount namespace and a root of the test's own. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/init/link.h"
#include "loader/init/net.h"

#define CONF "/etc/resolv.conf"
#define HOSTS "/etc/hosts"
#define NO_NAMESPACES 77

static const char boot[] = "dnameserver 192.0.2.7\n\0k127.0.0.1\tlocalhost\n";

/* Of root.c, which only makes directories here. */
int link_connect(uint32_t port)
{
	(void)port;
	return -ECONNREFUSED;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), r;

	r = fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text);
	close(fd);
	return r;
}

static int has(const char *path, const char *text)
{
	char found[256] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, found, sizeof(found) - 1);

	close(fd);
	return n >= 0 && strcmp(found, text) == 0;
}

/* clang-format off */
#define EXPECT(condition) do { if (!(condition)) return __LINE__; } while (0)
/* clang-format on */

static int file_that_stays(void)
{
	EXPECT(write_file(CONF, "nameserver 192.0.2.9\n") == 0 && write_file(HOSTS, "192.0.2.1 own\n") == 0);
	net_set_names(boot, sizeof(boot), false);
	EXPECT(has(CONF, "nameserver 192.0.2.7\n") && has(HOSTS, "127.0.0.1\tlocalhost\n192.0.2.1 own\n"));
	EXPECT(umount(CONF) == 0 && umount(HOSTS) == 0);
	EXPECT(has(CONF, "nameserver 192.0.2.9\n") && has(HOSTS, "192.0.2.1 own\n"));
	return 0;
}

static int file_that_is_missing(void)
{
	net_set_names(boot, sizeof(boot), false);
	EXPECT(has(CONF, "nameserver 192.0.2.7\n"));
	EXPECT(umount(CONF) == 0 && umount(HOSTS) == 0);
	EXPECT(has(CONF, "") && has(HOSTS, ""));
	return 0;
}

static int root_that_goes(void)
{
	EXPECT(write_file(CONF, "nameserver 192.0.2.9\n") == 0);
	net_set_names(boot, sizeof(boot), true);
	EXPECT(has(CONF, "nameserver 192.0.2.7\n"));
	EXPECT(umount(CONF) < 0 && umount(HOSTS) < 0);
	return 0;
}

/* In a child: in a root that has /etc and /run, and nothing else. Returns its status. */
static int in_root(int (*run)(void))
{
	char root[] = "/tmp/mayfly-test-net-XXXXXX", command[64];
	int status;
	pid_t pid;

	assert_non_null(mkdtemp(root));
	pid = fork();
	if (pid == 0) {
		if (unshare((geteuid() ? CLONE_NEWUSER : 0) | CLONE_NEWNS) < 0 ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
			_exit(NO_NAMESPACES);
		if (chdir(root) < 0 || mkdir("etc", 0755) < 0 || mkdir("run", 0755) < 0 || chroot(".") < 0)
			_exit(1);
		_exit(run() & 0xff);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	snprintf(command, sizeof(command), "rm -rf %s", root);
	assert_int_equal(system(command), 0);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_resolver(void **state)
{
	static int (*const cases[])(void) = { file_that_stays, file_that_is_missing, root_that_goes };

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int line = in_root(cases[i]);

		if (line == NO_NAMESPACES)
			skip(); /* this user may not make namespaces here */
		if (line)
			fail_msg("in case %u, at a line that is %d modulo 256", i, line);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_resolver) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
