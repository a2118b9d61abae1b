/*
 * The system calls of a file server. Any other fails with EPERM, and does not end the server: which ones its C library tries
 * depends on the version.
 *
 * Some answers are made up. diod wants its limits of files, locks and core files raised, and ends if it may not: the answer is
 * that they were. It also ends if it cannot drop its groups, which an ordinary user without subordinate ids cannot: then it
 * has this user's. clone3, whose flags a filter cannot see, does not exist, so that the C library makes threads by clone.
 */
#include "vmm/helper/live_filter.h"

#include <assert.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define NAMESPACES                                                                                                     \
	(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

static const uint16_t allowed[] = {
	/* To be loaded, to have threads, and to end. */
	SYS_execve,
	SYS_brk,
	SYS_mmap,
	SYS_munmap,
	SYS_mprotect,
	SYS_mremap,
	SYS_madvise,
	SYS_arch_prctl,
	SYS_set_tid_address,
	SYS_set_robust_list,
	SYS_rseq,
	SYS_futex,
	SYS_getrandom,
	SYS_prctl,
	SYS_uname,
	SYS_rt_sigaction,
	SYS_rt_sigprocmask,
	SYS_rt_sigreturn,
	SYS_rt_sigtimedwait,
	SYS_sigaltstack,
	SYS_tgkill,
	SYS_getpid,
	SYS_gettid,
	SYS_getppid,
	SYS_sched_yield,
	SYS_sched_getaffinity,
	SYS_sysinfo,
	SYS_getrlimit,
	SYS_clock_gettime,
	SYS_clock_nanosleep,
	SYS_nanosleep,
	SYS_restart_syscall,
	SYS_exit,
	SYS_exit_group,
	/* The connection. */
	SYS_read,
	SYS_readv,
	SYS_write,
	SYS_writev,
	SYS_poll,
	SYS_ppoll,
	SYS_close,
	SYS_dup,
	SYS_dup2,
	SYS_fcntl,
	SYS_pipe2,
	/* The guest's users. */
	SYS_geteuid,
	SYS_getuid,
	SYS_getegid,
	SYS_getgid,
	SYS_getgroups,
	SYS_setfsuid,
	SYS_setfsgid,
	SYS_setresuid,
	SYS_setresgid,
	SYS_setuid,
	SYS_setgid,
	SYS_setreuid,
	SYS_setregid,
	SYS_capget,
	SYS_capset,
	SYS_umask,
	/* Files. */
	SYS_open,
	SYS_openat,
	SYS_creat,
	SYS_access,
	SYS_faccessat,
	SYS_faccessat2,
	SYS_stat,
	SYS_lstat,
	SYS_fstat,
	SYS_newfstatat,
	SYS_statx,
	SYS_statfs,
	SYS_fstatfs,
	SYS_pread64,
	SYS_pwrite64,
	SYS_preadv,
	SYS_pwritev,
	SYS_lseek,
	SYS_ftruncate,
	SYS_truncate,
	SYS_fallocate,
	SYS_fsync,
	SYS_fdatasync,
	SYS_flock,
	SYS_getdents64,
	SYS_mkdir,
	SYS_mkdirat,
	SYS_rmdir,
	SYS_unlink,
	SYS_unlinkat,
	SYS_rename,
	SYS_renameat,
	SYS_renameat2,
	SYS_link,
	SYS_linkat,
	SYS_symlink,
	SYS_symlinkat,
	SYS_readlink,
	SYS_readlinkat,
	SYS_mknod,
	SYS_mknodat,
	SYS_chmod,
	SYS_fchmod,
	SYS_fchmodat,
	SYS_chown,
	SYS_lchown,
	SYS_fchown,
	SYS_fchownat,
	SYS_utime,
	SYS_utimes,
	SYS_utimensat,
	SYS_getxattr,
	SYS_lgetxattr,
	SYS_fgetxattr,
	SYS_setxattr,
	SYS_lsetxattr,
	SYS_fsetxattr,
	SYS_listxattr,
	SYS_llistxattr,
	SYS_flistxattr,
	SYS_removexattr,
	SYS_lremovexattr,
	SYS_fremovexattr,
	SYS_getcwd,
	SYS_chdir,
};

#define FIXED_MAX 32 /* instructions beside two for each call */

struct program {
	struct sock_filter code[FIXED_MAX + 2 * MF_ARRAY_SIZE(allowed)];
	unsigned short len;
};

static void put(struct program *p, uint16_t code, uint32_t k, uint8_t if_true, uint8_t if_false)
{
	assert(p->len < MF_ARRAY_SIZE(p->code));
	p->code[p->len++] = (struct sock_filter){ .code = code, .jt = if_true, .jf = if_false, .k = k };
}

static void load(struct program *p, size_t offset)
{
	put(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void answer(struct program *p, uint32_t action)
{
	put(p, BPF_RET | BPF_K, action, 0, 0);
}

/* The next count instructions are for this number alone. */
static void for_number(struct program *p, uint32_t number, uint8_t count)
{
	put(p, BPF_JMP | BPF_JEQ | BPF_K, number, 0, count);
}

static void put_program(struct program *p, bool own_groups)
{
	load(p, offsetof(struct seccomp_data, arch));
	put(p, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	answer(p, SECCOMP_RET_KILL_PROCESS);
	load(p, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < MF_ARRAY_SIZE(allowed); i++) {
		for_number(p, allowed[i], 1);
		answer(p, SECCOMP_RET_ALLOW);
	}
	for_number(p, SYS_setgroups, 1);
	answer(p, own_groups ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO);
	for_number(p, SYS_clone3, 1);
	answer(p, SECCOMP_RET_ERRNO | ENOSYS);
	for_number(p, SYS_clone, 4);
	load(p, offsetof(struct seccomp_data, args[0]));
	put(p, BPF_JMP | BPF_JSET | BPF_K, NAMESPACES, 0, 1);
	answer(p, SECCOMP_RET_ERRNO | EPERM);
	answer(p, SECCOMP_RET_ALLOW);
	/* Its new limit is at an address, or it only asks. Both halves of the address decide. */
	for_number(p, SYS_prlimit64, 6);
	load(p, offsetof(struct seccomp_data, args[2]));
	put(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2);
	load(p, offsetof(struct seccomp_data, args[2]) + sizeof(uint32_t));
	put(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
	answer(p, SECCOMP_RET_ERRNO);
	answer(p, SECCOMP_RET_ALLOW);
	answer(p, SECCOMP_RET_ERRNO | EPERM);
}

int live_filter_load(bool own_groups, struct err *e)
{
	struct program p = { .len = 0 };
	struct sock_fprog program = { .filter = p.code };

	put_program(&p, own_groups);
	program.len = p.len;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return err_sys(e, "load the server's seccomp filter");
	return 0;
}
