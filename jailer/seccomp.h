/* seccomp filters that are compiled already, and are completed and loaded here. */
#ifndef MF_JAILER_SECCOMP_H
#define MF_JAILER_SECCOMP_H

#include <stdint.h>

struct err;
struct sock_filter;

enum seccomp_policy {
	SECCOMP_POLICY_KILL, /* a call that is not allowed raises SIGSYS */
	SECCOMP_POLICY_LOG,  /* it is done, and the kernel logs it */
	SECCOMP_POLICY_OFF,  /* no filter */
};

/* A filter in which the numbers base, base + 1, ... stand for values that are known only now. */
struct seccomp_code {
	const struct sock_filter *code;
	unsigned len; /* instructions, at most SECCOMP_CODE_MAX */
	uint32_t base;
};

#define SECCOMP_CODE_MAX 512

/*
 * Promises for this thread and those that it makes: nothing that is executed gets more rights (no_new_privs). 0 or
 * -errno with e set.
 */
int seccomp_no_new_privs(struct err *e);

/*
 * Writes the filter with value[i] in the place of base + i, and what it does for a call that is not allowed. ret has room
 * for c->len instructions. Pure.
 */
void seccomp_complete(struct sock_filter *ret, const struct seccomp_code *c, const uint32_t *value, unsigned num_values,
		      enum seccomp_policy policy);

/*
 * Gives the calling thread the filter with value[i] in the place of base + i, for ever. After seccomp_no_new_privs. Returns
 * 0 or -errno with e set.
 */
int seccomp_load(const struct seccomp_code *c, const uint32_t *value, unsigned num_values, enum seccomp_policy policy,
		 struct err *e);

#endif
