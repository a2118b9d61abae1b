/* File systems in the guest's memory: --tmpfs, and --scratch, the limit of those that mayfly's init makes by itself. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"
#include "vmm/config/config_parts.h"

#define TMPFS_MODE_MAX 4 /* octal digits */

/* One of the options behind PATH:. */
static int set_option(struct config_tmpfs *t, const char *word, struct err *e)
{
	if (!strncmp(word, "size=", 5))
		return parse_size(word + 5, &t->size) < 0 || !t->size ?
			       err_set(e, -EINVAL, "size must be bytes, or end in K, M or G") :
			       0;
	if (strncmp(word, "mode=", 5) != 0)
		return err_set(e, -EINVAL, "must be /GUESTPATH[:size=SIZE][,mode=OCTAL], not '%s'", word);
	word += 5;
	if (!*word || strspn(word, "01234567") != strlen(word) || strlen(word) > TMPFS_MODE_MAX)
		return err_set(e, -EINVAL, "mode must be octal, as 1777");
	t->mode = (unsigned)strtoul(word, NULL, 8);
	return 0;
}

/* /GUESTPATH[:OPTION[,OPTION]...] */
static int add_tmpfs(void *object, const struct config_field *f, const char *spec, struct err *e)
{
	const struct config_field *mount = config_find_field(config_drive_fields, "mount");
	MF_FREE char *path = strdup(spec);
	struct config *c = object;
	struct config_tmpfs t = { .mode = 01777 };
	char *options, *word;

	(void)f; /* one of an array */
	if (!path)
		return err_sys(e, "copy it");
	if (c->num_tmpfs == CONFIG_TMPFS_MAX)
		return err_set(e, -EINVAL, "there can be at most %d", CONFIG_TMPFS_MAX);
	options = strrchr(path, ':');
	if (options) {
		*options++ = '\0';
		while ((word = strsep(&options, ",")))
			if (set_option(&t, word, e) < 0)
				return e->code;
	}
	if (mount->check(path, mount, e) < 0 || config_copy_path(&t.path, path, e) < 0)
		return e->code;
	c->tmpfs[c->num_tmpfs++] = t;
	return 0;
}

static bool print_tmpfs(const void *object, const struct config_field *f, json_t *to)
{
	const struct config *c = object;
	json_t *list = json_array();
	bool ok = true;

	for (unsigned i = 0; i < c->num_tmpfs; i++) {
		const struct config_tmpfs *t = &c->tmpfs[i];

		ok = json_array_append_new(list, t->size ? json_sprintf("%s:size=%lld,mode=%o", t->path,
									(long long)t->size, t->mode) :
							   json_sprintf("%s:mode=%o", t->path, t->mode)) == 0 &&
		     ok;
	}
	if (c->num_tmpfs)
		return config_put(to, f->key, list) && ok;
	json_decref(list);
	return true;
}

static void free_tmpfs(void *object, const struct config_field *f)
{
	struct config *c = object;

	(void)f; /* all of them */
	while (c->num_tmpfs)
		free(c->tmpfs[--c->num_tmpfs].path);
}

const struct config_type config_type_tmpfs = {
	.json = 1U << JSON_ARRAY, .set = add_tmpfs, .print = print_tmpfs, .done = free_tmpfs
};
