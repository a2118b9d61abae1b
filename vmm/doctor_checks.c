/*
 * The checks of `mayfly doctor`, one function each; see doctor.h. The table at the end has their order. Those of KVM, the
 * CPU and io_uring are in doctor_kvm.c.
 *
 * Files of /proc and /sys are read up to a limit and their first lines shown; whatever is missing (an old kernel, a
 * container that hides it) is told as such. Only what `mayfly run` cannot do without is a failure.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/doctor_parts.h"

#define MEMLOCK_MIN_KIB 1024 /* more than the rings take, which Linux before 5.12 counts */

#define CPU_VULNERABILITIES "/sys/devices/system/cpu/vulnerabilities"

static void check_tun(const struct doctor_host *h, struct doctor_finding *f)
{
	MF_CLOSE int fd = doctor_open(h, "/dev/net/tun", O_RDWR);

	if (fd >= 0) {
		doctor_found(f, DOCTOR_OK, "/dev/net/tun opens: guests can have taps (-n tap=NAME)");
		return;
	}
	doctor_found(f, DOCTOR_WARN, "no taps (-n tap=NAME): /dev/net/tun: %s", strerror(-fd));
	if (fd == -EACCES || fd == -EPERM)
		doctor_advise(f, "as root: chmod 666 /dev/net/tun");
	else
		doctor_advise(f, "modprobe tun; in a container, hand it /dev/net/tun");
}

static void check_passt(const struct doctor_host *h, struct doctor_finding *f)
{
	char path[PATH_MAX];
	MF_FREE char *copy = strdup(h->path ? h->path : "");
	char *rest = copy, *dir;

	while (copy && (dir = strsep(&rest, ":"))) {
		int len = snprintf(path, sizeof(path), "%s%s/passt", h->root, dir);

		if (*dir && len > 0 && (size_t)len < sizeof(path) && access(path, X_OK) == 0) {
			doctor_found(f, DOCTOR_OK, "%s: guests can have a network without privileges (-n user)", path);
			return;
		}
	}
	doctor_found(f, DOCTOR_WARN, "passt is not in $PATH: no network without privileges (-n user)");
	doctor_advise(f, "apt install passt");
}

