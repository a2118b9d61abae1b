/* The texts that tell init in the guest what to do; see init_text.h. */
#include "vmm/guest/init_text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader/init/proto.h"
#include "vmm/config/config.h"

#define HOST_NAME "mayfly"

_Static_assert(CONFIG_DRIVES_MAX <= 26, "drives are /dev/vda to /dev/vdz");

/* An entry: a letter, its text, and a NUL. finish reports failures. */
static void __attribute__((format(printf, 2, 3))) put(FILE *f, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vfprintf(f, format, args);
	va_end(args);
	(void)fputc('\0', f);
}

/* Closes a stream of memory, whose text this is. */
static char *finish(FILE *f, char **text)
{
	bool failed = ferror(f);

	if (fclose(f) == EOF || failed) {
		free(*text);
		return NULL;
	}
	return *text;
}

/* How a drive is mounted, and whether it need not be left clean: its layer ends with the VM. */
static void put_drive(FILE *f, const struct config_drive *d, unsigned i)
{
	char letter = d->mount_read_only ? 'V' : d->read_only ? 'v' : 'w';

	if (d->mount)
		put(f, "%c/dev/vd%c:%s", letter, 'a' + (int)i, d->mount);
	if (d->overlay)
		put(f, "l/dev/vd%c", 'a' + (int)i);
}

static void put_tmpfs(FILE *f, const struct config_tmpfs *t)
{
	if (t->size)
		put(f, "mmode=%o,size=%" PRIu64 ":%s", t->mode, t->size, t->path);
	else
		put(f, "mmode=%o:%s", t->mode, t->path);
}

/* Of the first interface; others are the command's affair. */
static void put_net(FILE *f, const struct config_net *n)
{
	if (!n->ip)
		return;
	put(f, "n%s", n->ip);
	if (n->gateway)
		put(f, "g%s", n->gateway);
	if (n->dns)
		put(f, "d%s", n->dns);
}

char *init_text_boot(const struct config *c, size_t *ret_len)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, ret_len);

	if (!f)
		return NULL;
	/* With an initrd of its own a guest has its root in that. */
	if (c->num_drives && !c->initrd && !c->drive[0].mount)
		put(f, "r/dev/vda");
	for (unsigned i = 0; i < c->num_drives; i++)
		put_drive(f, &c->drive[i], i);
	for (unsigned i = 0; i < c->num_tmpfs; i++)
		put_tmpfs(f, &c->tmpfs[i]);
	if (c->scratch)
		put(f, "s%" PRIu64, c->scratch);
	put(f, "h%s", c->name ? c->name : HOST_NAME);
	if (c->num_nets)
		put_net(f, &c->net[0]);
	for (unsigned i = 0; i < c->num_artifacts; i++)
		put(f, "o%s", c->artifact[i].guest);
	return finish(f, &text);
}

char *init_text_command(const struct config_command *cmd, const char *tty, size_t *ret_len)
{
	const char *term = tty ? getenv("TERM") : NULL;
	char *text = NULL;
	FILE *f = open_memstream(&text, ret_len);

	if (!f)
		return NULL;
	for (unsigned i = 0; i < cmd->args.num; i++)
		put(f, "a%s", cmd->args.text[i]);
	/* The caller's TERM. env follows it, and overrides it. */
	if (term && *term && strlen(term) < CONFIG_ID_MAX)
		put(f, "eTERM=%s", term);
	for (unsigned i = 0; i < cmd->env.num; i++)
		put(f, "e%s", cmd->env.text[i]);
	if (cmd->workdir)
		put(f, "w%s", cmd->workdir);
	if (cmd->user)
		put(f, "u%s", cmd->user);
	if (tty)
		put(f, "t%s", tty);
	return finish(f, &text);
}
