/* The archive with mayfly's init; see boot_init.h. What the texts in it mean is told in loader/init/proto.h. */
#include "vmm/guest/boot_init.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/init/proto.h"
#include "loader/init_blob.h"
#include "loader/initramfs.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/guest/guest_client.h"
#include "vmm/guest/stdio_relay.h"

#define HOST_NAME "mayfly"

_Static_assert(CONFIG_DRIVES_MAX <= 26, "drives are /dev/vda to /dev/vdz");

/* A line of the boot text: a letter, text and a NUL. */
static void put(FILE *f, char letter, const char *text)
{
	fputc(letter, f);
	fputs(text, f);
	fputc('\0', f);
}

/* Drives that are mounted: the letter says how. */
static void put_mounts(FILE *f, const struct config *c)
{
	for (unsigned i = 0; i < c->num_drives; i++) {
		const struct config_drive *d = &c->drive[i];
		char letter = d->mount_read_only ? 'V' : d->read_only ? 'v' : 'w';

		if (!d->mount)
			continue;
		fprintf(f, "%c/dev/vd%c:%s", letter, 'a' + (char)i, d->mount);
		fputc('\0', f);
	}
}

static void put_tmpfs(FILE *f, const struct config_tmpfs *t)
{
	fprintf(f, "mmode=%o", t->mode);
	if (t->size)
		fprintf(f, ",size=%" PRIu64, t->size);
	fprintf(f, ":%s", t->path);
	fputc('\0', f);
}

/* Drives that need not be left clean: their layer ends with the VM. */
static void put_lost(FILE *f, const struct config *c)
{
	char device[] = "/dev/vda";

	for (unsigned i = 0; i < c->num_drives; i++, device[sizeof(device) - 2]++)
		if (c->drive[i].overlay)
			put(f, 'l', device);
}

/* Of the first interface; others are the command's affair. */
static void put_net(FILE *f, const struct config_net *n)
{
	if (!n->ip)
		return;
	put(f, 'n', n->ip);
	if (n->gateway)
		put(f, 'g', n->gateway);
	if (n->dns)
		put(f, 'd', n->dns);
}

static char *boot_text(const struct config *c, size_t *ret_len)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, ret_len);
	bool failed;

	if (!f)
		return NULL;
	/* With an initrd of its own a guest has its root in that. */
	if (c->num_drives && !c->initrd && !c->drive[0].mount)
		put(f, 'r', "/dev/vda");
	put_mounts(f, c);
	for (unsigned i = 0; i < c->num_tmpfs; i++)
		put_tmpfs(f, &c->tmpfs[i]);
	if (c->scratch) {
		fprintf(f, "s%" PRIu64, c->scratch);
		fputc('\0', f);
	}
	put_lost(f, c);
	put(f, 'h', c->name ? c->name : HOST_NAME);
	if (c->num_nets)
		put_net(f, &c->net[0]);
	for (unsigned i = 0; i < c->num_artifacts; i++)
		put(f, 'o', c->artifact[i].guest);
	failed = ferror(f);
	if (fclose(f) == EOF || failed) {
		free(text);
		return NULL;
	}
	return text;
}

int boot_init_archive(uint8_t **ret, size_t *ret_len, const struct config *c, struct err *e)
{
	char size[STDIO_RELAY_TTY_TEXT_MAX];
	const char *tty = c->command.terminal ? stdio_relay_tty_text(size) : NULL;
	size_t boot_len = 0, command_len = 0;
	MF_FREE char *boot = boot_text(c, &boot_len);
	MF_FREE char *command = config_command_text(&c->command, tty, &command_len);
	const struct initramfs_file files[] = {
		{ .path = INIT_DIR, .mode = S_IFDIR | 0700 },
		/* Without the slash. */
		{ .path = &INIT_PATH[1], .mode = S_IFREG | 0700, .data = init_blob, .len = init_blob_len },
		{ .path = &INIT_BOOT_PATH[1], .mode = S_IFREG | 0600, .data = boot, .len = boot_len },
		{ .path = &INIT_COMMAND_PATH[1], .mode = S_IFREG | 0600, .data = command, .len = command_len },
	};

	if (!boot || !command)
		return err_set(e, -ENOMEM, "command: out of memory");
	return initramfs_make(ret, ret_len, files, MF_ARRAY_SIZE(files), e);
}
