/* The drives of the configuration: their setters, and the text that describes one on the command line. See config.h. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/config.h"
#include "vmm/config_parts.h"

void config_drive_done(struct config_drive *d)
{
	free(d->path);
	free(d->id);
	free(d->serial);
	free(d->overlay_dir);
	free(d->mount);
	*d = (struct config_drive){ 0 };
}

int config_begin_drive(struct config *c, struct err *e)
{
	if (c->num_drives == CONFIG_DRIVES_MAX)
		return err_set(e, -EINVAL, "there can be at most %d drives", CONFIG_DRIVES_MAX);
	config_drive_done(&c->drive[c->num_drives]);
	return 0;
}

static struct config_drive *begun_drive(struct config *c)
{
	assert(c->num_drives < CONFIG_DRIVES_MAX);
	return &c->drive[c->num_drives];
}

int config_drive_path(struct config *c, const char *text, struct err *e)
{
	return config_copy_path(&begun_drive(c)->path, text, e);
}

int config_drive_id(struct config *c, const char *text, struct err *e)
{
	return config_copy_id(&begun_drive(c)->id, text, e);
}

int config_drive_serial(struct config *c, const char *text, struct err *e)
{
	size_t len = strlen(text);
	bool printable = true;

	for (size_t i = 0; i < len; i++)
		printable = printable && text[i] >= 0x20 && text[i] <= 0x7e;
	if (len < 1 || len > CONFIG_SERIAL_MAX || !printable)
		return err_set(e, -EINVAL, "must be 1 to %d printable ASCII characters", CONFIG_SERIAL_MAX);
	return config_copy_text(&begun_drive(c)->serial, text, CONFIG_SERIAL_MAX, e);
}

int config_drive_read_only(struct config *c, const char *text, struct err *e)
{
	return config_copy_bool(&begun_drive(c)->read_only, text, e);
}

int config_drive_direct(struct config *c, const char *text, struct err *e)
{
	return config_copy_bool(&begun_drive(c)->direct, text, e);
}

int config_drive_overlay(struct config *c, const char *text, struct err *e)
{
	struct config_drive *d = begun_drive(c);
	bool is_true = !strcmp(text, "true");
	uint64_t size = 0;

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

int config_drive_overlay_dir(struct config *c, const char *text, struct err *e)
{
	return config_copy_path(&begun_drive(c)->overlay_dir, text, e);
}

int config_drive_mount(struct config *c, const char *text, struct err *e)
{
	if (*text != '/' || !text[1])
		return err_set(e, -EINVAL, "must be a path in the guest, below '/'");
	return config_copy_path(&begun_drive(c)->mount, text, e);
}

int config_drive_mount_read_only(struct config *c, const char *text, struct err *e)
{
	return config_copy_bool(&begun_drive(c)->mount_read_only, text, e);
}

int config_drive_bandwidth(struct config *c, const char *text, struct err *e)
{
	return config_copy_limit(&begun_drive(c)->bandwidth, text, true, e);
}

int config_drive_ops(struct config *c, const char *text, struct err *e)
{
	return config_copy_limit(&begun_drive(c)->ops, text, false, e);
}

static const char *const cache_names[] = {
	[CONFIG_CACHE_WRITEBACK] = "writeback",
	[CONFIG_CACHE_UNSAFE] = "unsafe",
};

int config_drive_cache(struct config *c, const char *text, struct err *e)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(cache_names); i++) {
		if (!strcmp(text, cache_names[i])) {
			begun_drive(c)->cache = (enum config_cache)i;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "must be writeback or unsafe");
}

const char *config_cache_name(enum config_cache cache)
{
	return cache_names[cache];
}

int config_end_drive(struct config *c, struct err *e)
{
	struct config_drive *d = begun_drive(c);

	if (!d->path)
		return err_set(e, -EINVAL, "needs a path");
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
	if (!d->id && asprintf(&d->id, "drive%u", c->num_drives) < 0) {
		d->id = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	c->num_drives++;
	return 0;
}

/* The options of a drive on the command line. A name that ends in '=' has the rest of its part as value. */
static const struct drive_option {
	const char *name;
	config_setter *set;
	const char *fixed; /* the value of an option that has none of its own */
	unsigned what;	   /* options that exclude each other share a bit */
} drive_options[] = {
	{ "ro", config_drive_read_only, "true", 1 << 0 },
	{ "rw", config_drive_read_only, "false", 1 << 0 },
	{ "id=", config_drive_id, NULL, 1 << 1 },
	{ "serial=", config_drive_serial, NULL, 1 << 2 },
	{ "cache=", config_drive_cache, NULL, 1 << 5 },
	{ "direct", config_drive_direct, "true", 1 << 3 },
	{ "overlay", config_drive_overlay, "true", 1 << 4 },
	{ "overlay=", config_drive_overlay, NULL, 1 << 4 },
	{ "overlay-dir=", config_drive_overlay_dir, NULL, 1 << 6 },
	{ "bandwidth=", config_drive_bandwidth, NULL, 1 << 7 },
	{ "ops=", config_drive_ops, NULL, 1 << 8 },
};

const char *config_drive_option(unsigned i)
{
	return i < MF_ARRAY_SIZE(drive_options) ? drive_options[i].name : NULL;
}

static const struct drive_option *find_drive_option(const char *part)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(drive_options); i++) {
		const struct drive_option *o = &drive_options[i];
		size_t len = strlen(o->name);

		if (o->name[len - 1] == '=' ? !strncmp(part, o->name, len) : !strcmp(part, o->name))
			return o;
	}
	return NULL;
}

/* Applies one part; *seen holds the options that were already there. */
static int take_drive_option(struct config *c, const struct drive_option *o, const char *part, unsigned *seen,
			     struct err *e)
{
	if (*seen & o->what)
		return err_set(e, -EINVAL, "'%s' comes on top of another option of its kind", part);
	*seen |= o->what;
	if (o->set(c, o->fixed ? o->fixed : part + strlen(o->name), e) < 0)
		return err_wrap(e, "'%s'", part);
	return 0;
}

int config_add_drive(struct config *c, const char *spec, struct err *e)
{
	MF_FREE char *path = strdup(spec);
	unsigned seen = 0;
	char *colon;

	if (!path)
		return err_sys(e, "copy it");
	if (config_begin_drive(c, e) < 0)
		return e->code;
	while ((colon = strrchr(path, ':'))) {
		const struct drive_option *o = find_drive_option(colon + 1);

		if (!o)
			break;
		if (take_drive_option(c, o, colon + 1, &seen, e) < 0)
			return e->code;
		*colon = '\0';
	}
	if (config_drive_path(c, path, e) < 0)
		return err_wrap(e, "path");
	return config_end_drive(c, e);
}

int config_check_drives(const struct config *c, struct err *e)
{
	for (unsigned i = 0; i < c->num_drives; i++) {
		for (unsigned j = 0; j < i; j++) {
			if (!strcmp(c->drive[i].id, c->drive[j].id))
				return err_set(e, -EINVAL, "drives '%s' and '%s' have the same id '%s'",
					       c->drive[j].path, c->drive[i].path, c->drive[i].id);
		}
	}
	return 0;
}
