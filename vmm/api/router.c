/*
 * From a request to its endpoint. A row of the table is an endpoint: when it may be used, the
 * object in its body, and what it does. The order of the checks is Firecracker's: whether a
 * method may have a body, the path, the id, the body, the VM's state, and then the endpoint's
 * own.
 */
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/api/state.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define PART_MAX 128 /* bytes of a part of a path; a longer one is no endpoint */
#define BODY_STRUCT_MAX sizeof(struct api_drive)

static api_handler put_action, delete_device;

static const struct api_endpoint endpoints[] = {
	{ HTTP_GET, "", NULL, false, API_ALWAYS, NULL, api_get_instance, "instance_info" },
	{ HTTP_GET, "version", NULL, false, API_ALWAYS, NULL, api_get_version, "vmm_version" },
	{ HTTP_GET, "machine-config", NULL, false, API_ALWAYS, NULL, api_get_machine, "machine_cfg" },
	{ HTTP_GET, "vm", "config", false, API_ALWAYS, NULL, api_get_config, "vm_config" },
	{ HTTP_GET, "mayfly", "metrics", false, API_ALWAYS, NULL, api_get_prometheus, NULL },
	{ HTTP_GET, "mayfly", "timeline", false, API_AFTER, NULL, api_get_timeline, NULL },
	{ HTTP_PUT, "mayfly", "ready", false, API_AFTER, &api_ready, api_put_ready, NULL },
	{ HTTP_PUT, "mayfly", "exec", false, API_AFTER, &api_exec, api_put_exec, NULL },
	{ HTTP_PUT, "machine-config", NULL, false, API_BOOT, &api_machine, api_put_machine, "machine_cfg" },
	{ HTTP_PATCH, "machine-config", NULL, false, API_BOOT, &api_machine_update, api_patch_machine, "machine_cfg" },
	{ HTTP_PUT, "boot-source", NULL, false, API_BOOT, &api_boot_source, api_put_boot_source, "boot_source" },
	{ HTTP_PUT, "drives", NULL, true, API_PLUG, &api_drive, api_put_drive, "drive" },
	{ HTTP_PUT, "network-interfaces", NULL, true, API_PLUG, &api_net, api_put_net, "network" },
	{ HTTP_PUT, "vsock", NULL, false, API_BOOT, &api_vsock, api_put_vsock, "vsock" },
	{ HTTP_PUT, "serial", NULL, false, API_BEFORE, &api_serial, api_put_serial, "serial" },
	{ HTTP_GET, "mmds", NULL, false, API_ALWAYS, NULL, api_get_mmds, "mmds" },
	{ HTTP_PUT, "mmds", "config", false, API_ALWAYS, &api_mmds, api_put_mmds_config, NULL },
	{ HTTP_PUT, "mmds", NULL, false, API_ALWAYS, NULL, api_put_mmds, "mmds" },
	{ HTTP_PATCH, "mmds", NULL, false, API_ALWAYS, NULL, api_patch_mmds, "mmds" },
	{ HTTP_PUT, "cpu-config", NULL, false, API_ALWAYS, NULL, api_put_cpu, "cpu_cfg" },
	{ HTTP_PUT, "logger", NULL, false, API_BEFORE, &api_logger, api_put_logger, "logger" },
	{ HTTP_PUT, "metrics", NULL, false, API_BEFORE, &api_metrics, api_put_metrics, "metrics" },
	{ HTTP_PATCH, "vm", NULL, false, API_AFTER, &api_vm, api_patch_vm, "vm" },
	{ HTTP_PATCH, "drives", NULL, true, API_AFTER, &api_drive_update, api_patch_drive, "drive" },
	{ HTTP_PATCH, "network-interfaces", NULL, true, API_AFTER, &api_net_update, api_patch_net, "network" },
	{ HTTP_PUT, "snapshot", "create", false, API_AFTER, &api_snapshot_create, api_put_snapshot_create,
	  "snapshot_create" },
	{ HTTP_PUT, "snapshot", "load", false, API_ALWAYS, &api_snapshot_load, api_put_snapshot_load, "snapshot_load" },
	{ HTTP_DELETE, "drives", NULL, true, API_AFTER, NULL, delete_device, NULL },
	{ HTTP_DELETE, "network-interfaces", NULL, true, API_AFTER, NULL, delete_device, NULL },
	{ HTTP_PUT, "actions", NULL, false, API_ALWAYS, &api_action, put_action, "actions" },
};

