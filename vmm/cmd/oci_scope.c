/*
 * The control group of a container as a transient scope of systemd; see oci_parts.h. In a slice, systemd takes controllers away
 * that none of its units needs, at the next change of any unit there, and the limits go with them. So it has to know the group.
 *
 * systemd-run makes the scope with its own process in it, gives it the limits as properties, and becomes a shell, which says so
 * and waits. Then the monitor enters the scope, and the shell is killed. A scope without processes ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "jailer/cgroup_mount.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/cmd/oci_parts.h"
#include "vmm/cmd/words.h"
#include "vmm/helper/spawn.h"

#define SYSTEMD_MS 30000 /* for systemd's answer */
#define SAID_MAX 4096
#define PROPERTY_MAX (SPEC_VALUE_MAX + 32)

static int add_property(struct words *w, const char *option, const char *name, const char *value, struct err *e)
{
	char text[PROPERTY_MAX];

	snprintf(text, sizeof(text), "%s=%s", name, value);
	return option && words_add(w, option, e) < 0 ? e->code : words_add(w, text, e);
}

/* cpu.max as two properties: a part of one CPU in percent, and the period. */
static int add_quota(struct words *w, const char *option, const char *value, struct err *e)
{
	unsigned long long quota, period;
	char text[64];

	if (sscanf(value, "%llu %llu", &quota, &period) != 2 || !period)
		return 0; /* "max", which is the default */
	snprintf(text, sizeof(text), "%.2f%%", (double)quota * 100 / (double)period);
	if (add_property(w, option, "CPUQuota", text, e) < 0)
		return e->code;
	snprintf(text, sizeof(text), "%lluus", period);
	return add_property(w, option, "CPUQuotaPeriodSec", text, e);
}

/* What systemd manages: what else is set, it leaves alone. */
static int add_setting(struct words *w, const char *option, const struct cgroup_setting *s, struct err *e)
{
	static const char *const names[][2] = {
		{ "memory.max", "MemoryMax" },	  { "memory.high", "MemoryHigh" },
		{ "memory.low", "MemoryLow" },	  { "memory.min", "MemoryMin" },
		{ "cpu.weight", "CPUWeight" },	  { "memory.swap.max", "MemorySwapMax" },
		{ "cpuset.cpus", "AllowedCPUs" }, { "cpuset.mems", "AllowedMemoryNodes" },
		{ "pids.max", "TasksMax" },
	};

	if (!strcmp(s->file, "cpu.max"))
		return add_quota(w, option, s->value, e);
	for (size_t i = 0; i < MF_ARRAY_SIZE(names); i++)
		if (!strcmp(s->file, names[i][0]))
			return add_property(w, option, names[i][1], !strcmp(s->value, "max") ? "infinity" : s->value,
					    e);
	return 0;
}

/* Words, and behind them the settings. */
static int make_words(struct words *w, const char *const *words, const char *option, const struct cgroup_setting *s,
		      unsigned num, struct err *e)
{
	for (; *words; words++)
		if (words_add(w, *words, e) < 0)
			return e->code;
	for (unsigned i = 0; i < num; i++)
		if (add_setting(w, option, &s[i], e) < 0)
			return e->code;
	return 0;
}

/* Reads until a line that is empty, the end, or a limit in time. Returns 0 for that line, or -errno. */
static int await_line(int fd, char text[SAID_MAX])
{
	const uint64_t until = clock_now_ms() + SYSTEMD_MS;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t len = 0;

	for (uint64_t now = clock_now_ms(); len < SAID_MAX - 1; now = clock_now_ms()) {
		const int n = now < until ? poll(&p, 1, (int)(until - now)) : 0;
		ssize_t got;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ETIMEDOUT;
		got = read(fd, text + len, SAID_MAX - 1 - len);
		if (got <= 0)
			break;
		len += (size_t)got;
		text[len] = '\0';
		if (*text == '\n' || strstr(text, "\n\n"))
			return 0;
	}
	return -ECHILD;
}

