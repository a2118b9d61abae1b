/*
 * Control groups, against directories with files that stand in for the kernel's (what is written to them can be read
 * again), and against the kernel's own where this process may make some.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "jailer/cgroup.h"
#include "jailer/cgroup_mount.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

static char tmp[64];
static char mountinfo[128];

static const char *in_tmp(const char *path)
{
	static char text[2][256];
	static unsigned turn;
	char *t = text[turn++ % 2];

	snprintf(t, sizeof(text[0]), "%s/%s", tmp, path);
	return t;
}

static void put(const char *path, const char *text)
{
	char whole[256];
	FILE *f;

	snprintf(whole, sizeof(whole), "%s", in_tmp(path));
	for (char *p = whole + strlen(tmp) + 1; (p = strchr(p, '/')); *p++ = '/') {
		*p = '\0';
		if (mkdir(whole, 0700) < 0)
			assert_int_equal(errno, EEXIST);
	}
	f = fopen(whole, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void expect_file(const char *path, const char *text)
{
	char got[256] = "";
	FILE *f = fopen(in_tmp(path), "r");

	assert_non_null(f);
	(void)!fread(got, 1, sizeof(got) - 1, f);
	fclose(f);
	assert_string_equal(got, text);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static int set_up(void **state)
{
	(void)state;
	strcpy(tmp, "/tmp/test_cgroup_XXXXXX");
	assert_non_null(mkdtemp(tmp));
	snprintf(mountinfo, sizeof(mountinfo), "%s/mountinfo", tmp);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return nftw(tmp, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A tree with groups "a" and "a/vm", and these controllers at its root. */
static void stand_in(const char *controllers)
{
	static const char *const dirs[] = { "v2", "v2/a", "v2/a/vm" };
	char line[512], path[64];

	for (size_t i = 0; i < MF_ARRAY_SIZE(dirs); i++) {
		snprintf(path, sizeof(path), "%s/cgroup.controllers", dirs[i]);
		put(path, controllers);
		snprintf(path, sizeof(path), "%s/cgroup.subtree_control", dirs[i]);
		put(path, "");
		snprintf(path, sizeof(path), "%s/cgroup.procs", dirs[i]);
		put(path, "");
		snprintf(path, sizeof(path), "%s/cgroup.events", dirs[i]);
		put(path, "populated 0\nfrozen 0\n");
	}
	put("v2/a/vm/cpu.max", "");
	put("v2/a/vm/cpuset.cpus", "");
	snprintf(line, sizeof(line),
		 "24 30 0:22 / /proc rw - proc proc rw\n"
		 "31 24 0:28 / %s rw - tmpfs tmpfs rw\n"
		 "41 31 0:38 /part /nowhere rw,relatime - cgroup2 cgroup2 rw\n"
		 "42 31 0:38 / %s/v2 rw,relatime shared:4 master:7 - cgroup2 cgroup2 rw,nsdelegate\n",
		 tmp, tmp);
	put("mountinfo", line);
}

static struct cgroup_params params(void)
{
	return (struct cgroup_params){
		.parent = "a",
		.name = "vm",
		.mountinfo = mountinfo,
	};
}

static void set(struct cgroup_params *p, const char *file, const char *value)
{
	p->setting[p->num_settings++] = (struct cgroup_setting){ file, value };
}

static void made(struct cgroup *g, const struct cgroup_params *p)
{
	struct err e;

	if (cgroup_make(g, p, &e) < 0)
		fail_msg("%s", e.text);
}

static void refused(const struct cgroup_params *p, int code, const char *text)
{
	struct cgroup g = { .dir = tmp };
	struct err e;

	assert_int_equal(cgroup_make(&g, p, &e), code);
	assert_ptr_equal(g.dir, tmp);
	if (!strstr(e.text, text))
		fail_msg("'%s' does not say '%s'", e.text, text);
}

