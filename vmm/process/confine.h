/*
 * Confines threads once the guest runs. Each thread drops its capabilities and loads the
 * seccomp filter of its kind (filters/rules.h) by a call of its own, when it has all that
 * it needs and before the guest's first instruction.
 */
#ifndef MF_PROCESS_CONFINE_H
#define MF_PROCESS_CONFINE_H

#include <stdint.h>

#include "jailer/seccomp.h"
#include "vmm/filters/kinds.h"

struct err;

/* The values that all filters of a VM share. Descriptors that it lacks stay -1. */
struct confine {
	enum seccomp_policy policy;
	uint64_t capabilities; /* bits 1 << CAP_... that threads which open files by name keep */
	int value[FILTER_NUM_SLOTS];
};

/*
 * Sets all descriptors to -1, no capabilities, and the ids of the process and of its main
 * thread, which calls this, and of its log.
 */
void confine_init(struct confine *c, enum seccomp_policy policy);

/* Logs a warning if the policy does not stop a guest that takes mayfly over. */
void confine_warn(enum seccomp_policy policy);

#define CONFINE_WATCHES (FILTER_NUM_SLOTS - SLOT_WATCH0)
#define CONFINE_MEMORY_FILES (SLOT_WATCH0 - SLOT_MEMORY0)

/* The values of the calling thread; see kinds.h. */
struct confine_own {
	int own, listen, to, changed, epoll;
	int watch[CONFINE_WATCHES], memory[CONFINE_MEMORY_FILES];
};

#define CONFINE_OWN_NONE                                                                                               \
	{                                                                                                              \
		.own = -1, .listen = -1, .to = -1, .changed = -1, .epoll = -1, .watch = { -1, -1, -1, -1 },            \
		.memory = {                                                                                            \
			-1,                                                                                            \
			-1,                                                                                            \
			-1,                                                                                            \
			-1                                                                                             \
		}                                                                                                      \
	}

/*
 * Drops the calling thread's capabilities and loads the filter of its kind. Returns 0 or
 * -errno with e set.
 */
int confine_thread(const struct confine *c, enum thread_kind kind, const struct confine_own *own, struct err *e);

/* The compiled filter of a kind. */
struct seccomp_code confine_code(enum thread_kind kind);

/*
 * For the build with the probe (tests/probe/probe.c): before any thread is made; a thread
 * has loaded its filter.
 */
void probe_start(void);
void probe_confined(enum thread_kind kind);

/* The name of a system call, or NULL. Async-signal-safe. */
const char *confine_call_name(int nr);

#endif
