/* The table of what `mayfly bench` measures; see bench.h. */
#include "vmm/base/util.h"
#include "vmm/bench/bench.h"

/* A guest without a command has no more: a kernel without a console does not even have PID 1's mark. */
static const enum timeline_step boot_steps[] = { TIMELINE_RUN, TIMELINE_PID1, TIMELINE_INIT, TIMELINE_END };

const struct bench_kind bench_kinds[] = {
	{ .name = "boot",
	  .tier = "cold",
	  .what = "a boot: to the guest's first instruction, to PID 1, to the end",
	  .steps = boot_steps,
	  .num_steps = MF_ARRAY_SIZE(boot_steps) },
	{ .name = "run", .tier = "cold", .what = "a command in a new VM: all phases of --time", .command = true },
	{ .name = "exec",
	  .tier = "warm",
	  .what = "a command in a VM that runs, by mayfly exec",
	  .command = true,
	  .in_one_vm = true },
	{ .name = "restore", .tier = "clone", .what = "a VM from a snapshot, by mayfly restore", .snapshot = true },
	{ .name = "clone", .tier = "clone", .what = "a VM from a snapshot, by mayfly clone", .snapshot = true },
	{ 0 },
};
