/* Resource limits; see rlimit.h. */
#include "jailer/rlimit.h"

#include <errno.h>
#include <sys/resource.h>

#include "vmm/base/err.h"

int rlimit_set(int resource, const char *name, uint64_t value, bool if_lower, struct err *e)
{
	struct rlimit limit;
	rlim_t max;

	if (getrlimit((__rlimit_resource_t)resource, &limit) < 0)
		return err_sys(e, "read the limit %s", name);
	max = limit.rlim_max;
	if (if_lower && max < value)
		value = max;
	limit.rlim_cur = limit.rlim_max = value;
	if (setrlimit((__rlimit_resource_t)resource, &limit) == 0)
		return 0;
	if (errno == EPERM)
		return err_set(e, -EPERM, "%s: %llu exceeds the hard limit, %llu", name, (unsigned long long)value,
			       (unsigned long long)max);
	return err_sys(e, "%s: set it to %llu", name, (unsigned long long)value);
}
