/*
 * The endpoints of snapshots. What the client has configured goes into a snapshot as GET /vm/config
 * prints it, and is read back by the same tables.
 *
 * A load is a start whose configuration comes from the snapshot: the request is kept, api_await_start returns, and
 * api_started or api_failed answers. A snapshot is answered by api_snapshot_done.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/api/state.h"
#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

/* A drive whose image was not there when the snapshot was loaded, and has not come by PATCH since; or NULL. */
const struct api_drive *api_missing_drive(const struct api *a)
{
	return a->missing ? &a->drive[__builtin_ctz(a->missing)] : NULL;
}

void api_put_snapshot_create(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	const struct api_snapshot_create *c = body;
	struct json_t *json = NULL;
	MF_FREE char *config = NULL;
	struct err e;

	(void)id;
	if (a->state != API_IS_PAUSED) {
		api_answer_fault(answer, "Create snapshot error: Cannot save the microVM state: Operation not allowed: "
					 "save/restore unavailable while running");
		return;
	}
	if (a->missing) {
		api_answer_fault(answer, "Create snapshot error: drive '%s' has no image yet: PATCH it first",
				 api_missing_drive(a)->drive_id);
		return;
	}
	json = a->own ? api_print_own(a) : api_print_config(a);
	config = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	a->create.type = c->snapshot_type;
	a->create.began_ns = clock_now_ns();
	if (!config)
		api_answer_fault(answer, "Create snapshot error: out of memory");
	else if (a->vm->snapshot(a->vm->vm, c->snapshot_path, c->mem_file_path, config,
				 c->snapshot_type == API_SNAPSHOT_DIFF, &e) < 0)
		api_answer_fault(answer, "Create snapshot error: %s", e.text);
}

void api_snapshot_done(void *api, const struct err *why)
{
	struct api *a = api;
	struct api_answer answer = { 0 };

	if (why) {
		api_answer_fault(&answer, "Create snapshot error: %s", why->text);
	} else {
		a->metrics.create_us[a->create.type] = (clock_now_ns() - a->create.began_ns) / 1000;
		api_answer_done(&answer);
	}
	api_send_answer(a, &answer);
}

static const char wrong_body[] = "An error occurred when deserializing the json body of a request";

/* Firecracker's order: the body, then the state, then what else was configured. */
static bool check_load(const struct api *a, const struct api_snapshot_load *l, struct api_answer *answer)
{
	bool backend = api_has(&api_snapshot_load, l, "mem_backend");

	if (!backend && !l->mem_file_path) {
		api_answer_fault(answer, "%s: missing field: either `mem_backend` or `mem_file_path` is required.",
				 wrong_body);
		return false;
	}
	if (backend && l->mem_file_path) {
		api_answer_fault(answer,
				 "%s: too many fields: either `mem_backend` or `mem_file_path` exclusively is required.",
				 wrong_body);
		return false;
	}
	answer->deprecated = l->mem_file_path || l->enable_diff_snapshots;
	if (!api_check_before(a, answer))
		return false;
	if (a->configured)
		api_answer_fault(answer, "Load snapshot error: Loading a microVM snapshot not allowed after "
					 "configuring boot-specific resources.");
	return !a->configured;
}

void api_put_snapshot_load(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	struct api_snapshot_load *l = body;

	(void)id;
	if (!check_load(a, l, answer))
		return;
	a->load.asked = true;
	a->load.deprecated = answer->deprecated;
	a->load.began_ns = clock_now_ns();
	a->load.params = *l;
	memset(l, 0, sizeof(*l));
	a->start = true;
}

const struct api_snapshot_load *api_load(const struct api *a)
{
	return a->load.asked ? &a->load.params : NULL;
}

static int read_list(const struct api_object *object, void *list, unsigned max, unsigned *ret_num, json_t *json,
		     struct err *e)
{
	json_t *item;
	size_t i;

	json_array_foreach(json, i, item) {
		if (i == max)
			return err_set(e, -EINVAL, "there can be at most %u of %s", max, object->name);
		*ret_num = (unsigned)i + 1;
		if (api_read(object, (char *)list + i * object->size, item, e) < 0)
			return e->code;
	}
	return 0;
}

/* The file is as hostile as any other. */
static int read_objects(struct api *a, json_t *json, struct err *e)
{
	json_t *vsock = json_object_get(json, "vsock");

	if (api_read(&api_boot_source, &a->boot_source, json_object_get(json, "boot-source"), e) < 0 ||
	    api_read(&api_machine, &a->machine, json_object_get(json, "machine-config"), e) < 0 ||
	    read_list(&api_drive, a->drive, CONFIG_DRIVES_MAX, &a->num_drives, json_object_get(json, "drives"), e) <
		    0 ||
	    read_list(&api_net, a->net, CONFIG_NETS_MAX, &a->num_nets, json_object_get(json, "network-interfaces"), e) <
		    0 ||
	    (vsock && !json_is_null(vsock) && api_read(&api_vsock, &a->vsock, vsock, e) < 0))
		return e->code;
	if (!a->machine.mem_size_mib || a->machine.mem_size_mib > CONFIG_MEM_MAX >> 20)
		return err_set(e, -EINVAL, "mem_size_mib");
	for (unsigned i = 0; i < a->num_drives; i++)
		if (!a->drive[i].path_on_host)
			return err_set(e, -EINVAL, "drive '%s' has no path_on_host", a->drive[i].drive_id);
	return 0;
}

