/* The container that an engine asks for; see spec.h. */
#include "vmm/oci/spec.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/oci/hooks.h"
#include "vmm/oci/json_at.h"

#define ANNOTATION "mayfly."
#define PERIOD_DEFAULT 100000U /* microseconds: the kernel's */

/*
 * Annotations that are keys of the configuration. What follows from a bundle cannot be set by one, nor files of the host that
 * mayfly would write to.
 */
static const char *const annotation_keys[] = {
	"kernel",  "initrd", "append",	     "cmdline", "entry",     "cpus",	"mem",	     "disk",
	"scratch", "boot",   "boot_timeout", "timeout", "io_engine", "seccomp", "log_level", "console",
};

static int choose_net(struct spec *s, const char *word, struct err *e)
{
	if (!strcmp(word, "join"))
		s->net = SPEC_NET_JOIN;
	else if (!strcmp(word, "user"))
		s->net = SPEC_NET_USER;
	else if (!strcmp(word, "none"))
		s->net = SPEC_NET_NONE;
	else
		return err_set(e, -EINVAL, "must be join, user or none");
	return 0;
}

static int choose_way(bool *ret, const char *yes, const char *no, const char *word, struct err *e)
{
	*ret = !strcmp(word, yes);
	return *ret || !strcmp(word, no) ? 0 : err_set(e, -EINVAL, "must be live or packed");
}

static int read_annotation(struct spec *s, struct config *c, const char *key, const char *text, struct err *e)
{
	if (!strcmp(key, "net"))
		return choose_net(s, text, e);
	if (!strcmp(key, "root"))
		return choose_way(&s->root_live, "live", "packed", text, e);
	if (!strcmp(key, "mounts"))
		return choose_way(&s->packed, "packed", "live", text, e);
	for (size_t i = 0; i < MF_ARRAY_SIZE(annotation_keys); i++)
		if (!strcmp(key, annotation_keys[i]))
			return config_set(c, key, text, e);
	return err_set(e, -EINVAL, "is none that mayfly has");
}

static int read_annotations(struct spec *s, struct config *c, const struct json_at *top, struct err *e)
{
	struct json_at all;
	const char *key;
	json_t *value;

	if (json_at_member(top, "annotations", JSON_OBJECT, false, &all, e) < 0)
		return e->code;
	s->annotations = all.json;
	for (void *i = json_object_iter((json_t *)(uintptr_t)all.json); i;
	     i = json_object_iter_next((json_t *)(uintptr_t)all.json, i)) {
		key = json_object_iter_key(i);
		value = json_object_iter_value(i);
		if (!json_is_string(value))
			return err_set(e, -EINVAL, "annotations.%.64s: must be a string", key);
		if (!strncmp(key, ANNOTATION, strlen(ANNOTATION)) &&
		    read_annotation(s, c, key + strlen(ANNOTATION), json_string_value(value), e) < 0)
			return err_wrap(e, "annotations.%.64s", key);
	}
	return 0;
}

static int read_namespaces(struct spec *s, const struct json_at *section, struct err *e)
{
	/* Those that must be there: a machine has its own. */
	const char *const own[] = { "pid", "ipc", "uts", "mount", "network" };
	const char *type = NULL, *path;
	bool found[MF_ARRAY_SIZE(own)] = { false };
	struct json_at list, at;

	if (json_at_member(section, "namespaces", JSON_ARRAY, true, &list, e) < 0)
		return e->code;
	for (size_t i = 0; i < json_at_size(&list); i++) {
		if (json_at_element(&list, i, JSON_OBJECT, &at, e) < 0 ||
		    json_at_text(&at, "type", true, &type, e) < 0 || json_at_text(&at, "path", false, &path, e) < 0)
			return e->code;
		for (size_t j = 0; j < MF_ARRAY_SIZE(own); j++)
			found[j] |= !strcmp(type, own[j]);
		if (path && *path && strcmp(type, "network") != 0)
			return err_set(e, -ENOTSUP, "%s.path: a microVM cannot share a namespace of type '%.16s'",
				       at.name, type);
		if (path && *path)
			s->netns = path;
	}
	for (size_t i = 0; i < 4; i++)
		if (!found[i])
			return err_set(e, -ENOTSUP, "%s: '%s' is missing, and a microVM cannot share the host's",
				       list.name, own[i]);
	s->host_net = !found[4];
	return 0;
}

/* Checked as files when they are written. */
static int read_unified(struct spec_limits *l, const struct json_at *resources, struct err *e)
{
	struct json_at unified, value;
	const char *key;

	if (json_at_member(resources, "unified", JSON_OBJECT, false, &unified, e) < 0)
		return e->code;
	if (json_object_size(unified.json) > SPEC_UNIFIED_MAX)
		return err_set(e, -E2BIG, "%s: there can be at most %d", unified.name, SPEC_UNIFIED_MAX);
	for (void *i = json_object_iter((json_t *)(uintptr_t)unified.json); i;
	     i = json_object_iter_next((json_t *)(uintptr_t)unified.json, i)) {
		key = json_object_iter_key(i);
		if (json_at_member(&unified, key, JSON_STRING, true, &value, e) < 0)
			return e->code;
		if (json_string_length(value.json) >= SPEC_VALUE_MAX)
			return err_set(e, -E2BIG, "%s: has more than %d bytes", value.name, SPEC_VALUE_MAX - 1);
	}
	l->unified = unified.json;
	return 0;
}

