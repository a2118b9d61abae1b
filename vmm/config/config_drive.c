/* The drives of the configuration: their types of values, and the text that describes one on the command line. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"
#include "vmm/config/config_parts.h"

#define STRING (1U << JSON_STRING)
#define INTEGER (1U << JSON_INTEGER)
#define BOOLEAN (1U << JSON_TRUE | 1U << JSON_FALSE)

int config_check_serial(const char *text, const struct config_field *f, struct err *e)
{
	size_t len = strlen(text);
	bool printable = true;

	for (size_t i = 0; i < len; i++)
		printable = printable && text[i] >= 0x20 && text[i] <= 0x7e;
	if (len >= 1 && len <= f->max && printable)
		return 0;
	return err_set(e, -EINVAL, "must be 1 to %d printable ASCII characters", (int)f->max);
}

int config_check_mount(const char *text, const struct config_field *f, struct err *e)
{
	(void)f; /* its length is checked when it is copied */
	return *text == '/' && text[1] ? 0 : err_set(e, -EINVAL, "must be a path in the guest, below '/'");
}

static int set_mount_read_only(void *object, const struct config_field *f, const char *text, struct err *e)
{
	return config_copy_bool(config_at(object, f), text, e);
}

static bool print_mount_read_only(const void *object, const struct config_field *f, json_t *to)
{
	const struct config_drive *d = object;

	return !d->mount || config_put(to, f->key, json_boolean(d->mount_read_only));
}

const struct config_type config_type_mount_read_only = { .json = BOOLEAN,
							 .set = set_mount_read_only,
							 .print = print_mount_read_only };

/* true, false, or a size. */
static int set_overlay(void *object, const struct config_field *f, const char *text, struct err *e)
{
	struct config_drive *d = object;
	bool is_true = !strcmp(text, "true");
	uint64_t size = 0;

	(void)f; /* two members */
	if (!is_true && strcmp(text, "false") != 0) {
		int r = parse_size(text, &size);

		if (r < 0 || size < MF_PAGE_SIZE)
			return err_set(e, r == -EINVAL ? r : -ERANGE,
				       "must be a size such as 512M or 2G, 4K at least, or true or false");
	}
	d->overlay = is_true || size > 0;
	d->overlay_size = size;
	return 0;
}

static bool print_overlay(const void *object, const struct config_field *f, json_t *to)
{
	const struct config_drive *d = object;
	char size[PARSE_SIZE_TEXT_MAX];

	parse_format_size(d->overlay_size, size);
	return !d->overlay || config_put(to, f->key, d->overlay_size ? json_string(size) : json_true());
}

const struct config_type config_type_overlay = {
	.json = STRING | INTEGER | BOOLEAN, .value = CONFIG_FLAG_OR_VALUE, .set = set_overlay, .print = print_overlay
};

/* A token bucket as Firecracker has it; one of size or refill time 0 is no limit. */
static int read_bucket(struct ratelimit_params *to, const char *name, json_t *bucket, struct err *e)
{
	json_int_t size, refill_ms, burst = 0;
	json_error_t je;

	if (!bucket)
		return 0;
	if (json_unpack_ex(bucket, &je, JSON_STRICT, "{s:I,s:I,s?I}", "size", &size, "refill_time", &refill_ms,
			   "one_time_burst", &burst) < 0)
		return err_set(e, -EINVAL, "%s: %s", name, je.text);
	if (size < 0 || refill_ms < 0 || burst < 0)
		return err_set(e, -EINVAL, "%s: must not be negative", name);
	if (size == 0 || refill_ms == 0)
		return 0;
	*to = (struct ratelimit_params){ .size = (uint64_t)size,
					 .one_time_burst = (uint64_t)burst,
					 .refill_ms = (uint64_t)refill_ms };
	return 0;
}

static int read_buckets(struct config_drive *d, json_t *value, struct err *e)
{
	json_t *bandwidth = NULL, *ops = NULL;
	json_error_t je;

	if (json_unpack_ex(value, &je, JSON_STRICT, "{s?o,s?o}", "bandwidth", &bandwidth, "ops", &ops) < 0)
		return err_set(e, -EINVAL, "%s", je.text);
	if (read_bucket(&d->bandwidth, "bandwidth", bandwidth, e) < 0)
		return e->code;
	return read_bucket(&d->ops, "ops", ops, e);
}

static int read_rate_limiter(void *object, const struct config_field *f, json_t *value, const char *prefix,
			     struct err *e)
{
	return read_buckets(object, value, e) < 0 ? err_wrap(e, "key '%s%s'", prefix, f->key) : 0;
}

static bool print_bucket(json_t *to, const char *key, const struct ratelimit_params *p)
{
	return !p->size ||
	       config_put(to, key,
			  json_pack("{s:I,s:I,s:I}", "size", (json_int_t)p->size, "one_time_burst",
				    (json_int_t)p->one_time_burst, "refill_time", (json_int_t)p->refill_ms));
}

