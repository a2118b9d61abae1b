/* The process of a container; see spec.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"
#include "vmm/oci/json_at.h"
#include "vmm/oci/spec.h"

#define GROUPS_MAX 64 /* loader/init/user.h */

/* An array of strings, each a value of a key. */
static int set_texts(struct config *c, const struct json_at *array, const char *key, struct err *e)
{
	struct json_at text;

	for (size_t i = 0; i < json_at_size(array); i++) {
		if (json_at_element(array, i, JSON_STRING, &text, e) < 0)
			return e->code;
		/* A variable without a value would be taken from this process. */
		if (!strcmp(key, "env") && !strchr(json_string_value(text.json), '='))
			return err_set(e, -EINVAL, "%s: must be NAME=VALUE", text.name);
		if (config_set(c, key, json_string_value(text.json), e) < 0)
			return err_wrap(e, "%s", text.name);
	}
	return 0;
}

static int read_user(struct config *c, const struct json_at *process, struct err *e)
{
	struct json_at user, groups, group;
	uint64_t uid = 0, gid = 0, mask = 022;
	char text[32];

	if (json_at_member(process, "user", JSON_OBJECT, true, &user, e) < 0 ||
	    json_at_number(&user, "uid", true, UINT32_MAX - 1, &uid, e) < 0 ||
	    json_at_number(&user, "gid", true, UINT32_MAX - 1, &gid, e) < 0 ||
	    json_at_number(&user, "umask", false, 0777, &mask, e) < 0 ||
	    json_at_member(&user, "additionalGids", JSON_ARRAY, false, &groups, e) < 0)
		return e->code;
	c->command.umask_more = (unsigned)mask + 1;
	snprintf(text, sizeof(text), "%u:%u", (unsigned)uid, (unsigned)gid);
	if (config_set(c, "user", text, e) < 0)
		return err_wrap(e, "%s", user.name);
	if (json_at_size(&groups) > GROUPS_MAX)
		return err_set(e, -EINVAL, "%s: there can be at most %d", groups.name, GROUPS_MAX);
	for (size_t i = 0; i < json_at_size(&groups); i++) {
		json_int_t id;

		if (json_at_element(&groups, i, JSON_INTEGER, &group, e) < 0)
			return e->code;
		id = json_integer_value(group.json);
		if (id < 0 || id >= UINT32_MAX)
			return err_set(e, -ERANGE, "%s: must be 0 to %u", group.name, UINT32_MAX - 1);
		snprintf(text, sizeof(text), "%u", (unsigned)id);
		if (config_texts_add(&c->command.groups, text, e) < 0)
			return err_wrap(e, "%s", group.name);
	}
	return 0;
}

/* Linux's numbers are the guest's, too. Returns -1 for a name that is none. */
static int limit_number(const char *name)
{
	/* In the order of their numbers. */
	static const char *const names[RLIM_NLIMITS] = { "CPU",	     "FSIZE", "DATA",	"STACK",
							 "CORE",     "RSS",   "NPROC",	"NOFILE",
							 "MEMLOCK",  "AS",    "LOCKS",	"SIGPENDING",
							 "MSGQUEUE", "NICE",  "RTPRIO", "RTTIME" };

	for (int i = 0; !strncmp(name, "RLIMIT_", 7) && i < RLIM_NLIMITS; i++)
		if (!strcmp(name + 7, names[i]))
			return i;
	return -1;
}

static int read_rlimits(struct config *c, const struct json_at *process, struct err *e)
{
	struct json_at limits, limit;
	const char *type = NULL;
	uint64_t soft = 0, hard = 0;
	bool seen[RLIM_NLIMITS] = { false };
	char text[64];
	int number;

	if (json_at_member(process, "rlimits", JSON_ARRAY, false, &limits, e) < 0)
		return e->code;
	for (size_t i = 0; i < json_at_size(&limits); i++) {
		if (json_at_element(&limits, i, JSON_OBJECT, &limit, e) < 0 ||
		    json_at_text(&limit, "type", true, &type, e) < 0 ||
		    json_at_number(&limit, "soft", true, INT64_MAX, &soft, e) < 0 ||
		    json_at_number(&limit, "hard", true, INT64_MAX, &hard, e) < 0)
			return e->code;
		number = limit_number(type);
		if (number < 0)
			return err_set(e, -EINVAL, "%s.type: '%.32s' is no resource limit of Linux", limit.name, type);
		if (seen[number])
			return err_set(e, -EINVAL, "%s.type: %s is there twice", limit.name, type);
		if (soft > hard)
			return err_set(e, -EINVAL, "%s.soft: is more than hard", limit.name);
		seen[number] = true;
		snprintf(text, sizeof(text), "%d:%llu:%llu", number, (unsigned long long)soft,
			 (unsigned long long)hard);
		if (config_texts_add(&c->command.limits, text, e) < 0)
			return err_wrap(e, "%s", limit.name);
	}
	return 0;
}

static int read_terminal(struct spec *s, struct config *c, const struct json_at *process, struct err *e)
{
	struct json_at size;

	if (json_at_bool(process, "terminal", &s->terminal, e) < 0 ||
	    json_at_member(process, "consoleSize", JSON_OBJECT, false, &size, e) < 0 ||
	    json_at_number(&size, "height", size.json, UINT16_MAX, &s->rows, e) < 0 ||
	    json_at_number(&size, "width", size.json, UINT16_MAX, &s->columns, e) < 0)
		return e->code;
	return config_set(c, "tty", s->terminal ? "true" : "false", e);
}

int spec_read_process(struct spec *s, struct config *c, const struct json_at *process, struct err *e)
{
	struct json_at args, env;
	const char *cwd = NULL;

	if (json_at_member(process, "args", JSON_ARRAY, true, &args, e) < 0 ||
	    json_at_member(process, "env", JSON_ARRAY, false, &env, e) < 0 ||
	    json_at_text(process, "cwd", true, &cwd, e) < 0)
		return e->code;
	if (!json_at_size(&args))
		return err_set(e, -EINVAL, "%s: must have a program", args.name);
	if (config_set(c, "workdir", cwd, e) < 0)
		return err_wrap(e, "%s%scwd", process->name, *process->name ? "." : "");
	if (set_texts(c, &args, "command", e) < 0 || set_texts(c, &env, "env", e) < 0 || read_user(c, process, e) < 0 ||
	    read_rlimits(c, process, e) < 0)
		return e->code;
	return read_terminal(s, c, process, e);
}
