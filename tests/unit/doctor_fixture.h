/* For tests of `mayfly doctor`: hosts that do not exist, which are a tree of files, and probes that answer as told. */
#ifndef MF_UNIT_DOCTOR_FIXTURE_H
#define MF_UNIT_DOCTOR_FIXTURE_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/fake_root.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/doctor/doctor_parts.h"
#include "vmm/doctor/kvm_native.h"

#define VULNERABILITIES "/sys/devices/system/cpu/vulnerabilities/"
#define CPU                                                                                                            \
	"processor\t: 0\nflags\t\t: fpu vmx constant_tsc nonstop_tsc x2apic\nvmx flags\t: vnmi ept\n\nprocessor\t: 1\n"
#define LIMITS "Limit Soft Hard\nMax locked memory         %s              8388608              bytes     \n"

static int kvm_says, native_says, io_uring_says, user_namespace_says, landlock_says, kernel_says;
static const char *rootfs_says;
static struct doctor_host host;
static struct doctor_finding finding;

static int fake(int code, const char *text, struct err *e)
{
	return code < 0 ? err_neg(e, code, "%s", text) : 0;
}

static int fake_kvm(struct err *e)
{
	return fake(kvm_says, "kvm", e);
}

static int fake_native(struct kvm_native *ret, struct err *e)
{
	*ret = (struct kvm_native){ .guest_s = 0.024, .here_s = 0.005 };
	return fake(native_says, "native", e);
}

static int fake_io_uring(struct err *e)
{
	return fake(io_uring_says, "ring", e);
}

static int fake_user_namespace(void)
{
	return user_namespace_says;
}

static int fake_landlock(void)
{
	return landlock_says;
}

static int fake_kernel(struct config *c, struct err *e)
{
	return kernel_says < 0 ? fake(kernel_says, "kernel", e) : config_set(c, "kernel", "/boot/vmlinux", e);
}

static char *fake_rootfs(void)
{
	return rootfs_says ? strdup(rootfs_says) : NULL;
}

static void drop(const char *path)
{
	char whole[256];

	snprintf(whole, sizeof(whole), "%s%s", root, path);
	assert_int_equal(remove(whole), 0);
}

static void put_memlock(const char *soft)
{
	char text[256];

	snprintf(text, sizeof(text), LIMITS, soft);
	put("/proc/self/limits", text);
}

/* A control group, and where the tree is mounted. */
static void put_group(const char *name, const char *processes)
{
	static const char *const files[] = { "cgroup.controllers", "cgroup.subtree_control", "cgroup.type",
					     "cgroup.procs" };
	const char *texts[] = { "cpuset cpu io memory hugetlb pids rdma\n", "", "domain\n", processes };
	char path[256];

	for (size_t i = 0; i < MF_ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "/sys/fs/cgroup%s/%s", name, files[i]);
		put(path, texts[i]);
	}
	snprintf(path, sizeof(path), "42 31 0:38 / %s/sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", root);
	put("/proc/self/mountinfo", path);
}

/* A host on which all is well. */
static int setup(void **state)
{
	static const char *const programs[] = { "passt", "mkfs.erofs", "sqfstar",     "skopeo",
						"umoci", "bwrap",      "../sbin/diod" };
	char program[256];

	(void)state;
	remove_tree();
	put("/proc/cpuinfo", CPU);
	put("/proc/cmdline", "root=/dev/sda1 quiet\n");
	put("/proc/meminfo", "MemTotal:  1 kB\nHugePages_Total:       8\nHugePages_Free:        3\n");
	put_memlock("8388608");
	put("/proc/sys/kernel/io_uring_disabled", "0\n");
	put("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
	put_group("", "1\n");
	drop("/sys/fs/cgroup/cgroup.type"); /* the root of the tree */
	put_group("/user.slice/me.scope", "");
	put("/proc/self/cgroup", "4:pids:/else\n0::/user.slice/me.scope\n");
	put("/proc/self/status", "Name: mayfly\nGid:\t1000\t1000\t1000\t1000\nGroups:\t1000 \n");
	put("/proc/swaps", "Filename Type Size Used Priority\n");
	put("/proc/sys/kernel/osrelease", "6.12.4-amd64\n");
	put("/boot/config-6.12.4-amd64", "CONFIG_HZ_250=y\nCONFIG_HZ=250\n# CONFIG_KASAN is not set\n");
	put("/proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nsdelegate 0 0\n");
	put("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
	put("/sys/kernel/mm/ksm/run", "0\n");
	put("/sys/module/kvm/parameters/nx_huge_pages", "never\n");
	put("/sys/devices/system/cpu/smt/control", "on\n");
	put(VULNERABILITIES "itlb_multihit", "Not affected\n");
	put(VULNERABILITIES "mds", "Mitigation: Clear CPU buffers\n");
	put("/dev/net/tun", "");
	put("/dev/kvm", "");
	for (size_t i = 0; i < MF_ARRAY_SIZE(programs); i++) {
		snprintf(program, sizeof(program), "/usr/bin/%s", programs[i]);
		put(program, "");
		snprintf(program, sizeof(program), "%s/usr/bin/%s", root, programs[i]);
		chmod(program, 0700);
	}
	kvm_says = native_says = io_uring_says = user_namespace_says = kernel_says = 0;
	landlock_says = 4;
	rootfs_says = "/usr/share/mayfly/rootfs.ext4";
	host = (struct doctor_host){
		.root = root,
		.path = "/sbin:/usr/bin",
		.uid = 1000,
		.kvm = fake_kvm,
		.native = fake_native,
		.io_uring = fake_io_uring,
		.user_namespace = fake_user_namespace,
		.landlock = fake_landlock,
		.kernel = fake_kernel,
		.rootfs = fake_rootfs,
	};
	return 0;
}

static void check(const char *name)
{
	const struct doctor_check *c = doctor_checks;

	while (c->name && strcmp(c->name, name) != 0)
		c++;
	assert_non_null(c->name);
	finding = (struct doctor_finding){ .level = DOCTOR_OK };
	c->run(&host, &finding);
}

#define assert_has(text, part)                                                                                         \
	do {                                                                                                           \
		if (!strstr(text, part))                                                                               \
			fail_msg("'%s' is not in '%s'", part, text);                                                   \
	} while (0)

/* The check finds that, and says so, and what to do. */
#define expect(name, want, said, fixed)                                                                                \
	do {                                                                                                           \
		check(name);                                                                                           \
		assert_int_equal(finding.level, want);                                                                 \
		assert_has(finding.text, said);                                                                        \
		assert_has(finding.fix, fixed);                                                                        \
		assert_int_equal(!*finding.fix, want == DOCTOR_OK);                                                    \
	} while (0)

#endif
