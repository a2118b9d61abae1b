/* Values of the jailer's options; see fcjailer.h. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "jailer/fcjailer.h"
#include "vmm/base/err.h"
#include "vmm/base/parse.h"

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

int fcjailer_set_id(struct fcjailer_params *p, const char *text, struct err *e)
{
	size_t len = strlen(text);

	if (len == 0 || len > FCJAILER_ID_MAX)
		return err_set(e, -EINVAL, "must have 1 to %d characters, not %zu", FCJAILER_ID_MAX, len);
	for (size_t i = 0; i < len; i++) {
		if (!isascii(text[i]) || (!isalnum(text[i]) && text[i] != '-'))
			return err_set(e, -EINVAL, "must have letters, digits and '-' only");
	}
	p->id = text;
	return 0;
}

/* The last one means "as it is" to the system calls. */
static int parse_user(int64_t *ret, const char *text, struct err *e)
{
	uint64_t number;

	if (parse_u64(text, &number) < 0 || number >= UINT32_MAX)
		return err_set(e, -EINVAL, "must be a number from 0 to %u", UINT32_MAX - 1);
	*ret = (int64_t)number;
	return 0;
}

int fcjailer_set_uid(struct fcjailer_params *p, const char *text, struct err *e)
{
	return parse_user(&p->uid, text, e);
}

int fcjailer_set_gid(struct fcjailer_params *p, const char *text, struct err *e)
{
	return parse_user(&p->gid, text, e);
}

int fcjailer_set_path(const char **ret, const char *text, struct err *e)
{
	if (!*text || strlen(text) >= PATH_MAX)
		return err_set(e, -EINVAL, "must be a path of 1 to %d bytes", PATH_MAX - 1);
	*ret = text;
	return 0;
}

int fcjailer_check_cgroup_version(const char *text, struct err *e)
{
	if (!strcmp(text, "2"))
		return 0;
	if (!strcmp(text, "1"))
		return err_set(e, -EINVAL, "cgroup v1 is not supported: leave the option out, and boot with cgroup v2");
	return err_set(e, -EINVAL, "must be 2");
}

int fcjailer_set_parent(struct fcjailer_params *p, const char *text, struct err *e)
{
	if (cgroup_check_parent(text, e) < 0)
		return e->code;
	p->parent = text;
	return 0;
}

int fcjailer_add_cgroup(struct fcjailer_params *p, const char *text, struct err *e)
{
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

int fcjailer_add_limit(struct fcjailer_params *p, const char *text, struct err *e)
{
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
