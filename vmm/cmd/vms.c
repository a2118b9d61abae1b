/* Commands on running VMs; see vms.h. */
#include "vmm/cmd/vms.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/report.h"
#include "vmm/base/unix_socket.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/records/record.h"

int vms_add_name(void *target, const char *text, struct err *e)
{
	struct vms *v = target;

	if (v->num == VMS_NAMES_MAX)
		return err_set(e, -E2BIG, "more than %d names", VMS_NAMES_MAX);
	v->name[v->num++] = text;
	return 0;
}

void vms_list(void (*each)(void *ctx, const char *name), void *ctx)
{
	struct err e;
	MF_CLOSE int dir = records_open(false, &e);
	struct record *list = NULL;
	size_t num = 0;

	if (dir < 0 || records_list(dir, &list, &num, &e) < 0)
		return;
	for (size_t i = 0; i < num; i++)
		each(ctx, list[i].name);
	records_free(list, num);
}

int vms_parse(const struct cli_usage *usage, void *target, int argc, char **argv, int *ret_status)
{
	const struct vms *v = target;
	struct err e;
	int r = cli_parse(usage, target, argc, argv, &e);

	*ret_status = STATUS_OK;
	if (r == 0 && v->num == 0)
		r = err_set(&e, -EINVAL, "which VM? `mayfly ps` lists them; try 'mayfly %s --help'", usage->command);
	if (r < 0) {
		err_wrap(&e, "%s", usage->command);
		*ret_status = report_err(&e);
	}
	return r == 0 ? 0 : -1;
}

/* Calls work for all records that are still good, and gives up those for which it fails. */
static void work_all(int dir, struct record *list, unsigned num, vms_work *work, void *ctx, int *ret_status)
{
	struct err e;

	for (unsigned i = 0; i < num; i++) {
		if (list[i].fd < 0 || work(dir, &list[i], ctx, &e) == 0)
			continue;
		err_wrap(&e, "'%s'", list[i].name);
		*ret_status = report_err(&e);
		record_done(&list[i]);
	}
}

int vms_each(const struct vms *v, vms_work *begin, vms_work *finish, void *ctx)
{
	struct err e;
	MF_CLOSE int dir = records_open(false, &e);
	struct record *list = calloc(v->num, sizeof(*list));
	int status = STATUS_OK;

	for (unsigned i = 0; list && i < v->num; i++) {
		list[i].fd = -1;
		if (record_find(v->name[i], &list[i], &e) < 0)
			status = report_err(&e);
	}
	if (list && begin)
		work_all(dir, list, v->num, begin, ctx, &status);
	if (list)
		work_all(dir, list, v->num, finish, ctx, &status);
	else
		status = STATUS_FAILED;
	records_free(list, list ? v->num : 0);
	return status;
}

/* Waits for one of the events, or the end of the other side. Returns false if none came in time. */
static bool await(int fd, short events, int timeout_ms)
{
	struct pollfd end = { .fd = fd, .events = events };
	const uint64_t until_ms = clock_now_ms() + (uint64_t)MF_MAX(timeout_ms, 0);
	uint64_t now_ms;
	int n;

	while ((n = poll(&end, 1, timeout_ms)) < 0 && errno == EINTR && timeout_ms >= 0) {
		now_ms = clock_now_ms();
		timeout_ms = until_ms > now_ms ? (int)(until_ms - now_ms) : 0;
	}
	return n > 0;
}

bool vms_await_end(int pidfd, int timeout_ms)
{
	return await(pidfd, POLLIN, timeout_ms);
}

/* A connection to the control socket, or -errno. */
static int connect_control(const struct record *r)
{
	const char *control = record_text(r, "control");

	return control ? unix_socket_connect(control, SOCK_SEQPACKET) : -ENOENT;
}

/*
 * In a jail, another process than the record's listens at the control socket, and ends a moment later. before: a connection of
 * before the kill, which ends then. If the VM had accepted it, that can be before the socket itself is closed; one that nobody
 * accepts ends with the socket. Returns false if the VM does not end.
 */
static bool await_silence(const struct record *r, int before)
{
	MF_CLOSE int after = -1;

	if (before < 0)
		return true;
	if (!await(before, 0, VMS_KILL_MS))
		return false;
	after = connect_control(r);
	if (after >= 0)
		(void)await(after, 0, VMS_NAME_MS); /* else a new VM has the name already */
	return true;
}

int vms_kill(int dir, struct record *r, struct err *e)
{
	MF_CLOSE int pidfd = record_open_process(r, e);
	MF_CLOSE int control = connect_control(r);
	int code;

	if (pidfd < 0)
		return pidfd == -ESRCH ? 0 : pidfd;
	record_note_kill(r);
	if (pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return err_sys(e, "kill it");
	if (!vms_await_end(pidfd, VMS_KILL_MS) || !await_silence(r, control))
		return err_set(e, -ETIMEDOUT,
			       "process %d was killed and has not ended within %d s: the kernel waits for a device",
			       r->pid, VMS_KILL_MS / 1000);
	code = record_settle(dir, r->name, END_LOST);
	/* -ENOENT: it had no name. The others: another process does that now, or the name is already a new VM's. */
	return code == 0 || code == -ENOENT || code == -EAGAIN || code == -ESTALE || code == -EBUSY ?
		       0 :
		       err_neg(e, code, "note its end");
}
