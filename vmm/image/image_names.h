/*
 * The names of images in the cache (image_cache.h): files beside the images, in JSON, each
 * with what one name meant when it was pulled. A file appears complete, and a newer one
 * replaces it. Many names may mean one image; one whose image is gone means nothing.
 */
#ifndef MF_IMAGE_IMAGE_NAMES_H
#define MF_IMAGE_IMAGE_NAMES_H

#include <stdbool.h>
#include <stddef.h>

struct err;
struct image_cache;
struct json_t;

struct image_name {
	char *text;   /* as image_reference has it */
	char *digest; /* of the manifest */
	char *file;   /* of the image, in the cache */
	struct json_t *config;
};

void image_name_done(struct image_name *n);

/* Reads what a name means. Returns 0 or -errno with e set: -ENOENT if it means nothing. */
int image_names_find(const struct image_cache *c, const char *text, struct image_name *ret, struct err *e);

/* Whether a name still means something: its image is in the cache. */
bool image_names_mean(const struct image_cache *c, const struct image_name *n);

/* Writes it. Returns 0 or -errno with e set. */
int image_names_put(const struct image_cache *c, const struct image_name *n, struct err *e);

/* Removes a name. One that is not there is as good. Returns 0 or -errno with e set. */
int image_names_remove(const struct image_cache *c, const char *text, struct err *e);

/* Removes what killed processes have left of files that they wrote. */
void image_names_sweep(const struct image_cache *c);

/*
 * All names, in the order of the alphabet. Returns 0 or -errno with e set;
 * image_names_free frees them.
 */
int image_names_list(const struct image_cache *c, struct image_name **ret, size_t *ret_num, struct err *e);
void image_names_free(struct image_name *list, size_t num);

#endif
