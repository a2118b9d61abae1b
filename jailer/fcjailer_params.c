/* Values of the jailer's options; see fcjailer.h. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "jailer/fcjailer.h"
#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"

static uint64_t clock_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts); /* both are always there */
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

void fcjailer_init(struct fcjailer_params *p)
{
	*p = (struct fcjailer_params){
		.chroot_base = "/srv/jailer",
		.uid = -1,
		.gid = -1,
		.no_file = FCJAILER_NO_FILE_DEFAULT,
		.fsize = UINT64_MAX,
		.start_us = clock_us(CLOCK_MONOTONIC),
		.start_cpu_us = clock_us(CLOCK_PROCESS_CPUTIME_ID),
	};
}

void fcjailer_done(struct fcjailer_params *p)
{
	/* Of each setting one string is allocated: its file and its value are parts of it. */
	for (unsigned i = 0; i < p->num_cgroups; i++)
		free((void *)(uintptr_t)p->cgroup[i].file);
	p->num_cgroups = 0;
}

/* Of one option or more: where the field is that it sets, or the parameters, for what has more than a field. */
typedef int setter(void *to, const char *text, struct err *e);

static int set_id(void *to, const char *text, struct err *e)
{
	const char **id = to;
	size_t len = strlen(text);

	if (len == 0 || len > FCJAILER_ID_MAX)
		return err_set(e, -EINVAL, "must have 1 to %d characters, not %zu", FCJAILER_ID_MAX, len);
	for (size_t i = 0; i < len; i++) {
		if (!isascii(text[i]) || (!isalnum(text[i]) && text[i] != '-'))
			return err_set(e, -EINVAL, "must have letters, digits and '-' only");
	}
	*id = text;
	return 0;
}

/* The last one means "as it is" to the system calls. */
static int set_user(void *to, const char *text, struct err *e)
{
	int64_t *user = to;
	uint64_t number;

	if (parse_u64(text, &number) < 0 || number >= UINT32_MAX)
		return err_set(e, -EINVAL, "must be a number from 0 to %u", UINT32_MAX - 1);
	*user = (int64_t)number;
	return 0;
}

static int set_path(void *to, const char *text, struct err *e)
{
	const char **path = to;

	if (!*text || strlen(text) >= PATH_MAX)
		return err_set(e, -EINVAL, "must be a path of 1 to %d bytes", PATH_MAX - 1);
	*path = text;
	return 0;
}

static int set_flag(void *to, const char *text, struct err *e)
{
	bool *flag = to;

	(void)text;
	(void)e;
	*flag = true;
	return 0;
}

static int check_version(void *to, const char *text, struct err *e)
{
	(void)to; /* there is one version */
	if (!strcmp(text, "2"))
		return 0;
	if (!strcmp(text, "1"))
		return err_set(e, -EINVAL, "cgroup v1 is not supported: leave the option out, and boot with cgroup v2");
	return err_set(e, -EINVAL, "must be 2");
}

static int set_parent(void *to, const char *text, struct err *e)
{
	const char **parent = to;

	if (cgroup_check_parent(text, e) < 0)
		return e->code;
	*parent = text;
	return 0;
}

/* FILE=VALUE */
static int add_cgroup(void *to, const char *text, struct err *e)
{
	struct fcjailer_params *p = to;
	struct cgroup_setting *s = &p->cgroup[p->num_cgroups];
	char *copy, *equals;

	if (p->num_cgroups == CGROUP_SETTINGS_MAX)
		return err_set(e, -EINVAL, "only %d are possible", CGROUP_SETTINGS_MAX);
	copy = strdup(text);
	if (!copy)
		return err_set(e, -ENOMEM, "no memory");
	equals = strchr(copy, '=');
	if (equals) {
		*equals = '\0';
		*s = (struct cgroup_setting){ .file = copy, .value = equals + 1 };
	} else {
		err_set(e, -EINVAL, "must be FILE=VALUE");
	}
	if (!equals || cgroup_check_setting(s, e) < 0) {
		free(copy);
		return e->code;
	}
	p->num_cgroups++;
	return 0;
}

static int add_limit(void *to, const char *text, struct err *e)
{
	struct fcjailer_params *p = to;
	static const char fsize[] = "fsize=", no_file[] = "no-file=";
	uint64_t *limit, value;
	const char *number;

	if (!strncmp(text, fsize, sizeof(fsize) - 1)) {
		limit = &p->fsize;
		number = text + sizeof(fsize) - 1;
	} else if (!strncmp(text, no_file, sizeof(no_file) - 1)) {
		limit = &p->no_file;
		number = text + sizeof(no_file) - 1;
	} else {
		return err_set(e, -EINVAL, "must be fsize=BYTES or no-file=NUMBER");
	}
	if (parse_u64(number, &value) < 0)
		return err_set(e, -EINVAL, "must be a number behind '='");
	*limit = value;
	return 0;
}

#define FIELD(name) offsetof(struct fcjailer_params, name)

static const struct {
	const char *option;
	setter *set;
	size_t to;
} setters[] = {
	{ "id", set_id, FIELD(id) },
	{ "exec-file", set_path, FIELD(exec_file) },
	{ "uid", set_user, FIELD(uid) },
	{ "gid", set_user, FIELD(gid) },
	{ "chroot-base-dir", set_path, FIELD(chroot_base) },
	{ "netns", set_path, FIELD(netns) },
	{ "daemonize", set_flag, FIELD(daemonize) },
	{ "new-pid-ns", set_flag, FIELD(new_pid_ns) },
	/* those of control groups, and limits */
	{ "cgroup", add_cgroup, 0 },
	{ "cgroup-version", check_version, 0 },
	{ "parent-cgroup", set_parent, FIELD(parent) },
	{ "resource-limit", add_limit, 0 },
};

int fcjailer_set(struct fcjailer_params *p, const char *option, const char *text, struct err *e)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(setters); i++)
		if (!strcmp(setters[i].option, option))
			return setters[i].set((char *)p + setters[i].to, text, e);
	return err_set(e, -EINVAL, "is not an option of the jailer");
}

int fcjailer_check(const struct fcjailer_params *p, struct err *e)
{
	const struct {
		const char *name;
		bool given;
	} required[] = {
		{ "id", p->id },
		{ "exec-file", p->exec_file },
		{ "uid", p->uid >= 0 },
		{ "gid", p->gid >= 0 },
	};

	for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++) {
		if (!required[i].given)
			return err_set(e, -EINVAL, "option '--%s' is required; try 'mayfly jailer --help'",
				       required[i].name);
	}
	return 0;
}
