/*
 * The checks of `mayfly doctor`, one function each; see doctor.h. The table at the end has their
 * order. doctor_kvm.c has those of KVM, the CPU and io_uring, doctor_cost.c those of what starts
 * cost, doctor_isolation.c those of the isolation of guests.
 *
 * A check reads files of /proc and /sys up to a limit. A missing file (an old kernel, a container
 * that hides it) is reported as such. Only what `mayfly run` needs is a failure.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/doctor/doctor_parts.h"

#define MEMLOCK_MIN_KIB 1024 /* more than the rings take; Linux before 5.12 counts them */

static void check_tun(const struct doctor_host *h, struct doctor_finding *f)
{
	MF_CLOSE int fd = doctor_open(h, "/dev/net/tun", O_RDWR);

	if (fd >= 0) {
		doctor_ok(f, "/dev/net/tun opens: guests can have taps (-n tap=NAME)");
		return;
	}
	doctor_warn(f,
		    fd == -EACCES || fd == -EPERM ? "as root: chmod 666 /dev/net/tun" :
						    "modprobe tun; in a container, hand it /dev/net/tun",
		    "no taps (-n tap=NAME): /dev/net/tun: %s", strerror(-fd));
}

/* Whether a program of package is in PATH: what there is with it, and what not without. */
static void check_program(const struct doctor_host *h, struct doctor_finding *f, const char *name, const char *package,
			  const char *use)
{
	char path[PATH_MAX], fix[64];
	MF_FREE char *copy = strdup(h->path ? h->path : "");
	char *rest = copy, *dir;

	while (copy && (dir = strsep(&rest, ":"))) {
		int len = snprintf(path, sizeof(path), "%s%s/%s", h->root, dir, name);

		if (*dir && len > 0 && (size_t)len < sizeof(path) && access(path, X_OK) == 0) {
			doctor_ok(f, "%s: %s", path, use);
			return;
		}
	}
	snprintf(fix, sizeof(fix), "apt install %s", package);
	doctor_warn(f, fix, "%s is not in $PATH; with it, %s", name, use);
}

static void check_passt(const struct doctor_host *h, struct doctor_finding *f)
{
	check_program(h, f, "passt", "passt", "guests can have a network without privileges (-n user)");
}

static void check_erofs(const struct doctor_host *h, struct doctor_finding *f)
{
	check_program(h, f, "mkfs.erofs", "erofs-utils",
		      "directories can be roots, and copies of them volumes (-r DIR, -v DIR:/GUEST:copy)");
}

/* Its place is fixed: it is no program of users, whose $PATH may not have it. */
static void check_diod(const struct doctor_host *h, struct doctor_finding *f)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/usr/sbin/diod", h->root);
	if (access(path, X_OK) == 0)
		doctor_ok(f, "%s: guests can have live directories (-v DIR:/GUEST)", path);
	else
		doctor_warn(f, "apt install diod", "no live directories (-v DIR:/GUEST): %s: %s", path,
			    strerror(errno));
}

static void check_sqfstar(const struct doctor_host *h, struct doctor_finding *f)
{
	check_program(h, f, "sqfstar", "squashfs-tools", "tar archives can be roots (-r ROOT.tar)");
}

static void check_skopeo(const struct doctor_host *h, struct doctor_finding *f)
{
	check_program(h, f, "skopeo", "skopeo", "images of containers can be fetched (mayfly run IMAGE)");
}

static void check_umoci(const struct doctor_host *h, struct doctor_finding *f)
{
	check_program(h, f, "umoci", "umoci", "their layers can be unpacked");
}

static void check_bwrap(const struct doctor_host *h, struct doctor_finding *f)
{
	check_program(h, f, "bwrap", "bubblewrap", "these two have a sandbox, which they must have");
}

static void check_hugepages(const struct doctor_host *h, struct doctor_finding *f)
{
	char modes[DOCTOR_LINE_MAX], info[DOCTOR_FILE_MAX], *mode;
	unsigned long total, unused;

	if (!doctor_shows(h, f, "/sys/kernel/mm"))
		return;

	doctor_read_text(h, "/proc/meminfo", info, sizeof(info));
	total = strtoul(doctor_value_of(info, "HugePages_Total"), NULL, 10);
	unused = strtoul(doctor_value_of(info, "HugePages_Free"), NULL, 10);
	doctor_read_line(h, "/sys/kernel/mm/transparent_hugepage/enabled", modes);
	mode = strchr(modes, '[');
	mode = mode ? mode + 1 : modes;
	mode[strcspn(mode, "]")] = '\0';
	if (!strcmp(mode, "always") || !strcmp(mode, "madvise")) {
		doctor_ok(f, "transparent: %s; reserved: %lu, free of them %lu", mode, total, unused);
		return;
	}
	doctor_warn(f,
		    *mode ? "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled" :
			    "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
		    "no transparent huge pages%s%s: guests take many more page faults", *mode ? ": " : "", mode);
}

