/* Files of the host that only the guest's memory has: --secret. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"
#include "vmm/config/config_parts.h"

#define NAME_BYTES_MAX 64

static bool is_name(const char *name)
{
	size_t len = strlen(name);

	for (const char *s = name; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("._-", *s))
			return false;
	return len > 0 && len <= NAME_BYTES_MAX && *name != '.';
}

/* NAME=FILE */
static int add_secret(void *object, const struct config_field *f, const char *spec, struct err *e)
{
	struct config *c = object;
	struct config_secret *s = &c->secret[c->num_secrets];
	MF_FREE char *name = strdup(spec);
	char *path = name ? strchr(name, '=') : NULL;

	(void)f; /* one of an array */
	if (!name)
		return err_sys(e, "copy it");
	if (!path || !path[1])
		return err_set(e, -EINVAL, "must be NAME=FILE");
	*path++ = '\0';
	if (!is_name(name))
		return err_set(e, -EINVAL, "the name must be 1 to %d of A-Z a-z 0-9 . _ - and not begin with '.'",
			       NAME_BYTES_MAX);
	if (c->num_secrets == CONFIG_SECRETS_MAX)
		return err_set(e, -EINVAL, "there can be at most %d", CONFIG_SECRETS_MAX);
	for (unsigned i = 0; i < c->num_secrets; i++)
		if (!strcmp(c->secret[i].name, name))
			return err_set(e, -EINVAL, "'%s' is given twice", name);
	if (config_copy_text(&s->name, name, NAME_BYTES_MAX, e) < 0 || config_copy_path(&s->path, path, e) < 0)
		return e->code;
	c->num_secrets++;
	return 0;
}

static bool print_secrets(const void *object, const struct config_field *f, json_t *to)
{
	const struct config *c = object;
	json_t *list = json_array();
	bool ok = true;

	for (unsigned i = 0; i < c->num_secrets; i++)
		ok = json_array_append_new(list, json_sprintf("%s=%s", c->secret[i].name, c->secret[i].path)) == 0 &&
		     ok;
	if (c->num_secrets)
		return config_put(to, f->key, list) && ok;
	json_decref(list);
	return true;
}

static void free_secrets(void *object, const struct config_field *f)
{
	struct config *c = object;

	(void)f; /* All of them: the one after the last may be half described. */
	for (unsigned i = 0; i < CONFIG_SECRETS_MAX; i++) {
		struct config_secret *s = &c->secret[i];

		if (s->data)
			explicit_bzero(s->data, s->len);
		free(s->name);
		free(s->path);
		free(s->data);
		*s = (struct config_secret){ 0 };
	}
	c->num_secrets = 0;
}

const struct config_type config_type_secrets = {
	.json = 1U << JSON_ARRAY, .set = add_secret, .print = print_secrets, .done = free_secrets
};

/* Adds its bytes to *used. A FIFO, such as <(program) of a shell, is read to its end. */
static int read_secret(struct config_secret *s, size_t *used, struct err *e)
{
	const size_t room = CONFIG_SECRETS_BYTES_MAX - *used;
	MF_CLOSE int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t len;

	if (fd < 0)
		return err_sys(e, "open '%s'", s->path);
	s->data = malloc(room + 1);
	if (!s->data)
		return err_set(e, -ENOMEM, "out of memory");
	len = fdio_read(fd, s->data, room + 1);
	s->len = len > 0 ? (size_t)len : 0;
	if (len < 0)
		return err_neg(e, (int)len, "read '%s'", s->path);
	if (s->len > room)
		return err_set(e, -E2BIG, "'%s' has more than is left of %u bytes for all secrets", s->path,
			       (unsigned)CONFIG_SECRETS_BYTES_MAX);
	*used += s->len;
	return 0;
}

int config_complete_secrets(struct config *c, struct err *e)
{
	size_t used = 0;

	for (unsigned i = 0; i < c->num_secrets; i++)
		if (!c->secret[i].data && read_secret(&c->secret[i], &used, e) < 0)
			return err_wrap(e, "secret '%s'", c->secret[i].name);
	return 0;
}