int spec_read_limits(struct spec_limits *l, const struct json_at *resources, struct err *e)
{
	struct json_at memory, cpu;

	if (json_at_member(resources, "memory", JSON_OBJECT, false, &memory, e) < 0 ||
	    json_at_member(resources, "cpu", JSON_OBJECT, false, &cpu, e) < 0 ||
	    json_at_limit(&memory, "limit", &l->memory, e) < 0 || json_at_limit(&cpu, "quota", &l->cpu_quota, e) < 0 ||
	    json_at_limit(&cpu, "period", &l->cpu_period, e) < 0 ||
	    json_at_limit(&cpu, "shares", &l->cpu_shares, e) < 0 ||
	    json_at_text(&cpu, "cpus", false, &l->cpus, e) < 0 || json_at_text(&cpu, "mems", false, &l->mems, e) < 0 ||
	    read_unified(l, resources, e) < 0)
		return e->code;
	if (l->memory > CONFIG_MEM_MAX)
		l->memory = 0;
	if (l->memory && l->memory < CONFIG_MEM_MIN)
		return err_set(e, -ERANGE, "%s.limit: a microVM has %llu bytes at least", memory.name,
			       (unsigned long long)CONFIG_MEM_MIN);
	return 0;
}

/* What the machine is like, unless an annotation says so: what its limits let it use. */
static void size_machine(const struct spec *s, struct config *c)
{
	const uint64_t period = s->limits.cpu_period ? s->limits.cpu_period : PERIOD_DEFAULT;
	const uint64_t quota = s->limits.cpu_quota;

	c->mem = s->limits.memory ? mf_align_down(s->limits.memory, MF_PAGE_SIZE) : SPEC_MEM_DEFAULT;
	c->cpus = quota > period ? (unsigned)MF_MIN((quota - 1) / period + 1, (uint64_t)CONFIG_CPUS_MAX) : 1;
}

static int read_linux(struct spec *s, struct config *c, const struct json_at *top, struct err *e)
{
	struct json_at section, resources;

	if (json_at_member(top, "linux", JSON_OBJECT, true, &section, e) < 0 || read_namespaces(s, &section, e) < 0 ||
	    json_at_text(&section, "cgroupsPath", false, &s->cgroups, e) < 0 ||
	    spec_read_kernel(c, top, &section, e) < 0 ||
	    json_at_member(&section, "resources", JSON_OBJECT, false, &resources, e) < 0)
		return e->code;
	return spec_read_limits(&s->limits, &resources, e);
}

static int read_root(const struct spec *s, struct config *c, const struct json_at *top, const char *bundle,
		     struct err *e)
{
	const char *text = NULL, *hostname = NULL;
	char path[PATH_MAX];
	struct json_at root;

	if (json_at_member(top, "root", JSON_OBJECT, true, &root, e) < 0 ||
	    json_at_text(&root, "path", true, &text, e) < 0 ||
	    json_at_bool(&root, "readonly", &c->root_read_only, e) < 0 ||
	    json_at_text(top, "hostname", false, &hostname, e) < 0)
		return e->code;
	if (hostname && *hostname && !(c->hostname = strdup(hostname)))
		return err_set(e, -ENOMEM, "out of memory");
	if (hostname && strlen(hostname) > CONFIG_ID_MAX)
		return err_set(e, -EINVAL, "hostname: has more than %d bytes", CONFIG_ID_MAX);
	snprintf(path, sizeof(path), "%s%s%s", *text == '/' ? "" : bundle, *text == '/' ? "" : "/", text);
	if (access(path, F_OK) < 0)
		return err_sys(e, "root.path: '%s'", path);
	if (s->root_live ? config_set_live_root(c, path, e) < 0 : config_set(c, "rootfs", path, e) < 0)
		return err_wrap(e, "root.path");
	return 0;
}

int spec_take(struct spec *s, struct config *c, json_t *json, const char *bundle, struct err *e)
{
	struct json_at top = { .json = json }, process;
	const char *version = NULL;

	s->json = json;
	if (json_at_text(&top, "ociVersion", true, &version, e) < 0)
		return e->code;
	if (strncmp(version, "1.", 2) != 0)
		return err_set(e, -EINVAL, "ociVersion: '%.32s' is not 1.x", version);
	if (hooks_read(&top, &s->hooks, e) < 0 || read_linux(s, c, &top, e) < 0)
		return e->code;
	size_machine(s, c);
	c->log_level = LOG_LEVEL_ERROR; /* what is packed, and warnings, are nothing that a container says */
	if (read_annotations(s, c, &top, e) < 0)
		return e->code;
	if (s->host_net && s->net == SPEC_NET_JOIN)
		return err_set(e, -ENOTSUP,
			       "linux.namespaces: 'network' is missing, and a microVM cannot share the host's: the "
			       "annotation mayfly.net=user gives it one by passt");
	if (read_root(s, c, &top, bundle, e) < 0 || spec_read_mounts(s, c, &top, e) < 0 ||
	    json_at_member(&top, "process", JSON_OBJECT, true, &process, e) < 0)
		return e->code;
	return spec_read_process(s, c, &process, e);
}

int spec_read(struct spec *s, struct config *c, const char *bundle, struct err *e)
{
	char path[PATH_MAX + sizeof(SPEC_FILE)];
	json_t *json;

	snprintf(path, sizeof(path), "%s/" SPEC_FILE, bundle);
	if (json_at_read(&json, path, e) < 0)
		return e->code;
	return spec_take(s, c, json, bundle, e) < 0 ? err_wrap(e, "%s", path) : 0;
}

void spec_done(struct spec *s)
{
	json_decref(s->json);
	*s = (struct spec){ 0 };
}
