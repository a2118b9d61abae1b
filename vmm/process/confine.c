/* The filters of threads; see confine.h. */
#include "vmm/process/confine.h"

#include <linux/filter.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "jailer/privileges.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/result.h"
#include "vmm/base/util.h"
#include "vmm/process/crash.h"
#include "vmm/process/ending.h"
#include "vmm/process/notify.h"

struct filter_code {
	const char *name;
	const struct sock_filter *code;
	unsigned len;
};

/* In a build for tests, threads then try forbidden operations. */
#ifndef MF_PROBE
#define probe_start()
#define probe_confined(kind)
#endif

/* Generated from filters/rules.h by filters/compile.c. */
#include FILTERS_FILE

void confine_init(struct confine *c, enum seccomp_policy policy)
{
	c->policy = policy;
#ifdef MF_SANITIZED
	c->policy = SECCOMP_POLICY_OFF; /* the sanitizers make system calls that no list has */
#endif
	for (unsigned i = 0; i < FILTER_NUM_SLOTS; i++)
		c->value[i] = -1;
	c->value[SLOT_PID] = getpid();
	c->value[SLOT_MAIN_TID] = gettid();
	c->value[SLOT_CRASH_SIGNAL] = CRASH_SIGNAL;
	c->value[SLOT_LOG] = log_fd();
	c->value[SLOT_SIGNALS] = ending_handlers_fd();
	c->value[SLOT_NOTIFY] = notify_fd();
	c->value[SLOT_RESULT] = result_fd();
	c->value[SLOT_RESULT_DIR] = result_dir_fd();
	probe_start();
}

void confine_warn(enum seccomp_policy policy)
{
	if (policy != SECCOMP_POLICY_KILL)
		log_warn("seccomp is %s: a guest that takes mayfly over is not stopped by it; continuing",
			 policy == SECCOMP_POLICY_LOG ? "log" : "off");
}

struct seccomp_code confine_code(enum thread_kind kind)
{
	return (struct seccomp_code){ filter_codes[kind].code, filter_codes[kind].len, FILTER_SLOT_BASE };
}

int confine_thread(const struct confine *c, enum thread_kind kind, const struct confine_own *own, struct err *e)
{
	const bool names = kind == THREAD_MAIN || kind == THREAD_MAIN_API || kind == THREAD_MAIN_FORK ||
			   kind == THREAD_OUTER || kind == THREAD_CLAIM || kind == THREAD_VSOCK ||
			   kind == THREAD_VSOCK_SYNC;
	const struct seccomp_code code = confine_code(kind);
	uint32_t value[FILTER_NUM_SLOTS];

	for (unsigned i = 0; i < FILTER_NUM_SLOTS; i++)
		value[i] = (uint32_t)c->value[i];
	value[SLOT_OWN] = (uint32_t)own->own;
	value[SLOT_LISTEN] = (uint32_t)own->listen;
	value[SLOT_TO] = (uint32_t)own->to;
	value[SLOT_CHANGED] = (uint32_t)own->changed;
	value[SLOT_EPOLL] = (uint32_t)own->epoll;
	for (unsigned i = 0; i < CONFINE_WATCHES; i++)
		value[SLOT_WATCH0 + i] = (uint32_t)own->watch[i];
	for (unsigned i = 0; i < CONFINE_MEMORY_FILES; i++)
		value[SLOT_MEMORY0 + i] = (uint32_t)own->memory[i];
	if (privileges_keep(names ? c->capabilities : 0, e) < 0)
		return err_wrap(e, "thread %s", filter_codes[kind].name);
	if (seccomp_load(&code, value, FILTER_NUM_SLOTS, c->policy, e) < 0)
		return err_wrap(e, "thread %s", filter_codes[kind].name);
	probe_confined(kind);
	return 0;
}

const char *confine_call_name(int nr)
{
	const char *name = call_names;

	if (nr < 0 || nr >= CALL_NAMES_NUM)
		return NULL;
	for (; nr > 0; nr--)
		name += strlen(name) + 1;
	return *name ? name : NULL;
}
