/*
 * Artifacts: the process that unpacks them, taken over. It runs this untar() in place of ours, and has no seccomp filter,
 * to see what the rest holds: without Landlock, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
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
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/artifact.h"
#include "vmm/helper/untar.h"
#include "vmm/process/confine.h"

#define MAX_BYTES 65536

static char dir[64], out[80], secret[80];
static struct err err;
static struct config_artifact config = { .guest = (char[]){ "/result" }, .host = out, .max_bytes = MAX_BYTES };

/* In place of those of confine.c. */
void confine_init(struct confine *c, enum seccomp_policy policy)
{
	(void)c;
	(void)policy;
}

static bool filtered; /* by what confine_thread was asked for */

int confine_thread(const struct confine *c, enum thread_kind kind, const struct confine_own *own, struct err *e)
{
	(void)c;
	(void)own;
	(void)e;
	filtered = kind == THREAD_UNPACK;
	return 0;
}

static int (*attack)(const struct untar_params *params);

int untar(const struct untar_params *params, struct err *e)
{
	int line = filtered ? attack(params) : __LINE__;

	return line ? err_set(e, -EIO, "line %d, errno %d", line, errno) : 0;
}

/* clang-format off */
#define EXPECT(condition) do { if (!(condition)) return __LINE__; } while (0)
/* clang-format on */

static bool fails(long ret)
{
	return ret < 0;
}

static int make_file(int at, const char *name, off_t size, mode_t mode)
{
	int fd = openat(at, name, O_WRONLY | O_CREAT, 0600), r;

	if (fd < 0)
		return -1;
	r = pwrite(fd, "", 1, size - 1) != 1 || fchmod(fd, mode) < 0 ? -1 : 0;
	close(fd);
	return r;
}

static int reach_out(const struct untar_params *params)
{
	char link[PATH_MAX];
	struct rlimit limit;

	EXPECT(fails(open(secret, O_RDONLY)) && fails(open("/etc/passwd", O_RDONLY)));
	EXPECT(fails(open(secret, O_WRONLY)) && fails(open("../../secret", O_RDONLY)));
	EXPECT(fails(openat(params->dir, "../../secret", O_RDONLY)));
	EXPECT(fails(mkdir("../made", 0700)) || access("../made/../../secret", F_OK) < 0);
	EXPECT(fails(creat("/tmp/mayfly-test-made", 0600)) || access(secret, F_OK) < 0);
	EXPECT(fails(chroot("..")) && fails(unshare(CLONE_NEWNS)) && fails(setuid(1)));
	snprintf(link, sizeof(link), "/proc/%d/root", (int)getppid());
	EXPECT(fails(open(link, O_RDONLY)));
	/* What it may do, below. */
	EXPECT(symlinkat(secret, params->dir, "link") == 0 && fails(openat(params->dir, "link", O_WRONLY)));
	EXPECT(fails(mknodat(params->dir, "disk", S_IFBLK | 0666, makedev(8, 0))));
	EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	/* Descriptors: the stream, the directory, and no others. */
	EXPECT(params->from == 0 && params->dir == 1);
	for (int fd = 2; fd < 64; fd++)
		EXPECT(fcntl(fd, F_GETFD) < 0);
	EXPECT(getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_max == MAX_BYTES);
	EXPECT(mkdirat(params->dir, "result", 0700) == 0);
	EXPECT(make_file(params->dir, "result/file", MAX_BYTES / 2, 0600) == 0);
	EXPECT(fails(make_file(params->dir, "result/large", MAX_BYTES + 1, 0600)));
	return 0;
}

/* What is found by whoever moves it; with Landlock, or for a user, some of it cannot be made. */
static int leave_good(const struct untar_params *params)
{
	return mkdirat(params->dir, "result", 0700) < 0 || make_file(params->dir, "result/0", 1, 0600) < 0;
}

static int leave_set_id(const struct untar_params *params)
{
	return make_file(params->dir, "result", 1, 04755);
}

static int leave_fifo(const struct untar_params *params)
{
	return mkdirat(params->dir, "result", 0700) < 0 || mkfifoat(params->dir, "result/fifo", 0600) < 0;
}

static int leave_link(const struct untar_params *params)
{
	return symlinkat("/", params->dir, "result");
}

static int leave_other(const struct untar_params *params)
{
	return make_file(params->dir, "other", 1, 0600);
}

