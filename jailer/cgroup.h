/*
 * Control groups of version 2: a group below a parent, its limits, and the processes in it, wherever the tree is mounted
 * (/proc/self/mountinfo).
 */
#ifndef MF_JAILER_CGROUP_H
#define MF_JAILER_CGROUP_H

#include <stdbool.h>
#include <sys/types.h>

struct err;

#define CGROUP_SETTINGS_MAX 64
#define CGROUP_DEPTH_MAX 16 /* parts of a parent */

/*
 * A file of the group and the text to write to it: "cpu.max", "50000 100000". The part
 * before the dot is the controller.
 */
struct cgroup_setting {
	const char *file;
	const char *value;
};

struct cgroup_params {
	const char *base;   /* the directory of a group; NULL: the tree's root */
	const char *parent; /* below base, may be of several parts ("a/b"); made if it is missing */
	const char *name;   /* of the group itself: one part */
	bool fresh;	    /* a group of that name is removed and made again, without its limits and counters */
	struct cgroup_setting setting[CGROUP_SETTINGS_MAX];
	unsigned num_settings;
	const char *mountinfo; /* the file that names the tree's place; NULL: /proc/self/mountinfo */
};

struct cgroup {
	char *dir; /* owned */
};

/* Check the parent's form, and a setting's file name. Return 0 or -EINVAL with e set. */
int cgroup_check_parent(const char *parent, struct err *e);
int cgroup_check_setting(const struct cgroup_setting *s, struct err *e);

/*
 * Makes the group, enables the controllers that the settings need in each of its parents,
 * and writes the settings. An empty group of that name is reused with its present limits,
 * unless fresh is set. Refuses with -EBUSY a group that has processes, and a group that
 * must be fresh and cannot be removed. Returns 0, or -errno with e set, which names the
 * file; everything made until then is removed.
 */
int cgroup_make(struct cgroup *ret, const struct cgroup_params *p, struct err *e);

/* Writes value to a file of the group in dir. Returns 0 or -errno with e set. */
int cgroup_write(const char *dir, const char *file, const char *value, struct err *e);

/* Moves a process into it; 0: this one. Returns 0 or -errno with e set. */
int cgroup_add(const struct cgroup *g, pid_t pid, struct err *e);

/*
 * Removes the group, which must be empty, and frees. The kernel may need a moment: waits
 * up to a second.
 */
void cgroup_remove(struct cgroup *g);

/* Frees, and leaves the group where it is. */
void cgroup_free(struct cgroup *g);

#endif
