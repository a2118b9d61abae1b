/*
 * Checks of `mayfly doctor`: the isolation of guests from each other and from the host. See
 * doctor.h.
 *
 * What guests share (the two threads of a core, equal pages, a swap disk) can leak one guest's
 * data to another. The jail is built of namespaces, control groups and Landlock.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jailer/cgroup_base.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/doctor/doctor_parts.h"

#define CPU_VULNERABILITIES "/sys/devices/system/cpu/vulnerabilities"

void doctor_check_nx_huge_pages(const struct doctor_host *h, struct doctor_finding *f)
{
	char value[DOCTOR_LINE_MAX], multihit[DOCTOR_LINE_MAX];
	bool known, on, safe;

	if (!doctor_shows(h, f, "/sys/module"))
		return;

	known = doctor_read_line(h, "/sys/module/kvm/parameters/nx_huge_pages", value) && *value;
	on = *value == 'Y' || *value == '1';
	doctor_read_line(h, CPU_VULNERABILITIES "/itlb_multihit", multihit);
	safe = !strcmp(multihit, "Not affected");
	if (!known)
		doctor_ok(f, "this KVM has no such parameter");
	else if (on && safe)
		doctor_warn(f, "options kvm nx_huge_pages=never in /etc/modprobe.d/kvm.conf",
			    "%s, though this CPU is not affected: each VM starts a kernel thread, and its code is "
			    "mapped in small pages",
			    value);
	else if (!on && *multihit && !safe && !strstr(multihit, "VMX disabled"))
		doctor_warn(f, "echo auto > /sys/module/kvm/parameters/nx_huge_pages",
			    "%s, but this CPU has the iTLB multihit fault: a guest can stop the host", value);
	else
		doctor_ok(f, "%s, as this CPU needs it", value);
}

/* Lists the CPU's vulnerabilities whose state contains the text. Returns their number. */
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

void doctor_check_smt(const struct doctor_host *h, struct doctor_finding *f)
{
	char control[DOCTOR_LINE_MAX], names[DOCTOR_TEXT_MAX];

	if (!doctor_shows(h, f, "/sys/devices/system/cpu"))
		return;

	if (!doctor_read_line(h, "/sys/devices/system/cpu/smt/control", control) || !*control)
		snprintf(control, sizeof(control), "unknown");
	if (strcmp(control, "on") != 0)
		doctor_ok(f, "%s", control);
	else if (list_vulnerabilities(h, "SMT vulnerable", names) > 0)
		doctor_warn(f,
			    "where guests do not trust each other: echo off > /sys/devices/system/cpu/smt/control, or nosmt",
			    "on, and a guest can read what runs on the same core (%s)", names);
	else
		doctor_ok(f, "on, without a known leak; guests that do not trust each other should not share a core");
}

void doctor_check_mitigations(const struct doctor_host *h, struct doctor_finding *f)
{
	char cmdline[DOCTOR_FILE_MAX], names[DOCTOR_TEXT_MAX];
	unsigned num;

	if (!doctor_shows(h, f, CPU_VULNERABILITIES))
		return;
	num = list_vulnerabilities(h, "Vulnerable", names);
	doctor_read_text(h, "/proc/cmdline", cmdline, sizeof(cmdline));
	if (doctor_has_word(cmdline, "mitigations=off", ""))
		doctor_warn(f, "boot without mitigations=off", "switched off: a guest can read the host's memory%s%s",
			    num ? "; open: " : "", names);
	else if (num > 0)
		doctor_warn(f, "update kernel and microcode (in a virtual machine, its host's)", "vulnerable to %s",
			    names);
	else
		doctor_ok(f, "no known vulnerability of the CPU is open");
}