static void test_enables_in_each_parent(void **state)
{
	struct cgroup_params p = params();
	struct cgroup g;
	struct err e;

	(void)state;
	stand_in("cpuset cpu io memory\n");
	put("v2/cgroup.subtree_control", "cpu memory\n");
	set(&p, "cpu.max", "50000 100000");
	set(&p, "cpuset.cpus", "0-1");
	made(&g, &p);
	expect_file("v2/cgroup.subtree_control", "+cpuset"); /* it has cpu */
	expect_file("v2/a/cgroup.subtree_control", "+cpu +cpuset");
	expect_file("v2/a/vm/cgroup.subtree_control", "");
	expect_file("v2/a/vm/cpu.max", "50000 100000");
	expect_file("v2/a/vm/cpuset.cpus", "0-1");
	assert_string_equal(g.dir, in_tmp("v2/a/vm"));
	assert_int_equal(cgroup_add(&g, 4711, &e), 0);
	expect_file("v2/a/vm/cgroup.procs", "4711");
	cgroup_free(&g);
	assert_null(g.dir);
}

static void test_missing_controller(void **state)
{
	struct cgroup_params p = params();

	(void)state;
	stand_in("hugetlb cpusets\n");
	set(&p, "cpuset.cpus", "0");
	refused(&p, -ENOENT, "no controller 'cpuset' in '");
	refused(&p, -ENOENT, "/v2/cgroup.controllers' (it has: hugetlb cpusets)");
	put("v2/cgroup.controllers", "\n");
	refused(&p, -ENOENT, "(it has: none)");
	put("v2/cgroup.controllers", "cpuset\n");
	refused(&p, -ENOENT, "/v2/a/cgroup.controllers'");
	p.setting[0].file = "cgroup.kill";
	refused(&p, -ENOENT, "no controller 'cgroup'");
}

static void test_populated_groups_are_refused(void **state)
{
	struct cgroup_params p = params();

	(void)state;
	stand_in("cpu\n");
	put("v2/a/vm/cgroup.procs", "1\n");
	refused(&p, -EBUSY, "/v2/a/vm' has processes");
	put("v2/a/vm/cgroup.procs", "");
	put("v2/a/vm/cgroup.events", "populated 1\nfrozen 0\n");
	refused(&p, -EBUSY, "/v2/a/vm' have processes");
}

static void test_not_mounted(void **state)
{
	struct cgroup_params p = params();

	(void)state;
	put("mountinfo", "37 31 0:34 / /c/freezer rw,relatime - cgroup freezer rw,freezer\n"
			 "garbage\n"
			 "1 2 3 - cgroup2 x\n"
			 "\n"
			 "1 2 3:4 / /x\n"
			 "1 2 3:4 / /x rw -\n"
			 "1 2 3:4 / /x rw - cgroup x\n");
	refused(&p, -ENOENT, "v2 is not mounted");
	assert_int_equal(unlink(mountinfo), 0);
	refused(&p, -ENOENT, "/mountinfo': No such file");
}

static void test_mounts_of_a_part_come_last(void **state)
{
	char *path = NULL;
	struct err e;

	(void)state;
	put("mountinfo", "1 2 3:4 /x/y /part\\040of\\134it rw - cgroup2 cgroup2 rw\n");
	assert_int_equal(cgroup_find_tree(mountinfo, &path, &e), 0);
	assert_string_equal(path, "/part of\\it");
	free(path);
	put("mountinfo", "1 2 3:4 /x/y /part rw - cgroup2 cgroup2 rw\n"
			 "1 2 3:4 / /all rw shared:1 - cgroup2 cgroup2 rw\n"
			 "1 2 3:4 / /again rw - cgroup2 cgroup2 rw\n"
			 "1 2 3:4 / /cc rw - cgroup none rw,cpu,cpuacct\n"
			 "1 2 3:4 / /named\\04 rw - cgroup none rw,name=systemd\n");
	assert_int_equal(cgroup_find_tree(mountinfo, &path, &e), 0);
	assert_string_equal(path, "/all");
	free(path);
}

