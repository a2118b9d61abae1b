/* In which control group a process may make others: against directories and files that stand in for the kernel's. */
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "jailer/cgroup_base.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define USER 1000
#define MOUNT "31 24 0:28 %s %s/%s rw,nosuid - cgroup2 cgroup2 rw\n"

static char tmp[64], proc[80];

static const char *in_tmp(const char *path)
{
	static char text[256];

	snprintf(text, sizeof(text), "%s/%s", tmp, path);
	return text;
}

static void put(const char *path, const char *text)
{
	FILE *f = fopen(in_tmp(path), "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

/* A group with these processes, all of whose files may be written. */
static void group(const char *name, const char *processes)
{
	static const char *const files[] = { "cgroup.procs", "cgroup.subtree_control", "cgroup.type",
					     "cgroup.controllers" };
	const char *texts[] = { processes, "", "domain\n", "cpuset memory\n" };
	char path[200];

	(void)mkdir(in_tmp(name), 0700);
	for (size_t i = 0; i < MF_ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", name, files[i]);
		put(path, texts[i]);
	}
}

/* The group of this process, and the mounts, each with the part that it shows and its place. */
static void place(const char *own, const char *part, const char *at, const char *part2, const char *at2)
{
	char text[600];

	snprintf(text, sizeof(text), "4:pids:/v1\n1:name=systemd:/v1\n0::%s\n", own);
	put("proc/cgroup", text);
	snprintf(text, sizeof(text), MOUNT "24 30 0:22 / /proc rw - proc proc rw\n" MOUNT, part, tmp, at,
		 part2 ? part2 : "/", tmp, part2 ? at2 : at);
	put("proc/mountinfo", text);
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
	strcpy(tmp, "/tmp/test_cgroup_base_XXXXXX");
	assert_non_null(mkdtemp(tmp));
	snprintf(proc, sizeof(proc), "%s/proc", tmp);
	assert_int_equal(mkdir(proc, 0700), 0);
	group("v2", "1\n");
	assert_int_equal(unlink(in_tmp("v2/cgroup.type")), 0); /* the root of the tree */
	group("v2/user.slice", "");
	group("v2/user.slice/my.scope", "");
	group("v2/user.slice/my.scope/sub", "");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return nftw(tmp, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void found(uid_t uid, const char *dir, bool inside)
{
	struct cgroup_base b;
	struct err e;

	if (cgroup_base_find(&b, proc, uid, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(b.dir, in_tmp(dir));
	assert_int_equal(b.inside, inside);
	cgroup_base_leave(&b);
	assert_null(b.dir);
}

static void refused(uid_t uid, int code, const char *text)
{
	struct cgroup_base b;
	struct err e;

	assert_int_equal(cgroup_base_find(&b, proc, uid, &e), code);
	if (!strstr(e.text, text))
		fail_msg("'%s' does not say '%s'", e.text, text);
}

static void test_own(void **state)
{
	(void)state;
	place("/user.slice/my.scope", "/", "v2", NULL, NULL);
	found(USER, "v2/user.slice/my.scope", true);
	/* Whatever else is there: its parent is systemd's. */
	group("v2/user.slice/my.scope", "1\n");
	found(USER, "v2/user.slice/my.scope", true);
	/* Not a part of it. */
	for (const char *const *file = (const char *const[]){ "cgroup.procs", "cgroup.subtree_control", NULL }; *file;
	     file++) {
		char path[128];

		group("v2/user.slice/my.scope", "");
		snprintf(path, sizeof(path), "v2/user.slice/my.scope/%s", *file);
		assert_int_equal(unlink(in_tmp(path)), 0);
		refused(USER, -EACCES, "not delegated to user 1000");
	}
}

static void test_group_in_a_delegated_one(void **state)
{
	char self[32];

	(void)state;
	place("/user.slice/my.scope/sub", "/", "v2", NULL, NULL);
	found(USER, "v2/user.slice/my.scope/sub", true);
	snprintf(self, sizeof(self), "%d\n", (int)getpid());
	group("v2/user.slice/my.scope/sub", self);
	found(USER, "v2/user.slice/my.scope/sub", true);
	strcat(self, "1\n");
	group("v2/user.slice/my.scope/sub", self);
	found(USER, "v2/user.slice/my.scope", false);
	/* If its own files are root's, too. */
	assert_int_equal(unlink(in_tmp("v2/user.slice/my.scope/sub/cgroup.procs")), 0);
	found(USER, "v2/user.slice/my.scope", false);
	group("v2/user.slice/my.scope", "1\n");
	refused(USER, -EACCES, "not delegated to user 1000");
	/* Nor is a group above the mount. */
	group("v2/user.slice/my.scope", "");
	place("/user.slice/my.scope/sub", "/user.slice/my.scope/sub", "v2/user.slice/my.scope/sub", NULL, NULL);
	refused(USER, -EACCES, "not delegated");
}

static void test_root(void **state)
{
	(void)state;
	place("/user.slice/my.scope", "/", "v2", NULL, NULL);
	found(0, "v2", false);
	if (setxattr(in_tmp("v2/user.slice/my.scope"), "user.delegate", "0", 1, 0) < 0)
		skip(); /* no such attributes in /tmp */
	found(0, "v2", false);
	assert_int_equal(setxattr(in_tmp("v2/user.slice/my.scope"), "user.delegate", "1", 1, 0), 0);
	found(0, "v2/user.slice/my.scope", true);
	place("/user.slice/my.scope/sub", "/", "v2", NULL, NULL);
	found(0, "v2/user.slice/my.scope", false);
	group("v2/user.slice/my.scope", "1\n");
	found(0, "v2", false);
}

static void test_views(void **state)
{
	(void)state;
	/* The root of a container's namespace has processes and a type, the tree's has none. */
	group("c", "");
	place("/", "/", "c", NULL, NULL);
	found(USER, "c", true);
	found(0, "c", true);
	place("/", "/", "v2", NULL, NULL);
	found(0, "v2", false);
	/* A mount of a part; whole mounts go before it, and of parts the one with this group. */
	place("/a/b/c", "/a/b", "v2/user.slice", "/a/b/c/d", "v2");
	group("v2/user.slice/c", "");
	found(USER, "v2/user.slice/c", true);
	place("/user.slice", "/user.slice/my.scope", "c", "/", "v2");
	found(USER, "v2/user.slice", true);
	place("/user.slicer", "/user.slice", "c", "/user.slice", "c");
	refused(USER, -EACCES, "does not show");
	/* A later mount hides the one at its place. */
	place("/x/y", "/", "c", "/x/y", "c");
	found(USER, "c", true);
	/* From another namespace. */
	place("/../x", "/", "v2", NULL, NULL);
	refused(USER, -EACCES, "does not show");
	found(0, "v2", false);
}

static void test_no_version_2(void **state)
{
	(void)state;
	refused(USER, -ENOENT, "/cgroup': No such file");
	place("/", "/", "v2", NULL, NULL);
	put("proc/cgroup", "4:pids:/v1\n1:name=0::/x:/v1\n");
	refused(USER, -ENOENT, "no cgroup v2");
	refused(0, -ENOENT, "no cgroup v2");
	put("proc/cgroup", "0::/\n");
	put("proc/mountinfo", "31 24 0:28 / /c rw - cgroup cgroup rw,pids\n");
	refused(0, -ENOENT, "not mounted");
	/* Hybrid: version 1 has the controllers. */
	place("/user.slice/my.scope", "/", "v2", NULL, NULL);
	put("v2/cgroup.controllers", "hugetlb cpuset\n");
	refused(USER, -ENOENT, "no controllers");
	refused(0, -ENOENT, "no controllers");
}

/* A step that fails leaves nothing behind. */
static void test_cannot_move(void **state)
{
	struct cgroup_base b;
	struct err e;

	(void)state;
	place("/user.slice/my.scope", "/", "v2", NULL, NULL);
	assert_int_equal(cgroup_base_find(&b, proc, USER, &e), 0);
	assert_int_equal(cgroup_base_check(&b, &e), 0);
	group("v2/user.slice/my.scope", "7\n");
	assert_int_equal(cgroup_base_check(&b, &e), -EBUSY);
	assert_non_null(strstr(e.text, "such as 7)"));
	assert_int_equal(cgroup_base_enter(&b, &e), -ENOENT); /* these directories do not fill themselves */
	assert_non_null(strstr(e.text, "/cgroup.procs'"));
	cgroup_base_leave(&b);
	assert_int_equal(access(in_tmp("v2/user.slice/my.scope/mayfly-outer"), F_OK), -1);
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		ONE(test_own),		ONE(test_group_in_a_delegated_one),
		ONE(test_root),		ONE(test_views),
		ONE(test_no_version_2), ONE(test_cannot_move),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
