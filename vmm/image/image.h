/*
 * `mayfly run IMAGE`: an image of a container as the root. skopeo fetches it, umoci
 * unpacks its layers, mkfs.erofs makes one file system of them, which the cache keeps
 * (image_cache.h); none of these programs is trusted (image_pull.c).
 */
#ifndef MF_IMAGE_IMAGE_H
#define MF_IMAGE_IMAGE_H

#include <stdbool.h>

struct config;
struct err;
struct image_cache;

/*
 * If the configuration names an image, makes that the root, and adds what the image says
 * of its command (image_config.h). The image comes from the cache, or is pulled, as the
 * key "pull" says. Reports on stderr that it pulls.
 *
 * Provides the root by its path (fdstore.h), so that nobody removes it meanwhile. Returns
 * 0 or -errno with e set. Main thread, before the process has others, and before
 * config_check.
 */
int image_resolve(struct config *c, struct err *e);

/*
 * Fetches what the name means now, if the cache does not have it. say: reports on stderr
 * that it does. Returns 0 or -errno with e set.
 */
int image_fetch(const struct image_cache *cache, const char *word, bool say, struct err *e);

#endif
