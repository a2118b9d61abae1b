/* Names of images; see reference.h. */
#include "vmm/image/reference.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define REGISTRY "docker://"

static const struct transport {
	const char *prefix;
	enum reference_kind kind;
} transports[] = {
	{ REGISTRY, REFERENCE_REGISTRY },	{ "oci:", REFERENCE_FILES },
	{ "oci-archive:", REFERENCE_FILES },	{ "docker-archive:", REFERENCE_FILES },
	{ "docker-daemon:", REFERENCE_DAEMON }, { "containers-storage:", REFERENCE_STORAGE },
};

bool image_reference_is_path(const char *word)
{
	return *word == '/' || *word == '.';
}

/* The rest is skopeo's to judge; but it must look like no option, and be printable. */
static int check_rest(const char *rest, const char *also, struct err *e)
{
	if (!isalnum((unsigned char)*rest) && !(*also && strchr(also, *rest) && *rest))
		return err_set(e, -EINVAL,
			       "must be the name of an image, as alpine:3.20, docker://HOST/NAME:TAG or oci:DIR; a path "
			       "begins with '/' or '.'");
	for (; *rest; rest++)
		if (!isgraph((unsigned char)*rest) && *rest != ' ')
			return err_set(e, -EINVAL, "has a character that no name of an image has");
	return 0;
}

/* PATH[:REST]: the path becomes absolute, since programs read it that start elsewhere. */
static int parse_path(const struct transport *t, const char *rest, struct image_reference *ret, struct err *e)
{
	MF_FREE char *path = strndup(rest, strcspn(rest, ":"));
	MF_FREE char *real = path ? realpath(path, NULL) : NULL;
	char *text;

	if (!real)
		return err_sys(e, "'%s'", path ? path : rest);
	if (strchr(real, ':'))
		return err_set(e, -EINVAL, "the path '%s' has a ':', with which skopeo cannot read it", real);
	if (asprintf(&text, "%s%s%s", t->prefix, real, rest + strlen(path)) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	*ret = (struct image_reference){ t->kind, text, mf_take_ptr(&real) };
	return 0;
}

int image_reference_parse(const char *word, struct image_reference *ret, struct err *e)
{
	const struct transport *t = transports, *end = t + MF_ARRAY_SIZE(transports);
	const char *rest;
	char *text;

	if (strlen(word) > REFERENCE_MAX)
		return err_set(e, -EINVAL, "must have %d bytes at most", REFERENCE_MAX);
	while (t < end && strncmp(word, t->prefix, strlen(t->prefix)) != 0)
		t++;
	rest = t < end ? word + strlen(t->prefix) : word;
	/* "[" begins the storage of containers-storage, "@" an image by its number there. */
	if (check_rest(rest,
		       t < end && t->kind == REFERENCE_FILES   ? "/._" :
		       t < end && t->kind == REFERENCE_STORAGE ? "[@" :
								 "",
		       e) < 0)
		return e->code;
	if (t < end && t->kind == REFERENCE_FILES)
		return parse_path(t, rest, ret, e);
	if (asprintf(&text, "%s%s", t < end ? t->prefix : REGISTRY, rest) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	*ret = (struct image_reference){ t < end ? t->kind : REFERENCE_REGISTRY, text, NULL };
	return 0;
}

void image_reference_done(struct image_reference *r)
{
	free(r->text);
	free(r->path);
	*r = (struct image_reference){ 0 };
}

char *image_reference_at(const struct image_reference *r, const char *digest)
{
	const char *name, *tag;
	char *text;
	size_t len;

	if (r->kind != REFERENCE_REGISTRY)
		return strdup(r->text);
	name = r->text + strlen(REGISTRY);
	len = strcspn(name, "@");
	/* A ':' in front of the last '/' is that of a port. */
	tag = memrchr(name, ':', len);
	if (tag && !memchr(tag, '/', len - (size_t)(tag - name)))
		len = (size_t)(tag - name);
	return asprintf(&text, REGISTRY "%.*s@%s", (int)len, name, digest) < 0 ? NULL : text;
}
