/* File systems on drives. */
#ifndef MF_INIT_DRIVE_H
#define MF_INIT_DRIVE_H

#include <stdbool.h>

#include "loader/init/text.h"

/*
 * Mounts the file system of a drive: ext4, erofs or squashfs. For writing, with these
 * options (or NULL), if that is wanted and possible; otherwise read-only. Waits up to 5 s
 * for the device. On failure returns false and adds the reason to why.
 */
bool drive_mount(const char *device, const char *at, bool writable, const char *options, struct text *why);

/* Waits, 5 s for each at most, for the sizes of the drives that the boot text has (see proto.h). */
void drive_await_sizes(const char *boot, size_t len);

#endif
