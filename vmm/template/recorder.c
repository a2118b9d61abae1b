/* The process that notes which pages a clone of a template uses; see recorder.h. */
#include "vmm/template/recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "jailer/privileges.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/snapshot/chain.h"
#include "vmm/snapshot/workingset.h"
#include "vmm/template/background.h"

#define RECORDER_LIMIT_S 60 /* for the command to start, and the work then */

struct recorder {
	const char *dir; /* a whole path */
	pid_t run;
	struct config_template_link *link;
	int pipe[2]; /* from the run, which closes it when the command has started, or ends */
};

static void record(void *ctx)
{
	const struct recorder *r = ctx;
	MF_FREE struct workingset *found = NULL;
	struct chain *chain;
	struct err e;
	char none;

	if (!background_leave(r->pipe[0]))
		return;
	privileges_clear_environment();
	(void)alarm(RECORDER_LIMIT_S); /* which ends it */
	while (read(BACKGROUND_FD, &none, sizeof(none)) < 0 && errno == EINTR)
		;
	if (!atomic_load(&r->link->started))
		return;
	/* A failure changes nothing: the next clone tries again. */
	if (chain_open_dir(&chain, r->dir, NULL, &e) == 0 && workingset_collect(&found, r->run, chain, &e) == 0)
		(void)workingset_write(found, r->dir, &e);
}

void recorder_begin(struct config *c, const char *dir)
{
	struct recorder r = { .dir = dir, .run = getpid(), .link = background_link() };

	if (!r.link)
		return;
	if (pipe2(r.pipe, O_CLOEXEC) < 0) {
		munmap(r.link, sizeof(*r.link));
		return;
	}
	background_start(record, &r);
	close(r.pipe[0]);
	c->template.link = r.link;
	c->template.record_fd = r.pipe[1];
}
