/*
 * The configuration as JSON, both ways; see config.h and config_field.h.
 *
 * The types of the table set a value from text, as the command line does. Numbers and
 * booleans are turned back into text first. So a value means the same in both places, and
 * an invalid one gets the same message. jansson parses the syntax, with its own limits on
 * depth and number range. It refuses duplicate keys, text that is not UTF-8, and strings
 * with a NUL.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/suggest.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"

#define KEY_TEXT_MAX 128 /* bytes of a key that are shown in a message */

static const char *type_name(json_type type)
{
	switch (type) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a number with a fraction or exponent";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		return "null";
	}
	return "something else";
}

const char *config_json_types(const struct config_field *f)
{
	static const unsigned string = 1U << JSON_STRING, integer = 1U << JSON_INTEGER,
			      boolean = 1U << JSON_TRUE | 1U << JSON_FALSE;
	const unsigned types = f->type->json;

	if (types == (string | integer))
		return "a string or an integer";
	if (types == (string | integer | boolean))
		return "a string, an integer or a boolean";
	if (types == (boolean | 1U << JSON_OBJECT))
		return "a boolean or an object";
	return type_name((json_type)__builtin_ctz(types));
}

static int set_strings(void *object, const struct config_field *f, json_t *list, struct err *e)
{
	json_t *value;
	size_t i;

	json_array_foreach(list, i, value) {
		if (!json_is_string(value))
			return err_set(e, -EINVAL, "must hold strings, not %s", type_name(json_typeof(value)));
		if (f->type->set(object, f, json_string_value(value), e) < 0)
			return e->code;
	}
	return 0;
}

static int set_value(void *object, const struct config_field *f, json_t *value, struct err *e)
{
	char number[24];

	switch (json_typeof(value)) {
	case JSON_STRING:
		return f->type->set(object, f, json_string_value(value), e);
	case JSON_INTEGER:
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		return f->type->set(object, f, number, e);
	case JSON_TRUE:
	case JSON_FALSE:
		return f->type->set(object, f, json_is_true(value) ? "true" : "false", e);
	default:
		return set_strings(object, f, value, e);
	}
}

static int unknown_key(const struct config_field *fields, const char *prefix, const char *name, struct err *e)
{
	struct suggest n = { .word = name, .len = strlen(name) };

	for (; fields->key; fields++) {
		if (!(fields->flags & CONFIG_NOT_JSON))
			suggest_try(&n, fields->key);
	}
	if (n.best)
		return err_set(e, -EINVAL, "unknown key '%s%s'; did you mean '%s'?", prefix, name, n.best);
	return err_set(e, -EINVAL, "unknown key '%s%.*s'", prefix, KEY_TEXT_MAX, name);
}

int config_read_object(const struct config_field *fields, void *object, json_t *json, const char *prefix, struct err *e)
{
	const char *name;
	json_t *value;

	json_object_foreach(json, name, value) {
		const struct config_field *f = config_find_field(fields, name);
		bool container = json_is_object(value) || json_is_array(value);
		int r;

		if (!f || f->flags & CONFIG_NOT_JSON)
			return unknown_key(fields, prefix, name, e);
		if (!(1U << json_typeof(value) & f->type->json))
			return err_set(e, -EINVAL, "key '%s%s': must be %s, not %s", prefix, name, config_json_types(f),
				       type_name(json_typeof(value)));
		if (container && f->type->read)
			r = f->type->read(object, f, value, prefix, e);
		else if (set_value(object, f, value, e) < 0)
			r = err_wrap(e, "key '%s%s'", prefix, name);
		else
			r = 0;
		if (r < 0)
			return r;
	}
	return 0;
}

bool config_print_object(const struct config_field *fields, const void *object, json_t *to)
{
	bool ok = to != NULL;

	for (; ok && fields->key; fields++) {
		if (fields->type->print && !(fields->flags & CONFIG_NOT_JSON))
			ok = fields->type->print(object, fields, to);
	}
	return ok;
}

