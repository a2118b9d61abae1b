/* Directories and tar archives of the host as drives: packed into images. */
#ifndef MF_HELPER_IMAGE_PACK_H
#define MF_HELPER_IMAGE_PACK_H

#include <stdbool.h>

struct config;
struct err;

/*
 * Opens an image of each drive that is a directory or a tar archive, and provides it by the name of that (fdstore.h).
 * mkfs.erofs and sqfstar make the images, or they are in the cache (image_cache.h) from an earlier run with the directory
 * or archive as it is. Says on stderr that it packs, and what it leaves out.
 *
 * Returns whether there was anything to provide, or -errno with e set. Main thread, before the process has others.
 */
int image_pack_drives(const struct config *c, struct err *e);

#endif
