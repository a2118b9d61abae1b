/* The control group of a container; see oci_parts.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "jailer/cgroup_mount.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/cmd/oci_parts.h"

#define PERIOD_DEFAULT 100000
#define SETTINGS_MAX (5 + SPEC_UNIFIED_MAX)

struct settings {
	struct cgroup_setting setting[SETTINGS_MAX];
	char value[SETTINGS_MAX][SPEC_VALUE_MAX];
	unsigned num;
};

static void __attribute__((format(printf, 3, 4))) add(struct settings *s, const char *file, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(s->value[s->num], SPEC_VALUE_MAX, fmt, args); /* checked, or a number, or cut and refused */
	va_end(args);
	s->setting[s->num] = (struct cgroup_setting){ file, s->value[s->num] };
	s->num++;
}

/* A limit of memory is the guest's, and the monitor has some more. */
static void settings_of(struct settings *s, const struct spec_limits *l)
{
	/* 2 to 262144 become 1 to 10000, as runc and crun do it. */
	const uint64_t shares = MF_MIN(MF_MAX(l->cpu_shares, (uint64_t)2), (uint64_t)262144);

	s->num = 0;
	if (l->memory)
		add(s, "memory.max", "%" PRIu64, (uint64_t)(l->memory + SPEC_OWN_MEMORY));
	if (l->cpu_quota)
		add(s, "cpu.max", "%" PRIu64 " %" PRIu64, l->cpu_quota, l->cpu_period ? l->cpu_period : PERIOD_DEFAULT);
	if (l->cpu_shares)
		add(s, "cpu.weight", "%" PRIu64, (uint64_t)(1 + (shares - 2) * 9999 / 262142));
	if (l->cpus && *l->cpus)
		add(s, "cpuset.cpus", "%s", l->cpus);
	if (l->mems && *l->mems)
		add(s, "cpuset.mems", "%s", l->mems);
	for (void *i = json_object_iter((json_t *)(uintptr_t)l->unified); i;
	     i = json_object_iter_next((json_t *)(uintptr_t)l->unified, i))
		add(s, json_object_iter_key(i), "%s", json_string_value(json_object_iter_value(i)));
}

/* From cgroupsPath to a parent and a name: new strings. Returns 0 or -errno with e set. */
static int split(const char *path, bool systemd, char **ret_parent, char **ret_name, struct err *e)
{
	const char *colon = strchr(path, ':'), *second = colon ? strchr(colon + 1, ':') : NULL;
	const char *last = strrchr(path, '/');

	*ret_parent = *ret_name = NULL;
	path += strspn(path, "/");
	if (systemd && (!second || last))
		return err_set(e, -EINVAL, "linux.cgroupsPath: must be SLICE:PREFIX:NAME with --systemd-cgroup");
	if (second && !last) {
		*ret_parent = colon > path ? strndup(path, (size_t)(colon - path)) : strdup("system.slice");
		if (asprintf(ret_name, "%.*s-%s.scope", (int)(second - colon - 1), colon + 1, second + 1) < 0)
			*ret_name = NULL;
	} else {
		*ret_parent = last > path ? strndup(path, (size_t)(last - path)) : NULL;
		*ret_name = strdup(last >= path ? last + 1 : path);
	}
	return *ret_name && (*ret_parent || !last || last < path) ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* Whether the user may make groups in one that is there. */
static bool is_theirs(const char *tree, const char *parent)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof(path), "%s/%s", tree, parent ? parent : "") < (int)sizeof(path) &&
	       access(path, W_OK) == 0;
}

/*
 * Where cgroupsPath begins: the tree's root; or, for users to whom it does not belong, nor the parent in it, the highest group
 * above their own that does. That is what systemd has delegated to them. Returns 0 and a new string, or -errno with e set.
 */
static int find_base(char **ret, const char *parent, struct err *e)
{
	MF_FREE char *own = NULL;
	MF_FREE char *tree = NULL;
	const char *end;

	if (cgroup_find_own("/proc/self", &own, &tree, e) < 0)
		return e->code;
	end = own && !is_theirs(tree, parent) ? own + strlen(tree) : NULL;
	for (; end && !is_theirs(tree, NULL); end = *end ? end : NULL) {
		end += *end == '/';
		end += strcspn(end, "/");
		free(tree);
		tree = strndup(own, (size_t)(end - own));
		if (!tree)
			return err_set(e, -ENOMEM, "out of memory");
	}
	*ret = mf_take_ptr(&tree);
	return 0;
}

char *oci_group_path(const struct spec *s, bool systemd, struct err *e)
{
	MF_FREE char *base = NULL;
	MF_FREE char *parent = NULL;
	MF_FREE char *name = NULL;
	char *path;

	if (!s->cgroups || !*s->cgroups || split(s->cgroups, systemd, &parent, &name, e) < 0 ||
	    find_base(&base, parent, e) < 0)
		return NULL;
	return asprintf(&path, "%s/%s%s%s", base, parent ? parent : "", parent ? "/" : "", name) < 0 ? NULL : path;
}

int oci_group_make(struct cgroup *ret, pid_t *ret_holder, const struct spec *s, bool systemd, struct err *e)
{
	struct cgroup_params p = { .fresh = false };
	MF_FREE char *base = NULL;
	MF_FREE char *parent = NULL;
	MF_FREE char *name = NULL;
	struct settings settings;
	bool guest_has_them;
	int r;

	*ret_holder = -1;
	if (!s->cgroups || !*s->cgroups)
		return 0;
	settings_of(&settings, &s->limits);
	guest_has_them = !settings.num || (settings.num == 1 && s->limits.memory);
	if (split(s->cgroups, systemd, &parent, &name, e) < 0)
		return e->code;
	if (systemd && oci_scope_is_possible())
		return oci_scope_make(ret, ret_holder, parent, name, settings.setting, settings.num, e) < 0 ?
			       err_wrap(e, "linux.cgroupsPath") :
			       0;
	r = find_base(&base, parent, e);
	p.base = base;
	p.parent = parent;
	p.name = name;
	memcpy(p.setting, settings.setting, sizeof(settings.setting));
	p.num_settings = settings.num;
	if (!r)
		r = cgroup_make(ret, &p, e);
	if (r < 0 && guest_has_them) {
		log_info("control group: %s; continuing without, as it would limit no more than the guest", e->text);
		*ret = (struct cgroup){ NULL };
		return 0;
	}
	return r < 0 ? err_wrap(e, "linux.cgroupsPath") : 0;
}

int oci_group_set(const char *dir, bool scope, const struct spec_limits *l, struct err *e)
{
	struct settings s;

	settings_of(&s, l);
	for (unsigned i = 0; i < s.num; i++)
		if (cgroup_check_setting(&s.setting[i], e) < 0 ||
		    cgroup_write(dir, s.setting[i].file, s.setting[i].value, e) < 0)
			return e->code;
	return scope ? oci_scope_set(dir, s.setting, s.num, e) : 0;
}

int oci_group_freeze(const char *dir, bool on, struct err *e)
{
	return cgroup_write(dir, "cgroup.freeze", on ? "1" : "0", e);
}

bool oci_group_is_frozen(const char *dir)
{
	char path[PATH_MAX], byte = '0';
	MF_CLOSE int fd = -1;

	snprintf(path, sizeof(path), "%s/cgroup.freeze", dir);
	fd = *dir ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	return fd >= 0 && read(fd, &byte, 1) == 1 && byte == '1';
}
