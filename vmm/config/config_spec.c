/* SPECs: the options that describe a device on the command line, or the jail. See config_field.h. */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config_field.h"

#define NAMES_MAX 256 /* bytes of a list of names in a message */

/* Whether part is NAME or NAME=VALUE. */
static bool is_named(const char *part, const char *name)
{
	size_t len = strcspn(part, "=");

	return name && strlen(name) == len && !strncmp(part, name, len);
}

static const struct config_field *find(const struct config_field *fields, const char *part)
{
	for (; fields->key; fields++) {
		if (is_named(part, fields->spec) || is_named(part, fields->spec_off))
			return fields;
	}
	return NULL;
}

bool config_has_spec(const struct config_field *fields, const char *spec)
{
	char part[NAMES_MAX];

	snprintf(part, sizeof(part), "%.*s", (int)strcspn(spec, ","), spec);
	return find(fields, part) != NULL;
}

/* Sets what a part says. *seen has a bit for each row that was set before. */
static int take(const struct config_field *fields, const struct config_field *f, void *object, const char *part,
		unsigned *seen, struct err *e)
{
	const char *value = strchr(part, '=');
	const unsigned bit = 1U << (f - fields);
	const bool alone = f->type->value == CONFIG_FLAG || f->type->value == CONFIG_FLAG_OR_VALUE;

	assert((size_t)(f - fields) < sizeof(*seen) * CHAR_BIT);
	if (f->type->value != CONFIG_MANY && *seen & bit)
		return err_set(e, -EINVAL, "'%s' conflicts with an earlier option", part);
	*seen |= bit;
	if (value ? f->type->value == CONFIG_FLAG : !alone)
		return err_set(e, -EINVAL, "'%.*s' %s", (int)strcspn(part, "="), part,
			       value ? "takes no value" : "needs a value");
	if (!value)
		value = is_named(part, f->spec_off) ? "false" : "true";
	else
		value++;
	return f->type->set(object, f, value, e) < 0 ? err_wrap(e, "'%s'", part) : 0;
}

/* The names, with '=' where a value follows: "strict, id=, ... or fsize=". */
static void list_names(const struct config_field *fields, const char *others, char *text, size_t size)
{
	size_t len = (size_t)snprintf(text, size, "%s", others);

	for (const struct config_field *f = fields; f->key; f++) {
		const struct config_field *next = f + 1;

		if (!f->spec)
			continue;
		while (next->key && !next->spec)
			next++;
		len += (size_t)snprintf(text + len, size - len, "%s%s%s",
					!len	  ? "" :
					next->key ? ", " :
						    " or ",
					f->spec, f->type->value == CONFIG_FLAG ? "" : "=");
		assert(len < size);
	}
}

int config_take_spec(const struct config_field *fields, void *object, const char *text, const char *others,
		     struct err *e)
{
	MF_FREE char *copy = strdup(text);
	const struct config_field *last = NULL;
	char names[NAMES_MAX], *rest = copy, *part;
	unsigned seen = 0;

	if (!copy)
		return err_sys(e, "copy it");
	while ((part = strsep(&rest, ","))) {
		const struct config_field *f = find(fields, part);

		/* host=1,2: a number is another value of the name before it. */
		if (!f && last && last->type->value == CONFIG_MANY && *part >= '0' && *part <= '9') {
			if (last->type->set(object, last, part, e) < 0)
				return err_wrap(e, "'%s'", part);
			continue;
		}
		last = f;
		if (!f) {
			list_names(fields, others, names, sizeof(names));
			return err_set(e, -EINVAL, "unknown '%s'; use %s", part, names);
		}
		if (take(fields, f, object, part, &seen, e) < 0)
			return e->code;
	}
	return 0;
}

int config_cut_spec(const struct config_field *fields, void *object, char *text, struct err *e)
{
	unsigned seen = 0;
	char *colon;

	while ((colon = strrchr(text, ':'))) {
		const struct config_field *f = find(fields, colon + 1);
		bool value = strchr(colon + 1, '=') != NULL;

		/* A path may have colons: text that is no option belongs to the path. */
		if (!f || (value ? f->type->value == CONFIG_FLAG : f->type->value == CONFIG_VALUE))
			return 0;
		if (take(fields, f, object, colon + 1, &seen, e) < 0)
			return e->code;
		*colon = '\0';
	}
	return 0;
}
