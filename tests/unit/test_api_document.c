/*
 * configs/api.json, the OpenAPI document of what the API serves, is what the tables of endpoints and
 * objects say. UPDATE=1 build/tests/unit/test_api_document writes it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/api/state.h"

#define DOCUMENT "configs/api.json"

static json_t *ref_to(const char *name)
{
	return json_pack("{s:s+}", "$ref", "#/components/schemas/", name);
}

static void add_schema(json_t *schemas, const char *name, const struct api_object *object);

static json_t *schema_of(json_t *schemas, const struct api_field *f)
{
	json_t *schema, *words;

	switch (f->type) {
	case API_TEXT:
		return json_pack("{s:s}", "type", "string");
	case API_BOOL:
		return json_pack("{s:s}", "type", "boolean");
	case API_NUMBER:
		return json_pack("{s:s,s:s,s:i,s:I}", "type", "integer", "format", "int64", "minimum", 0, "maximum",
				 (json_int_t)f->max);
	case API_WORD:
		words = json_array();
		for (unsigned i = 0; f->words[i]; i++)
			json_array_append_new(words, json_string(f->words[i]));
		return json_pack("{s:s,s:o}", "type", "string", "enum", words);
	case API_OBJECT:
	case API_LIST:
		add_schema(schemas, f->object->name, f->object);
		schema = ref_to(f->object->name);
		return f->type == API_OBJECT ? schema : json_pack("{s:s,s:o}", "type", "array", "items", schema);
	case API_TEXTS:
		return json_pack("{s:s,s:{s:s}}", "type", "object", "additionalProperties", "type", "string");
	case API_ANY:
		break;
	}
	return json_object();
}

static void add_schema(json_t *schemas, const char *name, const struct api_object *object)
{
	json_t *properties = json_object(), *required = json_array();
	json_t *schema = json_pack("{s:s,s:b}", "type", "object", "additionalProperties", object->loose);

	for (const struct api_field *f = object->fields; f->key; f++) {
		json_t *field = schema_of(schemas, f);

		if (f->required)
			json_array_append_new(required, json_string(f->key));
		else if (!f->strict && !json_object_get(field, "$ref"))
			json_object_set_new(field, "nullable", json_true());
		if (f->deprecated)
			json_object_set_new(field, "deprecated", json_true());
		json_object_set_new(properties, f->key, field);
	}
	if (json_array_size(required))
		json_object_set(schema, "required", required);
	json_decref(required);
	json_object_set_new(schema, "properties", properties);
	json_object_set_new(schemas, name, schema);
}

/* The names of two objects may be the same, where a PATCH has another one than a PUT. */
static json_t *body_of(json_t *schemas, const struct api_endpoint *ep)
{
	char name[64];

	snprintf(name, sizeof(name), "%s%s",
		 ep->method == HTTP_PATCH && strncmp(ep->object->name, "Partial", 7) ? "Partial" : "",
		 ep->object->name);
	add_schema(schemas, name, ep->object);
	return json_pack("{s:b,s:{s:{s:o}}}", "required", 1, "content", "application/json", "schema", ref_to(name));
}

static json_t *operation_of(json_t *schemas, const struct api_endpoint *ep)
{
	static const char *const when[] = {
		[API_ALWAYS] = "At any time.",
		[API_BOOT] = "Before the VM starts.",
		[API_PLUG] = "Before the VM starts.",
		[API_BEFORE] = "Before the VM starts.",
		[API_AFTER] = "After the VM has started.",
	};
	const bool answers = ep->method == HTTP_GET || (ep->object && ep->object->answers);
	json_t *op = json_pack("{s:s,s:{s:{s:s},s:{s:s,s:{s:{s:o}}}}}", "summary", when[ep->when], "responses",
			       answers ? "200" : "204", "description", answers ? "The answer" : "Done", "400",
			       "description", "Refused", "content", "application/json", "schema", ref_to("Error"));

	if (ep->object)
		json_object_set_new(op, "requestBody", body_of(schemas, ep));
	else if (ep->method == HTTP_PUT || ep->method == HTTP_PATCH) /* any value */
		json_object_set_new(op, "requestBody",
				    json_pack("{s:b,s:{s:{s:{}}}}", "required", 1, "content", "application/json",
					      "schema"));
	if (ep->has_id)
		json_object_set_new(op, "parameters",
				    json_pack("[{s:s,s:s,s:b,s:{s:s,s:s}}]", "name", "id", "in", "path", "required", 1,
					      "schema", "type", "string", "pattern", "^[A-Za-z0-9_]+$"));
	return op;
}

static char *make_document(void)
{
	static const char *const methods[] = {
		[HTTP_GET] = "get", [HTTP_PUT] = "put", [HTTP_PATCH] = "patch", [HTTP_DELETE] = "delete"
	};
	json_t *paths = json_object(), *schemas = json_object(), *root, *path;
	struct api_endpoint ep;
	char name[128], *text;

	json_object_set_new(schemas, "Error",
			    json_pack("{s:s,s:{s:{s:s}}}", "type", "object", "properties", "fault_message", "type",
				      "string"));
	for (unsigned i = 0; api_endpoint_of(i, &ep); i++) {
		if (ep.method == HTTP_DELETE)
			continue; /* always refused, in Firecracker's words */
		snprintf(name, sizeof(name), "/%s%s%s", ep.first, ep.has_id || ep.second ? "/" : "",
			 ep.has_id ? "{id}" :
			 ep.second ? ep.second :
				     "");
		path = json_object_get(paths, name);
		if (!path) {
			json_object_set_new(paths, name, json_object());
			path = json_object_get(paths, name);
		}
		json_object_set_new(path, methods[ep.method], operation_of(schemas, &ep));
	}
	root = json_pack("{s:s,s:{s:s,s:s,s:s},s:o,s:{s:o}}", "openapi", "3.0.3", "info", "title", "mayfly's API",
			 "description", "Firecracker's API, as mayfly serves it. Made from its tables.", "version",
			 API_VERSION, "paths", paths, "components", "schemas", schemas);
	text = json_dumps(root, JSON_INDENT(1) | JSON_SORT_KEYS);
	assert_non_null(text);
	json_decref(root);
	return text;
}

static void test_document(void **state)
{
	char *text = make_document(), *old = NULL;
	FILE *file;
	size_t size = 0;

	(void)state;
	if (getenv("UPDATE")) {
		file = fopen(DOCUMENT, "w");
		assert_non_null(file);
		assert_true(fprintf(file, "%s\n", text) > 0);
		assert_int_equal(fclose(file), 0);
	}
	file = fopen(DOCUMENT, "r");
	if (!file || getdelim(&old, &size, '\0', file) < 0)
		fail_msg("%s cannot be read: the test runs in the root of the tree", DOCUMENT);
	fclose(file);
	if (strlen(old) != strlen(text) + 1 || strncmp(old, text, strlen(text)) != 0)
		fail_msg("%s is not what the tables say: UPDATE=1 build/tests/unit/test_api_document writes it",
			 DOCUMENT);
	free(old);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_document) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
