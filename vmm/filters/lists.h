/* The list of rules of each kind of thread, for the compiler of filters and for its tests. */
#ifndef MF_VMM_FILTERS_LISTS_H
#define MF_VMM_FILTERS_LISTS_H

#include <stddef.h>

#include "vmm/base/util.h"
#include "vmm/filters/rules.h"
#include "vmm/filters/rules_claim.h"

#define FILTER_LIST(rules) (rules), MF_ARRAY_SIZE(rules)

/* By enum thread_kind. */
static const struct filter_list {
	const char *name;
	const struct filter_rule *rules;
	size_t num;
	unsigned max; /* of different calls */
} filter_lists[THREAD_NUM_KINDS] = {
	[THREAD_MAIN] = { "main", FILTER_LIST(main_rules), 32 },
	[THREAD_MAIN_API] = { "main", FILTER_LIST(main_api_rules), 38 },
	[THREAD_MAIN_FORK] = { "main", FILTER_LIST(main_fork_rules), 34 },
	[THREAD_IO] = { "io", FILTER_LIST(io_rules), 16 },
	[THREAD_IO_API] = { "io", FILTER_LIST(io_api_rules), 16 },
	[THREAD_VSOCK] = { "vsock", FILTER_LIST(vsock_rules), 22 },
	[THREAD_VCPU] = { "vcpu", FILTER_LIST(vcpu_rules), 10 },
	[THREAD_PUMP] = { "pump", FILTER_LIST(pump_rules), 13 },
	[THREAD_STREAMS] = { "streams", FILTER_LIST(streams_rules), 14 },
	[THREAD_UNPACK] = { "unpack", FILTER_LIST(unpack_rules), 11 },
	[THREAD_OUTER] = { "outer", FILTER_LIST(outer_rules), 32 },
	[THREAD_LOG] = { "mayfly_log", FILTER_LIST(log_rules), 10 },
	[THREAD_API] = { "api", FILTER_LIST(api_rules), 21 },
	[THREAD_CLAIM] = { "claim", FILTER_LIST(claim_rules), 40 },
	[THREAD_EXEC] = { "exec", FILTER_LIST(exec_rules), 22 },
	[THREAD_IO_SYNC] = { "io_sync", FILTER_LIST(io_sync_rules), 15 },
	[THREAD_IO_WORKER] = { "io_worker", FILTER_LIST(io_worker_rules), 11 },
	[THREAD_VSOCK_SYNC] = { "vsock_sync", FILTER_LIST(vsock_sync_rules), 20 },
};

#endif
