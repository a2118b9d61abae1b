/*
 * Control groups; see cgroup.h and cgroups(7).
 *
 * Version 2 is one tree, whatever it is mounted as. A directory has the files of those controllers only that its parent
 * has in cgroup.subtree_control, and the parent can only have those that its own parent gave it: so they are enabled
 * from the root of the tree down. A directory that has processes cannot enable any, except for the root.
 *
 * Version 1 is one tree for each controller, or for several that were mounted together. A group is a directory of the
 * same name in each tree that a setting needs, and a process is moved in each. A new directory of cpuset has no CPUs
 * and no memory nodes, and takes no processes until it has both: they are copied from the directory above, at every
 * level.
 *
 * The trees are the kernel's and root's (or of whom root gave them to): nothing here guards against links in them.
 */
#include "jailer/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "jailer/cgroup_mount.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"

#define LIST_MAX 1024 /* bytes of a list of controllers, or of CPUs */
#define CONTROLLER_MAX 32
#define CGROUP_DIR_MODE 0755
#define REMOVE_WAIT_MS 1000
#define REMOVE_POLL_MS 5

/* A group that is being made: how many levels at the end of each path are new. */
struct work {
	const struct cgroup_params *p;
	struct cgroup *g;
	unsigned made[CGROUP_DIRS_MAX];
};

static void controller_of(const char *file, char name[CONTROLLER_MAX])
{
	snprintf(name, CONTROLLER_MAX, "%.*s", (int)strcspn(file, "."), file);
}

/* Checking what was asked for. */

static int check_part(const char *part, size_t len, struct err *e)
{
	if (len == 0 || len > NAME_MAX || memchr(part, '/', len) || (len == 1 && *part == '.') ||
	    (len == 2 && !strncmp(part, "..", 2)))
		return err_set(e, -EINVAL,
			       "control group '%.60s': must be a name, neither empty nor '.', '..' or with a '/'",
			       part);
	return 0;
}

int cgroup_check_parent(const char *parent, struct err *e)
{
	unsigned depth = 0;

	for (const char *part = parent; part; depth++) {
		size_t len = strcspn(part, "/");

		if (check_part(part, len, e) < 0)
			return err_set(e, -EINVAL,
				       "parent control group '%.200s': must be relative, without empty parts, '.' or '..'",
				       parent);
		part = part[len] ? part + len + 1 : NULL;
	}
	if (depth > CGROUP_DEPTH_MAX)
		return err_set(e, -EINVAL, "parent control group '%.60s...' has %u levels, more than %d", parent, depth,
			       CGROUP_DEPTH_MAX);
	return 0;
}

int cgroup_check_setting(const struct cgroup_setting *s, struct err *e)
{
	size_t dot = strcspn(s->file, ".");

	if (!s->file[dot] || dot == 0 || dot >= CONTROLLER_MAX || !s->file[dot + 1] || strchr(s->file, '/') ||
	    strstr(s->file, "..") || strlen(s->file) > NAME_MAX)
		return err_set(e, -EINVAL,
			       "control group file '%.60s': must be CONTROLLER.NAME, such as cpu.max, without '/' or '..'",
			       s->file);
	if (!*s->value)
		return err_set(e, -EINVAL, "control group file '%s': no value given", s->file);
	return 0;
}

static int check_params(const struct cgroup_params *p, struct err *e)
{
	if (p->version != 1 && p->version != 2)
		return err_set(e, -EINVAL, "control groups have version 1 or 2, not %u", p->version);
	if (p->num_settings > CGROUP_SETTINGS_MAX)
		return err_set(e, -E2BIG, "more than %d settings of a control group", CGROUP_SETTINGS_MAX);
	for (unsigned i = 0; i < p->num_settings; i++) {
		if (cgroup_check_setting(&p->setting[i], e) < 0)
			return e->code;
	}
	if (check_part(p->name, strlen(p->name), e) < 0)
		return e->code;
	return cgroup_check_parent(p->parent, e);
}

/* Files. */

static int read_file(const char *dir, const char *file, char text[LIST_MAX], struct err *e)
{
	MF_FREE char *path = NULL;
	MF_CLOSE int fd = -1;
	ssize_t n;

	if (asprintf(&path, "%s/%s", dir, file) < 0)
		return err_set(e, -ENOMEM, "no memory for a path");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, "open '%s'", path);
	n = fdio_pread(fd, text, LIST_MAX - 1, 0);
	if (n < 0)
		return err_neg(e, (int)n, "read '%s'", path);
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0'; /* a list is one line; of processes, the first will do */
	return 0;
}

/* The kernel takes what it is given in one write(2), or not. */
static int write_file(const char *dir, const char *file, const char *value, struct err *e)
{
	MF_FREE char *path = NULL;
	MF_CLOSE int fd = -1;
	size_t len = strlen(value);
	ssize_t n;

	if (asprintf(&path, "%s/%s", dir, file) < 0)
		return err_set(e, -ENOMEM, "no memory for a path");
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, "open '%s'", path);
	n = write(fd, value, len);
	if (n >= 0 && (size_t)n != len)
		errno = EIO;
	return n >= 0 && (size_t)n == len ? 0 : err_sys(e, "write '%.100s' to '%s'", value, path);
}

