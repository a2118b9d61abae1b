/* How many descriptors a VM needs; see nofile.h. The numbers were counted in /proc/PID/fd. */
#include "vmm/vm/nofile.h"

#include <errno.h>
#include <sys/resource.h>

#include "virtio/vsock.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/guest/control.h"

/* Streams, signals, KVM, the end, async_teardown's pipe, io loop, serial port, IOAPIC: 14. An epoll set, log, timeline: 4. */
#define BASE 18U
#define PER_DRIVE 2U /* image, queue */
#define PER_TAP 3U   /* tap, two queues */
#define PER_PASST 4U /* the same, and the pipe of passt's stderr */
#define VSOCK 8U     /* ring, call, epoll set, listener and its directory, three queues */
#define COMMAND 9U   /* three streams and init's connection, both ends of each; the eventfd of their changes */
#define CONTROL 2U   /* listener and its directory */
#define PER_ARTIFACT 1U
#define PER_LIVE 2U  /* the guest's connection, and the pipe of the server's stderr */
#define SPARE 6U     /* open for a moment (a kernel, an answer of privsep), or inherited from the caller */
#define CONNS_MIN 4U /* connections of the guest, beside those that mayfly lends it */

/* A client of `mayfly exec`: its connection, and the streams that are lent to the guest until it connects. */
#define PER_CLIENT (1U + STDIO_RELAY_STREAMS)
#define CLIENTS ((INIT_COMMANDS_MAX - 1U) * PER_CLIENT + STDIO_RELAY_STREAMS)

static unsigned nofile_alone(const struct config *c)
{
	unsigned n = BASE + SPARE + c->cpus;

	for (unsigned i = 0; i < c->num_drives; i++)
		n += PER_DRIVE + c->drive[i].overlay;
	for (unsigned i = 0; i < c->num_nets; i++)
		n += c->net[i].kind == CONFIG_NET_USER ? PER_PASST : PER_TAP;
	if (config_has_vsock(c))
		n += VSOCK;
	if (c->command.args.num)
		n += COMMAND + (c->control ? CONTROL : 0) + c->num_artifacts * PER_ARTIFACT + c->num_live * PER_LIVE;
	return n;
}

unsigned nofile_needed(const struct config *c)
{
	return nofile_alone(c) + (config_has_vsock(c) ? CONNS_MIN : 0);
}

int nofile_raise(const struct config *c, unsigned *ret_conns, struct err *e)
{
	unsigned alone = nofile_alone(c), needed = nofile_needed(c), wanted = needed, conns;
	struct rlimit limit;

	if (c->command.args.num && c->control)
		alone += CLIENTS;
	if (config_has_vsock(c))
		wanted = alone + VSOCK_CONNS_MAX;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return err_sys(e, "read the limit of descriptors (RLIMIT_NOFILE)");
	if (limit.rlim_max < needed)
		return err_neg(e, -EMFILE, "this VM needs %u descriptors and may have %llu (RLIMIT_NOFILE, nofile=)",
			       needed, (unsigned long long)limit.rlim_max);
	if (limit.rlim_cur < wanted) {
		limit.rlim_cur = MF_MIN(limit.rlim_max, (rlim_t)wanted);
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			return err_sys(e, "raise the limit of descriptors (RLIMIT_NOFILE)");
	}
	/* If there are few, `mayfly exec` waits for some; the guest gets its minimum. */
	conns = limit.rlim_cur > alone ? (unsigned)MF_MIN(limit.rlim_cur - alone, (rlim_t)VSOCK_CONNS_MAX) : 0;
	*ret_conns = MF_MAX(conns, CONNS_MIN);
	return 0;
}
