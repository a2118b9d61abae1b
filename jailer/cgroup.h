/*
 * Control groups: a group of one's own below a parent, its limits, and the processes in it. Version 2 (one hierarchy)
 * and version 1 (one per controller), wherever they are mounted (/proc/self/mountinfo).
 */
#ifndef MF_JAILER_CGROUP_H
#define MF_JAILER_CGROUP_H

#include <sys/types.h>

struct err;

#define CGROUP_SETTINGS_MAX 64
#define CGROUP_DIRS_MAX 16  /* hierarchies of version 1 that a group may have directories in */
#define CGROUP_DEPTH_MAX 16 /* parts of a parent */

/*
 * A file of the group and what is written to it: "cpu.max", "50000 100000". The controller is what is before the dot.
 */
struct cgroup_setting {
	const char *file;
	const char *value;
};

struct cgroup_params {
	unsigned version;   /* 1 or 2 */
	const char *parent; /* below the hierarchy's root, may be of several parts ("a/b"); made if it is missing */
	const char *name;   /* of the group itself: one part */
	struct cgroup_setting setting[CGROUP_SETTINGS_MAX];
	unsigned num_settings;
	const char *mountinfo; /* where the hierarchies are looked up; NULL: /proc/self/mountinfo */
};

struct cgroup {
	char *dir[CGROUP_DIRS_MAX]; /* owned; version 2 has one */
	unsigned num_dirs;
};

/* Whether these can be used: the parent by its form, a setting by its file's name. Return 0 or -EINVAL with e set. */
int cgroup_check_parent(const char *parent, struct err *e);
int cgroup_check_setting(const struct cgroup_setting *s, struct err *e);

/*
 * Makes the group, with the controllers that the settings need enabled in each of its parents (version 2), and writes
 * the settings; one of that name that is empty is taken over. cpuset of version 1 starts with what its parent has.
 * Without settings version 2 has a group without limits, and version 1 none at all (num_dirs is 0). Returns 0 or -errno
 * with e set, which names the file; what was made until then is removed.
 */
int cgroup_make(struct cgroup *ret, const struct cgroup_params *p, struct err *e);

/* Looks for a group of version 2 that exists. Returns 1 with *ret set, 0 if there is none, or -errno with e set. */
int cgroup_find(struct cgroup *ret, const char *path, const char *mountinfo, struct err *e);

/* Moves a process into it. Returns 0 or -errno with e set. */
int cgroup_add(const struct cgroup *g, pid_t pid, struct err *e);

/* Removes the group, which must be empty (it may take the kernel a moment: waits up to a second), and frees. */
void cgroup_remove(struct cgroup *g);

/* Frees, and leaves the group where it is. */
void cgroup_free(struct cgroup *g);

#endif
