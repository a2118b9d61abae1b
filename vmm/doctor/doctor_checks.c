/*
 * The checks of `mayfly doctor`, one function each; see doctor.h. The table at the end has their order. Those of KVM, the
 * CPU and io_uring are in doctor_kvm.c, those of what keeps guests apart in doctor_isolation.c.
 *
 * Files of /proc and /sys are read up to a limit and their first lines shown; whatever is missing (an old kernel, a
 * container that hides it) is told as such. Only what `mayfly run` cannot do without is a failure.
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

#define MEMLOCK_MIN_KIB 1024 /* more than the rings take, which Linux before 5.12 counts */

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
	/* the machine */
	{ "io_uring", doctor_check_io_uring },
	{ "nested", doctor_check_nested },
	{ "cpu", doctor_check_cpu },
	{ "hugepages", check_hugepages },
	{ "memlock", check_memlock },
	{ "nx_huge_pages", doctor_check_nx_huge_pages },
	/* what may be between guests, and between them and the host */
	{ "smt", doctor_check_smt },
	{ "mitigations", doctor_check_mitigations },
	{ "ksm", doctor_check_ksm },
	{ "swap", doctor_check_swap },
	{ "user_namespaces", doctor_check_user_namespaces },
	{ "cgroup", doctor_check_cgroup },
	{ "landlock", doctor_check_landlock },
	/* networks */
	{ "tun", check_tun },
	{ "passt", check_passt },
	/* what to boot */
	{ "kernel", check_kernel },
	{ "rootfs", check_rootfs },
	{ NULL, NULL },
};
