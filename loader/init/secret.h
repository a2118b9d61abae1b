/* Secrets: files that are in memory only. */
#ifndef MF_LOADER_INIT_SECRET_H
#define MF_LOADER_INIT_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "loader/init/text.h"

/* Writes those of the boot text, if there are any. Returns false with why set. */
bool secret_write_all(const char *boot, size_t len, struct text *why);

#endif