static void check_memlock(const struct doctor_host *h, struct doctor_finding *f)
{
	char limits[DOCTOR_FILE_MAX], *line;
	unsigned long long bytes;

	doctor_read_text(h, "/proc/self/limits", limits, sizeof(limits));
	line = strstr(limits, "Max locked memory");
	line = line ? line + strlen("Max locked memory") : limits;
	line += strspn(line, " ");
	if (!strncmp(line, "unlimited", 9))
		doctor_ok(f, "unlimited");
	else if (sscanf(line, "%llu", &bytes) != 1)
		doctor_warn(f, "mount /proc", "the limit of locked memory cannot be read");
	else if (bytes / KIB >= MEMLOCK_MIN_KIB)
		doctor_ok(f, "%llu KiB", bytes / KIB);
	else
		doctor_warn(f,
			    "ulimit -l 8192, or memlock in /etc/security/limits.conf: Linux before 5.12 counts rings there",
			    "%llu KiB", bytes / KIB);
}

/* name: of one of mayfly's kernels; NULL: the default. */
static void try_kernel(const struct doctor_host *h, struct doctor_finding *f, const char *name, const char *fix)
{
	static struct config c; /* it is large */
	struct err e;

	config_init(&c);
	if ((!name || config_set(&c, "kernel", name, &e) == 0) && h->kernel(&c, &e) == 0)
		doctor_ok(f, "%s", c.kernel);
	else
		doctor_warn(f, fix, "%s", e.text);
	config_done(&c);
}

static void check_kernel(const struct doctor_host *h, struct doctor_finding *f)
{
	try_kernel(h, f, NULL, "`make kernel` and `make install`, or set $MAYFLY_KERNEL, or mayfly run -k FILE");
}

static void check_minimal(const struct doctor_host *h, struct doctor_finding *f)
{
	try_kernel(h, f, "minimal", "`make kernel` and `make install`; only mayfly run --kernel minimal needs it");
}

static void check_rootfs(const struct doctor_host *h, struct doctor_finding *f)
{
	MF_FREE char *path = h->rootfs();

	if (path) {
		doctor_ok(f, "%s, for mayfly run -d", path);
		return;
	}
	doctor_warn(f, "name any image: mayfly run -d FILE or -i FILE; `make rootfs` builds a small one",
		    "no rootfs.ext4 beside mayfly or in share/mayfly");
}

const struct doctor_check doctor_checks[] = {
	/* required */
	{ "kvm", doctor_check_kvm },
	{ "native", doctor_check_native },
	/* the machine */
	{ "io_uring", doctor_check_io_uring },
	{ "nested", doctor_check_nested },
	{ "cpu", doctor_check_cpu },
	{ "hugepages", check_hugepages },
	{ "memlock", check_memlock },
	{ "nx_huge_pages", doctor_check_nx_huge_pages },
	/* what makes starts dearer */
	{ "clearing", doctor_check_clearing },
	{ "debugging", doctor_check_debugging },
	{ "hz", doctor_check_hz },
	{ "group_moves", doctor_check_group_moves },
	{ "clocksource", doctor_check_clocksource },
	/* isolation of guests from each other and from the host */
	{ "smt", doctor_check_smt },
	{ "mitigations", doctor_check_mitigations },
	{ "ksm", doctor_check_ksm },
	{ "swap", doctor_check_swap },
	{ "user_namespaces", doctor_check_user_namespaces },
	{ "cgroup", doctor_check_cgroup },
	{ "groups", doctor_check_groups },
	{ "landlock", doctor_check_landlock },
	/* networks */
	{ "tun", check_tun },
	{ "passt", check_passt },
	/* directories */
	{ "diod", check_diod },
	{ "erofs", check_erofs },
	{ "sqfstar", check_sqfstar },
	/* images of containers */
	{ "skopeo", check_skopeo },
	{ "umoci", check_umoci },
	{ "bwrap", check_bwrap },
	/* files to boot */
	{ "kernel", check_kernel },
	{ "minimal", check_minimal },
	{ "rootfs", check_rootfs },
	{ NULL, NULL },
};
