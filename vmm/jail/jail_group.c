/* The control group of a jail; see jail_group.h. */
#include "vmm/jail/jail_group.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "jailer/jail.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/result.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"

#define PARENT "mayfly"
#define TRIES 100
#define TRY_MS 10
#define EVENTS_MAX 256 /* bytes of memory.events */

static void add_setting(struct cgroup_params *p, const char *file, const char *value)
{
	if (value)
		p->setting[p->num_settings++] = (struct cgroup_setting){ file, value };
}

/* Retries while a previous run with this id still ends. */
static int jail_group_wait(struct jail_group *g, const struct cgroup_params *p, struct err *e)
{
	static const struct timespec pause = { .tv_nsec = TRY_MS * 1000000L };
	int r;

	for (unsigned i = 0; (r = cgroup_make(&g->cgroup, p, e)) == -EBUSY && i < TRIES; i++)
		nanosleep(&pause, NULL);
	return r;
}

int jail_group_make(struct jail_group *ret, const struct config_jail *j, struct err *e)
{
	struct cgroup_params p = { .parent = PARENT, .fresh = true };
	struct jail_group g = { .made = true };
	char name[32], path[CONFIG_PATH_MAX], *slash;

	snprintf(name, sizeof(name), "run-%d", (int)getpid());
	p.name = j->id ? j->id : name;
	add_setting(&p, "cpu.max", j->cpu_max);
	add_setting(&p, "memory.max", j->memory_max);
	add_setting(&p, "pids.max", j->pids_max);
	for (unsigned i = 0; i < j->num_io_max; i++)
		add_setting(&p, "io.max", j->io_max[i]);
	if (!p.num_settings)
		return 0;
	if (jail_group_wait(&g, &p, e) < 0)
		return e->code == -EBUSY ? e->code : (err_wrap(e, "limits"), jail_lacks(j->strict, e));
	/* Now: the seccomp filter of the process outside forbids opening it later. */
	snprintf(path, sizeof(path), "%s/memory.events", g.cgroup.dir);
	g.events_fd = open(path, O_RDONLY | O_CLOEXEC);
	g.parent = strdup(g.cgroup.dir);
	slash = g.parent ? strrchr(g.parent, '/') : NULL;
	if (slash)
		*slash = '\0';
	*ret = g;
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

void jail_group_remove(struct jail_group *g)
{
	if (!g->made)
		return;
	if (g->events_fd >= 0)
		close(g->events_fd);
	cgroup_remove(&g->cgroup);
	if (g->parent)
		(void)rmdir(g->parent); /* other jails may use it */
	free(g->parent);
	*g = (struct jail_group){ 0 };
}
