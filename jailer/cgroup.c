/*
 * Control groups; see cgroup.h and cgroups(7).
 *
 * They are one tree, wherever it is mounted. A directory has the files of a controller
 * only if its parent lists the controller in cgroup.subtree_control. The parent can list
 * only controllers that its own parent lists. So controllers are enabled from the root of
 * the tree down. A directory with processes cannot enable any, except for the root.
 *
 * The tree belongs to the kernel and to root, or to a user to whom root has delegated it.
 * Nothing here guards against symlinks in it.
 */
#include "jailer/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
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

/* A group that is being made: how many levels at the end of its path are new. */
struct work {
	const struct cgroup_params *p;
	char *dir;
	unsigned made;
};

static void controller_of(const char *file, char name[CONTROLLER_MAX])
{
	snprintf(name, CONTROLLER_MAX, "%.*s", (int)strcspn(file, "."), file);
}

/* Checks of the request. */

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

/* The kernel takes all of it in one write(2), or none. */
int cgroup_write(const char *dir, const char *file, const char *value, struct err *e)
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
static int check_empty(const char *dir, struct err *e)
{
	char text[LIST_MAX];

	if (read_file(dir, "cgroup.procs", text, e) < 0)
		return e->code;
	if (*text)
		return err_set(e, -EBUSY, "control group '%s' has processes: end them, or choose another name", dir);
	/* Those of groups in it count, too: the first line of this file. */
	if (read_file(dir, "cgroup.events", text, e) == 0 && !strcmp(text, "populated 1"))
		return err_set(e, -EBUSY,
			       "groups in control group '%s' have processes: end them, or choose another name", dir);
	return 0;
}

/* Enables in dir what the settings need for groups in it. */
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
				       "by cgroup v1, or not be delegated",
				       name, dir, *have ? have : "none");
		if (len + strlen(plus) + 2 > sizeof(wanted))
			return err_set(e, -E2BIG, "too many controllers");
		len += (size_t)snprintf(wanted + len, sizeof(wanted) - len, "%s%s", len ? " " : "", plus);
	}
	if (!*wanted || cgroup_write(dir, "cgroup.subtree_control", wanted, e) == 0)
		return 0;
	if (e->code == -EBUSY)
		return err_set(e, -EBUSY,
			       "write '%.100s' to '%s/cgroup.subtree_control': the group has processes itself; move them "
			       "to a group in it, or choose another parent",
			       wanted, dir);
	return e->code;
}

/* Replaces the group by an empty one. */
static int remake(const char *dir, struct err *e)
{
	if (rmdir(dir) < 0)
		return err_set(e, -EBUSY,
			       "control group '%s' is a leftover that cannot be removed (%s): remove it, or choose "
			       "another name",
			       dir, errno == EBUSY ? "there are groups in it" : strerror(errno));
	return mkdir(dir, CGROUP_DIR_MODE) < 0 ? err_sys(e, "make control group '%s'", dir) : 0;
}

/* Makes one level below w->dir, which becomes its path. The last one is the group itself, and must be empty. */
static int make_level(struct work *w, const char *part, size_t len, bool last, struct err *e)
{
	MF_FREE char *path = NULL;
	bool made;

	if (asprintf(&path, "%s/%.*s", w->dir, (int)len, part) < 0) {
		path = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "no memory for a path");
	}
	if (enable_controllers(w->p, w->dir, e) < 0)
		return e->code;
	made = mkdir(path, CGROUP_DIR_MODE) == 0;
	if (!made && errno != EEXIST)
		return err_sys(e, "make control group '%s'", path);
	w->made += made;
	free(w->dir);
	w->dir = mf_take_ptr(&path);
	if (made || !last)
		return 0;
	if (check_empty(w->dir, e) < 0)
		return e->code;
	return w->p->fresh ? remake(w->dir, e) : 0;
}

static int make(struct work *w, struct err *e)
{
	const char *part = w->p->parent;

	if (!w->p->base && cgroup_find_tree(w->p->mountinfo, &w->dir, e) < 0)
		return e->code;
	if (w->p->base && !(w->dir = strdup(w->p->base)))
		return err_set(e, -ENOMEM, "no memory for a path");
	while (part) {
		size_t len = strcspn(part, "/");

		if (make_level(w, part, len, false, e) < 0)
			return e->code;
		part = part[len] ? part + len + 1 : NULL;
	}
	if (make_level(w, w->p->name, strlen(w->p->name), true, e) < 0)
		return e->code;
	for (unsigned i = 0; i < w->p->num_settings; i++) {
		if (cgroup_write(w->dir, w->p->setting[i].file, w->p->setting[i].value, e) < 0)
			return e->code;
	}
	return 0;
}

/* Removes the directories that are new. Those in which somebody else has made a group meanwhile stay. */
static void undo(struct work *w)
{
	for (; w->made > 0; w->made--) {
		(void)rmdir(w->dir); /* as said */
		*strrchr(w->dir, '/') = '\0';
	}
	free(w->dir);
}

int cgroup_make(struct cgroup *ret, const struct cgroup_params *p, struct err *e)
{
	struct work w = { .p = p };

	if (check_params(p, e) < 0)
		return e->code;
	if (make(&w, e) < 0) {
		undo(&w);
		return e->code;
	}
	ret->dir = w.dir;
	return 0;
}

int cgroup_add(const struct cgroup *g, pid_t pid, struct err *e)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", (int)pid);
	return cgroup_write(g->dir, "cgroup.procs", text, e);
}

void cgroup_remove(struct cgroup *g)
{
	const uint64_t until = clock_now_ms() + REMOVE_WAIT_MS;

	while (rmdir(g->dir) < 0 && errno == EBUSY && clock_now_ms() < until)
		(void)poll(NULL, 0, REMOVE_POLL_MS); /* however short it was, the clock decides */
	cgroup_free(g);
}

void cgroup_free(struct cgroup *g)
{
	free(g->dir);
	g->dir = NULL;
}
