/*
 * Snapshots that pass between the API and `mayfly snapshot` or `mayfly restore`. The text of a state is either the API's objects
 * or mayfly's own configuration (config.h). One is translated to the other as far as the VM needs it: a client sees,
 * overrides and patches drives, interfaces and the vsock of a configuration, and the rest of it stays.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/api/state.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

/* A key that only the API's objects have. */
#define OF_THE_API "machine-config"

bool api_is_own(const struct json_t *json)
{
	return !json_object_get(json, OF_THE_API);
}

static int copy(char **to, const char *text, struct err *e)
{
	char *new = strdup(text ? text : "");

	if (!new)
		return err_set(e, -ENOMEM, "out of memory");
	free(*to);
	*to = new;
	return 0;
}

/* The same into a field of an object, which is then given. */
static int show_text(const struct api_object *object, void *of, const char *key, char **to, const char *text,
		     struct err *e)
{
	api_set_given(object, of, key, true);
	return copy(to, text, e);
}

static int show_drive(struct api *a, const struct config_drive *from, struct err *e)
{
	struct api_drive *d = &a->drive[a->num_drives++];

	d->is_read_only = from->read_only;
	d->cache_type = from->cache == CONFIG_CACHE_WRITEBACK ? API_CACHE_WRITEBACK : API_CACHE_UNSAFE;
	if (from->overlay)
		a->layered |= 1U << (d - a->drive);
	api_set_given(&api_drive, d, "is_root_device", true);
	if (show_text(&api_drive, d, "drive_id", &d->drive_id, from->id, e) < 0)
		return e->code;
	return show_text(&api_drive, d, "path_on_host", &d->path_on_host, from->path, e);
}

static int show_net(struct api *a, const struct config_net *from, struct err *e)
{
	struct api_net *n = &a->net[a->num_nets++];

	if (show_text(&api_net, n, "iface_id", &n->iface_id, from->id, e) < 0)
		return e->code;
	return show_text(&api_net, n, "host_dev_name", &n->host_dev_name, from->tap, e);
}

/* From the configuration to the objects. */
static int show(struct api *a, const struct config *c, struct err *e)
{
	struct api_boot_source *b = &a->boot_source;
	int r = show_text(&api_boot_source, b, "kernel_image_path", &b->kernel_image_path, c->kernel, e);

	a->machine.vcpu_count = c->cpus;
	a->machine.mem_size_mib = c->mem >> 20;
	for (unsigned i = 0; i < c->num_drives && !r; i++)
		r = show_drive(a, &c->drive[i], e);
	for (unsigned i = 0; i < c->num_nets && !r; i++)
		r = show_net(a, &c->net[i], e);
	if (!r && c->vsock.path)
		r = show_text(&api_vsock, &a->vsock, "uds_path", &a->vsock.uds_path, c->vsock.path, e);
	a->vsock.guest_cid = c->vsock.cid;
	api_set_given(&api_vsock, &a->vsock, "guest_cid", true);
	return r;
}

int api_read_own(struct api *a, struct config *c, const char *text, const char *name, struct err *e)
{
	if (config_read_text(c, text, strlen(text), name, e) < 0)
		return e->code;
	for (unsigned i = 0; i < c->num_drives; i++)
		if (!c->drive[i].id || !c->drive[i].path)
			return err_set(e, -EINVAL, "config '%s': drives[%u]: no id or no path", name, i);
	for (unsigned i = 0; i < c->num_nets; i++)
		if (!c->net[i].id)
			return err_set(e, -EINVAL, "config '%s': nets[%u]: no id", name, i);
	if (c->num_artifacts)
		return err_set(e, -ENOTSUP, "config '%s': artifacts: only `mayfly restore` receives them", name);
	if (c->jail.on)
		log_warn("the snapshot's VM was in a jail; continuing without: the API's is `mayfly jailer`");
	c->jail.on = false;
	if (c->command.args.num)
		c->command.tty = CONFIG_TTY_OFF; /* or there were no snapshot */
	c->api = true;
	/* They are of another run, and make sockets. */
	free(mf_take_ptr(&c->name));
	free(mf_take_ptr(&c->control));
	return show(a, c, e);
}

static int use_drive(const struct api *a, unsigned i, struct config_drive *d, struct err *e)
{
	if (!((a->missing | a->replaced) >> i & 1))
		return 0;
	d->directory = d->tar = d->file = false;
	d->empty = 0;
	d->replaced = true;
	return copy(&d->path, a->drive[i].path_on_host, e);
}

static int use_net(const struct api_net *from, struct config_net *n, struct err *e)
{
	if (!*from->host_dev_name)
		return err_set(e, -ENOTSUP,
			       "net '%s' is no tap: network_overrides gives it one, or `mayfly restore` takes it",
			       n->id);
	return api_build_tap(n, from, e);
}

int api_use_own(const struct api *a, struct config *c, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; i < c->num_drives && !r; i++)
		r = use_drive(a, i, &c->drive[i], e);
	for (unsigned i = 0; i < c->num_nets && !r; i++)
		r = use_net(&a->net[i], &c->net[i], e);
	if (!r && a->vsock.uds_path)
		r = copy(&c->vsock.path, a->vsock.uds_path, e);
	return r;
}

/* As `mayfly snapshot` writes it, but for the images that drives have by now. */
struct json_t *api_print_own(const struct api *a)
{
	json_t *json = json_deep_copy(a->own), *drive;
	size_t i;

	json_array_foreach(json_object_get(json, "drives"), i, drive) {
		const char *path = json_string_value(json_object_get(drive, "path"));

		if (!path || i >= a->num_drives || !strcmp(path, a->drive[i].path_on_host))
			continue;
		/* An image in place of what an image was made of. */
		(void)json_object_del(drive, "tar"); /* it need not have either */
		(void)json_object_del(drive, "file");
		if (json_object_set_new(drive, "path", json_string(a->drive[i].path_on_host)) < 0) {
			json_decref(json);
			return NULL;
		}
	}
	return json;
}

int api_restore_config(struct config *c, const char *text, struct err *e)
{
	struct api *a;
	int r = api_new(&a, &(struct api_params){ .id = API_ID_DEFAULT }, e);

	if (!r) {
		a->load.asked = true;
		r = api_read_config(a, c, text, "of the state", e);
	}
	if (!r)
		r = a->own ? api_use_own(a, c, e) : api_build_config(a, c, e);
	c->cpu = NULL; /* its is in the state */
	c->api = false;
	api_free(a);
	return r;
}
