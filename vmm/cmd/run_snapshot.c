/*
 * The process that writes the snapshot of `mayfly run --snapshot`: the client of the control
 * socket that `mayfly snapshot` is, but connected before the VM exists.
 *
 * It is forked by the process that the user has started, and stays outside of a jail. It makes
 * the files, hands them to the VM, and waits. When they are written, it syncs them, gives the
 * directory its name, and the VM ends. EOF before that means that the VM
 * has ended: then it removes what it has made, so nothing is left, however the VM has ended.
 */
#include "vmm/cmd/run_snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cmd/snap.h"
#include "vmm/cmd/snapshot.h"
#include "vmm/config/config.h"
#include "vmm/guest/control.h"
#include "vmm/helper/helpers.h"
#include "vmm/process/ending.h"
#include "vmm/snapshot/dir.h"

/* As `mayfly inspect` shows it. NULL with e set. */
static json_t *config_json(const struct config *c, struct err *e)
{
	MF_FREE char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	json_t *json;
	int r;

	if (!f) {
		err_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	r = config_print(c, f, e);
	if (fclose(f) == EOF && r == 0)
		r = err_set(e, -ENOMEM, "out of memory");
	json = r < 0 ? NULL : json_loadb(text, len, 0, NULL);
	if (r == 0 && !json)
		err_set(e, -ENOMEM, "out of memory");
	return json;
}

static int write_snapshot(const struct config *c, int control, bool *ret_asked, struct err *e)
{
	struct snapshot_dir d = SNAPSHOT_DIR_INIT;
	struct snapshot_files f = { 0 };
	json_t *json = config_json(c, e);
	int r = json ? snap_refuse_needed(c->snapshot, e) : e->code;

	if (!r)
		r = snapshot_dir_begin(&d, c->snapshot, e);
	if (!r)
		r = snapshot_files_make(&f, &d, json, true, e);
	*ret_asked = !r;
	if (!r)
		r = snapshot_take(&f, control, CONTROL_LATER, e);
	if (!r)
		r = snapshot_dir_commit(&d, e);
	if (!r)
		r = control_stop(control, e);
	snapshot_files_done(&f);
	snapshot_dir_done(&d);
	json_decref(json);
	return r < 0 ? err_wrap(e, "snapshot '%s'", c->snapshot) : 0;
}

/* said: where the caller looks, if this ends before it has asked the VM. */
static void __attribute__((noreturn)) run_writer(const struct config *c, int control, struct err *said)
{
	bool asked;
	struct err e;
	int r;

	(void)setpgid(0, 0); /* Ctrl-C on the terminal is mayfly's affair */
	(void)prctl(PR_SET_NAME, "snapshot");
	ending_over();
	r = write_snapshot(c, control, &asked, &e);
	if (r < 0 && asked)
		(void)report_err(&e);
	else if (r < 0)
		*said = e;
	_exit(r < 0);
}

/* Waits until the process asks for the snapshot, or has ended. Its message stays where it is. */
static int await_request(int fd, const struct err *said, struct err *e)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char byte;
	ssize_t n;

	while (poll(&p, 1, -1) < 0)
		; /* EINTR */
	n = recv(fd, &byte, sizeof(byte), MSG_PEEK);
	if (n > 0)
		return 0;
	*e = *said;
	return e->code ? e->code : err_set(e, -ECHILD, "the process that writes the snapshot has ended");
}

static int start_writer(struct helpers *h, const struct config *c, struct err *said, struct err *e)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, "make a socket pair");
	fflush(NULL);
	ending_hold(true);
	h->snapshot = fork();
	if (h->snapshot == 0) {
		close(pair[0]);
		run_writer(c, pair[1], said);
	}
	ending_hold(false);
	close(pair[1]);
	h->snapshot_fd = pair[0];
	if (h->snapshot > 0)
		return await_request(pair[0], said, e);
	h->snapshot = 0;
	close(mf_take_fd(&h->snapshot_fd));
	return err_sys(e, "fork");
}

int run_snapshot_start(struct helpers *h, const struct config *c, struct err *e)
{
	struct err *said;
	int r;

	if (!c->snapshot)
		return 0;
	said = mmap(NULL, sizeof(*said), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (said == MAP_FAILED)
		return err_sys(e, "out of memory");
	r = start_writer(h, c, said, e);
	(void)munmap(said, sizeof(*said)); /* only memory would be lost */
	if (!r)
		(void)fcntl(h->snapshot_fd, F_SETFL, O_NONBLOCK); /* cannot fail */
	return r;
}
