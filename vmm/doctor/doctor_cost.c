/*
 * Checks of `mayfly doctor`: what makes every start of a guest dearer. See doctor.h. Each has its figure
 * from a measurement, or from the kernel's documents.
 *
 * Few of these settings can be read at run time. They are what the kernel's command line says, or else the
 * configuration that distributions have in /boot.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/doctor/doctor_parts.h"

#define KERNEL_CONFIG_MAX MIB
#define HZ_SLOW 100

/* The configuration of the kernel, or NULL. The caller frees it. */
static char *read_kernel_config(const struct doctor_host *h)
{
	char release[DOCTOR_LINE_MAX], path[PATH_MAX];
	char *text = malloc(KERNEL_CONFIG_MAX);

	if (!text || !doctor_read_line(h, "/proc/sys/kernel/osrelease", release) || strchr(release, '/'))
		*release = '\0';
	snprintf(path, sizeof(path), "/boot/config-%s", release);
	if (text && *release && doctor_read_text(h, path, text, KERNEL_CONFIG_MAX))
		return text;
	free(text);
	return NULL;
}

/* The value of an option in a kernel's configuration: "y", or a number; "" if it is not set. */
static const char *config_value(const char *config, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = config; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, name, len) && line[len] == '=')
			return line + len + 1;
	}
	return "";
}

/* Whether the running kernel is older. A version that cannot be read is not. */
static bool is_older(const struct doctor_host *h, unsigned major, unsigned minor)
{
	char release[DOCTOR_LINE_MAX];
	unsigned first, second;

	doctor_read_line(h, "/proc/sys/kernel/osrelease", release);
	if (sscanf(release, "%3u.%3u", &first, &second) != 2)
		return false;
	return first < major || (first == major && second < minor);
}

/* What the last NAME=VALUE on the command line says (as the kernel's kstrtobool takes it), or else fallback. */
static bool is_switched_on(const char *cmdline, const char *name, bool fallback)
{
	size_t len = strlen(name);

	for (const char *word = cmdline; *word; word += strcspn(word, " \n")) {
		word += strspn(word, " \n");
		if (strncmp(word, name, len) != 0 || word[len] != '=')
			continue;
		if (strchr("1yYtT", word[len + 1]) || !strncasecmp(word + len + 1, "on", 2))
			fallback = true;
		else if (strchr("0nNfF", word[len + 1]) || !strncasecmp(word + len + 1, "of", 2))
			fallback = false;
	}
	return fallback;
}

/*
 * Measured with Linux 6.1: of 25.1 million instructions from exec to PID 1, 2.4 clear huge pages again. Linux
 * 6.13 clears a page for user space once. init_on_free: security/Kconfig.hardening says 3 to 5 %.
 */
void doctor_check_clearing(const struct doctor_host *h, struct doctor_finding *f)
{
	MF_FREE char *config = read_kernel_config(h);
	char cmdline[DOCTOR_FILE_MAX];
	bool at_alloc, at_free;

	if (!doctor_shows(h, f, "/proc/self"))
		return;
	doctor_read_text(h, "/proc/cmdline", cmdline, sizeof(cmdline));
	at_alloc = is_switched_on(cmdline, "init_on_alloc",
				  config && *config_value(config, "CONFIG_INIT_ON_ALLOC_DEFAULT_ON") == 'y');
	at_free = is_switched_on(cmdline, "init_on_free",
				 config && *config_value(config, "CONFIG_INIT_ON_FREE_DEFAULT_ON") == 'y');
	if (at_free)
		doctor_warn(f, "boot with init_on_free=0, if this hardening of the host is not needed",
			    "init_on_free=1: the kernel clears all memory that is given back, at each guest's end");
	else if (at_alloc && is_older(h, 6, 13))
		doctor_warn(f,
			    "use Linux 6.13 or newer; or boot with init_on_alloc=0, if this hardening of the host is "
			    "not needed",
			    "init_on_alloc=1: this kernel clears each huge page of a guest's memory twice, a tenth of "
			    "a boot");
	else if (at_alloc)
		doctor_ok(f, "init_on_alloc=1, with which this kernel clears guests' memory once");
	else
		doctor_ok(f, config ?
				     "guests' memory is cleared once" :
				     "the command line asks for no more than once; this kernel's default is not known");
}

