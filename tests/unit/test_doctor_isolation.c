/* Checks of `mayfly doctor`: what keeps guests apart, on hosts that do not exist. */
#include "tests/unit/doctor_fixture.h"

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

	landlock_says = -EOPNOTSUPP;
	expect("landlock", DOCTOR_WARN, "none", "lsm=landlock");
	landlock_says = -ENOSYS;
	expect("landlock", DOCTOR_WARN, "none", "CONFIG_SECURITY_LANDLOCK");
}

static void test_shared_memory(void **state)
{
	(void)state;
	expect("ksm", DOCTOR_OK, "off", "");
	put("/sys/kernel/mm/ksm/run", "2\n");
	expect("ksm", DOCTOR_OK, "off", "");
	put("/sys/kernel/mm/ksm/run", "1\n");
	expect("ksm", DOCTOR_WARN, "on: ", "echo 2 > /sys/kernel/mm/ksm/run");
	drop("/sys/kernel/mm/ksm/run");
	expect("ksm", DOCTOR_OK, "does not merge", "");

	expect("swap", DOCTOR_OK, "none", "");
	put("/proc/swaps", "Filename Type\n/dev/zram0 partition 1 0 -2\n/dev/dm-1\tpartition\t1\t0\t-2\n");
	put("/sys/block/dm-1/dm/uuid", "CRYPT-PLAIN-swap\n");
	expect("swap", DOCTOR_OK, "encrypted", "");
	put("/sys/block/dm-1/dm/uuid", "LVM-abc\n");
	expect("swap", DOCTOR_WARN, "on /dev/dm-1, which", "swapoff /dev/dm-1");
	put("/proc/swaps", "Filename Type\n/swap\\040file file 1 0 -2\n");
	expect("swap", DOCTOR_WARN, "on /swap\\040file, which", "memory.swap.max=0");
	drop("/proc/swaps");
	expect("swap", DOCTOR_OK, "none", "");
}

/* What `mayfly run` would find, for this caller. */
static void test_delegated_groups(void **state)
{
	char self[32];

	(void)state;
	expect("cgroup", DOCTOR_OK, "/sys/fs/cgroup/user.slice/me.scope'", "");
	put("/sys/fs/cgroup/user.slice/me.scope/cgroup.controllers", "cpuset memory\n");
	expect("cgroup", DOCTOR_WARN, "without cpu, io, pids", "systemctl edit user@.service");
	snprintf(self, sizeof(self), "%d\n", (int)getpid());
	put_group("/user.slice/me.scope", self);
	expect("cgroup", DOCTOR_OK, "version 2", "");
	put_group("/user.slice/me.scope", "1\n");
	expect("cgroup", DOCTOR_WARN, "other processes", "systemd-run --user --scope -p Delegate=yes");
	drop("/sys/fs/cgroup/user.slice/me.scope/cgroup.procs");
	expect("cgroup", DOCTOR_WARN, "not delegated", "systemd-run --user --scope -p Delegate=yes");
	host.uid = 0;
	expect("cgroup", DOCTOR_OK, "/sys/fs/cgroup'", "");
	put("/sys/fs/cgroup/cgroup.controllers", "cpuset memory\n");
	expect("cgroup", DOCTOR_WARN, "without cpu, io, pids", "cgroup_enable");
	for (host.uid = 0; host.uid < 2; host.uid++) {
		put_group("/user.slice/me.scope", "");
		put("/proc/self/cgroup", "4:pids:/else\n");
		expect("cgroup", DOCTOR_WARN, "no cgroup v2", "unified_cgroup_hierarchy");
		put("/proc/self/cgroup", "0::/user.slice/me.scope\n");
		drop("/proc/self/mountinfo");
		expect("cgroup", DOCTOR_WARN, "cannot limit", "mount cgroup2");
	}
}

/* Supplementary groups, as strict takes them. */
static void test_groups(void **state)
{
	struct stat st;
	char text[128], kvm[64];

	(void)state;
	expect("groups", DOCTOR_OK, "none", "");
	put("/proc/self/status", "Gid:\t7\t7\t7\t7\nGroups:\t7 27 \n");
	expect("groups", DOCTOR_WARN, "such as 27", "setpriv");
	snprintf(kvm, sizeof(kvm), "%s/dev/kvm", root);
	assert_int_equal(chown(kvm, (uid_t)-1, geteuid() == 0 ? 1234 : getegid()), 0);
	assert_int_equal(chmod(kvm, 0660), 0);
	assert_int_equal(stat(kvm, &st), 0);
	snprintf(text, sizeof(text), "Gid:\t7\t7\t7\t7\nGroups:\t7 %u \n", st.st_gid);
	put("/proc/self/status", text);
	expect("groups", DOCTOR_OK, "none", "");
	assert_int_equal(chmod(kvm, 0600), 0);
	expect("groups", DOCTOR_WARN, "groups", "setpriv");
	host.uid = 0; /* who drops them */
	expect("groups", DOCTOR_OK, "none", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_faults, setup),	   cmocka_unit_test_setup(test_fences, setup),
		cmocka_unit_test_setup(test_shared_memory, setup), cmocka_unit_test_setup(test_delegated_groups, setup),
		cmocka_unit_test_setup(test_groups, setup),
	};

	return cmocka_run_group_tests(tests, make_root, drop_root);
}
