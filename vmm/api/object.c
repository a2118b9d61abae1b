/* Reads and prints the objects of Firecracker's API; see object.h. */
#include "vmm/api/object.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "vmm/base/err.h"

static void *value_at(const void *object, const struct api_field *f)
{
	return (char *)(uintptr_t)object + f->at;
}

static unsigned bit_of(const struct api_object *object, const struct api_field *f)
{
	return 1U << (f - object->fields);
}

static const struct api_field *find(const struct api_object *object, const char *key)
{
	const struct api_field *f = object->fields;

	while (f->key && strcmp(f->key, key) != 0)
		f++;
	return f->key ? f : NULL;
}

bool api_has(const struct api_object *object, const void *from, const char *key)
{
	const struct api_field *f = find(object, key);

	return f && ((const struct api_given *)from)->bits & bit_of(object, f);
}

bool api_is_deprecated(const struct api_object *object, const void *from)
{
	for (const struct api_field *f = object->fields; f->key; f++)
		if (f->deprecated && ((const struct api_given *)from)->bits & bit_of(object, f))
			return true;
	return false;
}

void api_set_given(const struct api_object *object, void *to, const char *key, bool given)
{
	struct api_given *g = to;
	unsigned bit = bit_of(object, find(object, key));

	g->bits = given ? g->bits | bit : g->bits & ~bit;
}

static const char *name_of_type(const struct api_field *f)
{
	static const char *const names[] = {
		[API_TEXT] = "a string",
		[API_BOOL] = "a boolean",
		[API_NUMBER] = "an unsigned integer",
		[API_WORD] = "a string",
		[API_OBJECT] = "an object",
		[API_LIST] = "a list",
		[API_ANY] = "anything",
		[API_TEXTS] = "an object of strings",
	};

	return names[f->type];
}

static int wrong_type(const struct api_field *f, struct err *e)
{
	return err_set(e, -EINVAL, "invalid type of `%s`: expected %s", f->key, name_of_type(f));
}

static int read_number(uint64_t *to, const struct api_field *f, json_t *json, struct err *e)
{
	if (!json_is_integer(json))
		return wrong_type(f, e);
	if (json_integer_value(json) < 0 || (uint64_t)json_integer_value(json) > f->max)
		return err_set(e, -EINVAL, "invalid value of `%s`: expected 0 to %llu", f->key,
			       (unsigned long long)f->max);
	*to = (uint64_t)json_integer_value(json);
	return 0;
}

static int read_word(unsigned *to, const struct api_field *f, json_t *json, struct err *e)
{
	char list[256] = "";

	if (!json_is_string(json))
		return wrong_type(f, e);
	for (unsigned i = 0; f->words[i]; i++) {
		if (!strcmp(f->words[i], json_string_value(json))) {
			*to = i;
			return 0;
		}
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s`%s`", i ? ", " : "", f->words[i]);
	}
	return err_set(e, -EINVAL, "unknown variant `%.100s` of `%s`, expected one of %s", json_string_value(json),
		       f->key, list);
}

static int read_text(char **to, const struct api_field *f, json_t *json, struct err *e)
{
	char *text;

	if (!json_is_string(json))
		return wrong_type(f, e);
	if (f->is && !f->is(json_string_value(json)))
		return err_set(e, -EINVAL, "%s", f->fault);
	text = strdup(json_string_value(json));
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	free(*to);
	*to = text;
	return 0;
}

/* What was read until a failure is freed by api_done, as the rest of the struct is. */
static int read_list(struct api_list *to, const struct api_field *f, json_t *json, struct err *e)
{
	if (!json_is_array(json))
		return wrong_type(f, e);
	to->item = calloc(json_array_size(json) + 1, f->object->size);
	if (!to->item)
		return err_set(e, -ENOMEM, "out of memory");
	while (to->num < json_array_size(json)) {
		json_t *item = json_array_get(json, to->num);

		if (api_read(f->object, (char *)to->item + to->num++ * f->object->size, item, e) < 0)
			return e->code;
	}
	return 0;
}

static int read_any(json_t **to, json_t *json)
{
	json_decref(*to);
	*to = json_incref(json);
	return 0;
}

static bool is_texts(json_t *json)
{
	const char *key;
	json_t *value;

	json_object_foreach(json, key, value)
		if (!json_is_string(value))
			return false;
	return json_is_object(json);
}

