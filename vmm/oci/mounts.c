/*
 * The mounts of a container; see spec.h.
 *
 * mayfly's init mounts what each Linux has (/proc, /sys, /dev and what is in it), so those are left out here. A bind mount
 * becomes a volume: a directory is live, unless an annotation has it packed, and a file is a copy.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/oci/json_at.h"
#include "vmm/oci/spec.h"

/* Longer ones are cut, and then refused as paths that are not there, or too long. */
#define SPEC_MAX (2 * PATH_MAX + 64)

struct mount {
	const char *destination, *type, *source;
	struct json_at options;
};

static bool is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return !strncmp(path, dir, len) && (path[len] == '/' || !path[len]);
}

/* The file system of the host's kernel that a path is in, or NULL. /dev/shm has files like another directory. */
static const char *kernels_dir(const char *path)
{
	static const char *const dirs[] = { "/dev", "/proc", "/sys" };

	for (size_t i = 0; i < MF_ARRAY_SIZE(dirs); i++)
		if (is_below(path, dirs[i]) && !is_below(path, "/dev/shm"))
			return dirs[i];
	return NULL;
}

/* What the guest's kernel provides by itself, at the same place. */
static bool is_kernels(const struct mount *m)
{
	static const char *const types[] = { "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "devtmpfs" };
	const char *dir;

	for (size_t i = 0; i < MF_ARRAY_SIZE(types); i++)
		if (m->type && !strcmp(m->type, types[i]))
			return true;
	if (!strcmp(m->destination, "/dev/shm"))
		return true;
	if (!m->source || *m->source != '/')
		return kernels_dir(m->destination) != NULL;
	dir = kernels_dir(m->source);
	return dir && is_below(m->destination, dir);
}

/* The value of an option "key=value", or "" for the key alone; NULL: it is not there. *last: the last of several. */
static const char *option(const struct mount *m, const char *key)
{
	const size_t len = strlen(key);
	const char *found = NULL;

	for (size_t i = 0; i < json_at_size(&m->options); i++) {
		const char *text = json_string_value(json_array_get(m->options.json, i));

		if (text && !strncmp(text, key, len) && (text[len] == '=' || !text[len]))
			found = text[len] ? text + len + 1 : text + len;
	}
	return found;
}

static int add_tmpfs(struct config *c, const struct mount *m, struct err *e)
{
	const char *size = option(m, "size"), *mode = option(m, "mode");
	char spec[SPEC_MAX];

	if (strchr(m->destination, ':'))
		return err_set(e, -EINVAL, "destination: must not have a ':'");
	snprintf(spec, sizeof(spec), "%s%s%s%s%s%s", m->destination, size || mode ? ":" : "", size ? "size=" : "",
		 size ? size : "", mode ? size ? ",mode=" : "mode=" : "", mode ? mode : "");
	return config_set(c, "tmpfs", spec, e);
}

static int add_bind(const struct spec *s, struct config *c, const struct mount *m, struct err *e)
{
	const bool read_only = option(m, "ro") != NULL;
	bool live;
	char spec[SPEC_MAX];
	struct stat st;

	if (!m->source || *m->source != '/')
		return err_set(e, -EINVAL, "source: must begin with '/'");
	if (strchr(m->source, ':') || strchr(m->destination, ':'))
		return err_set(e, -EINVAL, "source, destination: must not have a ':'");
	if (stat(m->source, &st) < 0)
		return err_sys(e, "source: '%s'", m->source);
	if (kernels_dir(m->source))
		return err_set(e, -ENOTSUP, "source: '%s' is of the host's kernel, and a microVM has its own",
			       m->source);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_set(e, -ENOTSUP,
			       "source: '%s' is neither a directory nor a file, and a microVM has no others of "
			       "the host",
			       m->source);
	live = S_ISDIR(st.st_mode) && !s->packed;
	snprintf(spec, sizeof(spec), "%s:%s:%s", m->source, m->destination,
		 read_only && (live || S_ISREG(st.st_mode)) ? "ro" :
		 live					    ? "rw" :
							      "copy");
	if (config_set(c, "volumes", spec, e) < 0)
		return e->code;
	if (!live)
		c->drive[c->num_drives - 1].mount_read_only = read_only;
	return 0;
}

static int read_mount(const struct spec *s, struct config *c, const struct json_at *at, struct err *e)
{
	struct mount m = { .type = NULL };
	bool bind;

	if (json_at_text(at, "destination", true, &m.destination, e) < 0 ||
	    json_at_text(at, "type", false, &m.type, e) < 0 || json_at_text(at, "source", false, &m.source, e) < 0 ||
	    json_at_member(at, "options", JSON_ARRAY, false, &m.options, e) < 0 ||
	    spec_refuse(at, "uidMappings", JSON_ARRAY, "a microVM maps no users", e) < 0 ||
	    spec_refuse(at, "gidMappings", JSON_ARRAY, "a microVM maps no groups", e) < 0)
		return e->code;
	if (*m.destination != '/')
		return err_set(e, -EINVAL, "%s.destination: must begin with '/'", at->name);
	if (is_kernels(&m))
		return 0;
	bind = (m.type && !strcmp(m.type, "bind")) || option(&m, "bind") || option(&m, "rbind");
	if (bind ? add_bind(s, c, &m, e) == 0 : m.type && !strcmp(m.type, "tmpfs") && add_tmpfs(c, &m, e) == 0)
		return 0;
	if (!bind && (!m.type || strcmp(m.type, "tmpfs") != 0))
		return err_set(e, -ENOTSUP, "%s.type: '%.32s' is neither bind nor tmpfs, and a microVM has no others",
			       at->name, m.type ? m.type : "");
	return err_wrap(e, "%s", at->name);
}

int spec_read_mounts(const struct spec *s, struct config *c, const struct json_at *top, struct err *e)
{
	struct json_at mounts, mount;

	if (json_at_member(top, "mounts", JSON_ARRAY, false, &mounts, e) < 0)
		return e->code;
	for (size_t i = 0; i < json_at_size(&mounts); i++)
		if (json_at_element(&mounts, i, JSON_OBJECT, &mount, e) < 0 || read_mount(s, c, &mount, e) < 0)
			return e->code;
	return 0;
}
