/* The privileges of a process; see privileges.h. */
#include "jailer/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jailer/seccomp.h"
#include "vmm/base/err.h"

/*
 * User 0 has no special rights; changing the user changes no capabilities; execve keeps
 * none. The bits are locked.
 */
#define SECUREBITS                                                                                                     \
	(SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |               \
	 SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

int privileges_lock(struct err *e)
{
	if (prctl(PR_SET_SECUREBITS, SECUREBITS, 0, 0, 0) < 0)
		return err_sys(e, "set the securebits");
	/* A capability that the kernel does not have is refused: -EINVAL. */
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return err_sys(e, "empty the bounding set of capabilities");
	return 0;
}

int privileges_set_ids(uid_t uid, gid_t gid, struct err *e)
{
	uid_t u[3];
	gid_t g[3];

	/* Groups first: only root can change them. */
	if (setgroups(0, NULL) < 0)
		return err_sys(e, "drop the supplementary groups");
	if (setresgid(gid, gid, gid) < 0)
		return err_sys(e, "become group %u", gid);
	if (setresuid(uid, uid, uid) < 0)
		return err_sys(e, "become user %u", uid);
	if (getresuid(&u[0], &u[1], &u[2]) < 0 || getresgid(&g[0], &g[1], &g[2]) < 0 || u[0] != uid || u[1] != uid ||
	    u[2] != uid || g[0] != gid || g[1] != gid || g[2] != gid || getgroups(0, NULL) != 0)
		return err_set(e, -EPERM, "switch to user %u and group %u: the kernel reports other ids", uid, gid);
	return 0;
}

static int set_capabilities(const struct __user_cap_data_struct *data, struct err *e)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(SYS_capset, &header, data) < 0 ? err_sys(e, "drop the capabilities") : 0;
}

int privileges_drop(uint64_t mask, struct err *e)
{
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (seccomp_no_new_privs(e) < 0)
		return e->code;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_sys(e, "become undumpable");
	/* Fails if one of mask is not permitted. */
	for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		data[i] = (struct __user_cap_data_struct){ .permitted = (uint32_t)(mask >> (32 * i)),
							   .effective = (uint32_t)(mask >> (32 * i)) };
	if (set_capabilities(data, e) < 0)
		return e->code;
	/* -EINVAL: a kernel without the ambient set. */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return err_sys(e, "drop the ambient capabilities");
	return 0;
}

int privileges_keep(uint64_t mask, struct err *e)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data) < 0)
		return err_sys(e, "get the capabilities");
	for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		data[i].permitted &= (uint32_t)(mask >> (32 * i));
		data[i].effective = data[i].permitted;
		data[i].inheritable = 0;
	}
	return set_capabilities(data, e);
}

void privileges_clear_environment(void)
{
	for (char **variable = environ; variable && *variable; variable++)
		explicit_bzero(*variable, strlen(*variable));
	clearenv(); /* it cannot fail */
}