/* Kernels for debugging. Documentation/dev-tools/kasan.rst: KASAN slows them to a third; the others check each page or lock. */
void doctor_check_debugging(const struct doctor_host *h, struct doctor_finding *f)
{
	static const char *const options[] = { "CONFIG_KASAN", "CONFIG_KMSAN", "CONFIG_PROVE_LOCKING",
					       "CONFIG_DEBUG_PAGEALLOC_ENABLE_DEFAULT" };
	static const char *const words[] = { "debug_pagealloc", "page_poison" };
	MF_FREE char *config = read_kernel_config(h);
	char cmdline[DOCTOR_FILE_MAX];

	if (!doctor_shows(h, f, "/proc/self"))
		return;
	for (size_t i = 0; config && i < MF_ARRAY_SIZE(options); i++) {
		if (*config_value(config, options[i]) != 'y')
			continue;
		doctor_warn(f, "boot a kernel that is not for debugging", "this kernel has %s: all of it is slow",
			    options[i]);
		return;
	}
	doctor_read_text(h, "/proc/cmdline", cmdline, sizeof(cmdline));
	for (size_t i = 0; i < MF_ARRAY_SIZE(words); i++) {
		if (!is_switched_on(cmdline, words[i], false))
			continue;
		doctor_warn(f, "", "%s is on: every page that is freed is written or unmapped", words[i]);
		doctor_advise(f, "boot without %s=", words[i]);
		return;
	}
	doctor_ok(f, config ? "this kernel is not for debugging" :
			      "nothing on the command line; its options are not known");
}

/* A grace period of RCU takes two to three ticks: 20 ms were measured with 100 a second, 7 with 250. */
void doctor_check_hz(const struct doctor_host *h, struct doctor_finding *f)
{
	MF_FREE char *config = read_kernel_config(h);
	unsigned long hz = config ? strtoul(config_value(config, "CONFIG_HZ"), NULL, 10) : 0;

	if (!doctor_shows(h, f, "/proc/self"))
		return;
	if (!hz)
		doctor_ok(f, "not known");
	else if (hz > HZ_SLOW)
		doctor_ok(f, "CONFIG_HZ=%lu", hz);
	else
		doctor_warn(f, "boot a kernel with CONFIG_HZ=250 or 1000",
			    "CONFIG_HZ=%lu: where the kernel waits for RCU, as for a network or a control group, a start "
			    "or an end takes some 20 ms longer",
			    hz);
}

/*
 * KVM made a kernel thread for each VM before Linux 6.13, against iTLB multihit, and moved it into the control
 * groups of the caller. Since 6.0 that move waits for RCU, unless the mount has favordynmods: 30 ms became 120
 * in Firecracker's tests.
 */
void doctor_check_group_moves(const struct doctor_host *h, struct doctor_finding *f)
{
	char mounts[DOCTOR_FILE_MAX], value[DOCTOR_LINE_MAX], *line, *rest = mounts;
	bool thread;

	if (!doctor_shows(h, f, "/proc/self") || !doctor_shows(h, f, "/sys/module"))
		return;
	doctor_read_line(h, "/sys/module/kvm/parameters/nx_huge_pages", value);
	thread = *value && strcmp(value, "never") != 0;
	doctor_read_text(h, "/proc/self/mounts", mounts, sizeof(mounts));
	while ((line = strsep(&rest, "\n"))) {
		if (!strstr(line, " cgroup2 "))
			continue;
		if (!thread || !is_older(h, 6, 13) || is_older(h, 6, 0) || strstr(line, "favordynmods"))
			break;
		doctor_warn(f,
			    "mount -o remount,favordynmods /sys/fs/cgroup; or options kvm nx_huge_pages=never, if "
			    "/sys/devices/system/cpu/vulnerabilities/itlb_multihit says that this CPU is not affected",
			    "KVM starts a thread for each VM and moves it between control groups, which waits for RCU: "
			    "tens of milliseconds");
		return;
	}
	doctor_ok(f, "a new VM waits for no control group");
}

/* Other clocks are devices: each look at the time, by mayfly and by KVM, is a system call and a read of one. */
void doctor_check_clocksource(const struct doctor_host *h, struct doctor_finding *f)
{
	char name[DOCTOR_LINE_MAX];

	if (!doctor_shows(h, f, "/sys/devices/system"))
		return;
	if (!doctor_read_line(h, "/sys/devices/system/clocksource/clocksource0/current_clocksource", name) || !*name)
		doctor_ok(f, "not known");
	else if (!strcmp(name, "hpet") || !strcmp(name, "acpi_pm") || strstr(name, "jiffies"))
		doctor_warn(f,
			    "boot with tsc=reliable, if the CPU's counters are known to be right; see the kernel's log "
			    "for why they were refused",
			    "%s, not the CPU's counter: the time is read from a slow device, and guests cannot read it "
			    "themselves",
			    name);
	else
		doctor_ok(f, "%s", name);
}