void doctor_check_ksm(const struct doctor_host *h, struct doctor_finding *f)
{
	char run[DOCTOR_LINE_MAX];

	if (!doctor_shows(h, f, "/sys/kernel/mm"))
		return;

	if (!doctor_read_line(h, "/sys/kernel/mm/ksm/run", run))
		doctor_ok(f, "this kernel does not merge equal pages");
	else if (strcmp(run, "1") != 0)
		doctor_ok(f, "off: equal pages are not merged");
	else
		doctor_warn(f, "echo 2 > /sys/kernel/mm/ksm/run (ends it and takes merged pages apart)",
			    "on: who shares pages can tell by timing what others hold; mayfly offers no guest memory to "
			    "it, other programs may");
}

/* Whether a swap area leaves no plain text on a disk: it is encrypted, or in memory. */
static bool is_private_swap(const struct doctor_host *h, const char *name)
{
	char path[PATH_MAX], uuid[DOCTOR_LINE_MAX];

	if (!strncmp(name, "/dev/zram", 9))
		return true;
	if (strncmp(name, "/dev/dm-", 8) != 0)
		return false;
	snprintf(path, sizeof(path), "/sys/block/%s/dm/uuid", name + 5);
	doctor_read_line(h, path, uuid);
	return !strncmp(uuid, "CRYPT-", 6);
}

void doctor_check_swap(const struct doctor_host *h, struct doctor_finding *f)
{
	char text[DOCTOR_FILE_MAX], *rest = text, *line;
	unsigned num = 0;

	if (!doctor_shows(h, f, "/proc/self"))
		return;

	doctor_read_text(h, "/proc/swaps", text, sizeof(text));
	(void)strsep(&rest, "\n"); /* the heading */
	while ((line = strsep(&rest, "\n")) && *line) {
		line[strcspn(line, " \t")] = '\0';
		num++;
		if (is_private_swap(h, line))
			continue;
		doctor_warn(f, "", "on %s, which is not known to be encrypted: guests' memory is left there", line);
		doctor_advise(f,
			      "swapoff %s, or encrypt it (crypttab: swap,cipher=...), or memory.swap.max=0 for guests",
			      line);
		return;
	}
	doctor_ok(f, num ? "encrypted, or compressed memory" : "none: guests' memory stays memory");
}

