/*
 * The guest's root and other directories of the configuration: -r, -v and --artifact. The
 * first two are drives, in short; see config.h.
 */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"
#include "vmm/config/config_parts.h"
#include "vmm/config/image_kind.h"

bool config_is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode); /* a missing file is reported when it is opened */
}

/* Cuts :WORD off the end of text. Returns whether it was there. */
static bool cut_word(char *text, const char *word)
{
	char *colon = strrchr(text, ':');

	if (!colon || strcmp(colon + 1, word) != 0)
		return false;
	*colon = '\0';
	return true;
}

/*
 * Sets what d, of which the path is known, is. Unless it is a volume, it may be a file
 * system that only a kernel knows.
 */
static int set_kind(struct config_drive *d, bool writable, bool volume, struct err *e)
{
	enum image_use use;

	d->directory = config_is_directory(d->path);
	if (d->directory && writable)
		return err_set(e, -EINVAL,
			       "a root that is a directory is copied, and what the guest writes would be lost: leave out "
			       "':rw', and fetch results by --artifact, or give an image");
	use = d->directory ? IMAGE_USE_READ_ONLY : image_kind_look(d->path, e);
	d->file = volume && use == IMAGE_USE_FILE;
	if (use == IMAGE_USE_NONE || (use == IMAGE_USE_KERNEL && volume))
		return e->code;
	if (d->file && writable)
		return err_set(e, -EINVAL,
			       "'%s' is copied, and what the guest writes would be lost: leave out ':rw', and fetch "
			       "results by --artifact",
			       d->path);
	if (writable && (use == IMAGE_USE_READ_ONLY || use == IMAGE_USE_TAR))
		return err_set(e, -EINVAL,
			       "'%s' cannot be written to, by its kind: leave out ':rw', or give an ext4 image",
			       d->path);
	d->tar = use == IMAGE_USE_TAR;
	/* A layer below its file system, so that the guest can have overlays on that. */
	d->overlay = !writable && !d->mount_read_only &&
		     (volume ? use == IMAGE_USE_WRITABLE : !config_drive_is_made(d));
	d->read_only = !writable && !d->overlay;
	return 0;
}

/* PATH[:rw]; the last one counts. */
static int set_rootfs(void *object, const struct config_field *f, const char *spec, struct err *e)
{
	struct config_drive *d = config_at(object, f), root = { .path = NULL };
	MF_FREE char *path = strdup(spec);
	char *options;
	bool writable;

	if (!path)
		return err_sys(e, "copy it");
	writable = cut_word(path, "rw");
	options = strchr(path, ':');
	if (options && access(path, F_OK) < 0) {
		*options = '\0';
		if (access(path, F_OK) == 0)
			return err_set(e, -EINVAL,
				       "'%s' exists, but a root takes no ':%s', only ':rw' for an image; the other options "
				       "are those of --drive",
				       path, options + 1);
		*options = ':';
	}
	if (config_copy_path(&root.path, path, e) < 0)
		return e->code;
	if (set_kind(&root, writable, false, e) < 0) {
		config_drive_done(&root);
		return e->code;
	}
	config_drive_done(d);
	*d = root;
	return 0;
}

static void free_rootfs(void *object, const struct config_field *f)
{
	config_drive_done(config_at(object, f));
}

const struct config_type config_type_rootfs = { .json = 1U << JSON_STRING, .set = set_rootfs, .done = free_rootfs };

static int set_image(void *object, const struct config_field *f, const char *text, struct err *e)
{
	return config_copy_text(config_at(object, f), text, f->max, e);
}

/* Not printed: what is printed is the root that it has become. */
const struct config_type config_type_image = { .json = 1U << JSON_STRING, .set = set_image, .done = config_free_text };

/* What is behind HOSTPATH:/GUESTPATH. */
static int set_volume_word(struct config_drive *d, const char *word, struct err *e)
{
	d->read_only = strcmp(word, "rw") != 0;
	d->mount_read_only = !strcmp(word, "ro");
	if (d->read_only && !d->mount_read_only && strcmp(word, "copy") != 0)
		return err_set(e, -EINVAL, "':%s' is none of ':ro', ':copy' and ':rw'", word);
	return 0;
}

/* /GUESTPATH, as docker has it. */
static int add_own(struct config *c, const struct config_field *mount, const char *path, struct err *e)
{
	if (c->num_own == CONFIG_OWN_MAX)
		return err_set(e, -EINVAL, "there can be at most %d that are only in the guest", CONFIG_OWN_MAX);
	if (mount->check(path, mount, e) < 0 || config_copy_path(&c->own[c->num_own], path, e) < 0)
		return e->code;
	c->num_own++;
	return 0;
}

