/* Facts of the host; see bench_host.h. */
#include "vmm/bench/bench_host.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/fdio.h"
#include "vmm/base/printable.h"
#include "vmm/base/util.h"

#define CPUINFO_MAX 4096 /* the first CPU's model is in the first lines */
#define VULNERABILITIES "/sys/devices/system/cpu/vulnerabilities"

/* Reads the beginning of a file. Returns false, with text empty, if there is none. */
static bool read_text(const char *root, const char *path, char *text, size_t size)
{
	char whole[PATH_MAX];
	MF_CLOSE int fd = -1;
	ssize_t n = -1;

	if (snprintf(whole, sizeof(whole), "%s%s", root, path) < (int)sizeof(whole))
		fd = open(whole, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd >= 0)
		n = fdio_read(fd, text, size - 1);
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* Copies a line up to its end, or to the first character of stop. */
static void copy_line(char to[BENCH_HOST_TEXT], const char *from, const char *stop)
{
	snprintf(to, BENCH_HOST_TEXT, "%.*s", (int)strcspn(from, stop), from);
	printable_line(to);
}

static void read_cpu(struct bench_host *ret, const char *root)
{
	char text[CPUINFO_MAX];
	const char *model;

	if (!read_text(root, "/proc/cpuinfo", text, sizeof(text)))
		return;
	model = strstr(text, "model name");
	if (model && (model = strchr(model, ':')))
		copy_line(ret->cpu, model + 1 + strspn(model + 1, " \t"), "\n");
	ret->nested = strstr(text, " hypervisor") != NULL;
}

/* The module that serves /dev/kvm; it has a directory, too, where it is built in and has parameters. */
static const char *find_kvm(const char *root)
{
	static const struct {
		const char *dir, *name;
	} flavours[] = { { "/sys/module/kvm_intel", "intel" },
			 { "/sys/module/kvm_amd", "amd" },
			 { "/sys/module/kvm_pvm", "pv" } };
	char whole[PATH_MAX];

	for (size_t i = 0; i < MF_ARRAY_SIZE(flavours); i++)
		if (snprintf(whole, sizeof(whole), "%s%s", root, flavours[i].dir) < (int)sizeof(whole) &&
		    access(whole, F_OK) == 0)
			return flavours[i].name;
	return "";
}

void bench_host_read(struct bench_host *ret, const char *root)
{
	char modes[BENCH_HOST_TEXT];
	struct utsname name;
	struct timespec tick;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	const char *mode;

	*ret = (struct bench_host){ .kvm = find_kvm(root), .cpus = cpus > 0 ? (unsigned)cpus : 0 };
	read_cpu(ret, root);
	if (uname(&name) == 0)
		copy_line(ret->kernel, name.release, "\n");
	/* The coarse clocks advance at each tick: that is their resolution. */
	if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) == 0 && tick.tv_nsec > 0)
		ret->hz = (unsigned)((1000000000L + tick.tv_nsec / 2) / tick.tv_nsec);
	if (read_text(root, "/sys/kernel/mm/transparent_hugepage/enabled", modes, sizeof(modes)) &&
	    (mode = strchr(modes, '[')))
		copy_line(ret->thp, mode + 1, "]\n");
}

static int is_file(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

void bench_host_mitigations(const char *root, void (*each)(void *ctx, const char *name, const char *state), void *ctx)
{
	struct dirent **list = NULL;
	char path[PATH_MAX], text[BENCH_HOST_TEXT], state[BENCH_HOST_TEXT];
	int num = -1;

	if (snprintf(path, sizeof(path), "%s" VULNERABILITIES, root) < (int)sizeof(path))
		num = scandir(path, &list, is_file, alphasort);
	for (int i = 0; i < num; i++) {
		snprintf(path, sizeof(path), VULNERABILITIES "/%s", list[i]->d_name);
		if (read_text(root, path, text, sizeof(text))) {
			copy_line(state, text, "\n");
			each(ctx, list[i]->d_name, state);
		}
		free(list[i]);
	}
	free(list);
}