void doctor_check_user_namespaces(const struct doctor_host *h, struct doctor_finding *f)
{
	char max[DOCTOR_LINE_MAX], clone[DOCTOR_LINE_MAX], apparmor[DOCTOR_LINE_MAX];
	int r = h->user_namespace();
	const char *fix;

	doctor_read_line(h, "/proc/sys/user/max_user_namespaces", max);
	doctor_read_line(h, "/proc/sys/kernel/unprivileged_userns_clone", clone);
	doctor_read_line(h, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", apparmor);
	if (r == 0 && (h->uid == 0 || strcmp(apparmor, "1") != 0)) {
		doctor_ok(f, "can be made");
		return;
	}
	fix = !strcmp(max, "0")	     ? "sysctl user.max_user_namespaces=10000" :
	      !strcmp(clone, "0")    ? "sysctl kernel.unprivileged_userns_clone=1" :
	      !strcmp(apparmor, "1") ? "sysctl kernel.apparmor_restrict_unprivileged_userns=0" :
				       "use a kernel with CONFIG_USER_NS; in a container, allow unshare(2) in its "
				       "seccomp profile";
	if (r == 0)
		doctor_warn(
			f, fix,
			"can be made, but AppArmor leaves them without rights; passt and a jail without root need them");
	else
		doctor_warn(f, fix, "cannot be made (%s); passt and a jail without root need them", strerror(-r));
}

/* Sets list to the controllers of wanted that the group at dir lacks. */
static void list_missing(const char *dir, char list[DOCTOR_LINE_MAX])
{
	static const char *const wanted[] = { "cpu", "io", "memory", "pids" };
	struct doctor_host whole = { .root = "" }; /* dir has the prefix already */
	char path[PATH_MAX], have[DOCTOR_LINE_MAX];
	size_t len = 0;

	snprintf(path, sizeof(path), "%s/cgroup.controllers", dir);
	doctor_read_line(&whole, path, have);
	*list = '\0';
	for (size_t i = 0; i < MF_ARRAY_SIZE(wanted); i++)
		if (!doctor_has_word(have, wanted[i], ""))
			len += (size_t)snprintf(list + len, DOCTOR_LINE_MAX - len, "%s%s", len ? ", " : "", wanted[i]);
}

/* As `mayfly run --jail=memory-max=...` would find it, if this process were it. */
void doctor_check_cgroup(const struct doctor_host *h, struct doctor_finding *f)
{
	char proc[PATH_MAX], missing[DOCTOR_LINE_MAX];
	struct cgroup_base base = { 0 };
	struct err e;
	int r;

	if (!doctor_shows(h, f, "/proc/self"))
		return;

	snprintf(proc, sizeof(proc), "%s/proc/self", h->root);
	r = cgroup_base_find(&base, proc, h->uid, &e);
	if (!r)
		r = cgroup_base_check(&base, &e);
	if (!r)
		list_missing(base.dir, missing);
	if (r == -EACCES || r == -EBUSY)
		doctor_warn(f, cgroup_base_advice(h->uid), "--jail cannot limit guests from here: %s", e.text);
	else if (r)
		doctor_warn(f, "boot with systemd.unified_cgroup_hierarchy=1 (systemd), or mount cgroup2 there",
			    "--jail cannot limit guests: %s", e.text);
	else if (!*missing)
		doctor_ok(f, "version 2: --jail can limit guests' CPU, I/O, memory and threads, in '%s'", base.dir);
	else
		doctor_warn(f,
			    h->uid == 0 ? "take them from cgroup v1; boot with cgroup_enable=memory where that is off" :
					  "as root: systemctl edit user@.service, with Delegate=cpu io memory pids in "
					  "[Service]; then log in again",
			    "version 2 in '%s', but without %s", base.dir, missing);
	cgroup_base_leave(&base);
}

/* Whether gid is that of /dev/kvm, or the own one. */
static bool is_harmless(const struct doctor_host *h, unsigned long gid, unsigned long own)
{
	char path[PATH_MAX];
	struct stat st;

	snprintf(path, sizeof(path), "%s/dev/kvm", h->root);
	return gid == own || (gid != 0 && stat(path, &st) == 0 && st.st_mode & S_IWGRP && st.st_gid == gid);
}

/* As jailer/jail.c has it. */
void doctor_check_groups(const struct doctor_host *h, struct doctor_finding *f)
{
	char status[DOCTOR_FILE_MAX], *end;
	const char *groups;
	unsigned long own, gid;

	if (!doctor_shows(h, f, "/proc/self"))
		return;

	doctor_read_text(h, "/proc/self/status", status, sizeof(status));
	own = strtoul(doctor_value_of(status, "Gid"), NULL, 10);
	groups = doctor_value_of(status, "Groups");
	for (;; groups = end) {
		groups += strspn(groups, " \t");
		gid = strtoul(groups, &end, 10);
		if (h->uid == 0 || end == groups)
			break;
		if (is_harmless(h, gid, own))
			continue;
		doctor_warn(f, "as root: setpriv --reuid=USER --regid=GROUP --groups=kvm mayfly ...",
			    "this user has supplementary groups, such as %lu: --jail=strict refuses them", gid);
		return;
	}
	doctor_ok(f, "none that --jail=strict refuses");
}

void doctor_check_landlock(const struct doctor_host *h, struct doctor_finding *f)
{
	int abi = h->landlock();

	if (abi > 0) {
		doctor_ok(f, "ABI %d", abi);
		return;
	}
	doctor_warn(f,
		    abi == -EOPNOTSUPP ? "boot with landlock first in lsm= (lsm=landlock,...)" :
					 "use a kernel with CONFIG_SECURITY_LANDLOCK (Linux 5.13 or newer)",
		    "none (%s): the monitor cannot give up its view of the file system", strerror(-abi));
}
