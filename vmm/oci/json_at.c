/* Values of a JSON document; see json_at.h. */
#include "vmm/oci/json_at.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"

static const char *const type_names[] = { [JSON_OBJECT] = "an object",
					  [JSON_ARRAY] = "an array",
					  [JSON_STRING] = "a string",
					  [JSON_INTEGER] = "a whole number",
					  [JSON_TRUE] = "true or false" };

int json_at_parse(json_t **ret, const char *text, size_t len, const char *name, struct err *e)
{
	json_error_t error;
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);

	if (!json)
		return err_set(e, -EINVAL, "%s:%d:%d: %s", name, error.line, error.column, error.text);
	if (!json_is_object(json)) {
		json_decref(json);
		return err_set(e, -EINVAL, "%s: must be an object", name);
	}
	*ret = json;
	return 0;
}

int json_at_read(json_t **ret, const char *path, struct err *e)
{
	MF_CLOSE int fd = -1;
	MF_FREE char *text = NULL;
	uint64_t size;
	int r;

	fd = fdio_open_file(path, O_RDONLY, false, &size, e);
	if (fd < 0)
		return fd;
	if (size > JSON_AT_FILE_MAX)
		return err_set(e, -EFBIG, "'%s' has more than %u MiB", path, JSON_AT_FILE_MAX >> 20);
	text = malloc(size + 1);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	r = fdio_pread_all(fd, text, size, 0);
	return r < 0 ? err_neg(e, r, "read '%s'", path) : json_at_parse(ret, text, size, path, e);
}

static int check(const struct json_at *at, json_type type, struct err *e)
{
	bool same = type == JSON_TRUE ? json_is_boolean(at->json) : json_typeof(at->json) == type;

	return same ? 0 : err_set(e, -EINVAL, "%s: must be %s", at->name, type_names[type]);
}

int json_at_member(const struct json_at *at, const char *key, json_type type, bool required, struct json_at *ret,
		   struct err *e)
{
	struct json_at found = { .json = json_object_get(at->json, key) };

	snprintf(found.name, sizeof(found.name), "%.100s%s%.50s", at->name, *at->name ? "." : "", key);
	if (json_is_null(found.json))
		found.json = NULL;
	if (!found.json && required)
		return err_set(e, -EINVAL, "%s: is missing", found.name);
	if (found.json && check(&found, type, e) < 0)
		return e->code;
	*ret = found;
	return 0;
}

int json_at_number(const struct json_at *at, const char *key, bool required, uint64_t max, uint64_t *ret, struct err *e)
{
	struct json_at found;
	json_int_t value;

	if (json_at_member(at, key, JSON_INTEGER, required, &found, e) < 0)
		return e->code;
	if (!found.json)
		return 0;
	value = json_integer_value(found.json);
	if (value < 0 || (uint64_t)value > max)
		return err_set(e, -ERANGE, "%s: must be 0 to %llu", found.name, (unsigned long long)max);
	*ret = (uint64_t)value;
	return 0;
}

int json_at_limit(const struct json_at *at, const char *key, uint64_t *ret, struct err *e)
{
	const json_t *json = json_object_get(at->json, key);

	return json_is_integer(json) && json_integer_value(json) == -1 ?
		       0 :
		       json_at_number(at, key, false, INT64_MAX, ret, e);
}

int json_at_text(const struct json_at *at, const char *key, bool required, const char **ret, struct err *e)
{
	struct json_at found;

	if (json_at_member(at, key, JSON_STRING, required, &found, e) < 0)
		return e->code;
	*ret = found.json ? json_string_value(found.json) : NULL; /* jansson refuses NUL in strings */
	return 0;
}

int json_at_bool(const struct json_at *at, const char *key, bool *ret, struct err *e)
{
	struct json_at found;

	if (json_at_member(at, key, JSON_TRUE, false, &found, e) < 0)
		return e->code;
	*ret = json_is_true(found.json);
	return 0;
}

int json_at_element(const struct json_at *at, size_t i, json_type type, struct json_at *ret, struct err *e)
{
	struct json_at found = { .json = json_array_get(at->json, i) };

	snprintf(found.name, sizeof(found.name), "%.130s[%zu]", at->name, i);
	if (check(&found, type, e) < 0)
		return e->code;
	*ret = found;
	return 0;
}

size_t json_at_size(const struct json_at *at)
{
	return json_array_size(at->json);
}
