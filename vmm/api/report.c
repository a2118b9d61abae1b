/* The endpoints that say what is configured, and what the VM does. */
#include <jansson.h>

#include "vmm/api/state.h"

void api_get_instance(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	static const char *const states[] = {
		[API_NOT_STARTED] = "Not started", [API_RUNNING] = "Running", [API_IS_PAUSED] = "Paused"
	};

	(void)id;
	(void)body;
	api_answer_json(answer, json_pack("{s:s,s:s,s:s,s:s}", "id", a->id, "state", states[a->state], "vmm_version",
					  API_VERSION, "app_name", "Firecracker"));
}

void api_get_version(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	(void)a;
	(void)id;
	(void)body;
	api_answer_json(answer, json_pack("{s:s}", "firecracker_version", API_VERSION));
}

void api_get_machine(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	(void)id;
	(void)body;
	api_answer_json(answer, api_print(&api_machine, &a->machine));
}

static json_t *print_boot_source(const struct api *a)
{
	json_t *json = api_print(&api_boot_source, &a->boot_source);

	if (json && !a->boot_source.kernel_image_path)
		json_object_set_new(json, "kernel_image_path", json_string(""));
	return json;
}

static json_t *print_list(const struct api_object *object, const void *list, unsigned num)
{
	json_t *json = json_array();

	for (unsigned i = 0; json && i < num; i++)
		json_array_append_new(json, api_print(object, (const char *)list + i * object->size));
	return json;
}

/* The keys of devices that mayfly leaves out are there, with what Firecracker has for none. */
struct json_t *api_print_config(const struct api *a)
{
	json_t *mmds = a->mmds.configured ? api_print(&api_mmds, &a->mmds.config) : json_null();
	json_t *vsock = a->vsock.uds_path ? api_print(&api_vsock, &a->vsock) : json_null();

	return json_pack("{s:n,s:o,s:o,s:n,s:n,s:o,s:n,s:o,s:o,s:o,s:n,s:[],s:n}", "balloon", "drives",
			 print_list(&api_drive, a->drive, a->num_drives), "boot-source", print_boot_source(a),
			 "cpu-config", "logger", "machine-config", api_print(&api_machine, &a->machine), "metrics",
			 "mmds-config", mmds, "network-interfaces", print_list(&api_net, a->net, a->num_nets), "vsock",
			 vsock, "entropy", "pmem", "memory-hotplug");
}

void api_get_config(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	(void)id;
	(void)body;
	api_answer_json(answer, api_print_config(a));
}

void api_get_timeline(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	(void)id;
	(void)body;
	api_answer_json(answer, a->vm->timeline(a->vm->vm));
}
