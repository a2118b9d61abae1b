/* The vsock of the configuration; see config_field.h. */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "virtio/vsock.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"

int config_check_vsock_path(const char *text, const struct config_field *f, struct err *e)
{
	if (strlen(text) > VSOCK_PATH_MAX)
		return err_set(e, -EINVAL,
			       "is longer than %d bytes (a Unix socket's name has 107 at most, and _PORT goes behind it)",
			       VSOCK_PATH_MAX);
	return config_check_not_empty(text, f, e);
}

/* PATH[,cid=N]: all before that option is the path, commas included. */
static int set_vsock(void *object, const struct config_field *f, const char *spec, struct err *e)
{
	static const char option[] = ",cid=";
	const struct config_field *path_field = config_find_field(config_vsock_fields, "path");
	const struct config_field *cid_field = config_find_field(config_vsock_fields, "cid");
	struct config_vsock *v = config_at(object, f), given = { .cid = CONFIG_CID_DEFAULT };
	MF_FREE char *path = strdup(spec);
	char *comma;

	if (!path)
		return err_sys(e, "copy it");
	comma = strrchr(path, ',');
	if (comma && !strncmp(comma, option, sizeof(option) - 1)) {
		if (cid_field->type->set(&given, cid_field, comma + sizeof(option) - 1, e) < 0)
			return err_wrap(e, "cid");
		*comma = '\0';
	}
	if (path_field->type->set(v, path_field, path, e) < 0)
		return err_wrap(e, "path");
	v->cid = given.cid;
	return 0;
}

static int read_vsock(void *object, const struct config_field *f, json_t *value, const char *prefix, struct err *e)
{
	(void)prefix; /* it is at the top */
	return config_read_object(config_vsock_fields, config_at(object, f), value, "vsock.", e);
}

static bool print_vsock(const void *object, const struct config_field *f, json_t *to)
{
	const struct config_vsock *v = config_at(object, f);
	json_t *vsock = v->path ? json_object() : NULL;
	bool ok = !v->path || config_print_object(config_vsock_fields, v, vsock);

	return !v->path || (config_put(to, f->key, vsock) && ok);
}

static void free_vsock(void *object, const struct config_field *f)
{
	config_fields_done(config_vsock_fields, config_at(object, f));
}

const struct config_type config_type_vsock = {
	.json = 1U << JSON_OBJECT, .set = set_vsock, .read = read_vsock, .print = print_vsock, .done = free_vsock
};
