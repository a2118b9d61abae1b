/* The parts of the jail that can be looked at from inside, each in a process of its own, which cannot go back. */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/securebits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "jailer/jail.h"
#include "jailer/landlock.h"
#include "jailer/mounts.h"
#include "jailer/namespaces.h"
#include "jailer/privileges.h"
#include "jailer/rlimit.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"

#define SKIPPED 77

/* Runs a function in a child. It returns 0, SKIPPED, or the line that went wrong. */
static void in_child(int (*run)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(run() & 0xff);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == SKIPPED)
		skip();
	if (WEXITSTATUS(status))
		fail_msg("in the child, at a line that is %d modulo 256", WEXITSTATUS(status));
}

/* clang-format off */
#define EXPECT(condition) do { if (!(condition)) return __LINE__; } while (0)
/* clang-format on */

static int see_landlock(void)
{
	char dir[] = "/tmp/test_jail_XXXXXX", kept[64], gone[64];
	struct landlock_dir dirs[] = { { dir, LANDLOCK_REMOVE_SOCKETS }, { NULL, 0 } };
	int open_before;
	struct err e;

	EXPECT(mkdtemp(dir));
	snprintf(kept, sizeof(kept), "%s/kept", dir);
	snprintf(gone, sizeof(gone), "%s/gone", dir);
	open_before = open(kept, O_RDWR | O_CREAT, 0600);
	EXPECT(open_before >= 0 && close(open(gone, O_RDWR | O_CREAT, 0600)) == 0);
	EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	if (landlock_restrict(dirs, 2, &e) < 0)
		return e.code == -ENOSYS || e.code == -EOPNOTSUPP ? SKIPPED : __LINE__;
	EXPECT(open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES);
	EXPECT(open(kept, O_RDONLY) < 0 && errno == EACCES);
	EXPECT(mkdir("/tmp/test_jail_dir", 0700) < 0 && errno == EACCES);
	EXPECT(rmdir(dir) < 0 && errno == EACCES);
	EXPECT(write(open_before, "x", 1) == 1 && ftruncate(open_before, 0) == 0);
	EXPECT(unlink(gone) == 0 && unlink(kept) == 0);
	return 0;
}

static void test_landlock(void **state)
{
	(void)state;
	in_child(see_landlock);
	(void)!system("rmdir /tmp/test_jail_* 2> /dev/null"); /* what the child could not */
}

static int see_limits(void)
{
	struct rlimit limit;
	struct err e;

	EXPECT(rlimit_set(RLIMIT_NOFILE, "nofile", 100, false, &e) == 0);
	EXPECT(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 100 && limit.rlim_max == 100);
	EXPECT(rlimit_set(RLIMIT_NOFILE, "nofile", 200, true, &e) == 0);
	EXPECT(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max == 100);
	EXPECT(privileges_drop(0, &e) == 0);
	EXPECT(rlimit_set(RLIMIT_NOFILE, "nofile", 200, false, &e) == -EPERM);
	EXPECT(!strcmp(e.text, "nofile: 200 exceeds the hard limit, 100"));
	return 0;
}

static void test_limits(void **state)
{
	(void)state;
	in_child(see_limits);
}

static int see_privileges(void)
{
	struct err e;

	EXPECT(setenv("TEST_JAIL", "secret", 1) == 0);
	if (geteuid() == 0) {
		EXPECT(privileges_lock(&e) == 0);
		EXPECT(prctl(PR_CAPBSET_READ, 0, 0, 0, 0) == 0);
		EXPECT(prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) ==
		       (SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
			SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED));
		EXPECT(privileges_set_ids(4321, 4322, &e) == 0);
		EXPECT(getuid() == 4321 && getgid() == 4322 && getgroups(0, NULL) == 0);
		/* The capabilities are still there: one that the rest needs. */
		EXPECT(setgid(4323) == 0);
	} else {
		EXPECT(privileges_lock(&e) == -EPERM);
	}
	EXPECT(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0); /* a change of the user has cleared it */
	EXPECT(privileges_drop(0, &e) == 0);
	EXPECT(setgid(0) < 0 && errno == EPERM);
	EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	EXPECT(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
	privileges_clear_environment();
	EXPECT(!getenv("TEST_JAIL"));
	return 0;
}

static void test_privileges(void **state)
{
	(void)state;
	in_child(see_privileges);
}

static int to_mapper[2], from_mapper[2];
static bool saw_host; /* its mounts, when the jail had no namespace of its own yet */

static int ask_for_map(void *ctx, struct err *e)
{
	char byte = 1;

	(void)ctx;
	saw_host = access("/proc/self", F_OK) == 0;
	if (write(to_mapper[1], &byte, 1) != 1 || read(from_mapper[0], &byte, 1) != 1 || byte)
		return err_set(e, -EPERM, "no map");
	return 0;
}

