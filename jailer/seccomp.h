/* Precompiled seccomp filters, completed and loaded here. */
#ifndef MF_JAILER_SECCOMP_H
#define MF_JAILER_SECCOMP_H

#include <stdint.h>

struct err;
struct sock_filter;

enum seccomp_policy {
	SECCOMP_POLICY_KILL, /* a call that is not allowed raises SIGSYS */
	SECCOMP_POLICY_LOG,  /* the call is made, and the kernel logs it */
	SECCOMP_POLICY_OFF,  /* no filter */
};

/*
 * A filter in which the numbers base, base + 1, ... are placeholders for values that are
 * known only at run time.
 */
struct seccomp_code {
	const struct sock_filter *code;
	unsigned len; /* instructions, at most SECCOMP_CODE_MAX */
	uint32_t base;
};

#define SECCOMP_CODE_MAX 512

/*
 * Sets no_new_privs for this thread and its children: execve grants them no further
 * rights. Returns 0 or -errno with e set.
 */
int seccomp_no_new_privs(struct err *e);

/*
 * Writes the filter with value[i] in place of base + i, and its action for a forbidden
 * call. ret has room for c->len instructions. Pure.
 */
void seccomp_complete(struct sock_filter *ret, const struct seccomp_code *c, const uint32_t *value, unsigned num_values,
		      enum seccomp_policy policy);

/*
 * Loads the filter into the calling thread, with value[i] in place of base + i. It cannot
 * be removed. After seccomp_no_new_privs. Returns 0 or -errno with e set.
 */
int seccomp_load(const struct seccomp_code *c, const uint32_t *value, unsigned num_values, enum seccomp_policy policy,
		 struct err *e);

#endif
