/*
 * The guest's root and other directories of the configuration: -r, -v and --artifact. The first two are drives, in short;
 * see config.h.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config.h"
#include "vmm/config_parts.h"

bool config_is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode); /* what is not there is reported when it is opened */
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

int config_set_rootfs(struct config *c, const char *spec, struct err *e)
{
	MF_FREE char *path = strdup(spec);
	struct config_drive *d = &c->rootfs;
	bool writable;

	if (!path)
		return err_sys(e, "copy it");
	writable = cut_word(path, "rw");
	if (writable && config_is_directory(path))
		return err_set(e, -EINVAL,
			       "a directory cannot be written to by the guest: leave out ':rw', or use an image");
	config_drive_done(d);
	if (config_copy_path(&d->path, path, e) < 0 || config_copy_id(&d->id, "root", e) < 0)
		return e->code;
	d->read_only = config_is_directory(path);
	d->overlay = !writable && !d->read_only;
	return 0;
}

int config_add_volume(struct config *c, const char *spec, struct err *e)
{
	MF_FREE char *text = strdup(spec);
	struct config_drive *d = &c->drive[c->num_drives];
	char *guest;
	bool read_only;

	if (!text)
		return err_sys(e, "copy it");
	read_only = cut_word(text, "ro");
	guest = strstr(text, ":/");
	if (!guest || guest == text)
		return err_set(e, -EINVAL, "must be HOSTPATH:/GUESTPATH, or HOSTPATH:/GUESTPATH:ro");
	*guest++ = '\0';
	if (config_begin_drive(c, e) < 0)
		return e->code;
	if (config_copy_path(&d->path, text, e) < 0 || config_drive_mount(c, guest, e) < 0)
		return e->code;
	d->read_only = true;
	d->mount_read_only = read_only;
	return config_end_drive(c, e);
}

int config_add_artifact(struct config *c, const char *spec, struct err *e)
{
	MF_FREE char *guest = strdup(spec);
	struct config_artifact *a = &c->artifact[c->num_artifacts];
	char *host;

	if (!guest)
		return err_sys(e, "copy it");
	if (c->num_artifacts == CONFIG_ARTIFACTS_MAX)
		return err_set(e, -EINVAL, "there can be at most %d artifacts", CONFIG_ARTIFACTS_MAX);
	host = strchr(guest, '=');
	if (*guest != '/' || !host || !host[1])
		return err_set(e, -EINVAL, "must be /GUESTPATH=HOSTDIR");
	*host++ = '\0';
	if (config_copy_path(&a->guest, guest, e) < 0 || config_copy_path(&a->host, host, e) < 0)
		return e->code;
	c->num_artifacts++;
	return 0;
}

void config_artifact_done(struct config_artifact *a)
{
	free(a->guest);
	free(a->host);
	*a = (struct config_artifact){ 0 };
}

/* The root becomes the first of the drives. */
int config_complete_root(struct config *c, struct err *e)
{
	if (c->rootfs.path) {
		if (c->num_drives == CONFIG_DRIVES_MAX)
			return err_set(e, -EINVAL, "there can be at most %d drives, the root among them",
				       CONFIG_DRIVES_MAX);
		if (c->initrd)
			return err_set(e, -EINVAL, "rootfs and initrd are both set: choose one");
		config_drive_done(&c->drive[c->num_drives]); /* it may be half described */
		memmove(c->drive + 1, c->drive, c->num_drives * sizeof(c->drive[0]));
		c->drive[0] = c->rootfs;
		c->num_drives++;
		c->rootfs = (struct config_drive){ 0 };
	}
	if (c->command.args.num)
		return 0;
	if (c->num_artifacts)
		return err_set(e, -EINVAL, "artifacts are sent by mayfly's init, which there is only with a command");
	for (unsigned i = 0; i < c->num_drives; i++)
		if (c->drive[i].mount)
			return err_set(e, -EINVAL,
				       "drive '%s' is mounted by mayfly's init, which there is only with a command",
				       c->drive[i].id);
	return 0;
}
