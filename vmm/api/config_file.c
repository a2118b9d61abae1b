/*
 * --config-file: the objects of the API in one, by the handlers of their requests, in
 * Firecracker's order. The VM starts then.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "vmm/api/state.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

static const struct part {
	const char *key;
	const struct api_object *object; /* NULL: mayfly has no such device */
	api_handler *handle;
	bool list;
	bool required;
} parts[] = {
	{ "logger", &api_logger, api_put_logger, false, false },
	{ "metrics", &api_metrics, api_put_metrics, false, false },
	{ "machine-config", &api_machine, api_put_machine, false, false },
	{ "cpu-config", NULL, api_put_cpu, false, false },
	{ "boot-source", &api_boot_source, api_put_boot_source, false, true },
	{ "drives", &api_drive, api_put_drive, true, true },
	{ "network-interfaces", &api_net, api_put_net, true, false },
	{ "vsock", &api_vsock, api_put_vsock, false, false },
	{ "balloon", NULL, NULL, false, false },
	{ "mmds-config", &api_mmds, api_put_mmds_config, false, false },
	{ "entropy", NULL, NULL, false, false },
	{ "pmem", NULL, NULL, true, false },
	{ "memory-hotplug", NULL, NULL, false, false },
};

int api_load_json(json_t **ret, const char *path, size_t flags, struct err *e)
{
	json_error_t error;
	json_t *json = json_load_file(path, flags, &error);

	if (!json && error.line < 0)
		return err_set(e, -EINVAL, "%s",
			       error.text); /* such as "unable to open PATH: No such file or directory" */
	if (!json)
		return err_set(e, -EINVAL, "'%s', line %d: %s", path, error.line, error.text);
	*ret = json;
	return 0;
}

static int take_fault(struct api_answer *answer, struct err *e)
{
	json_t *json = json_loads(answer->body ? answer->body : "{}", 0, NULL);
	const char *text = json_string_value(json_object_get(json, "fault_message"));

	err_set(e, -EINVAL, "%s", text ? text : "out of memory");
	json_decref(json);
	return e->code;
}

/* A CPU template, or the path of its file. */
static int apply_cpu(struct api *a, json_t *json, struct err *e)
{
	struct api_answer answer = { 0 };
	json_t *value = json;
	int r = 0;

	if (!json_is_string(json))
		json_incref(value);
	else if (api_load_json(&value, json_string_value(json), JSON_REJECT_DUPLICATES, e) < 0)
		return err_wrap(e, "'cpu-config'");
	api_put_cpu(a, NULL, &value, &answer);
	if (answer.status != 204)
		r = take_fault(&answer, e);
	free(answer.body);
	json_decref(value);
	return r;
}

static int apply(struct api *a, const struct part *part, json_t *json, struct err *e)
{
	union api_body body = { 0 };
	struct api_answer answer = { 0 };
	int r;

	if (part->handle == api_put_cpu)
		return apply_cpu(a, json, e);
	if (!part->object)
		return err_set(e, -ENOTSUP, "'%s': mayfly has no such device", part->key);
	r = api_read(part->object, &body, json, e);
	if (r < 0) {
		err_wrap(e, "'%s'", part->key);
	} else {
		const char *id = part->list ? *(char *const *)((char *)&body + part->object->fields[0].at) : NULL;

		part->handle(a, id, &body, &answer);
		if (answer.status != 204)
			r = take_fault(&answer, e);
		free(answer.body);
	}
	api_done(part->object, &body);
	return r;
}

static int apply_list(struct api *a, const struct part *part, json_t *json, struct err *e)
{
	int r = 0;

	if (!json_is_array(json))
		return err_set(e, -EINVAL, "'%s': not a list", part->key);
	for (size_t i = 0; !r && i < json_array_size(json); i++)
		r = apply(a, part, json_array_get(json, i), e);
	return r;
}

static int apply_all(struct api *a, json_t *file, struct err *e)
{
	int r = json_is_object(file) ? 0 : err_set(e, -EINVAL, "not an object");

	for (size_t i = 0; !r && i < MF_ARRAY_SIZE(parts); i++) {
		json_t *json = json_object_get(file, parts[i].key);

		if (!json && parts[i].required)
			return err_set(e, -EINVAL, "missing field `%s`", parts[i].key);
		if (!json || (json_is_null(json) && !parts[i].required && !parts[i].list))
			continue;
		r = parts[i].list ? apply_list(a, &parts[i], json, e) : apply(a, &parts[i], json, e);
	}
	return r;
}

int api_load_file(struct api *a, const char *path, struct err *e)
{
	json_t *file;
	int r = api_load_json(&file, path, JSON_REJECT_DUPLICATES, e);

	if (r < 0)
		return r;
	r = apply_all(a, file, e);
	json_decref(file);
	if (r < 0)
		return err_wrap(e, "'%s'", path);
	a->start = a->unasked = true;
	return 0;
}

void api_show_in_log(struct api *a, bool level, bool origin)
{
	a->show_level = level;
	a->show_origin = origin;
	log_use_id(a->id, level, origin);
}

int api_set_logger(struct api *a, const char *path, const char *level, struct err *e)
{
	struct api_logger logger = { .log_path = (char *)(uintptr_t)path, .level = (char *)(uintptr_t)level };
	struct api_answer answer = { 0 };
	int r;

	api_put_logger(a, NULL, &logger, &answer);
	r = answer.status == 204 ? 0 : take_fault(&answer, e);
	free(answer.body);
	return r;
}

int api_set_metrics(struct api *a, const char *path, struct err *e)
{
	struct api_metrics metrics = { .metrics_path = (char *)(uintptr_t)path };
	struct api_answer answer = { 0 };
	int r;

	api_put_metrics(a, NULL, &metrics, &answer);
	r = answer.status == 204 ? 0 : take_fault(&answer, e);
	free(answer.body);
	return r;
}
