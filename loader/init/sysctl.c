/* Settings of the guest's kernel; see sysctl.h. */
#include "loader/init/sysctl.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "loader/init/fd.h"

#define THREADS "/proc/sys/kernel/threads-max"

/* [-]NAME=VALUE: the dots of the name are slashes. 0 or -errno. */
static int sysctl_set(const char *spec)
{
	struct text path = { 0 };
	const bool may_be_missing = *spec == '-';
	int ret;

	spec += may_be_missing;
	text_add(&path, "/proc/sys/", NULL);
	for (; *spec != '=' && *spec != '\0'; spec++)
		text_add_bytes(&path, *spec == '.' ? "/" : spec, 1);
	ret = fd_write_file(path.s, spec + (*spec == '='));
	return ret == -ENOENT && may_be_missing ? 0 : ret;
}

/* As many threads beside those that run now: the kernel's own count, too. A limit that is lower stays. */
static int sysctl_limit_threads(const char *number)
{
	struct sysinfo info;
	unsigned long more, most;
	struct text now = { 0 }, limit = { 0 };

	if (!text_number(number, INT_MAX - UINT16_MAX, &more) || sysinfo(&info) < 0)
		return -EINVAL;
	(void)fd_read_file(THREADS, now.s, sizeof(now.s)); /* without it, it is written */
	text_add_number(&limit, more + info.procs);
	if (text_digits(now.s, ULONG_MAX, &most) != NULL && most <= more + info.procs)
		return 0;
	return fd_write_file(THREADS, limit.s);
}

bool sysctl_set_all(const char *boot, size_t len, struct text *why)
{
	const char *s;
	size_t at = 0;
	int ret = 0;

	while (ret == 0 && (s = text_next(boot, len, &at)) != NULL) {
		if (*s == 'y')
			ret = sysctl_set(s + 1);
		else if (*s == 'q')
			ret = sysctl_limit_threads(s + 1);
		if (ret != 0) {
			text_add(why, *s == 'q' ? "limit of threads " : "sysctl ", s + 1, NULL);
			text_add_error(why, -ret);
		}
	}
	return ret == 0;
}
