/* Directories, archives and files of the host as drives: packed into images. */
#ifndef MF_HELPER_IMAGE_PACK_H
#define MF_HELPER_IMAGE_PACK_H

#include <stdbool.h>

struct config;
struct err;

/*
 * Opens an image for each drive that is a directory, an archive or a file, and an empty
 * one for --disk. Provides it by the drive's path (fdstore.h). Programs of the host make
 * the images, or they are in the cache (image_cache.h) from an earlier run with the same
 * state of the source. Reports on stderr that it packs, and what it leaves out.
 *
 * Returns whether there was anything to provide, or -errno with e set. Main thread,
 * before the process has others.
 */
int image_pack_drives(const struct config *c, struct err *e);

#endif
