/* An image of a container as the root; see image.h. */
#include "vmm/image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdstore.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/image_cache.h"
#include "vmm/image/image_config.h"
#include "vmm/image/image_names.h"
#include "vmm/image/image_pull.h"
#include "vmm/image/reference.h"

/* Finds what the name means, and opens the image. Returns its descriptor or -errno with e set. */
static int find(struct config *c, const struct image_cache *cache, const struct image_reference *ref,
		struct image_name *ret, struct err *e)
{
	int fd = -ENOENT;

	if (c->pull != CONFIG_PULL_ALWAYS && image_names_find(cache, ref->text, ret, e) == 0) {
		fd = image_cache_take(cache, ret->file, O_RDONLY, e);
		if (fd == -ENOENT) /* removed meanwhile */
			image_name_done(ret);
	}
	if (fd != -ENOENT)
		return fd;
	if (c->pull == CONFIG_PULL_NEVER)
		return err_set(e, -ENOENT, "it is not in the cache, and --pull is never");
	return image_pull(cache, ref, c->log_level < LOG_LEVEL_WARN ? NULL : c->image, ret, e);
}

static int make_root(struct config *c, const struct image_cache *cache, const char *file, int fd, struct err *e)
{
	MF_FREE char *path = NULL;

	if (asprintf(&path, "%s/%s", cache->path, file) < 0) {
		path = NULL; /* asprintf leaves it undefined */
		close(fd);
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (config_set(c, "rootfs", path, e) < 0) {
		close(fd);
		return e->code;
	}
	return fdstore_provide(c->rootfs.path, O_RDONLY, fd, e);
}

static int resolve(struct config *c, const struct image_reference *ref, struct err *e)
{
	struct image_cache cache = { .fd = -1 };
	struct image_name name = { 0 };
	int r = image_cache_open(&cache, e), fd;

	if (r < 0)
		return r;
	fd = find(c, &cache, ref, &name, e);
	r = fd < 0 ? fd : make_root(c, &cache, name.file, fd, e);
	if (r == 0)
		r = image_config_apply(name.config, c, e);
	image_name_done(&name);
	image_cache_close(&cache);
	return r;
}

int image_resolve(struct config *c, struct err *e)
{
	struct image_reference ref;
	int r;

	if (!c->image)
		return c->entrypoint || c->publish_all ?
			       err_set(e, -EINVAL, "entrypoint and publish-all need an image: mayfly run IMAGE") :
			       0;
	if (c->rootfs.path)
		return err_set(e, -EINVAL,
			       "image '%s' and rootfs are both set: choose one, or put '--' before a command",
			       c->image);
	if (image_reference_parse(c->image, &ref, e) < 0)
		return err_wrap(e, "image '%.80s'", c->image);
	r = resolve(c, &ref, e);
	image_reference_done(&ref);
	return r < 0 ? err_wrap(e, "image '%.80s'", c->image) : 0;
}

int image_fetch(const struct image_cache *cache, const char *word, bool say, struct err *e)
{
	struct image_name name = { 0 };
	struct image_reference ref;
	int fd = image_reference_parse(word, &ref, e);

	if (fd == 0) {
		fd = image_pull(cache, &ref, say ? word : NULL, &name, e);
		image_reference_done(&ref);
	}
	if (fd < 0)
		return err_wrap(e, "image '%.80s'", word);
	close(fd);
	image_name_done(&name);
	return 0;
}
