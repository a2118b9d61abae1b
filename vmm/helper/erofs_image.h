/* Directories of the host as read-only drives: packed into an image. */
#ifndef MF_HELPER_EROFS_IMAGE_H
#define MF_HELPER_EROFS_IMAGE_H

struct config;
struct err;

/*
 * Sets the image of each read-only drive that is a directory: the path of an EROFS image of it, made by mkfs.erofs, or
 * found in ${XDG_CACHE_HOME:-~/.cache}/mayfly/images from an earlier run with the directory as it is. Returns 0 or -errno
 * with e set. Main thread, before the process has others.
 */
int erofs_image_pack(struct config *c, struct err *e);

#endif
