/* Checks of `mayfly doctor`: KVM, the CPU and io_uring. See doctor.h. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/err.h"
#include "vmm/doctor/doctor_parts.h"
#include "vmm/doctor/kvm_native.h"

/* The name of the group that owns /dev/kvm, from /etc/group: NSS cannot be linked statically. */
static void kvm_group(const struct doctor_host *h, char name[DOCTOR_LINE_MAX])
{
	char text[DOCTOR_FILE_MAX], path[PATH_MAX], *rest = text, *line;
	struct stat st;
	unsigned gid;

	snprintf(path, sizeof(path), "%s/dev/kvm", h->root);
	*name = '\0';
	if (stat(path, &st) < 0 || st.st_gid == 0 || !(st.st_mode & S_IWGRP) ||
	    !doctor_read_text(h, "/etc/group", text, sizeof(text)))
		return;
	while ((line = strsep(&rest, "\n"))) {
		if (sscanf(line, "%127[^:]:%*[^:]:%u:", name, &gid) == 2 && gid == st.st_gid)
			return;
	}
	*name = '\0';
}

static void advise_no_kvm(const struct doctor_host *h, struct doctor_finding *f)
{
	char cpuinfo[DOCTOR_FILE_MAX];

	doctor_read_text(h, "/proc/cpuinfo", cpuinfo, sizeof(cpuinfo));
	if (doctor_cpu_has(cpuinfo, "vmx") || doctor_cpu_has(cpuinfo, "svm"))
		doctor_advise(f, "modprobe %s; in a container, hand it /dev/kvm (docker run --device /dev/kvm)",
			      doctor_cpu_has(cpuinfo, "vmx") ? "kvm_intel" : "kvm_amd");
	else if (doctor_cpu_has(cpuinfo, "hypervisor"))
		doctor_advise(f,
			      "this is a virtual machine: enable nested virtualisation on its host, or use bare metal");
	else
		doctor_advise(f, "enable virtualisation (VT-x or AMD-V) in the firmware");
}

void doctor_check_kvm(const struct doctor_host *h, struct doctor_finding *f)
{
	char group[DOCTOR_LINE_MAX];
	struct err e;

	if (h->kvm(&e) == 0) {
		doctor_ok(f, "/dev/kvm opens, and has all that mayfly needs");
		return;
	}
	doctor_fail(f, "", "%s", e.text);
	switch (e.code) {
	case -ENOENT:
	case -ENXIO:
	case -ENODEV:
		advise_no_kvm(h, f);
		break;
	case -EACCES:
	case -EPERM:
		kvm_group(h, group);
		if (*group)
			doctor_advise(f, "as root: usermod -aG %s USER; then log in again", group);
		else
			doctor_advise(
				f,
				"as root: chgrp kvm /dev/kvm; chmod 660 /dev/kvm; usermod -aG kvm USER; then log in again");
		break;
	case -EBUSY:
		doctor_advise(f,
			      "another hypervisor uses the CPU's virtualisation: end its guests and unload its module");
		break;
	default:
		doctor_advise(f, "use a newer kernel (Linux 5.11 at least), with CONFIG_KVM as a distribution has it");
	}
}

void doctor_check_native(const struct doctor_host *h, struct doctor_finding *f)
{
	struct kvm_native n = { 0 };
	struct err e;

	switch (h->native(&n, &e)) {
	case 0:
		doctor_ok(f,
			  "KVM runs kernel code natively (%d million instructions in %.0f ms; %.0f ms in user space)",
			  KVM_NATIVE_MILLIONS, n.guest_s * 1e3, n.here_s * 1e3);
		break;
	case -ETIME: /* a time proves nothing: the host may be busy */
		doctor_warn(f, "repeat it when the host has less to do; if it stays so, use bare metal",
			    "KVM runs kernel code slowly: %s; so guests are slow, or this host is busy", e.text);
		break;
	case -ENOENT:
	case -ENXIO:
	case -ENODEV:
	case -EACCES:
	case -EPERM:
	case -EBUSY:
		doctor_fail(f, "see kvm", "not tried, without KVM: %s", e.text);
		break;
	default:
		doctor_fail(f,
			    "use bare metal, or a virtual machine with nested virtualisation; for tests only, the lab in "
			    "mayfly's source emulates a machine that has it",
			    "KVM does not run kernel code natively: %s", e.text);
	}
}