static void check_user_namespaces(const struct doctor_host *h, struct doctor_finding *f)
{
	char max[DOCTOR_LINE_MAX], clone[DOCTOR_LINE_MAX], apparmor[DOCTOR_LINE_MAX];
	int r = h->user_namespace();

	doctor_read_line(h, "/proc/sys/user/max_user_namespaces", max);
	doctor_read_line(h, "/proc/sys/kernel/unprivileged_userns_clone", clone);
	doctor_read_line(h, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", apparmor);
	if (r == 0 && (h->uid == 0 || strcmp(apparmor, "1") != 0)) {
		doctor_found(f, DOCTOR_OK, "can be made");
		return;
	}
	if (r == 0)
		doctor_found(f, DOCTOR_WARN, "can be made, but AppArmor leaves them without rights; passt needs them");
	else
		doctor_found(f, DOCTOR_WARN, "cannot be made (%s); passt needs them", strerror(-r));
	if (!strcmp(max, "0"))
		doctor_advise(f, "sysctl user.max_user_namespaces=10000");
	else if (!strcmp(clone, "0"))
		doctor_advise(f, "sysctl kernel.unprivileged_userns_clone=1");
	else if (!strcmp(apparmor, "1"))
		doctor_advise(f, "sysctl kernel.apparmor_restrict_unprivileged_userns=0");
	else
		doctor_advise(f,
			      "use a kernel with CONFIG_USER_NS; in a container, allow unshare(2) in its seccomp profile");
}

static void check_cgroup(const struct doctor_host *h, struct doctor_finding *f)
{
	static const char *const wanted[] = { "cpu", "io", "memory", "pids" };
	char controllers[DOCTOR_LINE_MAX], missing[DOCTOR_LINE_MAX] = "";

	if (!doctor_read_line(h, "/sys/fs/cgroup/cgroup.controllers", controllers)) {
		doctor_found(f, DOCTOR_WARN,
			     "no cgroup v2 at /sys/fs/cgroup: guests' CPU, memory and I/O cannot be limited");
		doctor_advise(f, "boot with systemd.unified_cgroup_hierarchy=1 (systemd), or mount cgroup2 there");
		return;
	}
	for (size_t i = 0; i < MF_ARRAY_SIZE(wanted); i++) {
		size_t len = strlen(missing);

		if (!doctor_has_word(controllers, wanted[i], ""))
			snprintf(missing + len, sizeof(missing) - len, "%s%s", len ? ", " : "", wanted[i]);
	}
	if (!*missing) {
		doctor_found(f, DOCTOR_OK, "version 2, with %s", controllers);
		return;
	}
	doctor_found(f, DOCTOR_WARN, "version 2, but without %s", missing);
	doctor_advise(f, "delegate the controllers (systemd: Delegate=yes), take them from cgroup v1, and boot with "
			 "cgroup_enable=memory where that is off");
}

static void check_landlock(const struct doctor_host *h, struct doctor_finding *f)
{
	int abi = h->landlock();

	if (abi > 0) {
		doctor_found(f, DOCTOR_OK, "ABI %d", abi);
		return;
	}
	doctor_found(f, DOCTOR_WARN, "none (%s): the monitor cannot give up its view of the file system",
		     strerror(-abi));
	if (abi == -EOPNOTSUPP)
		doctor_advise(f, "boot with landlock first in lsm= (lsm=landlock,...)");
	else
		doctor_advise(f, "use a kernel with CONFIG_SECURITY_LANDLOCK (Linux 5.13 or newer)");
}

static void check_hugepages(const struct doctor_host *h, struct doctor_finding *f)
{
	char modes[DOCTOR_LINE_MAX], info[DOCTOR_FILE_MAX], *mode;
	unsigned long total, unused;

	doctor_read_text(h, "/proc/meminfo", info, sizeof(info));
	total = strtoul(doctor_value_of(info, "HugePages_Total"), NULL, 10);
	unused = strtoul(doctor_value_of(info, "HugePages_Free"), NULL, 10);
	doctor_read_line(h, "/sys/kernel/mm/transparent_hugepage/enabled", modes);
	mode = strchr(modes, '[');
	mode = mode ? mode + 1 : modes;
	mode[strcspn(mode, "]")] = '\0';
	if (!strcmp(mode, "always") || !strcmp(mode, "madvise")) {
		doctor_found(f, DOCTOR_OK, "transparent: %s; reserved: %lu, free of them %lu", mode, total, unused);
		return;
	}
	doctor_found(f, DOCTOR_WARN, "no transparent huge pages%s%s: guests take many more page faults",
		     *mode ? ": " : "", mode);
	if (*mode)
		doctor_advise(f, "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
	else
		doctor_advise(f, "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE");
}

static void check_memlock(const struct doctor_host *h, struct doctor_finding *f)
{
	char limits[DOCTOR_FILE_MAX], *line;
	unsigned long long bytes;

	doctor_read_text(h, "/proc/self/limits", limits, sizeof(limits));
	line = strstr(limits, "Max locked memory");
	line = line ? line + strlen("Max locked memory") : limits;
	line += strspn(line, " ");
	if (!strncmp(line, "unlimited", 9)) {
		doctor_found(f, DOCTOR_OK, "unlimited");
		return;
	}
	if (sscanf(line, "%llu", &bytes) != 1) {
		doctor_found(f, DOCTOR_WARN, "the limit of locked memory cannot be read");
		doctor_advise(f, "mount /proc");
		return;
	}
	doctor_found(f, bytes / KIB < MEMLOCK_MIN_KIB ? DOCTOR_WARN : DOCTOR_OK, "%llu KiB", bytes / KIB);
	if (f->level != DOCTOR_OK)
		doctor_advise(
			f,
			"ulimit -l 8192, or memlock in /etc/security/limits.conf: Linux before 5.12 counts rings there");
}

static void check_nx_huge_pages(const struct doctor_host *h, struct doctor_finding *f)
{
	char value[DOCTOR_LINE_MAX], multihit[DOCTOR_LINE_MAX];
	bool known, on, safe;

	known = doctor_read_line(h, "/sys/module/kvm/parameters/nx_huge_pages", value) && *value;
	on = *value == 'Y' || *value == '1';
	doctor_read_line(h, CPU_VULNERABILITIES "/itlb_multihit", multihit);
	safe = !strcmp(multihit, "Not affected");
	if (!known) {
		doctor_found(f, DOCTOR_OK, "this KVM has no such parameter");
	} else if (on && safe) {
		doctor_found(f, DOCTOR_WARN,
			     "%s, though this CPU is not affected: each VM starts a kernel thread, and its code is "
			     "mapped in small pages",
			     value);
		doctor_advise(f, "options kvm nx_huge_pages=never in /etc/modprobe.d/kvm.conf");
	} else if (!on && *multihit && !safe && !strstr(multihit, "VMX disabled")) {
		doctor_found(f, DOCTOR_WARN, "%s, but this CPU has the iTLB multihit fault: a guest can stop the host",
			     value);
		doctor_advise(f, "echo auto > /sys/module/kvm/parameters/nx_huge_pages");
	} else {
		doctor_found(f, DOCTOR_OK, "%s, as this CPU needs it", value);
	}
}

/* Puts the names of the CPU's vulnerabilities whose state has that text in it into names. Returns their number. */
static unsigned list_vulnerabilities(const struct doctor_host *h, const char *state, char names[DOCTOR_TEXT_MAX])
{
	char path[PATH_MAX], line[DOCTOR_LINE_MAX];
	const struct dirent *entry;
	unsigned num = 0;
	size_t len = 0;
	DIR *dir;

	*names = '\0';
	snprintf(path, sizeof(path), "%s%s", h->root, CPU_VULNERABILITIES);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), CPU_VULNERABILITIES "/%s", entry->d_name);
		if (entry->d_name[0] == '.' || !doctor_read_line(h, path, line) || !strstr(line, state))
			continue;
		num++;
		if (len < DOCTOR_TEXT_MAX / 2)
			len += (size_t)snprintf(names + len, DOCTOR_TEXT_MAX / 2, "%s%.64s", len ? ", " : "",
						entry->d_name);
	}
	if (dir)
		closedir(dir);
	return num;
}

