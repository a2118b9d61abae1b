/* The process that notes which pages a clone of a template uses; see recorder.h. */
#include "vmm/template/recorder.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jailer/privileges.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/snapshot/chain.h"
#include "vmm/snapshot/workingset.h"
#include "vmm/template/background.h"

#define RECORDER_LIMIT_S 60 /* for the command to start: the run may have been killed */

struct recorder {
	const char *dir; /* a whole path */
	pid_t run;
	struct config_template_link *link;
};

static void record(void *ctx)
{
	const struct recorder *r = ctx;
	MF_FREE struct workingset *found = NULL;
	struct chain *chain;
	struct err e;

	if (!background_leave(-1))
		return;
	privileges_clear_environment();
	(void)alarm(RECORDER_LIMIT_S); /* which ends it */
	while (!atomic_load(&r->link->started))
		(void)syscall(SYS_futex, &r->link->started, FUTEX_WAIT, 0, NULL, NULL, 0);
	/* A failure changes nothing: the next clone tries again. */
	if (chain_open_dir(&chain, r->dir, NULL, &e) == 0 && workingset_collect(&found, r->run, chain, &e) == 0)
		(void)workingset_write(found, r->dir, &e);
}

void recorder_begin(struct config *c, const char *dir)
{
	struct recorder r = { .dir = dir, .run = getpid(), .link = background_link() };

	if (!r.link)
		return;
	background_start(record, &r);
	c->template.link = r.link;
}
