/* `mayfly oci start`, `state`, `kill`, `delete`, `pause`, `resume`, `update`, `list`: what acts on a container that is there. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/cmd/oci_parts.h"
#include "vmm/guest/control.h"
#include "vmm/oci/json_at.h"
#include "vmm/records/record.h"

#define KILL_MS 10000 /* for a process to end by SIGKILL */
#define END_MS 5000   /* for a monitor whose guest has ended */

static const char *status_of(const struct container *k, bool alive)
{
	if (!alive)
		return "stopped";
	if (oci_group_is_frozen(container_text(k, "cgroup")))
		return "paused";
	if (!container_is(k, "ready"))
		return "creating";
	return container_is(k, "started") ? "running" : "created";
}

/* containerd knows it by "no such process". */
static int err_ended(const struct container *k, struct err *e)
{
	return err_set(e, -ESRCH, "container '%s': no such process, it is not running", k->id);
}

int oci_open_process(const struct container *k, struct err *e)
{
	const pid_t pid = container_pid(k);
	MF_CLOSE int fd = pid > 0 ? pidfd_open(pid, 0) : -1;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	const uint64_t ticks = (uint64_t)json_integer_value(json_object_get(k->json, "ticks"));

	if (fd < 0 && pid > 0 && errno != ESRCH)
		return err_sys(e, "container '%s': open process %d", k->id, pid);
	/* Another process may have got its PID, and a zombie has ended. */
	if (fd < 0 || record_start_ticks(pid) != ticks || poll(&p, 1, 0) != 0)
		return err_ended(k, e);
	return mf_take_fd(&fd);
}

/* Asks the monitor. */
static int ask(const struct container *k, enum control_msg_type type, uint32_t value, struct err *e)
{
	MF_CLOSE int fd = control_connect(container_text(k, "name"), 0, e);

	return fd < 0 || control_ask(fd, type, value, e) < 0 ? err_wrap(e, "container '%s'", k->id) : 0;
}

int oci_start(struct oci_options *o, struct err *e)
{
	struct container k;
	MF_CLOSE int fd = -1;
	int r = container_open(&k, o->root, o->id, e);

	if (!r)
		r = fd = oci_open_process(&k, e);
	if (r >= 0 && !container_is(&k, "ready"))
		r = err_set(e, -EBUSY, "container '%s' is being created", o->id);
	if (r >= 0)
		r = ask(&k, CONTROL_MSG_START, 0, e);
	if (r >= 0) {
		(void)json_object_set_new(k.json, "started", json_true()); /* it is there already */
		r = container_write(&k, e);
	}
	if (!r)
		oci_try_hooks(&k, "poststart", "running", container_pid(&k));
	container_done(&k);
	return r;
}

static json_t *state_of(const struct container *k, bool alive)
{
	return oci_state_json(k, status_of(k, alive), alive ? container_pid(k) : 0);
}

static int print_json(json_t *json, struct err *e)
{
	int r = json ? json_dumpf(json, stdout, JSON_INDENT(2)) : -1;

	json_decref(json);
	printf("\n");
	return r < 0 ? err_set(e, -EIO, "print it") : 0;
}

int oci_state(struct oci_options *o, struct err *e)
{
	struct container k;
	MF_CLOSE int fd = -1;
	int r = container_open(&k, o->root, o->id, e);

	if (!r) {
		fd = oci_open_process(&k, e);
		r = fd < 0 && fd != -ESRCH ? fd : print_json(state_of(&k, fd >= 0), e);
	}
	container_done(&k);
	return r;
}

int oci_ps(struct oci_options *o, struct err *e)
{
	struct container k;
	MF_CLOSE int fd = -1;
	int r = container_open(&k, o->root, o->id, e);

	if (!r)
		r = fd = oci_open_process(&k, e);
	if (r >= 0 && o->format && !strcmp(o->format, "json"))
		r = print_json(json_pack("[i]", (int)container_pid(&k)), e);
	else if (r >= 0)
		printf("PID\n%d\n", (int)container_pid(&k));
	container_done(&k);
	return r < 0 ? r : 0;
}

/* A command that has not begun has no handlers: what would end it, ends the VM. */
static bool ends_at_once(const struct container *k, int signo)
{
	return signo == SIGKILL || !container_is(k, "started");
}

/* Waits for the end of a process. Returns whether it has ended. */
static bool await_end(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n;

	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n > 0;
}

/* A command that ends meanwhile gets no signal, as with one that had ended before. */
static int signal_command(const struct container *k, int fd, int signo, struct err *e)
{
	int r = ask(k, CONTROL_MSG_SIGNAL, (uint32_t)signo, e);

	return r < 0 && await_end(fd, END_MS) ? err_ended(k, e) : r;
}