/* Moves a string of the request. */
static void replace(char **to, char **from)
{
	free(*to);
	*to = *from;
	*from = NULL;
}

static int override(struct api *a, struct err *e)
{
	struct api_snapshot_load *l = &a->load.params;
	struct api_net_override *net = l->network_overrides.item;
	struct api_drive_override *drive = l->drive_overrides.item;

	for (unsigned i = 0; i < l->network_overrides.num; i++) {
		struct api_net *n = api_find_net(a, net[i].iface_id);

		if (!n)
			return err_set(e, -ENOENT, "Unknown Network Device.");
		replace(&n->host_dev_name, &net[i].host_dev_name);
	}
	for (unsigned i = 0; i < l->drive_overrides.num; i++) {
		struct api_drive *d = api_find_drive(a, drive[i].drive_id);

		if (!d)
			return err_set(e, -ENOENT, "Unknown Block Device.");
		replace(&d->path_on_host, &drive[i].path_on_host);
		a->replaced |= 1U << (d - a->drive);
	}
	if (l->vsock_override.uds_path && !a->vsock.uds_path)
		return err_set(e, -ENOENT, "Unknown Vsock Device.");
	if (l->vsock_override.uds_path)
		replace(&a->vsock.uds_path, &l->vsock_override.uds_path);
	return 0;
}

/* Images may come by PATCH before the VM resumes. A path of the request must be right. */
static int find_missing(struct api *a, struct err *e)
{
	for (unsigned i = 0; i < a->num_drives; i++) {
		const char *path = a->drive[i].path_on_host;

		if (a->replaced >> i & 1 || access(path, F_OK) == 0 || (errno != ENOENT && errno != ENOTDIR))
			continue;
		/* As Firecracker: there is a client that cuts the path out of the sentence, up to a space. */
		if (a->load.params.resume_vm)
			return err_set(e, -errno, "drive '%s': %s (os error %d) %s", a->drive[i].drive_id,
				       strerror(errno), errno, path);
		if (a->layered >> i & 1)
			return err_sys(e, "drive '%s', which has an overlay on '%s'", a->drive[i].drive_id, path);
		log_warn("drive '%s': '%s' does not exist; continuing without an image, until it is patched",
			 a->drive[i].drive_id, path);
		a->missing |= 1U << i;
	}
	return 0;
}

int api_read_config(struct api *a, struct config *c, const char *text, const char *name, struct err *e)
{
	json_error_t error;
	json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &error);
	int r;

	if (!json)
		return err_set(e, -EINVAL, "config '%s': %s", name, error.text);
	if (api_is_own(json)) {
		a->own = json;
		return api_read_own(a, c, text, name, e);
	}
	r = read_objects(a, json, e);
	json_decref(json);
	return r < 0 ? err_wrap(e, "config '%s'", name) : 0;
}

int api_load_config(struct api *a, struct config *c, const char *text, const char *name, struct err *e)
{
	const struct api_snapshot_load *l = &a->load.params;
	int r;

	if (api_read_config(a, c, text, name, e) < 0)
		return e->code;
	a->machine.track_dirty_pages = l->track_dirty_pages || l->enable_diff_snapshots;
	if (l->huge_pages != API_LOAD_AS_BEFORE)
		a->machine.huge_pages = l->huge_pages - 1;
	if (l->huge_pages == API_LOAD_AS_BEFORE + 1 + API_HUGE_2M)
		return err_set(e, -ENOTSUP, "huge_pages: mayfly has no memory of hugetlbfs");
	r = override(a, e);
	if (!r)
		r = find_missing(a, e);
	return r || !a->own ? r : api_use_own(a, c, e);
}

/* For the VM to find under the path: an empty file in memory. */
int api_lend_missing(struct api *a, struct err *e)
{
	for (unsigned i = 0; i < a->num_drives; i++) {
		const struct api_drive *d = &a->drive[i];
		int fd;

		if (!(a->missing >> i & 1))
			continue;
		fd = memfd_create("missing", MFD_CLOEXEC);
		if (fd < 0)
			return err_sys(e, "drive '%s'", d->drive_id);
		if (fdstore_provide(d->path_on_host, d->is_read_only ? O_RDONLY : O_RDWR, fd, e) < 0)
			return e->code;
	}
	return 0;
}