/* A process outside of the user namespace that the jail makes. */
static void start_mapper(uid_t uid, gid_t gid)
{
	pid_t jailed = getpid();
	struct err e;
	char byte;

	if (pipe(to_mapper) < 0 || pipe(from_mapper) < 0 || fork() != 0)
		return;
	close(to_mapper[1]);
	if (read(to_mapper[0], &byte, 1) == 1) {
		byte = namespaces_map(jailed, uid, gid, geteuid() == 0, &e) < 0;
		(void)!write(from_mapper[1], &byte, 1);
	}
	_exit(0);
}

/* Of a jail that begins with that mount namespace; -1: with ours. */
static int see_jail_of(int mounts_fd)
{
	bool is_root = geteuid() == 0, own_pids;
	struct jail_params params = { .is_root = is_root,
				      .uid = is_root ? 4321 : getuid(),
				      .gid = is_root ? 4321 : getgid(),
				      .mounts_fd = mounts_fd,
				      .map_ids = ask_for_map };
	char before[65] = "", after[65] = "";
	struct err e;

	gethostname(before, sizeof(before) - 1);
	start_mapper(params.uid, params.gid);
	log_setup(LOG_LEVEL_ERROR, -1);
	umask(0022);
	EXPECT(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
	if (jail_enter(&params, &own_pids, &e) < 0)
		return __LINE__;
	EXPECT(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
	EXPECT(umask(0) == 0077);
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0)
		EXPECT(open("/", O_RDONLY | O_DIRECTORY) < 0 && errno == EACCES);
	if (!own_pids)
		return SKIPPED; /* no namespaces here */
	gethostname(after, sizeof(after) - 1);
	EXPECT(strcmp(before, after) != 0 || !strcmp(before, "jail"));
	EXPECT(saw_host == (mounts_fd < 0));
	return 0;
}

static int see_jail(void)
{
	return see_jail_of(-1);
}

static int see_jail_of_small(void)
{
	struct err e;
	int fd;

	if (mounts_offer(&e) < 0)
		return geteuid() == 0 ? __LINE__ : SKIPPED;
	fd = mounts_take();
	if (fd < 0)
		return SKIPPED; /* this kernel has namespaces without mounts */
	return see_jail_of(fd);
}

static void test_jail_of_small(void **state)
{
	(void)state;
	in_child(see_jail_of_small);
}

static void test_jail(void **state)
{
	(void)state;
	in_child(see_jail);
}

/* As "outer": its child forks as the jail does, and it ends when both processes are there. */
static void __attribute__((noreturn)) be_outer(int life_fd, int ready_fd, struct jail_pids *ret, bool own_pids)
{
	char byte = 0;
	int main_is_there[2], status;
	pid_t child;
	struct err e;

	if (pipe(main_is_there) < 0)
		_exit(1);
	child = fork();
	if (child == 0) {
		int r = jail_fork(ret, own_pids, life_fd, &e);

		if (r == 1) {
			(void)!write(main_is_there[1], &byte, 1);
			for (;;)
				pause();
		}
		_exit(r < 0);
	}
	if (waitpid(child, &status, 0) != child || status || read(main_is_there[0], &byte, 1) != 1)
		_exit(1);
	(void)!write(ready_fd, &byte, 1);
	for (;;)
		pause();
}

static bool has_name(pid_t pid, const char *name)
{
	char path[64], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	fd = open(path, O_RDONLY);
	(void)!read(fd, text, sizeof(text) - 1);
	close(fd);
	text[strcspn(text, "\n")] = '\0';
	return !strcmp(text, name);
}

/* What is in a jail ends with the process outside, also where no PID namespace and no pipe's end tell it to. */
static int see_deaths(void)
{
	struct jail_pids *pids = mmap(NULL, sizeof(*pids), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int life[2], ready[2], status;
	pid_t outer;
	char byte;

	alarm(10);
	EXPECT(pids != MAP_FAILED && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
	EXPECT(pipe(life) == 0 && pipe(ready) == 0);
	outer = fork();
	if (outer == 0)
		be_outer(life[0], ready[1], pids, true);
	EXPECT(read(ready[0], &byte, 1) == 1);
	while (!has_name(pids->init, "mayfly-jail")) /* until then it has not asked to be killed; see alarm */
		usleep(1000);
	kill(outer, SIGKILL);
	EXPECT(waitpid(outer, &status, 0) == outer);
	EXPECT(waitpid(pids->main, &status, 0) == pids->main && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	EXPECT(waitpid(pids->init, &status, 0) == pids->init && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	return 0;
}

static void test_deaths(void **state)
{
	(void)state;
	in_child(see_deaths);
}

static void test_lacks(void **state)
{
	struct err e;

	(void)state;
	err_set(&e, -EPERM, "this");
	assert_int_equal(jail_lacks(true, &e), -EPERM);
	assert_string_equal(e.text, "this");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_landlock),      cmocka_unit_test(test_limits),
		cmocka_unit_test(test_privileges),    cmocka_unit_test(test_jail),
		cmocka_unit_test(test_jail_of_small), cmocka_unit_test(test_deaths),
		cmocka_unit_test(test_lacks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