/* Devices that mayfly leaves out. */
static const struct {
	const char *first, *why;
} left_out[] = {
	{ "balloon", "mayfly has no balloon device" },
	{ "entropy", "mayfly has no entropy device; the guest's kernel is seeded by the boot data" },
	{ "pmem", "mayfly has no pmem device; use a read-only drive" },
	{ "hotplug", "mayfly has no memory hotplug" },
};

static const char no_hotplug[] =
	"PCI is not enabled: mayfly has no hotplug of devices."; /* Firecracker's first words */

struct parts {
	char first[PART_MAX], second[PART_MAX];
};

/* The next part of a path: slashes are skipped. A part that is too long becomes one that no endpoint has. */
static const char *cut_part(const char *path, char part[PART_MAX])
{
	size_t len;

	path += strspn(path, "/");
	len = strcspn(path, "/");
	snprintf(part, PART_MAX, "%.*s", (int)len, len < PART_MAX ? path : "?");
	return path + len;
}

static bool is_id(const char *text)
{
	while (isalnum((unsigned char)*text) || *text == '_')
		text++;
	return !*text;
}

static const struct api_endpoint *find(const struct http_request *request, const struct parts *p)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(endpoints); i++) {
		const struct api_endpoint *ep = &endpoints[i];

		if (ep->method == request->method && !strcmp(ep->first, p->first) &&
		    (ep->has_id || !strcmp(ep->second ? ep->second : "", ep->second ? p->second : "")))
			return ep;
	}
	return NULL;
}

/* Whether the method has a body where it needs one, and none where it may not. */
static bool check_body(const struct http_request *request, struct api_answer *answer)
{
	switch (request->method) {
	case HTTP_GET:
		if (request->len)
			api_answer_fault(answer, "GET request cannot have a body.");
		return !request->len;
	case HTTP_PUT:
	case HTTP_PATCH:
		if (!request->len)
			api_answer_fault(answer, "Empty %s request.", http_method_name(request->method));
		return request->len;
	case HTTP_DELETE:
		if (request->len)
			api_answer_fault(answer, "Empty Delete request.");
		return !request->len;
	}
	return false;
}

static void refuse_path(const struct http_request *request, const struct parts *p, struct api_answer *answer)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(left_out); i++) {
		if (!strcmp(left_out[i].first, p->first)) {
			api_answer_fault(answer, "%s.", left_out[i].why);
			return;
		}
	}
	if (!strcmp(p->first, "snapshot") && request->method == HTTP_PUT && !*p->second)
		api_answer_fault(answer, "Missing snapshot operation type.");
	else if (!strcmp(p->first, "snapshot") && request->method == HTTP_PUT)
		api_answer_fault(answer, "Invalid request method and/or path: PUT /snapshot/%s.", p->second);
	else
		api_answer_fault(answer, "Invalid request method and/or path: %s %s.",
				 http_method_name(request->method), p->first);
}

static bool check_id(const char *id, struct api_answer *answer)
{
	if (!*id)
		api_answer_fault(answer, "The ID cannot be empty.");
	else if (!is_id(id))
		api_answer_fault(answer, "API Resource IDs can only contain alphanumeric characters and underscores.");
	return *id && is_id(id);
}

const char *api_method_name(enum http_method method)
{
	static const char *const names[] = {
		[HTTP_GET] = "Get", [HTTP_PUT] = "Put", [HTTP_PATCH] = "Patch", [HTTP_DELETE] = "Delete"
	};

	return names[method];
}

_Static_assert(MF_ARRAY_SIZE(endpoints) <= API_ENDPOINTS_MAX, "counters");

static bool check_state(const struct api *a, enum api_when when, struct api_answer *answer)
{
	if (when == API_PLUG && a->state != API_NOT_STARTED)
		api_answer_fault(answer, "%s", no_hotplug);
	else if ((when == API_BEFORE || when == API_BOOT) && a->state != API_NOT_STARTED)
		api_answer_fault(answer, "The requested operation is not supported after starting the microVM.");
	else if (when == API_AFTER && a->state == API_NOT_STARTED)
		api_answer_fault(answer, "The requested operation is not supported before starting the microVM.");
	else
		return true;
	return false;
}

bool api_check_before(const struct api *a, struct api_answer *answer)
{
	return check_state(a, API_BEFORE, answer);
}

