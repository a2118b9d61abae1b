/* The state of a container, as engines and hooks get it, and hooks that get it; see oci_parts.h. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/cmd/oci_parts.h"
#include "vmm/oci/hooks.h"

json_t *oci_state_json(const struct container *k, const char *status, pid_t pid)
{
	json_t *annotations = json_object_get(k->json, "annotations");

	return json_pack("{s:s, s:s, s:s, s:i, s:s, s:O*}", "ociVersion", SPEC_VERSION, "id", k->id, "status", status,
			 "pid", (int)pid, "bundle", container_text(k, "bundle"), "annotations", annotations);
}

int oci_run_hooks(const struct container *k, const char *kind, const char *status, pid_t pid, struct err *e)
{
	const json_t *hooks = json_object_get(k->json, "hooks");
	char path[64];
	MF_CLOSE int netns = -1;
	json_t *state;
	int r;

	if (!json_array_size(json_object_get(hooks, kind)))
		return 0;
	/* Of the container's namespaces, this is the only one that is the host's affair. */
	if (!strcmp(kind, "createContainer")) {
		snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
		netns = open(path, O_RDONLY | O_CLOEXEC);
		if (netns < 0)
			return err_sys(e, "hooks.%s: open '%s'", kind, path);
	}
	state = oci_state_json(k, status, pid);
	r = state ? hooks_run(hooks, kind, state, netns, e) : err_set(e, -ENOMEM, "out of memory");
	json_decref(state);
	return r;
}

void oci_try_hooks(const struct container *k, const char *kind, const char *status, pid_t pid)
{
	struct err e;

	if (oci_run_hooks(k, kind, status, pid, &e) < 0)
		log_warn("container '%s': %s; continuing", k->id, e.text);
}