static void test_failed_writes_name_the_file(void **state)
{
	struct cgroup_params p = params();
	char text[600];

	(void)state;
	stand_in("cpu\n");
	set(&p, "cpu.nothing", "2");
	refused(&p, -ENOENT, "/v2/a/vm/cpu.nothing': No such file");
	p.name = "new"; /* the stand-in makes no files in it: so it is removed again */
	refused(&p, -ENOENT, "/v2/a/new/cpu.nothing");
	assert_int_equal(access(in_tmp("v2/a/new"), F_OK), -1);
	p.parent = "b/c/d";
	refused(&p, -ENOENT, "/v2/b/cgroup.controllers");
	assert_int_equal(access(in_tmp("v2/b"), F_OK), -1);
	p.parent = "a/b/c";
	refused(&p, -ENOENT, "/v2/a/b/cgroup.controllers");
	assert_int_equal(access(in_tmp("v2/a/b"), F_OK), -1);
	assert_int_equal(access(in_tmp("v2/a"), F_OK), 0);
	p.num_settings = 0;
	snprintf(text, sizeof(text), "1 2 3:4 / %s/mountinfo rw - cgroup2 cgroup2 rw\n", tmp);
	put("mountinfo", text);
	refused(&p, -ENOTDIR, "make control group '");
}

static void test_parameters(void **state)
{
	static const char *const bad_files[] = {
		"cpu",	      ".max",	    "cpu.",
		"cpu/../x.y", "../cpu.max", "cpu..max",
		"a/cpu.max",  "",	    "x123456789012345678901234567890123.max",
	};
	static const char *const bad_names[] = { "", ".", "..", "a/b", "/" };
	static const char *const bad_parents[] = { "",	"/",  "/a",	"a/",  "a//b",
						   ".", "..", "a/../b", "a/.", "1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7" };
	struct cgroup_params p;

	(void)state;
	stand_in("cpu\n");
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad_files); i++) {
		p = params();
		set(&p, bad_files[i], "1");
		refused(&p, -EINVAL, "must be CONTROLLER.NAME");
	}
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad_names); i++) {
		p = params();
		p.name = bad_names[i];
		refused(&p, -EINVAL, "control group '");
	}
	for (size_t i = 0; i < MF_ARRAY_SIZE(bad_parents); i++) {
		p = params();
		p.parent = bad_parents[i];
		refused(&p, -EINVAL, "parent control group '");
	}
	p = params();
	set(&p, "cpu.max", "");
	refused(&p, -EINVAL, "'cpu.max': no value");
	p.num_settings = CGROUP_SETTINGS_MAX + 1;
	refused(&p, -E2BIG, "more than 64 settings");
}

/* A process of its own in a group of the kernel's, which goes when it has ended. */
static void try_real(struct cgroup_params *p)
{
	struct cgroup g;
	struct err e;
	char dir[256];
	pid_t pid;
	int r;

	p->mountinfo = NULL;
	p->parent = "mayfly-test/unit";
	p->name = in_tmp("") + strlen("/tmp/"); /* as unique as the directory */
	snprintf(dir, sizeof(dir), "%.*s", (int)strcspn(p->name, "/"), p->name);
	p->name = dir;
	r = cgroup_make(&g, p, &e);
	if (r < 0) {
		print_message("skipped: %s\n", e.text);
		return;
	}
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		pause();
		_exit(0);
	}
	r = cgroup_add(&g, pid, &e);
	if (r < 0)
		print_message("%s\n", e.text);
	assert_int_equal(r, 0);
	snprintf(dir, sizeof(dir), "%s", g.dir);
	p->name = strrchr(dir, '/') + 1;
	refused(p, -EBUSY, "has processes");
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	cgroup_remove(&g);
	assert_int_equal(access(dir, F_OK), -1);
	for (int i = 0; i < 2; i++) {
		*strrchr(dir, '/') = '\0';
		(void)rmdir(dir); /* unless another test uses it */
	}
}

#define LONGEST "a23456789b23456789c23456789d234" /* 31 characters */

/* The longest name of a controller is not cut; a longer one is refused. */
static void test_long_controller(void **state)
{
	struct cgroup_params p = params();
	struct cgroup g;

	(void)state;
	stand_in(LONGEST "\n");
	put("v2/a/vm/" LONGEST ".max", "");
	set(&p, LONGEST ".max", "1");
	made(&g, &p);
	cgroup_free(&g);
	expect_file("v2/cgroup.subtree_control", "+" LONGEST);
	expect_file("v2/a/cgroup.subtree_control", "+" LONGEST);
	p = params();
	set(&p, "x" LONGEST ".max", "1");
	refused(&p, -EINVAL, LONGEST);
}