static void check_smt(const struct doctor_host *h, struct doctor_finding *f)
{
	char control[DOCTOR_LINE_MAX], names[DOCTOR_TEXT_MAX];

	if (!doctor_read_line(h, "/sys/devices/system/cpu/smt/control", control) || !*control)
		snprintf(control, sizeof(control), "unknown");
	if (strcmp(control, "on") != 0) {
		doctor_found(f, DOCTOR_OK, "%s", control);
	} else if (list_vulnerabilities(h, "SMT vulnerable", names) > 0) {
		doctor_found(f, DOCTOR_WARN, "on, and a guest can read what runs on the same core (%s)", names);
		doctor_advise(
			f,
			"where guests do not trust each other: echo off > /sys/devices/system/cpu/smt/control, or nosmt");
	} else {
		doctor_found(f, DOCTOR_OK,
			     "on, without a known leak; guests that do not trust each other should not share a core");
	}
}

static void check_mitigations(const struct doctor_host *h, struct doctor_finding *f)
{
	char cmdline[DOCTOR_FILE_MAX], names[DOCTOR_TEXT_MAX];
	unsigned num = list_vulnerabilities(h, "Vulnerable", names);

	doctor_read_text(h, "/proc/cmdline", cmdline, sizeof(cmdline));
	if (doctor_has_word(cmdline, "mitigations=off", "")) {
		doctor_found(f, DOCTOR_WARN, "switched off: a guest can read the host's memory%s%s",
			     num ? "; open: " : "", names);
		doctor_advise(f, "boot without mitigations=off");
	} else if (num > 0) {
		doctor_found(f, DOCTOR_WARN, "vulnerable to %s", names);
		doctor_advise(f, "update kernel and microcode (in a virtual machine, its host's)");
	} else {
		doctor_found(f, DOCTOR_OK, "no known vulnerability of the CPU is open");
	}
}

static void check_kernel(const struct doctor_host *h, struct doctor_finding *f)
{
	static struct config c; /* it is large */
	struct err e;

	config_init(&c);
	if (h->kernel(&c, &e) == 0) {
		doctor_found(f, DOCTOR_OK, "%s", c.kernel);
	} else {
		doctor_found(f, DOCTOR_WARN, "%s", e.text);
		doctor_advise(f, "`make kernel` and `make install`, or set $MAYFLY_KERNEL, or mayfly run -k FILE");
	}
	config_done(&c);
}

static void check_rootfs(const struct doctor_host *h, struct doctor_finding *f)
{
	MF_FREE char *path = h->rootfs();

	if (path) {
		doctor_found(f, DOCTOR_OK, "%s, for mayfly run -d", path);
		return;
	}
	doctor_found(f, DOCTOR_WARN, "no rootfs.ext4 beside mayfly or in share/mayfly");
	doctor_advise(f, "name any image: mayfly run -d FILE or -i FILE; `make rootfs` builds a small one");
}

const struct doctor_check doctor_checks[] = {
	/* what no guest runs without */
	{ "kvm", doctor_check_kvm },
	{ "native", doctor_check_native },
	{ "io_uring", doctor_check_io_uring },
	/* the machine */
	{ "nested", doctor_check_nested },
	{ "cpu", doctor_check_cpu },
	{ "hugepages", check_hugepages },
	{ "memlock", check_memlock },
	{ "nx_huge_pages", check_nx_huge_pages },
	/* what may be between guests, and between them and the host */
	{ "smt", check_smt },
	{ "mitigations", check_mitigations },
	{ "user_namespaces", check_user_namespaces },
	{ "cgroup", check_cgroup },
	{ "landlock", check_landlock },
	/* networks */
	{ "tun", check_tun },
	{ "passt", check_passt },
	/* what to boot */
	{ "kernel", check_kernel },
	{ "rootfs", check_rootfs },
	{ NULL, NULL },
};