/* A directory without ":copy". */
static int add_live(struct config *c, const struct config_field *mount, const char *host, const char *guest,
		    const char *word, struct err *e)
{
	struct config_live *l = &c->live[c->num_live];

	if (c->num_live == CONFIG_LIVE_MAX)
		return err_set(e, -EINVAL, "there can be at most %d directories without ':copy'", CONFIG_LIVE_MAX);
	if (strcmp(word, "ro") != 0 && strcmp(word, "rw") != 0)
		return err_set(e, -EINVAL, "':%s' is none of ':ro', ':copy' and ':rw'", word);
	if (mount->check(guest, mount, e) < 0 || config_copy_path(&l->host, host, e) < 0 ||
	    config_copy_path(&l->guest, guest, e) < 0)
		return e->code;
	l->read_only = !strcmp(word, "ro");
	c->num_live++;
	return 0;
}

int config_set_live_root(struct config *c, const char *host, struct err *e)
{
	struct config_live *l = &c->live[c->num_live];

	if (c->num_live == CONFIG_LIVE_MAX)
		return err_set(e, -EINVAL, "there can be at most %d live directories", CONFIG_LIVE_MAX);
	if (!config_is_directory(host))
		return err_set(e, -ENOTDIR, "'%s' is no directory, and so cannot be live", host);
	if (config_copy_path(&l->host, host, e) < 0 || config_copy_path(&l->guest, "/", e) < 0)
		return e->code;
	c->num_live++;
	return 0;
}

/* HOSTPATH:/GUESTPATH[:ro|:copy|:rw], or /GUESTPATH */
static int add_volume(void *object, const struct config_field *f, const char *spec, struct err *e)
{
	MF_FREE char *text = strdup(spec);
	const struct config_field *mount = config_find_field(config_drive_fields, "mount");
	struct config_drive *d;
	char *guest, *word;

	(void)f; /* it becomes one of the drives */
	if (!text)
		return err_sys(e, "copy it");
	if (*text == '/' && !strchr(text, ':'))
		return add_own(object, mount, text, e);
	guest = strstr(text, ":/");
	if (!guest || guest == text)
		return err_set(e, -EINVAL,
			       "must be HOSTPATH:/GUESTPATH, and ':ro', ':copy' or ':rw' may follow; or /GUESTPATH");
	*guest++ = '\0';
	if (access(text, F_OK) < 0)
		return err_sys(e, "'%s'", text);
	word = strchr(guest, ':');
	if (word)
		*word++ = '\0';
	if (config_is_directory(text) && (!word || strcmp(word, "copy") != 0))
		return add_live(object, mount, text, guest, word ? word : "rw", e);
	d = config_begin_drive(object, e);
	if (!d || config_copy_path(&d->path, text, e) < 0 || mount->type->set(d, mount, guest, e) < 0 ||
	    set_volume_word(d, word ? word : "copy", e) < 0 || set_kind(d, !d->read_only, true, e) < 0)
		return e->code;
	return config_end_drive(object, e);
}

/* Those that are copied or images are among the drives. */
static bool print_volumes(const void *object, const struct config_field *f, json_t *to)
{
	const struct config *c = object;
	json_t *list = config_strings(c->own, c->num_own);
	bool ok = list != NULL;

	for (unsigned i = 0; i < c->num_live; i++) {
		const struct config_live *l = &c->live[i];

		ok = json_array_append_new(list, json_sprintf("%s:%s:%s", l->host, l->guest,
							      l->read_only ? "ro" : "rw")) == 0 &&
		     ok;
	}
	if (c->num_own || c->num_live)
		return config_put(to, f->key, list) && ok;
	json_decref(list);
	return ok;
}

static void free_volumes(void *object, const struct config_field *f)
{
	struct config *c = object;

	(void)f; /* arrays */
	while (c->num_own)
		free(c->own[--c->num_own]);
	/* All of them: the one after the last may be half described. */
	for (unsigned i = 0; i < CONFIG_LIVE_MAX; i++) {
		free(c->live[i].host);
		free(c->live[i].guest);
		c->live[i] = (struct config_live){ 0 };
	}
	c->num_live = 0;
}

const struct config_type config_type_volume = {
	.json = 1U << JSON_ARRAY, .set = add_volume, .print = print_volumes, .done = free_volumes
};

const char *config_artifact_name(const struct config_artifact *a)
{
	const char *end = a->guest + strlen(a->guest);

	while (end > a->guest && end[-1] == '/')
		end--;
	while (end > a->guest && end[-1] != '/')
		end--;
	return end[strspn(end, "/")] ? end : ".";
}