static void end(pid_t *pid)
{
	if (*pid > 0) {
		(void)kill(*pid, SIGKILL); /* our child, which has not been waited for */
		(void)words_wait(*pid);	   /* that is how it ends */
	}
	*pid = -1;
}

/* Starts a program, which says an empty line when all is done, and stays. Returns its PID, or -errno with e set. */
static pid_t ask_systemd(const struct words *w, struct err *e)
{
	static const char *const none[] = { NULL };
	char text[SAID_MAX] = "";
	MF_CLOSE int said = -1;
	int fd[2], r;
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	said = fd[0];
	pid = spawn_start((const char *const *)w->word, (const int[SPAWN_FDS]){ -1, fd[1], fd[1], -1 }, SIGKILL,
			  "systemd", e);
	close(fd[1]);
	if (pid < 0)
		return pid;
	r = await_line(said, text);
	if (r == 0)
		return pid;
	end(&pid);
	return r == -ECHILD ? err_set(e, r, "%s: %s", w->word[0], spawn_last_line(text, none)) :
			      err_neg(e, r, "wait for %s", w->word[0]);
}

bool oci_scope_is_possible(void)
{
	return access("/run/systemd/private", W_OK) == 0;
}

static int find(struct cgroup *ret, pid_t holder, struct err *e)
{
	MF_FREE char *tree = NULL;
	char proc[32];

	snprintf(proc, sizeof(proc), "/proc/%d", (int)holder);
	if (cgroup_find_own(proc, &ret->dir, &tree, e) < 0)
		return e->code;
	return ret->dir ? 0 : err_set(e, -ENOENT, "the group of its scope is not shown here");
}

int oci_scope_make(struct cgroup *ret, pid_t *ret_holder, const char *slice, const char *unit,
		   const struct cgroup_setting *s, unsigned num, struct err *e)
{
	static struct words w;
	char in[PROPERTY_MAX], name[PROPERTY_MAX];
	struct cgroup group = { NULL };
	pid_t holder;
	int r;

	snprintf(in, sizeof(in), "--slice=%s", slice);
	snprintf(name, sizeof(name), "--unit=%s", unit);
	if (make_words(&w,
		       (const char *const[]){ "systemd-run", "--scope", "--quiet", "--collect", in, name, "-p",
					      "Delegate=yes", NULL },
		       "-p", s, num, e) < 0 ||
	    make_words(&w, (const char *const[]){ "--", "sh", "-c", "echo; exec sleep 300", NULL }, NULL, NULL, 0, e) <
		    0)
		return e->code;
	holder = ask_systemd(&w, e);
	r = holder < 0 ? (int)holder : find(&group, holder, e);
	for (unsigned i = 0; !r && i < num; i++)
		r = cgroup_check_setting(&s[i], e) < 0 ? e->code : cgroup_write(group.dir, s[i].file, s[i].value, e);
	if (r < 0) {
		cgroup_free(&group);
		end(&holder);
		return r;
	}
	*ret = group;
	*ret_holder = holder;
	return 0;
}

void oci_scope_leave(pid_t *holder)
{
	end(holder);
}

int oci_scope_set(const char *dir, const struct cgroup_setting *s, unsigned num, struct err *e)
{
	const char *const change[] = { "sh",	       "-c",	    "systemctl \"$@\" && echo", "sh",
				       "set-property", "--runtime", strrchr(dir, '/') + 1,	NULL };
	static struct words w;
	pid_t pid;

	if (make_words(&w, change, NULL, s, num, e) < 0)
		return e->code;
	if (w.num == MF_ARRAY_SIZE(change) - 1)
		return 0; /* systemd manages none of them */
	pid = ask_systemd(&w, e);
	if (pid < 0)
		return pid;
	end(&pid);
	return 0;
}