/* Making directories. */

/* A directory that was there already must have no processes: they would get the limits, and it would not be removed. */
static int check_empty(const char *dir, unsigned version, struct err *e)
{
	char text[LIST_MAX];

	if (read_file(dir, "cgroup.procs", text, e) < 0)
		return e->code;
	if (*text)
		return err_set(e, -EBUSY, "control group '%s' has processes: end them, or choose another name", dir);
	/* Those of groups in it count, too; only version 2 tells, in the first line of this file. */
	if (version == 2 && read_file(dir, "cgroup.events", text, e) == 0 && !strcmp(text, "populated 1"))
		return err_set(e, -EBUSY,
			       "groups in control group '%s' have processes: end them, or choose another name", dir);
	return 0;
}

/* Gives dir the CPUs and memory nodes of the directory above, if it has none. */
static int inherit_cpuset(const char *above, const char *dir, struct err *e)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
	char text[LIST_MAX];

	for (size_t i = 0; i < MF_ARRAY_SIZE(files); i++) {
		if (read_file(dir, files[i], text, e) < 0)
			return e->code;
		if (*text)
			continue;
		if (read_file(above, files[i], text, e) < 0)
			return e->code;
		if (!*text)
			return err_set(e, -ENODATA, "'%s/%s' is empty, so that groups in it can have none either",
				       above, files[i]);
		if (write_file(dir, files[i], text, e) < 0)
			return e->code;
	}
	return 0;
}

/* Version 2: enables in dir what the settings need for groups in it. */
static int enable_controllers(const struct cgroup_params *p, const char *dir, struct err *e)
{
	char have[LIST_MAX], enabled[LIST_MAX], wanted[LIST_MAX] = "", name[CONTROLLER_MAX];
	size_t len = 0;

	if (p->num_settings == 0)
		return 0;
	if (read_file(dir, "cgroup.controllers", have, e) < 0 ||
	    read_file(dir, "cgroup.subtree_control", enabled, e) < 0)
		return e->code;
	for (unsigned i = 0; i < p->num_settings; i++) {
		char plus[CONTROLLER_MAX + 2];

		controller_of(p->setting[i].file, name);
		snprintf(plus, sizeof(plus), "+%s", name);
		if (cgroup_list_has(enabled, name) || cgroup_list_has(wanted, plus))
			continue;
		if (!cgroup_list_has(have, name))
			return err_set(e, -ENOENT,
				       "no controller '%s' in '%s/cgroup.controllers' (it has: %s): it may be in use "
				       "by version 1, or not be delegated",
				       name, dir, *have ? have : "none");
		if (len + strlen(plus) + 2 > sizeof(wanted))
			return err_set(e, -E2BIG, "too many controllers");
		len += (size_t)snprintf(wanted + len, sizeof(wanted) - len, "%s%s", len ? " " : "", plus);
	}
	if (!*wanted || write_file(dir, "cgroup.subtree_control", wanted, e) == 0)
		return 0;
	if (e->code == -EBUSY)
		return err_set(e, -EBUSY,
			       "write '%.100s' to '%s/cgroup.subtree_control': the group has processes itself; move them "
			       "to a group in it, or choose another parent",
			       wanted, dir);
	return e->code;
}

/* Version 1 and a tree with cpuset: only there has the root these files. */
static int inherit_if_cpuset(const struct work *w, const char *above, const char *dir, struct err *e)
{
	char file[PATH_MAX];

	if (w->p->version != 1 || snprintf(file, sizeof(file), "%s/cpuset.cpus", above) >= (int)sizeof(file) ||
	    access(file, F_OK) < 0)
		return 0;
	return inherit_cpuset(above, dir, e);
}

/* Makes one level below g->dir[i], which becomes its path. The last one is the group itself, and must be empty. */
static int make_level(struct work *w, unsigned i, const char *part, size_t len, bool last, struct err *e)
{
	MF_FREE char *above = NULL, *path = NULL;
	char **dir = &w->g->dir[i];
	bool made;

	if (asprintf(&path, "%s/%.*s", *dir, (int)len, part) < 0)
		return err_set(e, -ENOMEM, "no memory for a path");
	if (w->p->version == 2 && enable_controllers(w->p, *dir, e) < 0)
		return e->code;
	made = mkdir(path, CGROUP_DIR_MODE) == 0;
	if (!made && errno != EEXIST)
		return err_sys(e, "make control group '%s'", path);
	w->made[i] += made;
	above = *dir;
	*dir = mf_take_ptr(&path);
	if (!made && last && check_empty(*dir, w->p->version, e) < 0)
		return e->code;
	return inherit_if_cpuset(w, above, *dir, e);
}

