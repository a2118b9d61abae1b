/* The checks of `mayfly doctor`, on hosts that do not exist. Those of what keeps guests apart: test_doctor_isolation.c. */
#include "tests/unit/doctor_fixture.h"

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
	expect("erofs", DOCTOR_OK, "/usr/bin/mkfs.erofs", "");
	expect("diod", DOCTOR_OK, "/usr/sbin/diod: guests can have live directories", "");
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
		assert_int_equal(failures, codes[i] == -ETIME ? 1 : 2); /* kvm, and native unless that is slow */
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
		"/proc/sys/kernel/osrelease",
		"/proc/self/mounts",
		"/proc/cmdline",
		"/boot/config-6.12.4-amd64",
		"/sys/devices/system/clocksource/clocksource0/current_clocksource",
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
	kvm_says = -ENOENT;
	expect("cpu", DOCTOR_WARN, "neither VMX", "firmware");
	/* No advice against what works. */
	kvm_says = 0;
	expect("cpu", DOCTOR_OK, "/dev/kvm is there", "");
	kvm_says = -EACCES;
	expect("cpu", DOCTOR_OK, "/dev/kvm is there", "");
	kvm_says = -ENOENT;
	drop("/proc/cpuinfo");
	expect("cpu", DOCTOR_WARN, "cannot be read", "mount /proc");
	/* Nothing fails by a time. */
	native_says = -ETIME;
	expect("native", DOCTOR_WARN, "native: ", "repeat it");
}

static void test_io_uring(void **state)
{
	(void)state;
	io_uring_says = -EPERM;
	expect("io_uring", DOCTOR_WARN, "ring: ", "io_uring_setup, io_uring_enter");
	expect("io_uring", DOCTOR_WARN, "--io-engine=sync", "");
	put("/proc/sys/kernel/io_uring_disabled", "1\n");
	expect("io_uring", DOCTOR_WARN, "ring: ", "kernel.io_uring_group");
	put("/proc/sys/kernel/io_uring_disabled", "2\n");
	expect("io_uring", DOCTOR_WARN, "ring: ", "sysctl kernel.io_uring_disabled=0");
	drop("/proc/sys/kernel/io_uring_disabled");
	expect("io_uring", DOCTOR_WARN, "ring: ", "seccomp");
	io_uring_says = -ENOMEM;
	expect("io_uring", DOCTOR_WARN, "ring: ", "ulimit -l 8192");
	io_uring_says = -EINVAL;
	expect("io_uring", DOCTOR_WARN, "ring: ", "better 6.1");
	io_uring_says = 0;
	expect("io_uring", DOCTOR_OK, "restricted", "");
	put("/proc/sys/kernel/io_uring_disabled", "0\n");
	expect("io_uring", DOCTOR_OK, "= 0: for every user", "");
	put("/proc/sys/kernel/io_uring_disabled", "1\n");
	put("/proc/sys/kernel/io_uring_group", "77\n");
	expect("io_uring", DOCTOR_OK, "= 1, kernel.io_uring_group = 77", "");
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

/* In a container that does not show them: nothing is well that was not seen. */
static void test_hidden(void **state)
{
	static const char *const of_proc[] = { "nested", "cpu",	     "memlock",	  "swap", "cgroup",
					       "groups", "clearing", "debugging", "hz",	  "group_moves" };
	static const char *const of_sys[] = { "hugepages", "nx_huge_pages", "smt", "mitigations", "ksm", "clocksource" };

	(void)state;
	remove_tree();
	for (size_t i = 0; i < MF_ARRAY_SIZE(of_proc); i++)
		expect(of_proc[i], DOCTOR_WARN, "", "mount /proc");
	for (size_t i = 0; i < MF_ARRAY_SIZE(of_sys); i++)
		expect(of_sys[i], DOCTOR_WARN, "not known", "mount /sys");
}

static void test_networks_and_files(void **state)
{
	(void)state;
	drop("/dev/net/tun");
	expect("tun", DOCTOR_WARN, "No such file", "modprobe tun");
	host.path = "/usr/bin/x::/sbin";
	expect("passt", DOCTOR_WARN, "not in $PATH", "apt install passt");
	expect("erofs", DOCTOR_WARN, "not in $PATH", "apt install erofs-utils");
	expect("sqfstar", DOCTOR_WARN, "not in $PATH", "apt install squashfs-tools");
	expect("skopeo", DOCTOR_WARN, "not in $PATH", "apt install skopeo");
	expect("bwrap", DOCTOR_WARN, "not in $PATH", "apt install bubblewrap");
	host.path = "";
	expect("passt", DOCTOR_WARN, "not in $PATH", "apt install passt");
	expect("erofs", DOCTOR_WARN, "not in $PATH", "apt install erofs-utils");
	kernel_says = -ENOEXEC;
	expect("kernel", DOCTOR_WARN, "kernel: ", "make kernel");
	expect("minimal", DOCTOR_WARN, "kernel: ", "--kernel minimal");
	rootfs_says = NULL;
	expect("rootfs", DOCTOR_WARN, "no rootfs.ext4", "-d FILE");
	rootfs_says = "/a\nb\x1b";
	expect("rootfs", DOCTOR_OK, "/a?b?", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_all_is_well, setup),
		cmocka_unit_test_setup(test_nothing_there, setup),
		cmocka_unit_test_setup(test_garbage, setup),
		cmocka_unit_test_setup(test_kvm, setup),
		cmocka_unit_test_setup(test_native, setup),
		cmocka_unit_test_setup(test_io_uring, setup),
		cmocka_unit_test_setup(test_memory, setup),
		cmocka_unit_test_setup(test_hidden, setup),
		cmocka_unit_test_setup(test_networks_and_files, setup),
	};

	return cmocka_run_group_tests(tests, make_root, drop_root);
}
