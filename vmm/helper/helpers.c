/* Programs of the host that serve a VM; see helpers.h. */
#include "vmm/helper/helpers.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/host_net.h"
#include "vmm/base/log.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/process/ending.h"

static int start_passt(struct helpers *c, struct passt *p, const struct config_net *n, struct err *e)
{
	int r = c->own ? 0 : host_net_own(&c->own, &c->num_own);

	if (r < 0)
		return err_neg(e, r, "list the addresses of the host");
	return passt_start(p, n, n->mtu, e);
}

int helpers_start(struct helpers *c, const struct config *config, struct err *e)
{
	c->config = config;
	for (unsigned i = 0; i < config->num_nets; i++) {
		const struct config_net *n = &config->net[i];

		c->passt[i].socket = -1;
		if (n->kind == CONFIG_NET_USER && start_passt(c, &c->passt[i], n, e) < 0)
			return err_wrap(e, "net '%s'", n->id);
	}
	for (unsigned i = 0; i < config->num_live; i++)
		if (live_start(&c->live[i], &config->live[i], e) < 0)
			return err_wrap(e, "volume '%s'", config->live[i].host);
	for (unsigned i = 0; i < config->num_artifacts; i++) {
		if (artifact_start(&c->artifact[i], &config->artifact[i], e) < 0)
			return e->code;
		for (unsigned j = 0; j < i; j++)
			if (artifact_check_places(&c->artifact[j], &c->artifact[i], e) < 0)
				return e->code;
	}
	return 0;
}

int helpers_await(struct helpers *c, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; !r && c->config && i < c->config->num_nets; i++)
		r = passt_await(&c->passt[i], e);
	for (unsigned i = 0; !r && c->config && i < c->config->num_live; i++)
		r = live_await(&c->live[i], e);
	return r;
}

void helpers_check(struct helpers *c)
{
	struct err e;

	for (unsigned i = 0; c->config && i < c->config->num_nets; i++)
		if (passt_check(&c->passt[i], &e) < 0)
			log_warn("%s; continuing with the link down", e.text);
	for (unsigned i = 0; c->config && i < c->config->num_live; i++)
		if (live_check(&c->live[i], &e) < 0)
			log_warn("%s; continuing, and the guest gets errors there", e.text);
}

static void leave_socket(int *fd)
{
	if (*fd >= 0)
		close(mf_take_fd(fd));
}

/* Its end of the connection must be closed, or the VM's. Returns whether it has done its work. */
static bool finish_snapshot(struct helpers *c)
{
	int status = 0;

	if (!c->snapshot)
		return true;
	ending_step("the snapshot", NULL);
	leave_socket(&c->snapshot_fd);
	while (waitpid(c->snapshot, &status, 0) < 0 && errno == EINTR)
		;
	c->snapshot = 0;
	return status == 0;
}

bool helpers_finish(struct helpers *c)
{
	bool all = true;
	struct err e;

	for (unsigned i = 0; c->config && i < c->config->num_artifacts; i++) {
		if (artifact_finish(&c->artifact[i], &e) < 0) {
			(void)report_err(&e);
			all = false;
		}
	}
	return finish_snapshot(c) && all;
}

void helpers_end(struct helpers *c)
{
	struct err e;

	for (unsigned i = 0; c->config && i < c->config->num_artifacts; i++)
		(void)artifact_finish(&c->artifact[i], &e); /* of a VM that did not run, nothing is missed */
	(void)finish_snapshot(c);
	for (unsigned i = 0; c->config && i < c->config->num_nets; i++)
		passt_end(&c->passt[i]);
	for (unsigned i = 0; c->config && i < c->config->num_live; i++)
		live_end(&c->live[i]);
	free(c->own);
	c->own = NULL;
}

void helpers_leave_sockets(struct helpers *c)
{
	for (unsigned i = 0; i < c->config->num_nets; i++)
		leave_socket(&c->passt[i].socket);
	for (unsigned i = 0; i < c->config->num_live; i++)
		leave_socket(&c->live[i].socket);
	for (unsigned i = 0; i < c->config->num_artifacts; i++)
		leave_socket(&c->artifact[i].socket);
	if (c->snapshot)
		leave_socket(&c->snapshot_fd);
}

void helpers_leave_processes(struct helpers *c)
{
	for (unsigned i = 0; i < c->config->num_nets; i++)
		c->passt[i].pid = 0;
	for (unsigned i = 0; i < c->config->num_live; i++)
		c->live[i].pid = 0;
	for (unsigned i = 0; i < c->config->num_artifacts; i++)
		c->artifact[i].pid = 0;
	c->snapshot = 0;
}