void doctor_check_nested(const struct doctor_host *h, struct doctor_finding *f)
{
	char cpuinfo[DOCTOR_FILE_MAX], vendor[DOCTOR_LINE_MAX], product[DOCTOR_LINE_MAX];

	if (!doctor_read_text(h, "/proc/cpuinfo", cpuinfo, sizeof(cpuinfo))) {
		doctor_warn(f, "mount /proc", "/proc/cpuinfo cannot be read");
		return;
	}
	if (!doctor_cpu_has(cpuinfo, "hypervisor")) {
		doctor_ok(f, "bare metal");
		return;
	}
	doctor_read_line(h, "/sys/class/dmi/id/sys_vendor", vendor);
	doctor_read_line(h, "/sys/class/dmi/id/product_name", product);
	doctor_warn(f, "use bare metal where speed matters",
		    "this host is a virtual machine itself%s%s%s%s: its guests' exits take several times as long",
		    *vendor || *product ? ": " : "", vendor, *vendor && *product ? " " : "", product);
}

/* Whether the kernel offers KVM, to this user or to others. */
static bool has_kvm(const struct doctor_host *h)
{
	struct err e;
	int r = h->kvm(&e);

	return r == 0 || r == -EACCES || r == -EPERM || r == -EBUSY;
}

void doctor_check_cpu(const struct doctor_host *h, struct doctor_finding *f)
{
	char cpuinfo[DOCTOR_FILE_MAX], ept[DOCTOR_LINE_MAX], npt[DOCTOR_LINE_MAX];
	bool intel, amd, steady;

	if (!doctor_read_text(h, "/proc/cpuinfo", cpuinfo, sizeof(cpuinfo))) {
		doctor_warn(f, "mount /proc", "/proc/cpuinfo cannot be read");
		return;
	}
	doctor_read_line(h, "/sys/module/kvm_intel/parameters/ept", ept);
	doctor_read_line(h, "/sys/module/kvm_amd/parameters/npt", npt);
	intel = doctor_cpu_has(cpuinfo, "vmx");
	amd = doctor_cpu_has(cpuinfo, "svm");
	steady = doctor_cpu_has(cpuinfo, "constant_tsc") && doctor_cpu_has(cpuinfo, "nonstop_tsc");
	if (!intel && !amd && has_kvm(h))
		doctor_ok(f,
			  "neither VMX (Intel VT-x) nor SVM (AMD-V) is shown, but /dev/kvm is there: see kvm, native");
	else if (!intel && !amd)
		doctor_warn(f, "enable it in the firmware, or for a virtual machine on its host",
			    "the CPU shows neither VMX (Intel VT-x) nor SVM (AMD-V)");
	else if (*ept == 'N' || *npt == 'N' || *npt == '0' ||
		 !(doctor_cpu_has(cpuinfo, "ept") || doctor_cpu_has(cpuinfo, "npt")))
		doctor_warn(f,
			    intel ? "load the module with kvm_intel ept=1; very old CPUs have none" :
				    "load the module with kvm_amd npt=1; very old CPUs have none",
			    "%s, but no second level of page tables: guests are slow", intel ? "VMX" : "SVM");
	else if (!steady)
		doctor_warn(f, "disable deep sleep states (processor.max_cstate=1), or use a newer CPU",
			    "the time-stamp counter changes its rate or stops: guests lose time");
	else
		doctor_ok(f, "%s, %s, a steady time-stamp counter%s", intel ? "VMX" : "SVM", intel ? "EPT" : "NPT",
			  doctor_cpu_has(cpuinfo, "x2apic") ? ", x2APIC" : "");
}

void doctor_check_io_uring(const struct doctor_host *h, struct doctor_finding *f)
{
	char disabled[DOCTOR_LINE_MAX], group[DOCTOR_LINE_MAX];
	const char *fix;
	struct err e;

	doctor_read_line(h, "/proc/sys/kernel/io_uring_disabled", disabled);
	doctor_read_line(h, "/proc/sys/kernel/io_uring_group", group);
	if (h->io_uring(&e) == 0) {
		doctor_ok(f, "rings can be made and restricted (--io-engine=ring)%s%s%s%s",
			  *disabled ? "; kernel.io_uring_disabled = " : "", disabled,
			  !strcmp(disabled, "1") ? ", kernel.io_uring_group = " :
			  !strcmp(disabled, "0") ? ": for every user (1: for one group)" :
						   "",
			  !strcmp(disabled, "1") ? group : "");
		return;
	}
	if (!strcmp(disabled, "1"))
		fix = "sysctl kernel.io_uring_disabled=0; or join the group of kernel.io_uring_group";
	else if (*disabled && strcmp(disabled, "0") != 0)
		fix = "sysctl kernel.io_uring_disabled=0";
	else if (e.code == -ENOMEM)
		fix = "raise the limit of locked memory: ulimit -l 8192";
	else if (e.code == -EPERM || e.code == -ENOSYS)
		fix = "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile "
		      "(docker run --security-opt seccomp=...), or use a kernel with CONFIG_IO_URING";
	else
		fix = "use a newer kernel: Linux 5.11 at least, better 6.1";
	doctor_warn(f, fix, "%s; guests run without io_uring (--io-engine=sync)", e.text);
}
