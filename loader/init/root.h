/* What is mounted, and unmounted in the end. */
#ifndef MF_INIT_ROOT_H
#define MF_INIT_ROOT_H

#include <stdbool.h>
#include <stddef.h>

#include "loader/init/text.h"

/* Mounts the root drive that the boot text names, if it does, and goes there. False, and why, if it cannot. */
bool root_enter(const char *boot, size_t len, struct text *why);
/* Whether files of the root can be changed without changing anything that outlives the machine. */
bool root_is_ephemeral(void);
/* Mounts what every program expects: /proc, /sys and so on. What the kernel does not have is left out. */
void root_mount_usual(void);
/* Mounts the other drives of the boot text. */
bool root_mount_drives(const char *boot, size_t len, struct text *why);
/*
 * Makes what was written safe: everything on its drive, no file system of a drive writable, but for drives whose changes
 * are lost, as the boot text says. Adds to why what could not be written.
 */
void root_leave(const char *boot, size_t len, struct text *why);
/* Makes a directory and those above it; 0 or -errno. */
int root_make_path(const char *path);

#endif
