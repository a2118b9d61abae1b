/* Fetches an image, and makes a file system of it. */
#ifndef MF_IMAGE_IMAGE_PULL_H
#define MF_IMAGE_IMAGE_PULL_H

struct err;
struct image_cache;
struct image_name;
struct image_reference;

/*
 * Finds out what the name means now, pulls that image unless the cache has it, and keeps
 * the name. Of several processes that want the same image at once, one pulls it, and the
 * others wait for it. shown: the name as the user wrote it; NULL: nothing is reported on
 * stderr.
 *
 * Returns the descriptor of the image, as image_cache_take does, with *ret set; or -errno
 * with e set: -ECHILD if a program has failed, with its last line. Main thread, before
 * the process has others.
 */
int image_pull(const struct image_cache *cache, const struct image_reference *ref, const char *shown,
	       struct image_name *ret, struct err *e);

/* Removes what killed processes have left half pulled. */
void image_pull_sweep(const struct image_cache *cache);

#endif