/* /GUESTPATH=HOSTDIR */
static int add_artifact(void *object, const struct config_field *f, const char *spec, struct err *e)
{
	MF_FREE char *guest = strdup(spec);
	struct config *c = object;
	struct config_artifact *a = &c->artifact[c->num_artifacts];
	const char *name;
	char *host;
	size_t len;

	(void)f; /* one of an array */
	if (!guest)
		return err_sys(e, "copy it");
	if (c->num_artifacts == CONFIG_ARTIFACTS_MAX)
		return err_set(e, -EINVAL, "there can be at most %d artifacts", CONFIG_ARTIFACTS_MAX);
	host = strchr(guest, '=');
	if (*guest != '/' || !host || !host[1])
		return err_set(e, -EINVAL, "must be /GUESTPATH=HOSTDIR");
	*host++ = '\0';
	name = config_artifact_name(&(struct config_artifact){ .guest = guest });
	len = strcspn(name, "/");
	if (len > NAME_MAX || (len == 2 && !strncmp(name, "..", 2)))
		return err_set(e, -EINVAL, "/GUESTPATH must end in a name: the file gets that name in HOSTDIR");
	if (config_copy_path(&a->guest, guest, e) < 0 || config_copy_path(&a->host, host, e) < 0)
		return e->code;
	c->num_artifacts++;
	return 0;
}

static bool print_artifacts(const void *object, const struct config_field *f, json_t *to)
{
	const struct config *c = object;
	json_t *list = json_array();
	bool ok = true;

	for (unsigned i = 0; i < c->num_artifacts; i++) {
		const struct config_artifact *a = &c->artifact[i];

		ok = json_array_append_new(list, json_sprintf("%s=%s", a->guest, a->host)) == 0 && ok;
	}
	if (c->num_artifacts)
		return config_put(to, f->key, list) && ok;
	json_decref(list);
	return true;
}

static void free_artifacts(void *object, const struct config_field *f)
{
	struct config *c = object;

	(void)f; /* All of them: the one after the last may be half described. */
	for (unsigned i = 0; i < CONFIG_ARTIFACTS_MAX; i++) {
		free(c->artifact[i].guest);
		free(c->artifact[i].host);
		c->artifact[i] = (struct config_artifact){ 0 };
	}
}

const struct config_type config_type_artifacts = {
	.json = 1U << JSON_ARRAY, .set = add_artifact, .print = print_artifacts, .done = free_artifacts
};

/*
 * The last of the drives is for the layers. A volume that is an image keeps its own, in a
 * file beside.
 */
static int add_disk(struct config *c, struct err *e)
{
	struct config_drive *d = &c->drive[c->num_drives];
	const char *tmp = getenv("TMPDIR"), *dir = tmp && *tmp == '/' ? tmp : "/var/tmp";

	if (c->disk < CONFIG_DISK_MIN || c->disk > CONFIG_DISK_MAX)
		return err_set(e, -EINVAL, "disk: must be 16M to 4T");
	if (c->num_drives == CONFIG_DRIVES_MAX)
		return err_set(e, -EINVAL, "there can be at most %d drives, including the disk", CONFIG_DRIVES_MAX);
	config_drive_done(d); /* it may be half described */
	*d = (struct config_drive){ .empty = mf_align_up(c->disk, MF_PAGE_SIZE),
				    .overlay = true,
				    .cache = CONFIG_CACHE_UNSAFE };
	if (config_copy_text(&d->id, CONFIG_DISK_ID, CONFIG_ID_MAX, e) < 0 ||
	    config_copy_path(&d->path, "an empty ext4", e) < 0)
		return e->code;
	c->num_drives++;
	for (unsigned i = 0; i < c->num_drives; i++)
		if (c->drive[i].overlay && !c->drive[i].overlay_dir &&
		    config_copy_path(&c->drive[i].overlay_dir, dir, e) < 0)
			return e->code;
	return 0;
}

/* The root becomes the first of the drives. */
int config_complete_root(struct config *c, struct err *e)
{
	for (unsigned i = 0; i < c->num_artifacts; i++)
		c->artifact[i].max_bytes = c->artifact_max;
	if (!c->rootfs.path)
		return c->disk ? add_disk(c, e) : 0;
	if (c->num_drives == CONFIG_DRIVES_MAX)
		return err_set(e, -EINVAL, "there can be at most %d drives, including the root", CONFIG_DRIVES_MAX);
	if (c->initrd)
		return err_set(e, -EINVAL, "rootfs and initrd are both set: choose one");
	if (config_copy_text(&c->rootfs.id, "root", CONFIG_ID_MAX, e) < 0)
		return e->code;
	config_drive_done(&c->drive[c->num_drives]); /* it may be half described */
	memmove(c->drive + 1, c->drive, c->num_drives * sizeof(c->drive[0]));
	/* A layer below its file system would be bounded by that, not by the disk. */
	if (c->disk && c->rootfs.overlay) {
		c->rootfs.read_only = true;
		c->rootfs.overlay = false;
	}
	c->drive[0] = c->rootfs;
	c->num_drives++;
	c->rootfs = (struct config_drive){ 0 };
	return c->disk ? add_disk(c, e) : 0;
}