static int read_value(void *to, const struct api_field *f, json_t *json, struct err *e)
{
	switch (f->type) {
	case API_TEXT:
		return read_text(to, f, json, e);
	case API_BOOL:
		if (!json_is_boolean(json))
			return wrong_type(f, e);
		*(bool *)to = json_is_true(json);
		return 0;
	case API_NUMBER:
		return read_number(to, f, json, e);
	case API_WORD:
		return read_word(to, f, json, e);
	case API_OBJECT:
		return json_is_object(json) ? api_read(f->object, to, json, e) : wrong_type(f, e);
	case API_LIST:
		return read_list(to, f, json, e);
	case API_TEXTS:
		return is_texts(json) ? read_any(to, json) : wrong_type(f, e);
	case API_ANY:
		return read_any(to, json);
	}
	return -EINVAL;
}

static int unknown_key(const struct api_object *object, const char *key, struct err *e)
{
	char list[512] = "";

	for (const struct api_field *f = object->fields; f->key; f++)
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s`%s`", f == object->fields ? "" : ", ",
			 f->key);
	return err_set(e, -EINVAL, "unknown field `%.100s`, expected one of %s", key, list);
}

int api_read(const struct api_object *object, void *to, json_t *json, struct err *e)
{
	struct api_given *given = to;
	const char *key;
	json_t *value;

	if (!json_is_object(json))
		return err_set(e, -EINVAL, "invalid type: expected %s, an object", object->name);
	json_object_foreach(json, key, value) {
		const struct api_field *f = find(object, key);

		if (!f && object->loose)
			continue;
		if (!f)
			return unknown_key(object, key, e);
		if (json_is_null(value) && !f->required && !f->strict)
			continue;
		if (read_value(value_at(to, f), f, value, e) < 0)
			return e->code;
		given->bits |= bit_of(object, f);
	}
	for (const struct api_field *f = object->fields; f->key; f++)
		if (f->required && !(given->bits & bit_of(object, f)))
			return err_set(e, -EINVAL, "missing field `%s`", f->key);
	return 0;
}

int api_read_text(const struct api_object *object, void *to, const char *text, size_t len, struct err *e)
{
	json_error_t error;
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	int r;

	if (!json)
		return err_set(e, -EINVAL, "%s at line %d column %d", error.text, error.line, error.column);
	r = api_read(object, to, json, e);
	json_decref(json);
	return r;
}

static json_t *print_list(const struct api_list *list, const struct api_object *object)
{
	json_t *json = json_array();

	for (unsigned i = 0; json && i < list->num; i++)
		json_array_append_new(json, api_print(object, (const char *)list->item + i * object->size));
	return json;
}

static json_t *print_value(const void *at, const struct api_field *f)
{
	switch (f->type) {
	case API_TEXT:
		return *(char *const *)at ? json_string(*(char *const *)at) : json_null();
	case API_BOOL:
		return json_boolean(*(const bool *)at);
	case API_NUMBER:
		return json_integer((json_int_t) * (const uint64_t *)at);
	case API_WORD:
		return json_string(f->words[*(const unsigned *)at]);
	case API_OBJECT:
		/* An object without values is as one that was not given. */
		return ((const struct api_given *)at)->bits ? api_print(f->object, at) : json_null();
	case API_LIST:
		return print_list(at, f->object);
	case API_TEXTS:
	case API_ANY:
		return json_incref(*(json_t *const *)at);
	}
	return NULL;
}

json_t *api_print(const struct api_object *object, const void *from)
{
	const struct api_given *given = from;
	json_t *json = json_object();

	for (const struct api_field *f = object->fields; json && f->key; f++) {
		bool has = f->always || given->bits & bit_of(object, f);

		if (f->hidden || (f->given && !has))
			continue;
		if (json_object_set_new(json, f->key, has ? print_value(value_at(from, f), f) : json_null()) < 0) {
			json_decref(json);
			return NULL;
		}
	}
	return json;
}

static void free_list(struct api_list *list, const struct api_object *object)
{
	for (unsigned i = 0; i < list->num; i++)
		api_done(object, (char *)list->item + i * object->size);
	free(list->item);
}

void api_done(const struct api_object *object, void *from)
{
	for (const struct api_field *f = object->fields; f->key; f++) {
		void *at = value_at(from, f);

		if (f->type == API_TEXT)
			free(*(char **)at);
		else if (f->type == API_ANY || f->type == API_TEXTS)
			json_decref(*(json_t **)at);
		else if (f->type == API_LIST)
			free_list(at, f->object);
		else if (f->type == API_OBJECT)
			api_done(f->object, at);
	}
	memset(from, 0, object->size);
}
