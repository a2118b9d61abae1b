/* From a list of rules to a seccomp filter: classic BPF (seccomp(2), Documentation/userspace-api/seccomp_filter.rst). */
#ifndef MF_VMM_FILTERS_GENERATE_H
#define MF_VMM_FILTERS_GENERATE_H

#include <linux/filter.h>
#include <stddef.h>

struct filter_rule;

#define FILTER_CODE_MAX 1024

struct filter_program {
	/* The last len of them: code is made from the end to the start, since BPF jumps forward only. */
	struct sock_filter code[FILTER_CODE_MAX];
	unsigned len;
};

/*
 * Makes the filter that allows the calls of num rules (a call whose arguments fit one of its rules), answers others with
 * SECCOMP_RET_TRAP, and kills the process for those of other architectures. Returns NULL, or what is wrong.
 */
const char *filter_generate(struct filter_program *p, const struct filter_rule *rules, size_t num);

#endif