static int leave_too_much(const struct untar_params *params)
{
	static char data[MAX_BYTES / 2];
	char name[32];
	int fd;

	memset(data, 1, sizeof(data)); /* holes do not count */
	EXPECT(mkdirat(params->dir, "result", 0700) == 0);
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "result/%d", i);
		fd = openat(params->dir, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
		EXPECT(fd >= 0 && write(fd, data, sizeof(data)) == (ssize_t)sizeof(data));
		close(fd);
	}
	return 0;
}

static int leave_nothing(const struct untar_params *params)
{
	(void)params;
	return 0;
}

static int be_killed(const struct untar_params *params)
{
	EXPECT(mkdirat(params->dir, "result", 0700) == 0);
	return kill(getpid(), SIGKILL);
}

static bool arrives(int (*with)(const struct untar_params *params))
{
	struct artifact a;

	attack = with;
	if (artifact_start(&a, &config, &err) < 0)
		return false;
	return artifact_finish(&a, &err) == 0;
}

/* All below runs in a child, in which Landlock may be switched off. Returns 0, or the line that went wrong. */
static int all_attacks(void)
{
	static int (*const left[])(const struct untar_params *) = { leave_set_id, leave_fifo,	  leave_link,
								    leave_other,  leave_too_much, leave_nothing,
								    be_killed };

	if (!arrives(reach_out)) {
		fprintf(stderr, "%s\n", err.text);
		return __LINE__;
	}
	EXPECT(unlink("out/result/large") == 0 && unlink("out/result/file") == 0 && rmdir("out/result") == 0);
	for (unsigned i = 0; i < MF_ARRAY_SIZE(left); i++) {
		EXPECT(!arrives(left[i]));
		EXPECT(rmdir("out") == 0); /* nothing is left there */
	}
	return 0;
}

/* From here on these calls answer ENOSYS. */
static int refuse_calls(const int *calls, unsigned num)
{
	struct sock_filter code[16] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)) };
	struct sock_fprog program = { .filter = code };
	unsigned n = 1;

	for (unsigned i = 0; i < num; i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program.len = (unsigned short)n;
	EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
	return 0;
}

static int without_landlock(void)
{
	static const int calls[] = { SYS_landlock_create_ruleset };
	int line = refuse_calls(calls, MF_ARRAY_SIZE(calls));

	return line ? line : all_attacks();
}

static int without_anything(void)
{
	static const int calls[] = { SYS_landlock_create_ruleset, SYS_chroot };
	int line = refuse_calls(calls, MF_ARRAY_SIZE(calls));

	if (line)
		return line;
	EXPECT(!arrives(reach_out));
	EXPECT(strstr(err.text, "Landlock"));
	EXPECT(rmdir("out") == 0);
	return 0;
}

/* As on file systems that cannot exchange files: what was there is moved out of the way. */
static int without_exchange(void)
{
	static const int calls[] = { SYS_renameat2 };
	int line = refuse_calls(calls, MF_ARRAY_SIZE(calls));

	if (line)
		return line;
	for (int i = 0; i < 2; i++) {
		EXPECT(arrives(leave_good));
		EXPECT(unlink("out/result/0") == 0 && mkdir("out/result/old", 0700) == 0);
	}
	EXPECT(rmdir("out/result/old") == 0 && rmdir("out/result") == 0 && rmdir("out") == 0);
	return 0;
}

static void in_child(int (*run)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(chdir(dir) < 0 ? 1 : run() & 0xff);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status))
		fail_msg("in the child, at a line that is %d modulo 256", WEXITSTATUS(status));
}

static void test_taken_over(void **state)
{
	(void)state;
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 1)
		skip(); /* this kernel has no Landlock: the next test is about it */
	in_child(all_attacks);
}

static void test_taken_over_without_landlock(void **state)
{
	(void)state;
	in_child(without_landlock);
}

static void test_with_neither_nothing_is_started(void **state)
{
	(void)state;
	in_child(without_anything);
}

static void test_without_exchange(void **state)
{
	(void)state;
	in_child(without_exchange);
}

static int setup(void **state)
{
	FILE *f;

	(void)state;
	signal(SIGXFSZ, SIG_IGN); /* as mayfly has it */
	strcpy(dir, "/tmp/mayfly-test-artifact-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(out, sizeof(out), "%s/out", dir);
	snprintf(secret, sizeof(secret), "%s/secret", dir);
	f = fopen(secret, "w");
	assert_non_null(f);
	return fclose(f);
}

static int teardown(void **state)
{
	char command[96];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_taken_over, setup, teardown),
		cmocka_unit_test_setup_teardown(test_taken_over_without_landlock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_with_neither_nothing_is_started, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_exchange, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
