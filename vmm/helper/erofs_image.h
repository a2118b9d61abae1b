/* Directories of the host as read-only drives: packed into an image. */
#ifndef MF_HELPER_EROFS_IMAGE_H
#define MF_HELPER_EROFS_IMAGE_H

struct config;
struct err;

/*
 * Opens an EROFS image of each drive that is a directory, and provides it by the directory's name (fdstore.h). mkfs.erofs
 * makes the image, or it is in ${XDG_CACHE_HOME:-~/.cache}/mayfly/images from an earlier run with the directory as it is.
 * Returns 0 or -errno with e set. Main thread, before the process has others.
 */
int erofs_image_pack(const struct config *c, struct err *e);

#endif