static bool print_rate_limiter(const void *object, const struct config_field *f, json_t *to)
{
	const struct config_drive *d = object;
	json_t *limits = json_object();
	bool ok = print_bucket(limits, "bandwidth", &d->bandwidth) && print_bucket(limits, "ops", &d->ops);

	if (ok && json_object_size(limits) > 0)
		ok = config_put(to, f->key, json_incref(limits));
	json_decref(limits);
	return ok;
}

const struct config_type config_type_rate_limiter = { .json = 1U << JSON_OBJECT,
						      .read = read_rate_limiter,
						      .print = print_rate_limiter };

void config_drive_done(struct config_drive *d)
{
	config_fields_done(config_drive_fields, d);
	*d = (struct config_drive){ 0 };
}

struct config_drive *config_begin_drive(struct config *c, struct err *e)
{
	if (c->num_drives == CONFIG_DRIVES_MAX) {
		err_set(e, -EINVAL, "there can be at most %d drives", CONFIG_DRIVES_MAX);
		return NULL;
	}
	config_drive_done(&c->drive[c->num_drives]); /* one that was refused */
	return &c->drive[c->num_drives];
}

int config_end_drive(struct config *c, struct err *e)
{
	struct config_drive *d = &c->drive[c->num_drives];

	if (!d->path)
		return err_set(e, -EINVAL, "needs a path");
	d->directory = d->read_only && config_is_directory(d->path);
	if (!d->read_only && config_is_directory(d->path))
		return err_set(e, -EISDIR,
			       "'%s' is a directory, of which a guest gets a copy: '%s:ro', or as its root '-r %s'",
			       d->path, d->path, d->path);
	if (d->tar && (d->directory || !d->read_only))
		return err_set(e, -EINVAL, "is a tar archive only if it is a file, and read-only");
	if (d->file && (d->directory || d->tar || !d->read_only || !d->mount))
		return err_set(e, -EINVAL, "is mounted as a file only if it is one, read-only, and with a mount path");
	if (d->overlay && d->read_only)
		return err_set(e, -EINVAL,
			       "read-only and overlay exclude each other: with an overlay the image is only read");
	if (d->overlay && d->direct)
		return err_set(e, -EINVAL,
			       "direct and overlay exclude each other: the page cache is what shares the image");
	if (d->overlay_dir && !d->overlay)
		return err_set(e, -EINVAL, "has a directory for an overlay, but no overlay");
	if (d->mount_read_only && !d->mount)
		return err_set(e, -EINVAL, "is mounted read-only, but has no path to mount it at");
	c->num_drives++;
	return 0;
}

static int add_drive(void *object, const struct config_field *f, const char *spec, struct err *e)
{
	MF_FREE char *path = strdup(spec);
	struct config_drive *d = config_begin_drive(object, e);

	(void)f; /* one of an array */
	if (!path)
		return err_sys(e, "copy it");
	if (!d || config_cut_spec(config_drive_fields, d, path, e) < 0)
		return e->code;
	if (config_copy_path(&d->path, path, e) < 0)
		return err_wrap(e, "path");
	return config_end_drive(object, e);
}

static void *begin_drive(struct config *c, struct err *e)
{
	return config_begin_drive(c, e);
}

static int read_drives(void *object, const struct config_field *f, json_t *list, const char *prefix, struct err *e)
{
	(void)prefix; /* drives are at the top */
	return config_read_list(f, config_drive_fields, begin_drive, config_end_drive, object, list, e);
}

static bool print_drives(const void *object, const struct config_field *f, json_t *to)
{
	const struct config *c = object;
	unsigned num = c->num_drives;

	/* disk implies the last one. */
	while (num && c->drive[num - 1].empty)
		num--;
	return config_print_list(f, config_drive_fields, c->drive, sizeof(c->drive[0]), num, to);
}

static void free_drives(void *object, const struct config_field *f)
{
	struct config *c = object;

	(void)f; /* All of them: the one after the last may be half described. */
	for (unsigned i = 0; i < CONFIG_DRIVES_MAX; i++)
		config_drive_done(&c->drive[i]);
}

const struct config_type config_type_drives = {
	.json = 1U << JSON_ARRAY, .set = add_drive, .read = read_drives, .print = print_drives, .done = free_drives
};

int config_complete_drives(struct config *c, struct err *e)
{
	for (unsigned i = 0; i < c->num_drives; i++) {
		if (!c->drive[i].id && asprintf(&c->drive[i].id, "drive%u", i) < 0) {
			c->drive[i].id = NULL; /* asprintf leaves it undefined */
			return err_set(e, -ENOMEM, "out of memory");
		}
	}
	for (unsigned i = 0; i < c->num_drives; i++) {
		for (unsigned j = 0; j < i; j++) {
			if (!strcmp(c->drive[i].id, c->drive[j].id))
				return err_set(e, -EINVAL, "drives '%s' and '%s' have the same id '%s'",
					       c->drive[j].path, c->drive[i].path, c->drive[i].id);
		}
	}
	return 0;
}
