/* The way into the jail; see supervise.c, and jailer/jail.c for its steps. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jailer/jail.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/core/kvm.h"
#include "vmm/helper/helpers.h"
#include "vmm/jail/jail_group.h"
#include "vmm/jail/parent.h"
#include "vmm/jail/supervise.h"
#include "vmm/jail/supervise_parts.h"
#include "vmm/process/ending.h"
#include "vmm/process/notify.h"
#include "vmm/records/record.h"

#define KEEP_MAX (FILES_MAX + 2 * CONFIG_NETS_MAX + CONFIG_ARTIFACTS_MAX + CONFIG_LIVE_MAX + JAIL_RUN_KEEP_MAX + 8)

static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Lists the descriptors that the jail needs, in ascending order. Returns their number. */
static unsigned list_kept(const struct outer *o, const int *keep, unsigned num_keep, int fds[KEEP_MAX])
{
	const struct config *c = o->config;
	const int ends[] = { o->start[INSIDE], o->life[INSIDE], o->signals[INSIDE], o->tty[INSIDE], o->vsock[INSIDE] };
	unsigned num = fdstore_list(fds);

	for (size_t i = 0; i < MF_ARRAY_SIZE(ends); i++)
		fds[num++] = ends[i];
	for (unsigned i = 0; i < num_keep; i++)
		fds[num++] = keep[i];
	for (unsigned i = 0; i < c->num_nets; i++)
		fds[num++] = c->net[i].kind == CONFIG_NET_FD ? c->net[i].fd : o->parent->helpers->passt[i].socket;
	for (unsigned i = 0; i < c->num_artifacts; i++)
		fds[num++] = o->parent->helpers->artifact[i].socket;
	for (unsigned i = 0; i < c->num_live; i++)
		fds[num++] = o->parent->helpers->live[i].socket;
	if (c->snapshot)
		fds[num++] = o->parent->helpers->snapshot_fd;
	qsort(fds, num, sizeof(*fds), compare);
	return num;
}

static int ask_for_map(void *ctx, struct err *e)
{
	struct outer *o = ctx;
	struct start_msg msg = { .what = START_MAP };

	if (send(o->start[INSIDE], &msg, sizeof(msg), MSG_NOSIGNAL) != (ssize_t)sizeof(msg) ||
	    recv(o->start[INSIDE], &msg, sizeof(msg), 0) != (ssize_t)sizeof(msg) || msg.result < 0)
		return err_set(e, -EPERM, "no user in the user namespace"); /* why is logged outside */
	return 0;
}

/* The group that is there for /dev/kvm alone, which the jail has open; 0: none. */
static gid_t kvm_group(void)
{
	struct stat st;

	return stat(KVM_PATH, &st) == 0 && S_ISCHR(st.st_mode) && st.st_mode & S_IWGRP ? st.st_gid : 0;
}

void inside_enter(struct outer *o, const int *keep, unsigned num_keep)
{
	const struct config_jail *j = &o->config->jail;
	const struct jail_group *group = o->parent->group;
	struct start_msg done = { .what = START_DONE };
	int kept[KEEP_MAX];
	unsigned num = list_kept(o, keep, num_keep, kept), first = 0;
	struct jail_params params = {
		.strict = j->strict,
		.is_root = geteuid() == 0,
		.uid = o->uid,
		.gid = o->gid,
		.harmless_gid = kvm_group(),
		.cgroup = group->made ? &group->cgroup : NULL,
		.nofile = j->nofile,
		.fsize = j->fsize,
		.mounts_fd = o->parent->mounts_fd,
		.map_ids = ask_for_map,
		.ctx = o,
	};
	bool own_pids;
	struct err e;
	int r;

	while (first < num && kept[first] <= STDERR_FILENO) /* -1, or a log on stderr */
		first++;
	params.keep = kept + first;
	params.num_keep = num - first;
	if (jail_enter(&params, &own_pids, &e) < 0 || (r = jail_fork(&done.pids, own_pids, o->life[INSIDE], &e)) < 0) {
		err_wrap(&e, "jail");
		_exit(report_err(&e));
	}
	if (r == 0) {
		(void)send(o->start[INSIDE], &done, sizeof(done), MSG_NOSIGNAL); /* or EOF on "life" ends us */
		_exit(STATUS_OK);
	}
	ending_inside();
	close(mf_take_fd(&o->start[INSIDE]));
	fdstore_use();
	helpers_leave_processes(o->parent->helpers);
	notify_leave();
	o->parent->signal_fd = o->signals[INSIDE];
	o->parent->tty_fd = o->tty[INSIDE];
	o->parent->vsock_fd = o->vsock[INSIDE];
	*o->parent->record = (struct record_writer)RECORD_WRITER_INIT;
	*o->parent->group = (struct jail_group){ 0 }; /* the process outside has it */
}
