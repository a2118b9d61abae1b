/* Settings of the guest's kernel, and what of the host's a microVM cannot have; see spec.h. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"
#include "vmm/oci/json_at.h"
#include "vmm/oci/spec.h"

#define NAME_BYTES 128 /* loader/init/sysctl.c has a path of 512 */
#define VALUE_BYTES 1024
#define SYSCTLS_MAX 256

/* Engines set these for each container; a kernel without IPv4 has neither. */
static const char *const of_engines[] = { "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start" };

static int add_sysctl(struct config *c, const char *name, const char *value, struct err *e)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./";
	char text[NAME_BYTES + VALUE_BYTES + 3];
	bool may_be_missing = false;

	if (!*name || strlen(name) > NAME_BYTES || name[strspn(name, allowed)] || strstr(name, "..") || *name == '-')
		return err_set(e, -EINVAL, "must be a name as sysctl(8) has it");
	if (strlen(value) > VALUE_BYTES)
		return err_set(e, -E2BIG, "has more than %d bytes", VALUE_BYTES);
	for (size_t i = 0; i < MF_ARRAY_SIZE(of_engines); i++)
		may_be_missing |= !strcmp(name, of_engines[i]);
	snprintf(text, sizeof(text), "%s%s=%s", may_be_missing ? "-" : "", name, value);
	return config_texts_add(&c->sysctl, text, e);
}

static int read_sysctls(struct config *c, const struct json_at *section, struct err *e)
{
	struct json_at all, value;
	const char *name;

	if (json_at_member(section, "sysctl", JSON_OBJECT, false, &all, e) < 0)
		return e->code;
	if (json_object_size(all.json) > SYSCTLS_MAX)
		return err_set(e, -E2BIG, "%s: there can be at most %d", all.name, SYSCTLS_MAX);
	for (void *i = json_object_iter((json_t *)(uintptr_t)all.json); i;
	     i = json_object_iter_next((json_t *)(uintptr_t)all.json, i)) {
		name = json_object_iter_key(i);
		if (json_at_member(&all, name, JSON_STRING, true, &value, e) < 0)
			return e->code;
		if (add_sysctl(c, name, json_string_value(value.json), e) < 0)
			return err_wrap(e, "%s", value.name);
	}
	return 0;
}

static int read_pids(struct config *c, const struct json_at *section, struct err *e)
{
	struct json_at resources, pids;
	uint64_t limit = 0;

	if (json_at_member(section, "resources", JSON_OBJECT, false, &resources, e) < 0 ||
	    json_at_member(&resources, "pids", JSON_OBJECT, false, &pids, e) < 0 ||
	    json_at_limit(&pids, "limit", &limit, e) < 0)
		return e->code;
	/* Linux has no more of them: it is no limit. */
	c->threads_max = limit < SPEC_THREADS_MAX ? limit : 0;
	return 0;
}

int spec_refuse(const struct json_at *at, const char *key, json_type type, const char *why, struct err *e)
{
	struct json_at found;

	if (json_at_member(at, key, type, false, &found, e) < 0)
		return e->code;
	if (json_array_size(found.json) || json_object_size(found.json))
		return err_set(e, -ENOTSUP, "%s: %s", found.name, why);
	return 0;
}

int spec_read_kernel(struct config *c, const struct json_at *top, const struct json_at *section, struct err *e)
{
	const char *domain;

	if (spec_refuse(section, "devices", JSON_ARRAY, "a microVM has no devices of the host", e) < 0 ||
	    spec_refuse(section, "uidMappings", JSON_ARRAY, "a microVM maps no users", e) < 0 ||
	    spec_refuse(section, "gidMappings", JSON_ARRAY, "a microVM maps no groups", e) < 0 ||
	    spec_refuse(section, "timeOffsets", JSON_OBJECT, "a microVM has the host's time", e) < 0 ||
	    spec_refuse(section, "intelRdt", JSON_OBJECT, "mayfly sets none", e) < 0 ||
	    spec_refuse(section, "personality", JSON_OBJECT, "a microVM has Linux's own", e) < 0 ||
	    read_sysctls(c, section, e) < 0 || read_pids(c, section, e) < 0 ||
	    json_at_text(top, "domainname", false, &domain, e) < 0)
		return e->code;
	if (domain && *domain && add_sysctl(c, "kernel.domainname", domain, e) < 0)
		return err_wrap(e, "domainname");
	return 0;
}
