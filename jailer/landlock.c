/*
 * Landlock; see landlock.h.
 *
 * A ruleset names the kinds of access that it handles. A handled access that no rule
 * allows is forbidden. Each version of the ABI adds kinds, and a kernel refuses kinds
 * that it does not know. So the request is cut to what the kernel knows. Headers of older
 * kernels lack some of the constants, hence the numbers here.
 */
#include "jailer/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"

/* struct landlock_ruleset_attr of ABI 6. A kernel takes as much of it as it knows. */
struct ruleset {
	uint64_t fs;
	uint64_t net;	 /* since ABI 4: TCP bind, connect */
	uint64_t scoped; /* since ABI 6: abstract Unix sockets, signals */
};

static const struct {
	uint64_t fs, net, scoped;
	size_t size;
} abis[] = {
	{ (1ULL << 13) - 1, 0, 0, 8 },
	{ (1ULL << 14) - 1, 0, 0, 8 }, /* 2, Linux 5.19: link and rename to another directory */
	{ (1ULL << 15) - 1, 0, 0, 8 }, /* 3, Linux 6.2: truncate */
	{ (1ULL << 15) - 1, 3, 0, 16 },
	{ (1ULL << 16) - 1, 3, 0, 16 }, /* 5, Linux 6.10: ioctl of devices */
	{ (1ULL << 16) - 1, 3, 3, 24 },
};

static int add_dir(int ruleset, const struct landlock_dir *d, uint64_t handled, struct err *e)
{
	MF_CLOSE int fd = open(d->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct landlock_path_beneath_attr rule = { .allowed_access = d->access & handled, .parent_fd = fd };

	if (fd < 0 || syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return err_sys(e, "allow '%s'", d->path);
	return 0;
}

int landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return abi < 0 ? -errno : (int)abi;
}

int landlock_restrict(const struct landlock_dir *dir, unsigned num, struct err *e)
{
	int abi = landlock_abi();
	MF_CLOSE int fd = -1;
	struct ruleset rules;
	size_t i;

	if (abi < 1)
		return err_neg(e, abi, "this kernel has none");
	i = MF_MIN((size_t)abi, MF_ARRAY_SIZE(abis)) - 1;
	rules = (struct ruleset){ .fs = abis[i].fs, .net = abis[i].net, .scoped = abis[i].scoped };
	fd = (int)syscall(SYS_landlock_create_ruleset, &rules, abis[i].size, 0);
	if (fd < 0)
		return err_sys(e, "make its rules");
	for (unsigned n = 0; n < num; n++)
		if (dir[n].path && add_dir(fd, &dir[n], rules.fs, e) < 0)
			return e->code;
	return syscall(SYS_landlock_restrict_self, fd, 0) < 0 ? err_sys(e, "apply its rules") : 0;
}