/* Makes the group in the tree whose root is g->dir[i], which becomes the path of the group. */
static int make_path(struct work *w, unsigned i, struct err *e)
{
	const char *part = w->p->parent;

	while (part) {
		size_t len = strcspn(part, "/");

		if (make_level(w, i, part, len, false, e) < 0)
			return e->code;
		part = part[len] ? part + len + 1 : NULL;
	}
	return make_level(w, i, w->p->name, strlen(w->p->name), true, e);
}

static int make_v2(struct work *w, struct err *e)
{
	struct cgroup *g = w->g;

	if (cgroup_find_v2(w->p->mountinfo, &g->dir[0], e) < 0)
		return e->code;
	g->num_dirs = 1;
	if (make_path(w, 0, e) < 0)
		return e->code;
	for (unsigned i = 0; i < w->p->num_settings; i++) {
		if (write_file(g->dir[0], w->p->setting[i].file, w->p->setting[i].value, e) < 0)
			return e->code;
	}
	return 0;
}

/*
 * Version 1: the index of the group's directory in the tree of one controller, which is made unless an earlier setting
 * has. Returns that or -errno.
 */
static int make_for_controller(struct work *w, char *root[], const char *controller, struct err *e)
{
	struct cgroup *g = w->g;
	MF_FREE char *mount = NULL;
	unsigned i = 0;

	if (cgroup_find_v1(w->p->mountinfo, controller, &mount, e) < 0)
		return e->code;
	while (i < g->num_dirs && strcmp(root[i], mount) != 0)
		i++;
	if (i < g->num_dirs)
		return (int)i;
	if (i == CGROUP_DIRS_MAX)
		return err_set(e, -E2BIG, "control groups in more than %d hierarchies", CGROUP_DIRS_MAX);
	g->dir[i] = strdup(mount);
	if (!g->dir[i])
		return err_set(e, -ENOMEM, "no memory for a path");
	root[i] = mf_take_ptr(&mount);
	g->num_dirs++;
	return make_path(w, i, e) < 0 ? e->code : (int)i;
}

static int make_v1(struct work *w, struct err *e)
{
	char *root[CGROUP_DIRS_MAX] = { 0 };
	char controller[CONTROLLER_MAX];
	int at = 0;

	for (unsigned i = 0; i < w->p->num_settings && at >= 0; i++) {
		const struct cgroup_setting *s = &w->p->setting[i];

		controller_of(s->file, controller);
		at = make_for_controller(w, root, controller, e);
		if (at >= 0 && write_file(w->g->dir[at], s->file, s->value, e) < 0)
			at = e->code;
	}
	for (unsigned i = 0; i < CGROUP_DIRS_MAX; i++)
		free(root[i]);
	return at < 0 ? at : 0;
}

/* Removes the directories that are new. Those that somebody else has put a group into meanwhile stay. */
static void undo(struct work *w)
{
	for (unsigned i = 0; i < w->g->num_dirs; i++) {
		char *dir = w->g->dir[i];

		for (; w->made[i] > 0; w->made[i]--) {
			(void)rmdir(dir); /* as said */
			*strrchr(dir, '/') = '\0';
		}
	}
}

int cgroup_make(struct cgroup *ret, const struct cgroup_params *p, struct err *e)
{
	struct cgroup g = { 0 };
	struct work w = { .p = p, .g = &g };

	if (check_params(p, e) < 0)
		return e->code;
	if ((p->version == 2 ? make_v2(&w, e) : make_v1(&w, e)) < 0) {
		undo(&w);
		cgroup_free(&g);
		return e->code;
	}
	*ret = g;
	return 0;
}

int cgroup_find(struct cgroup *ret, const char *path, const char *mountinfo, struct err *e)
{
	MF_FREE char *mount = NULL;
	char *dir;
	struct stat st;

	if (cgroup_check_parent(path, e) < 0 || cgroup_find_v2(mountinfo, &mount, e) < 0)
		return e->code;
	if (asprintf(&dir, "%s/%s", mount, path) < 0)
		return err_set(e, -ENOMEM, "no memory for a path");
	if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
		free(dir);
		return 0;
	}
	*ret = (struct cgroup){ .dir = { dir }, .num_dirs = 1 };
	return 1;
}

int cgroup_add(const struct cgroup *g, pid_t pid, struct err *e)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", (int)pid);
	for (unsigned i = 0; i < g->num_dirs; i++) {
		if (write_file(g->dir[i], "cgroup.procs", text, e) < 0)
			return e->code;
	}
	return 0;
}

void cgroup_remove(struct cgroup *g)
{
	const struct timespec poll = { .tv_nsec = REMOVE_POLL_MS * 1000000L };
	const uint64_t until = clock_now_ms() + REMOVE_WAIT_MS;

	for (unsigned i = 0; i < g->num_dirs; i++) {
		while (rmdir(g->dir[i]) < 0 && errno == EBUSY && clock_now_ms() < until)
			(void)nanosleep(&poll, NULL); /* however short it was, the clock decides */
	}
	cgroup_free(g);
}

void cgroup_free(struct cgroup *g)
{
	for (unsigned i = 0; i < g->num_dirs; i++)
		free(g->dir[i]);
	*g = (struct cgroup){ 0 };
}
