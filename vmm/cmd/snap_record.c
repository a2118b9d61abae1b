/*
 * `mayfly snap record`: restores the snapshot, runs a command in that VM by `mayfly exec`, looks at what the VM then has in
 * memory, and ends it. The VM takes no part in that.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/cmd/snap.h"
#include "vmm/cmd/words.h"
#include "vmm/snapshot/chain.h"
#include "vmm/snapshot/workingset.h"

#define DIR_TEMPLATE "/tmp/mayfly-record-XXXXXX"
#define READY_LIMIT "60s"

/* Runs the command in the VM with that control socket. Returns 0 or -errno with e set. */
static int run_command(const char *control, const struct words *command, struct err *e)
{
	static struct words w;
	pid_t pid;
	int status;

	if (words_add(&w, "mayfly", e) < 0 || words_add(&w, "exec", e) < 0 ||
	    words_add(&w, "--wait=" READY_LIMIT, e) < 0 || words_add(&w, control, e) < 0 ||
	    words_add(&w, "--", e) < 0 || words_add_all(&w, command, e) < 0)
		return e->code;
	pid = words_start(&w, NULL, e);
	if (pid < 0)
		return pid;
	status = words_wait(pid);
	return status ? err_set(e, -ECHILD, "the command ended with status %d: nothing is recorded", status) : 0;
}

/* What the VM has said: it matters if something failed, and else is that a signal has ended it. */
static void take_said(int said[WORDS_STREAMS], bool show)
{
	char text[4096];

	for (unsigned i = 0; i < WORDS_STREAMS; i++) {
		ssize_t n = show ? fdio_read(said[i], text, sizeof(text)) : 0;

		if (n > 0)
			(void)fdio_write_all(STDERR_FILENO, text, (size_t)n); /* there is no other place to report it */
		close(said[i]);
	}
}

static int record_in(const char *temporary, const char *dir, const struct words *command, struct err *e)
{
	static struct words w;
	MF_FREE struct workingset *found = NULL;
	char control[sizeof(DIR_TEMPLATE) + 16], option[sizeof(control) + 16];
	int said[WORDS_STREAMS], r;
	struct chain *chain;
	pid_t pid;

	snprintf(control, sizeof(control), "%s/control", temporary);
	snprintf(option, sizeof(option), "--control=%s", control);
	if (chain_open_dir(&chain, dir, NULL, e) < 0)
		return e->code;
	if (words_add(&w, "mayfly", e) < 0 || words_add(&w, "restore", e) < 0 ||
	    words_add(&w, "--log-level=error", e) < 0 || words_add(&w, option, e) < 0 || words_add(&w, dir, e) < 0)
		return e->code;
	pid = words_start(&w, said, e);
	r = pid < 0 ? pid : run_command(control, command, e);
	if (r == 0)
		r = workingset_collect(&found, pid, chain, e);
	if (pid > 0) {
		(void)kill(pid, SIGTERM); /* it is not waited for yet */
		(void)words_wait(pid);	  /* that is how it ends */
		take_said(said, r < 0);
	}
	chain_free(chain);
	return r < 0 ? r : workingset_write(found, dir, e);
}

int snap_record(const char *dir, const struct words *command, struct err *e)
{
	char temporary[] = DIR_TEMPLATE;
	int r;

	if (!mkdtemp(temporary))
		return err_sys(e, "make '%s'", temporary);
	r = record_in(temporary, dir, command, e);
	(void)rmdir(temporary); /* fails if the VM has left its socket */
	return r;
}
