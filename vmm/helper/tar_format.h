/* Blocks of a tar archive in GNU's old form, as loader/init/tar.c writes it. */
#ifndef MF_HELPER_TAR_FORMAT_H
#define MF_HELPER_TAR_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/init/tar_block.h"

/*
 * Reads a field: octal, or binary if its first bit is set; of tar_signed the first byte of a negative one has all bits set.
 * False, and nothing is set, for what is neither or does not fit.
 */
bool tar_number(const char *field, size_t size, uint64_t *ret);
bool tar_signed(const char *field, size_t size, int64_t *ret);

/* Whether the checksum is right. */
bool tar_has_sum(const struct tar_header *h);

/* Whether it is all zeros: two of these are the end of an archive. */
bool tar_is_end(const struct tar_header *h);

#endif
