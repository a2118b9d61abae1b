/* The checks of `mayfly doctor`, on hosts that do not exist: a tree of files, and probes that answer as told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm_native.h"
#include "vmm/doctor_parts.h"

#define VULNERABILITIES "/sys/devices/system/cpu/vulnerabilities/"
#define CPU                                                                                                            \
	"processor\t: 0\nflags\t\t: fpu vmx constant_tsc nonstop_tsc x2apic\nvmx flags\t: vnmi ept\n\nprocessor\t: 1\n"
#define LIMITS "Limit Soft Hard\nMax locked memory         %s              8388608              bytes     \n"

static char root[] = "/tmp/mayfly-doctor-XXXXXX";
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
	return kernel_says < 0 ? fake(kernel_says, "kernel", e) : config_set_kernel(c, "/boot/vmlinux", e);
}

static char *fake_rootfs(void)
{
	return rootfs_says ? strdup(rootfs_says) : NULL;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_tree(void)
{
	nftw(root, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	mkdir(root, 0700);
}

/* Makes a file of the host, and the directories above it. */
static void put(const char *path, const char *text)
{
	char whole[256];
	FILE *file;

	snprintf(whole, sizeof(whole), "%s%s", root, path);
	for (char *slash = whole + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(whole, 0700);
		*slash = '/';
	}
	file = fopen(whole, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
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

/* A host on which all is well. */
static int setup(void **state)
{
	char passt[256];

	(void)state;
	remove_tree();
	put("/proc/cpuinfo", CPU);
	put("/proc/cmdline", "root=/dev/sda1 quiet\n");
	put("/proc/meminfo", "MemTotal:  1 kB\nHugePages_Total:       8\nHugePages_Free:        3\n");
	put_memlock("8388608");
	put("/proc/sys/kernel/io_uring_disabled", "0\n");
	put("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
	put("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma\n");
	put("/sys/module/kvm/parameters/nx_huge_pages", "N\n");
	put("/sys/devices/system/cpu/smt/control", "on\n");
	put(VULNERABILITIES "itlb_multihit", "Not affected\n");
	put(VULNERABILITIES "mds", "Mitigation: Clear CPU buffers\n");
	put("/dev/net/tun", "");
	put("/dev/kvm", "");
	put("/usr/bin/passt", "");
	snprintf(passt, sizeof(passt), "%s/usr/bin/passt", root);
	chmod(passt, 0700);
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

static void test_all_is_well(void **state)
{
	(void)state;
	for (const struct doctor_check *c = doctor_checks; c->name; c++) {
		check(c->name);
		if (finding.level != DOCTOR_OK || !*finding.text || *finding.fix)
			fail_msg("%s: '%s', '%s'", c->name, finding.text, finding.fix);
	}
	expect("native", DOCTOR_OK, "20 million instructions in 24 ms; 5 ms", "");
	expect("cpu", DOCTOR_OK, "VMX, EPT, a steady time-stamp counter, x2APIC", "");
	expect("hugepages", DOCTOR_OK, "transparent: madvise; reserved: 8, free of them 3", "");
	expect("memlock", DOCTOR_OK, "8192 KiB", "");
	expect("landlock", DOCTOR_OK, "ABI 4", "");
	expect("passt", DOCTOR_OK, "/usr/bin/passt", "");
	expect("kernel", DOCTOR_OK, "/boot/vmlinux", "");
	expect("rootfs", DOCTOR_OK, "/usr/share/mayfly/rootfs.ext4", "");
}

/* Nothing is there and nothing works: every check says something, and only what guests need is a failure. */
static void test_nothing_there(void **state)
{
	static const int codes[] = { -ENOENT, -EACCES, -EPERM, -ENOSYS, -EBUSY, -ENOTSUP, -EINVAL, -ENOMEM, -ETIME };
	unsigned failures;

	(void)state;
	remove_tree();
	host.path = NULL;
	rootfs_says = NULL;
	for (size_t i = 0; i < MF_ARRAY_SIZE(codes); i++) {
		kvm_says = native_says = io_uring_says = user_namespace_says = landlock_says = kernel_says = codes[i];
		failures = 0;
		for (const struct doctor_check *c = doctor_checks; c->name; c++) {
			check(c->name);
			failures += finding.level == DOCTOR_FAIL;
			if (!*finding.text || !*finding.fix != (finding.level == DOCTOR_OK))
				fail_msg("%s: '%s', '%s'", c->name, finding.text, finding.fix);
		}
		assert_int_equal(failures, 3); /* kvm, native, io_uring */
	}
}

/* Directories, binary, and endless lines where text should be. */
static void test_garbage(void **state)
{
	static const char *const files[] = {
		"/proc/cpuinfo",
		"/proc/meminfo",
		"/proc/self/limits",
		"/proc/sys/kernel/io_uring_disabled",
		"/sys/kernel/mm/transparent_hugepage/enabled",
		"/sys/fs/cgroup/cgroup.controllers",
		"/sys/module/kvm/parameters/nx_huge_pages",
		"/sys/devices/system/cpu/smt/control",
		VULNERABILITIES "mds",
		"/etc/group",
	};
	char *text = malloc(100001);

	(void)state;
	memset(text, '[', 100000);
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < 100000 && round > 0; i++)
			text[i] = (char)(i * 7 % 255 + 1);
		text[100000] = '\0';
		for (size_t i = 0; i < MF_ARRAY_SIZE(files); i++) {
			put(files[i], text);
			if (round == 2) {
				drop(files[i]);
				put(files[i], "\n");
			}
		}
		for (const struct doctor_check *c = doctor_checks; c->name; c++) {
			check(c->name);
			assert_true(*finding.text);
			for (const char *p = finding.text; *p; p++)
				assert_true((unsigned char)*p >= ' ' && *p != 127);
		}
	}
	free(text);
	host.root = "/a/path/that/is/longer/than/any";
	expect("tun", DOCTOR_WARN, "No such file", "modprobe tun");
}

static void test_kvm(void **state)
{
	char group[128], path[64];
	struct stat st;

	(void)state;
	kvm_says = -ENOENT;
	expect("kvm", DOCTOR_FAIL, "kvm: No such file", "modprobe kvm_intel");
	put("/proc/cpuinfo", "flags\t\t: fpu svm npt\n");
	expect("kvm", DOCTOR_FAIL, "kvm: No such file", "modprobe kvm_amd");
	put("/proc/cpuinfo", "flags\t\t: fpu hypervisor\n");
	expect("kvm", DOCTOR_FAIL, "kvm: No such file", "enable nested virtualisation");
	put("/proc/cpuinfo", "flags\t\t: fpu xvmx vmxy\n");
	expect("kvm", DOCTOR_FAIL, "kvm: No such file", "firmware");
	kvm_says = -EBUSY;
	expect("kvm", DOCTOR_FAIL, "kvm: ", "another hypervisor");
	kvm_says = -ENOTSUP;
	expect("kvm", DOCTOR_FAIL, "kvm: ", "newer kernel");
	kvm_says = -EACCES;
	expect("kvm", DOCTOR_FAIL, "kvm: Permission denied", "chgrp kvm");
	/* A group that may write is the one to join. */
	snprintf(path, sizeof(path), "%s/dev/kvm", root);
	assert_true(chown(path, (uid_t)-1, geteuid() == 0 ? 1234 : getegid()) == 0);
	chmod(path, 0660);
	assert_int_equal(stat(path, &st), 0);
	snprintf(group, sizeof(group), "root:x:0:\nempty::77:\nvirt:x:%u:me\n", st.st_gid);
	put("/etc/group", group);
	expect("kvm", DOCTOR_FAIL, "kvm: Permission denied", "usermod -aG virt USER");
	put("/etc/group", "virt:x\nvirt\n::\n");
	expect("kvm", DOCTOR_FAIL, "kvm: Permission denied", "chgrp kvm");
}

static void test_native(void **state)
{
	(void)state;
	native_says = -ENOTSUP;
	expect("native", DOCTOR_FAIL, "does not run kernel code natively: native: ", "bare metal");
	native_says = -EACCES;
	expect("native", DOCTOR_FAIL, "not tried, without KVM", "see kvm");
	put("/proc/cpuinfo", "flags\t\t: svm npt constant_tsc nonstop_tsc hypervisor\n");
	put("/sys/class/dmi/id/sys_vendor", "QEMU\n");
	expect("nested", DOCTOR_WARN, "virtual machine itself: QEMU: its", "bare metal");
	put("/sys/class/dmi/id/product_name", "A PC\n");
	expect("nested", DOCTOR_WARN, "virtual machine itself: QEMU A PC: its", "bare metal");
	expect("cpu", DOCTOR_OK, "SVM, NPT", "");
	put("/sys/module/kvm_amd/parameters/npt", "0\n");
	expect("cpu", DOCTOR_WARN, "SVM, but no second level", "npt=1");
	put("/proc/cpuinfo", CPU);
	drop("/sys/module/kvm_amd/parameters/npt");
	put("/sys/module/kvm_intel/parameters/ept", "N\n");
	expect("cpu", DOCTOR_WARN, "VMX, but no second level", "ept=1");
	put("/sys/module/kvm_intel/parameters/ept", "Y\n");
	expect("cpu", DOCTOR_OK, "VMX", "");
	put("/proc/cpuinfo", "flags\t\t: vmx ept constant_tsc\n");
	expect("cpu", DOCTOR_WARN, "time-stamp counter", "max_cstate");
	put("/proc/cpuinfo", "flags\t\t: fpu\nother\t: vmx\n");
	expect("cpu", DOCTOR_WARN, "neither VMX", "firmware");
}

static void test_io_uring(void **state)
{
	(void)state;
	io_uring_says = -EPERM;
	expect("io_uring", DOCTOR_FAIL, "ring: ", "io_uring_setup, io_uring_enter");
	put("/proc/sys/kernel/io_uring_disabled", "1\n");
	expect("io_uring", DOCTOR_FAIL, "ring: ", "kernel.io_uring_group");
	put("/proc/sys/kernel/io_uring_disabled", "2\n");
	expect("io_uring", DOCTOR_FAIL, "ring: ", "sysctl kernel.io_uring_disabled=0");
	drop("/proc/sys/kernel/io_uring_disabled");
	expect("io_uring", DOCTOR_FAIL, "ring: ", "seccomp");
	io_uring_says = -ENOMEM;
	expect("io_uring", DOCTOR_FAIL, "ring: ", "ulimit -l");
	io_uring_says = -EINVAL;
	expect("io_uring", DOCTOR_FAIL, "ring: ", "newer kernel");
	io_uring_says = 0;
	expect("io_uring", DOCTOR_OK, "restricted", "");
}

static void test_memory(void **state)
{
	(void)state;
	put("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
	expect("hugepages", DOCTOR_WARN, "huge pages: never", "echo madvise");
	put("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
	expect("hugepages", DOCTOR_OK, "always", "");
	drop("/sys/kernel/mm/transparent_hugepage/enabled");
	expect("hugepages", DOCTOR_WARN, "no transparent huge pages", "CONFIG_TRANSPARENT_HUGEPAGE");
	put_memlock("65536");
	expect("memlock", DOCTOR_WARN, "64 KiB", "ulimit -l");
	put_memlock("1048576");
	expect("memlock", DOCTOR_OK, "1024 KiB", "");
	put_memlock("unlimited");
	expect("memlock", DOCTOR_OK, "unlimited", "");
	drop("/proc/self/limits");
	expect("memlock", DOCTOR_WARN, "cannot be read", "/proc");
}

static void test_faults(void **state)
{
	(void)state;
	put("/sys/module/kvm/parameters/nx_huge_pages", "Y\n");
	expect("nx_huge_pages", DOCTOR_WARN, "Y, though", "nx_huge_pages=never");
	put(VULNERABILITIES "itlb_multihit", "KVM: Mitigation: Split huge pages\n");
	expect("nx_huge_pages", DOCTOR_OK, "Y, as", "");
	put("/sys/module/kvm/parameters/nx_huge_pages", "never\n");
	expect("nx_huge_pages", DOCTOR_WARN, "never, but", "echo auto");
	put(VULNERABILITIES "itlb_multihit", "KVM: Mitigation: VMX disabled\n");
	expect("nx_huge_pages", DOCTOR_OK, "never, as", "");
	drop("/sys/module/kvm/parameters/nx_huge_pages");
	expect("nx_huge_pages", DOCTOR_OK, "no such parameter", "");

	put(VULNERABILITIES "mds", "Mitigation: Clear CPU buffers; SMT vulnerable\n");
	expect("smt", DOCTOR_WARN, "(mds)", "nosmt");
	expect("mitigations", DOCTOR_OK, "no known", "");
	put("/sys/devices/system/cpu/smt/control", "forceoff\n");
	expect("smt", DOCTOR_OK, "forceoff", "");
	drop("/sys/devices/system/cpu/smt/control");
	expect("smt", DOCTOR_OK, "unknown", "");

	put(VULNERABILITIES "retbleed", "Vulnerable\n");
	expect("mitigations", DOCTOR_WARN, "vulnerable to retbleed", "microcode");
	put("/proc/cmdline", "quiet mitigations=off\n");
	expect("mitigations", DOCTOR_WARN, "switched off: a guest can read the host's memory; open: retbleed",
	       "without mitigations=off");
	put("/proc/cmdline", "nomitigations=offer\n");
	expect("mitigations", DOCTOR_WARN, "vulnerable to retbleed", "microcode");
}

static void test_fences(void **state)
{
	(void)state;
	put("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
	expect("user_namespaces", DOCTOR_WARN, "AppArmor", "apparmor_restrict_unprivileged_userns=0");
	host.uid = 0;
	expect("user_namespaces", DOCTOR_OK, "can be made", "");
	drop("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
	user_namespace_says = -EPERM;
	expect("user_namespaces", DOCTOR_WARN, "cannot be made (Operation not permitted)", "CONFIG_USER_NS");
	put("/proc/sys/kernel/unprivileged_userns_clone", "0\n");
	expect("user_namespaces", DOCTOR_WARN, "cannot be made", "unprivileged_userns_clone=1");
	put("/proc/sys/user/max_user_namespaces", "0\n");
	expect("user_namespaces", DOCTOR_WARN, "cannot be made", "max_user_namespaces=");

	put("/sys/fs/cgroup/cgroup.controllers", "cpuset memory\n");
	expect("cgroup", DOCTOR_WARN, "without cpu, io, pids", "Delegate");
	drop("/sys/fs/cgroup/cgroup.controllers");
	expect("cgroup", DOCTOR_WARN, "no cgroup v2", "unified_cgroup_hierarchy");

	landlock_says = -EOPNOTSUPP;
	expect("landlock", DOCTOR_WARN, "none", "lsm=landlock");
	landlock_says = -ENOSYS;
	expect("landlock", DOCTOR_WARN, "none", "CONFIG_SECURITY_LANDLOCK");
}

static void test_networks_and_files(void **state)
{
	(void)state;
	drop("/dev/net/tun");
	expect("tun", DOCTOR_WARN, "No such file", "modprobe tun");
	host.path = "/usr/bin/x::/sbin";
	expect("passt", DOCTOR_WARN, "not in $PATH", "apt install passt");
	host.path = "";
	expect("passt", DOCTOR_WARN, "not in $PATH", "apt install passt");
	kernel_says = -ENOEXEC;
	expect("kernel", DOCTOR_WARN, "kernel: ", "make kernel");
	rootfs_says = NULL;
	expect("rootfs", DOCTOR_WARN, "no rootfs.ext4", "-d FILE");
	rootfs_says = "/a\nb\x1b";
	expect("rootfs", DOCTOR_OK, "/a?b?", "");
}

static int make_root(void **state)
{
	(void)state;
	return mkdtemp(root) ? 0 : -1;
}

static int drop_root(void **state)
{
	(void)state;
	remove_tree();
	return rmdir(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_all_is_well, setup), cmocka_unit_test_setup(test_nothing_there, setup),
		cmocka_unit_test_setup(test_garbage, setup),	 cmocka_unit_test_setup(test_kvm, setup),
		cmocka_unit_test_setup(test_native, setup),	 cmocka_unit_test_setup(test_io_uring, setup),
		cmocka_unit_test_setup(test_memory, setup),	 cmocka_unit_test_setup(test_faults, setup),
		cmocka_unit_test_setup(test_fences, setup),	 cmocka_unit_test_setup(test_networks_and_files, setup),
	};

	return cmocka_run_group_tests(tests, make_root, drop_root);
}