int oci_kill(struct oci_options *o, struct err *e)
{
	MF_CLOSE int fd = -1;
	struct container k;
	int signo = SIGTERM, r;

	if (o->signal && parse_signal(o->signal, &signo) < 0)
		return err_set(e, -EINVAL, "signal: '%.32s' is none of Linux", o->signal);
	r = container_open(&k, o->root, o->id, e);
	if (!r)
		r = fd = oci_open_process(&k, e);
	if (r >= 0 && ends_at_once(&k, signo))
		r = pidfd_send_signal(fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH ? err_sys(e, "send the signal") : 0;
	else if (r >= 0)
		r = signal_command(&k, fd, signo, e);
	container_done(&k);
	return r;
}

/* Kills what lives. Returns 0 or -errno with e set. */
static int end_process(const struct container *k, int fd, struct err *e)
{
	if (pidfd_send_signal(fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return err_sys(e, "container '%s': kill it", k->id);
	if (await_end(fd, KILL_MS))
		return 0;
	return err_set(e, -ETIMEDOUT, "container '%s': process %d does not end", k->id, container_pid(k));
}

/* What a monitor that was killed has left, beside its state. */
static void clean(const struct container *k)
{
	const char *group = container_text(k, "cgroup");
	struct err ignored;
	int dir = records_open(false, &ignored);

	if (dir >= 0) {
		(void)record_settle(dir, container_text(k, "name"), END_SIGNAL); /* or the next VM that begins does */
		(void)record_remove(dir, container_text(k, "name"));
		close(dir);
	}
	if (*group) {
		struct cgroup g = { .dir = strdup(group) };

		if (g.dir)
			cgroup_remove(&g);
	}
}

int oci_delete(struct oci_options *o, struct err *e)
{
	MF_CLOSE int fd = -1;
	struct container k;
	int r = container_open_locked(&k, o->root, o->id, e);

	if (r == -ENOENT && o->force) {
		container_done(&k);
		return 0;
	}
	if (!r)
		fd = oci_open_process(&k, e);
	if (!r && fd < 0 && fd != -ESRCH)
		r = fd;
	if (!r && fd >= 0 && !o->force && container_is(&k, "started"))
		r = err_set(e, -EBUSY, "container '%s' is running: kill it first, or use --force", o->id);
	if (!r && fd >= 0)
		r = end_process(&k, fd, e);
	if (!r) {
		clean(&k);
		r = container_remove(&k, e);
	}
	if (!r)
		oci_try_hooks(&k, "poststop", "stopped", 0);
	container_done(&k);
	return r;
}

/* Opens a container that lives, and has a control group. Returns 0 or -errno with e set. */
static int open_grouped(struct container *k, const struct oci_options *o, const char *what, struct err *e)
{
	int r = container_open(k, o->root, o->id, e), fd = r < 0 ? r : oci_open_process(k, e);

	if (fd < 0)
		return fd;
	close(fd);
	if (!*container_text(k, "cgroup"))
		return err_set(e, -ENOTSUP, "container '%s' has no control group, and cannot be %s", o->id, what);
	return 0;
}

static int freeze(const struct oci_options *o, bool on, struct err *e)
{
	struct container k;
	int r = open_grouped(&k, o, on ? "paused" : "resumed", e);

	if (!r)
		r = oci_group_freeze(container_text(&k, "cgroup"), on, e);
	container_done(&k);
	return r;
}

int oci_pause(struct oci_options *o, struct err *e)
{
	return freeze(o, true, e);
}

int oci_resume(struct oci_options *o, struct err *e)
{
	return freeze(o, false, e);
}

int oci_update(struct oci_options *o, struct err *e)
{
	struct spec_limits limits = { 0 };
	struct json_at top = { .json = NULL };
	struct container k = CONTAINER_INIT;
	json_t *json;
	int r;

	if (!o->resources)
		return err_set(e, -EINVAL, "which limits? give --resources FILE");
	if (json_at_read(&json, strcmp(o->resources, "-") ? o->resources : "/dev/stdin", e) < 0)
		return e->code;
	top.json = json;
	r = spec_read_limits(&limits, &top, e) < 0 ? err_wrap(e, "%s", o->resources) :
						     open_grouped(&k, o, "limited", e);
	if (!r)
		r = oci_group_set(container_text(&k, "cgroup"), container_is(&k, "scope"), &limits, e);
	container_done(&k);
	json_decref(json);
	return r;
}

static void list_one(const struct oci_options *o, const char *id, json_t *all)
{
	struct container k;
	struct err ignored; /* it was deleted meanwhile, or is none */
	MF_CLOSE int fd = -1;

	if (container_open(&k, o->root, id, &ignored) == 0) {
		fd = oci_open_process(&k, &ignored);
		(void)json_array_append_new(all, state_of(&k, fd >= 0)); /* without memory it is left out */
	}
	container_done(&k);
}

int oci_list(struct oci_options *o, struct err *e)
{
	int fd = container_open_root(o->root, e);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	json_t *all;

	if (!dir)
		return fd < 0 ? fd : err_sys(e, "list '%s'", o->root);
	all = json_array();
	while ((entry = readdir(dir)))
		if (*entry->d_name != '.')
			list_one(o, entry->d_name, all);
	(void)closedir(dir); /* it was only read */
	return print_json(all, e);
}
