/* Mounts. */
#ifndef MF_INIT_ROOT_H
#define MF_INIT_ROOT_H

#include <stdbool.h>
#include <stddef.h>

#include "loader/init/text.h"

/* Mounts /dev. */
void root_mount_dev(void);
/*
 * Mounts the root drive that the boot text names, if any, and enters it. On failure
 * returns false and sets why.
 */
bool root_enter(const char *boot, size_t len, struct text *why);
/*
 * Whether files of the root can be changed without changing anything that outlives the
 * machine.
 */
bool root_is_ephemeral(void);
/*
 * Mounts what every program expects: /proc, /sys and so on. Skips file systems that the
 * kernel lacks.
 */
void root_mount_usual(void);
/* Mounts the other drives of the boot text. */
bool root_mount_drives(const char *boot, size_t len, struct text *why);
/* Makes a directory and its parents; 0 or -errno. */
int root_make_path(const char *path);

/* Of 'R' in the boot text: programs cannot write to the root any more, nor can init. What is mounted in it is not affected. */
bool root_seal(const char *boot, size_t len, struct text *why);

#endif