static void send_ctrl_alt_del(struct api *a, struct api_answer *answer)
{
	struct err e;

	if (a->vm->type(a->vm->vm, &e) < 0)
		api_answer_fault(answer, "Internal VMM error: %s", e.text);
	else
		api_answer_done(answer);
}

static void put_action(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	const struct api_action *action = body;

	(void)id;
	if (!check_state(a, action->action_type == API_INSTANCE_START ? API_BEFORE : API_AFTER, answer))
		return;
	if (action->action_type == API_INSTANCE_START) {
		a->start = true;
		return;
	}
	if (action->action_type == API_CTRL_ALT_DEL) {
		send_ctrl_alt_del(a, answer);
		return;
	}
	api_write_metrics(a);
	api_answer_done(answer);
}

static void delete_device(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	(void)a;
	(void)id;
	(void)body;
	api_answer_fault(answer, "%s", no_hotplug);
}

/* An object with an id begins with it. */
static bool check_same_id(const struct api_endpoint *ep, const char *id, const void *body, struct api_answer *answer)
{
	const char *own = *(char *const *)((const char *)body + ep->object->fields[0].at);

	if (!strcmp(id, own))
		return true;
	if (!strcmp(ep->first, "drives"))
		api_answer_fault(answer, "The id from the path does not match the id from the body!");
	else
		api_answer_fault(answer, "The id from the path [%s] does not match the id from the body [%s]!", id,
				 own);
	return false;
}

bool api_endpoint_of(unsigned i, struct api_endpoint *ret)
{
	if (i >= MF_ARRAY_SIZE(endpoints))
		return false;
	*ret = endpoints[i];
	return true;
}

bool api_requests_of(const struct api *a, unsigned i, struct api_requests *ret)
{
	if (i >= MF_ARRAY_SIZE(endpoints))
		return false;
	*ret = (struct api_requests){ endpoints[i].method, endpoints[i].metric, a->count[i], a->fails[i] };
	return true;
}

/* An endpoint without an object takes any JSON value. Of equal keys of metadata, the last counts. */
static void route_any(struct api *a, const struct api_endpoint *ep, const char *rest,
		      const struct http_request *request, struct api_answer *answer)
{
	json_error_t error;
	json_t *json = json_loadb(request->body, request->len,
				  JSON_DECODE_ANY | JSON_ALLOW_NUL |
					  (ep->handle == api_put_cpu ? JSON_REJECT_DUPLICATES : 0),
				  &error);

	if (json)
		ep->handle(a, rest, &json, answer);
	else
		api_answer_fault(answer,
				 "An error occurred when deserializing the json body of a request: %s at line %d column %d.",
				 error.text, error.line, error.column);
	json_decref(json);
}

static void serve(struct api *a, const struct api_endpoint *ep, const char *id, const struct http_request *request,
		  struct api_answer *answer)
{
	union api_body body = { 0 };
	struct err e;

	if (ep->has_id && !check_id(id, answer))
		return;
	if (!ep->object && request->len) {
		route_any(a, ep, id, request, answer);
		return;
	}
	if (ep->object && api_read_text(ep->object, &body, request->body, request->len, &e) < 0)
		api_answer_fault(answer, "An error occurred when deserializing the json body of a request: %s.",
				 e.text);
	else if (ep->object && ep->object->some && !body.given.bits)
		api_answer_fault(answer, "Empty %s request.", http_method_name(request->method));
	else if ((!ep->has_id || !ep->object || check_same_id(ep, id, &body, answer))) {
		answer->deprecated = ep->object && api_is_deprecated(ep->object, &body);
		if (check_state(a, ep->when, answer)) {
			a->configured = a->configured || ep->when == API_BOOT || ep->when == API_PLUG;
			ep->handle(a, ep->has_id ? id : NULL, &body, answer);
		}
	}
	if (ep->object)
		api_done(ep->object, &body);
}

void api_route(struct api *a, const struct http_request *request, struct api_answer *answer)
{
	const struct api_endpoint *ep;
	struct parts p;

	(void)cut_part(cut_part(request->path, p.first), p.second);
	if (!check_body(request, answer))
		return;
	ep = find(request, &p);
	if (!ep) {
		refuse_path(request, &p, answer);
		return;
	}
	a->count[ep - endpoints]++;
	serve(a, ep, p.second, request, answer);
	a->fails[ep - endpoints] += answer->status >= 400;
}
