/* seccomp filters; see seccomp.h. */
#include "jailer/seccomp.h"

#include <assert.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/err.h"

int seccomp_no_new_privs(struct err *e)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? err_sys(e, "set no_new_privs") : 0;
}

void seccomp_complete(struct sock_filter *ret, const struct seccomp_code *c, const uint32_t *value, unsigned num_values,
		      enum seccomp_policy policy)
{
	memcpy(ret, c->code, c->len * sizeof(ret[0]));
	for (unsigned i = 0; i < c->len; i++) {
		if (ret[i].code == (BPF_JMP | BPF_JEQ | BPF_K) && ret[i].k - c->base < num_values)
			ret[i].k = value[ret[i].k - c->base];
		if (ret[i].code == (BPF_RET | BPF_K) && ret[i].k == SECCOMP_RET_TRAP && policy == SECCOMP_POLICY_LOG)
			ret[i].k = SECCOMP_RET_LOG;
	}
}

int seccomp_load(const struct seccomp_code *c, const uint32_t *value, unsigned num_values, enum seccomp_policy policy,
		 struct err *e)
{
	struct sock_filter code[SECCOMP_CODE_MAX];
	struct sock_fprog program = { .len = (unsigned short)c->len, .filter = code };

	assert(c->len <= SECCOMP_CODE_MAX);
	if (policy == SECCOMP_POLICY_OFF)
		return 0;
	seccomp_complete(code, c, value, num_values, policy);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		return err_sys(e,
			       "load a seccomp filter (a kernel without CONFIG_SECCOMP_FILTER? --no-seccomp runs without)");
	return 0;
}
