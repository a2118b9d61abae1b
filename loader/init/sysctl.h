/* Settings of the guest's kernel. */
#ifndef MF_INIT_SYSCTL_H
#define MF_INIT_SYSCTL_H

#include <stdbool.h>
#include <stddef.h>

#include "loader/init/text.h"

/* Writes those of the boot text, when /proc is mounted. Returns false, and why, if the kernel does not take one. */
bool sysctl_set_all(const char *boot, size_t len, struct text *why);

#endif