int config_read_list(const struct config_field *f, const struct config_field *fields,
		     void *(*begin)(struct config *c, struct err *e), int (*end)(struct config *c, struct err *e),
		     struct config *c, json_t *list, struct err *e)
{
	char prefix[32];
	json_t *value;
	size_t i;

	json_array_foreach(list, i, value) {
		void *object;

		if (!json_is_object(value))
			return err_set(e, -EINVAL, "key '%s[%zu]': must be an object, not %s", f->key, i,
				       type_name(json_typeof(value)));
		object = begin(c, e);
		if (!object)
			return err_wrap(e, "key '%s[%zu]'", f->key, i);
		snprintf(prefix, sizeof(prefix), "%s[%zu].", f->key, i);
		if (config_read_object(fields, object, value, prefix, e) < 0)
			return e->code;
		if (end(c, e) < 0)
			return err_wrap(e, "key '%s[%zu]'", f->key, i);
	}
	return 0;
}

bool config_print_list(const struct config_field *f, const struct config_field *fields, const void *objects,
		       size_t size, unsigned num, json_t *to)
{
	json_t *list = json_array();
	bool ok = true;

	for (unsigned i = 0; i < num; i++) {
		json_t *object = json_object();

		ok = config_print_object(fields, (const char *)objects + i * size, object) && ok;
		ok = json_array_append_new(list, object) == 0 && ok;
	}
	return config_put(to, f->key, list) && ok;
}

json_t *config_strings(char *const *text, unsigned num)
{
	json_t *list = json_array();

	for (unsigned i = 0; list && i < num; i++) {
		if (json_array_append_new(list, json_string(text[i])) < 0) {
			json_decref(list);
			list = NULL;
		}
	}
	return list;
}

int config_read_text(struct config *c, const char *text, size_t len, const char *name, struct err *e)
{
	json_error_t je;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);

	if (!root)
		return err_set(e, -EINVAL, "config '%s': line %d, column %d: %s", name, je.line, je.column,
			       json_error_code(&je) == json_error_null_character ? "a string must not hold \\u0000" :
										   je.text);
	if (json_is_object(root))
		e->code = config_read_object(config_fields, c, root, "", e);
	else
		err_set(e, -EINVAL, "must be an object, not %s", type_name(json_typeof(root)));
	c->command.args_of_file = c->command.args.num > 0;
	json_decref(root);
	return e->code < 0 ? err_wrap(e, "config '%s'", name) : 0;
}

int config_load_text(char **ret, size_t *ret_len, const char *path, struct err *e)
{
	MF_CLOSE int fd = -1;
	MF_FREE char *text = NULL;
	uint64_t size = 0;
	ssize_t len;

	fd = fdio_open_file(path, O_RDONLY, false, &size, e);
	if (fd < 0)
		return err_wrap(e, "config");
	if (size > CONFIG_FILE_MAX)
		return err_set(e, -EFBIG, "config '%s': larger than %llu bytes", path, CONFIG_FILE_MAX);
	text = malloc(size + 1);
	if (!text)
		return err_sys(e, "config '%s'", path);
	len = fdio_pread(fd, text, size, 0);
	if (len < 0)
		return err_neg(e, (int)len, "config '%s'", path);
	text[len] = '\0';
	*ret = mf_take_ptr(&text);
	*ret_len = (size_t)len;
	return 0;
}

int config_read_file(struct config *c, const char *path, struct err *e)
{
	MF_FREE char *text = NULL;
	size_t len;

	return config_load_text(&text, &len, path, e) < 0 ? e->code : config_read_text(c, text, len, path, e);
}

int config_print(const struct config *c, FILE *out, struct err *e)
{
	json_t *root = json_object();
	bool failed;

	if (!config_print_object(config_fields, c, root)) {
		json_decref(root);
		return err_set(e, -EILSEQ, "print the configuration: a path or text in it is not UTF-8");
	}
	errno = 0;
	failed = json_dumpf(root, out, JSON_INDENT(2)) < 0 || putc('\n', out) == EOF || fflush(out) == EOF;
	json_decref(root);
	if (failed)
		return errno ? err_sys(e, "print the configuration") : err_set(e, -EIO, "print the configuration");
	return 0;
}
