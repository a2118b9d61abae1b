/* The configuration of an image; see image_config.h. */
#include "vmm/image/image_config.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"

/* The members of "config" that are read here. null is as if they were not there. */
enum member_type { MEMBER_TEXT, MEMBER_TEXTS, MEMBER_SET };

static const struct member {
	const char *name;
	enum member_type type;
} members[] = {
	{ "Entrypoint", MEMBER_TEXTS }, { "Cmd", MEMBER_TEXTS },       { "Env", MEMBER_TEXTS },
	{ "WorkingDir", MEMBER_TEXT },	{ "User", MEMBER_TEXT },       { "ExposedPorts", MEMBER_SET },
	{ "Volumes", MEMBER_SET },	{ "StopSignal", MEMBER_TEXT },
};

/* An array of strings. */
static bool is_texts(const json_t *value)
{
	const json_t *text;
	size_t i;

	json_array_foreach(value, i, text)
		if (!json_is_string(text))
			return false;
	return json_is_array(value);
}

static bool has_type(const json_t *value, enum member_type type)
{
	if (!value || json_is_null(value))
		return true;
	switch (type) {
	case MEMBER_TEXT:
		return json_is_string(value);
	case MEMBER_TEXTS:
		return is_texts(value);
	case MEMBER_SET:
		return json_is_object(value);
	}
	return false;
}

/* A name alone would be a variable of the host. */
static bool is_environment(const json_t *env)
{
	const json_t *text;
	size_t i;

	json_array_foreach(env, i, text)
		if (strcspn(json_string_value(text), "=") == 0 || !strchr(json_string_value(text), '='))
			return false;
	return true;
}

static int check_platform(const json_t *image, const char *member, const char *here, struct err *e)
{
	const char *there = json_string_value(json_object_get(image, member));

	if (!there)
		return err_set(e, -EINVAL, "its configuration has no \"%s\"", member);
	if (strcmp(there, here) != 0)
		return err_set(e, -EINVAL, "it is made for %s '%.40s', this host is '%s'", member, there, here);
	return 0;
}

json_t *image_config_check(json_t *image, struct err *e)
{
	json_t *config = json_object_get(image, "config");

	if (!json_is_object(image)) {
		err_set(e, -EINVAL, "its configuration is no JSON object");
		return NULL;
	}
	if (check_platform(image, "os", "linux", e) < 0 || check_platform(image, "architecture", "amd64", e) < 0)
		return NULL;
	if (!config || json_is_null(config))
		return json_object();
	if (!json_is_object(config)) {
		err_set(e, -EINVAL, "the \"config\" of its configuration is no object");
		return NULL;
	}
	for (size_t i = 0; i < MF_ARRAY_SIZE(members); i++) {
		if (has_type(json_object_get(config, members[i].name), members[i].type))
			continue;
		err_set(e, -EINVAL, "\"%s\" of its configuration has a wrong type", members[i].name);
		return NULL;
	}
	if (!is_environment(json_object_get(config, "Env"))) {
		err_set(e, -EINVAL, "\"Env\" of its configuration has an entry that is not NAME=VALUE");
		return NULL;
	}
	return json_incref(config);
}

/* Adds a key from a text of the image. */
static int set(struct config *c, const char *member, const char *key, const char *text, struct err *e)
{
	return config_set(c, key, text, e) < 0 ? err_wrap(e, "the image's \"%s\" '%.60s'", member, text) : 0;
}

static int add_texts(struct config *c, const json_t *config, const char *member, const char *key, struct err *e)
{
	const json_t *text;
	size_t i;

	json_array_foreach(json_object_get(config, member), i, text)
		if (set(c, member, key, json_string_value(text), e) < 0)
			return e->code;
	return 0;
}

/* Adds those that the user has given, behind what the image says. */
static int add_given(struct config *c, const char *key, const struct config_list *given, struct err *e)
{
	for (unsigned i = 0; i < given->num; i++)
		if (config_set(c, key, given->text[i], e) < 0)
			return e->code;
	return 0;
}

static int add_command(struct config *c, const json_t *config, const struct config_list *given, struct err *e)
{
	int r = 0;

	/* As docker has it: another entrypoint is none that the image's CMD was made for. */
	if (c->entrypoint && *c->entrypoint)
		r = config_set(c, "command", c->entrypoint, e);
	else if (!c->entrypoint)
		r = add_texts(c, config, "Entrypoint", "command", e);
	if (r == 0)
		r = given->num || c->entrypoint ? add_given(c, "command", given, e) :
						  add_texts(c, config, "Cmd", "command", e);
	if (r == 0 && !c->command.args.num)
		r = err_set(e, -EINVAL, "the image names no command: give one, as in `mayfly run IMAGE -- sh`");
	return r;
}

/* docker makes a relative one absolute. */
static int set_workdir(struct config *c, const char *dir, struct err *e)
{
	MF_FREE char *absolute = NULL;

	if (*dir == '/')
		return set(c, "WorkingDir", "workdir", dir, e);
	if (asprintf(&absolute, "/%s", dir) < 0) {
		absolute = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	return set(c, "WorkingDir", "workdir", absolute, e);
}

/* "8080", "8080/tcp", "53/udp": each port of the guest gets any of the host. */
static int publish_all(struct config *c, const json_t *config, struct err *e)
{
	json_t *ports = json_object_get(config, "ExposedPorts"), *value;
	const char *port;
	char text[32];

	json_object_foreach(ports, port, value) {
		const char *slash = strchr(port, '/');

		snprintf(text, sizeof(text), "%s", port);
		if (slash && strcmp(slash, "/tcp") == 0 && slash - port < (int)sizeof(text))
			text[slash - port] = '\0';
		if (set(c, "ExposedPorts", "publish", text, e) < 0)
			return e->code;
	}
	return 0;
}

int image_config_apply(const json_t *config, struct config *c, struct err *e)
{
	const char *dir = json_string_value(json_object_get(config, "WorkingDir"));
	const char *user = json_string_value(json_object_get(config, "User"));
	const char *stop = json_string_value(json_object_get(config, "StopSignal"));
	struct config_list args, env;
	int r;

	config_take_command(c, &args, &env);
	r = add_command(c, config, &args, e);
	if (r == 0)
		r = add_texts(c, config, "Env", "env", e);
	if (r == 0)
		r = add_given(c, "env", &env, e);
	config_texts_done(&args);
	config_texts_done(&env);
	if (r == 0 && dir && *dir && !c->command.workdir)
		r = set_workdir(c, dir, e);
	if (r == 0 && user && *user && !c->command.user)
		r = set(c, "User", "user", user, e);
	if (r == 0 && stop && *stop && !c->stop_signal)
		r = set(c, "StopSignal", "stop_signal", stop, e);
	if (r == 0 && c->publish_all)
		r = publish_all(c, config, e);
	return r;
}
