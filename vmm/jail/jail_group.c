/* The control group of a jail; see jail_group.h. */
#include "vmm/jail/jail_group.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/result.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"

#define PARENT "mayfly"
#define RUN_NAME "run-%d" /* of a group without an id, with the process id */
#define TRIES 100
#define TRIES_GONE 10
#define TRY_MS 10
#define EVENTS_MAX 256 /* bytes of memory.events */

static void add_setting(struct cgroup_params *p, const char *file, const char *value)
{
	if (value)
		p->setting[p->num_settings++] = (struct cgroup_setting){ file, value };
}

static void add_settings(struct cgroup_params *p, const struct config_jail *j)
{
	add_setting(p, "cpu.max", j->cpu_max);
	add_setting(p, "memory.max", j->memory_max);
	add_setting(p, "pids.max", j->pids_max);
	for (unsigned i = 0; i < j->num_io_max; i++)
		add_setting(p, "io.max", j->io_max[i]);
}

int jail_group_enter(struct jail_group *g, const struct config_jail *j, struct err *e)
{
	struct cgroup_params p = { 0 };
	struct err why;
	int r;

	add_settings(&p, j);
	if (!p.num_settings)
		return 0;
	r = cgroup_base_find(&g->base, "/proc/self", geteuid(), &why);
	if (!r)
		r = cgroup_base_enter(&g->base, &why);
	if (r == -EACCES || r == -EBUSY)
		return err_set(e, r, "jail: limits: %s; start mayfly in a delegated group of its own: %s", why.text,
			       cgroup_base_advice(geteuid()));
	return r ? err_set(e, r, "jail: limits: %s", why.text) : 0;
}

/* Whether it is the name of the group of a run that has ended, as this PID namespace sees it. */
static bool is_dead(const char *name)
{
	char again[32];
	int pid;

	if (sscanf(name, RUN_NAME, &pid) != 1)
		return false;
	snprintf(again, sizeof(again), RUN_NAME, pid);
	return !strcmp(name, again) && kill(pid, 0) < 0 && errno == ESRCH;
}

/* Removes what killed runs have left. */
static void sweep(const char *base)
{
	char path[CONFIG_PATH_MAX];
	const struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/" PARENT, base);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		if (is_dead(entry->d_name))
			(void)unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR); /* refused if there are processes */
	if (dir)
		closedir(dir);
}

/* Retries while a previous run with this id still ends, or when one has just removed the parent. */
static int jail_group_wait(struct jail_group *g, const struct cgroup_params *p, struct err *e)
{
	static const struct timespec pause = { .tv_nsec = TRY_MS * 1000000L };
	int r;

	for (unsigned i = 0; (r = cgroup_make(&g->cgroup, p, e)) < 0; i++) {
		if (i >= (r == -EBUSY ? TRIES : r == -ENOENT || r == -ENODEV ? TRIES_GONE : 0))
			return r;
		nanosleep(&pause, NULL);
	}
	return 0;
}

int jail_group_make(struct jail_group *g, const struct config_jail *j, struct err *e)
{
	struct cgroup_params p = { .base = g->base.dir, .parent = PARENT, .fresh = true };
	char name[32], path[CONFIG_PATH_MAX], *slash;

	snprintf(name, sizeof(name), RUN_NAME, (int)getpid());
	p.name = j->id ? j->id : name;
	add_settings(&p, j);
	if (!p.num_settings)
		return 0;
	sweep(g->base.dir);
	if (cgroup_base_open(&g->base, e) < 0)
		return err_wrap(e, "limits");
	if (jail_group_wait(g, &p, e) < 0)
		return e->code == -EBUSY ? e->code : err_wrap(e, "limits"); /* of another run with this id */
	g->made = true;
	/* Now: the seccomp filter of the process outside forbids opening it later. */
	snprintf(path, sizeof(path), "%s/memory.events", g->cgroup.dir);
	g->events_fd = open(path, O_RDONLY | O_CLOEXEC);
	g->parent = strdup(g->cgroup.dir);
	slash = g->parent ? strrchr(g->parent, '/') : NULL;
	if (slash)
		*slash = '\0';
	return 0;
}

bool jail_group_had_oom(const struct jail_group *g)
{
	char text[EVENTS_MAX];
	const char *line;
	ssize_t len;

	if (!g->made)
		return false;
	len = fdio_pread(g->events_fd, text, sizeof(text) - 1, 0); /* -1: without memory.events */
	text[len > 0 ? len : 0] = '\0';
	line = strstr(text, "oom_kill ");
	if (!line || line[sizeof("oom_kill ") - 1] == '0')
		return false;
	result_set(END_OOM, -1, SIGKILL);
	return true;
}

static void remove_group(struct jail_group *g)
{
	if (g->events_fd >= 0)
		close(g->events_fd);
	cgroup_remove(&g->cgroup);
	if (g->parent)
		(void)rmdir(g->parent); /* other jails may use it */
	free(g->parent);
}

void jail_group_remove(struct jail_group *g)
{
	if (g->made)
		remove_group(g);
	cgroup_base_leave(&g->base);
	*g = (struct jail_group){ 0 };
}