/* Directories that were there before a step fails are there afterwards, though they could be removed. */
static void test_undo(void **state)
{
	struct cgroup_params p = params();
	char path[300];

	(void)state;
	stand_in("cpu\n");
	snprintf(path, sizeof(path), "%s/v2/bare", tmp);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/v2/bare/vm", tmp);
	assert_int_equal(mkdir(path, 0700), 0);
	p.parent = "bare";
	refused(&p, -ENOENT, "cgroup.procs");
	assert_int_equal(access(path, F_OK), 0);
	/* Those that are new are not. */
	p.parent = "new";
	set(&p, "cpu.max", "1");
	refused(&p, -ENOENT, "cgroup.controllers");
	snprintf(path, sizeof(path), "%s/v2/new", tmp);
	assert_int_equal(access(path, F_OK), -1);
}

/* A group that was there before: with its contents, or replaced. */
static void test_left(void **state)
{
	struct cgroup_params p = params();
	struct cgroup g;

	(void)state;
	stand_in("cpu\n");
	made(&g, &p);
	cgroup_free(&g);
	expect_file("v2/a/vm/cgroup.events", "populated 0\nfrozen 0\n");
	/* A step that fails leaves it there. */
	set(&p, "cpu.missing", "1");
	refused(&p, -ENOENT, "cpu.missing");
	expect_file("v2/a/vm/cgroup.events", "populated 0\nfrozen 0\n");
	/* Here it has files, as a directory of the kernel's has only for who looks. */
	p = params();
	p.fresh = true;
	refused(&p, -EBUSY, "/v2/a/vm'");
}

static void put_limit(const char *dir, const char *text)
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof(path), "%s/cgroup.max.depth", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void expect_limit(const char *dir, const char *text)
{
	char path[300], got[16] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/cgroup.max.depth", dir);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(got, sizeof(got), f));
	fclose(f);
	assert_string_equal(got, text);
}

/* The kernel's own: limits that a run has left are not the next one's. */
static void test_real_left(void **state)
{
	struct cgroup_params p = params();
	struct cgroup g, again;
	char name[64], below[300];
	struct err e;

	(void)state;
	snprintf(name, sizeof(name), "left-%d", (int)getpid());
	p.mountinfo = NULL;
	p.parent = "mayfly-test-left";
	p.name = name;
	if (cgroup_make(&g, &p, &e) < 0) {
		print_message("skipped: %s\n", e.text);
		return;
	}
	put_limit(g.dir, "3");
	made(&again, &p);
	expect_limit(g.dir, "3\n");
	cgroup_free(&again);
	p.fresh = true;
	made(&again, &p);
	expect_limit(g.dir, "max\n");
	cgroup_free(&again);
	snprintf(below, sizeof(below), "%s/below", g.dir);
	assert_int_equal(mkdir(below, 0700), 0);
	refused(&p, -EBUSY, "there are groups in it");
	assert_int_equal(rmdir(below), 0);
	snprintf(below, sizeof(below), "%.*s", (int)(strrchr(g.dir, '/') - g.dir), g.dir);
	cgroup_remove(&g);
	(void)rmdir(below); /* unless another test uses it */
}

static void test_real(void **state)
{
	struct cgroup_params p = params();

	(void)state;
	try_real(&p);
	p = params();
	set(&p, "cpuset.cpus", "0");
	try_real(&p);
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		ONE(test_enables_in_each_parent),
		ONE(test_missing_controller),
		ONE(test_populated_groups_are_refused),
		ONE(test_not_mounted),
		ONE(test_mounts_of_a_part_come_last),
		ONE(test_failed_writes_name_the_file),
		ONE(test_parameters),
		ONE(test_long_controller),
		ONE(test_undo),
		ONE(test_left),
		ONE(test_real),
		ONE(test_real_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
