/* Blocks of a tar archive in GNU's old form, as loader/init/tar.c writes it. */
#ifndef MF_HELPER_TAR_FORMAT_H
#define MF_HELPER_TAR_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TAR_BLOCK 512U

struct tar_header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], kind, link[100];
	char magic[8], user[32], group[32], major[8], minor[8], rest[167];
};
_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "a header is a block");

/* A part of a file that is no hole, as a header has it. */
struct tar_field {
	char at[12], len[12];
};

/* The rest of a sparse file's header, and a block after it. */
struct tar_sparse {
	char times[36], unused[5];
	struct tar_field piece[4];
	char more, size[12];
};
struct tar_pieces {
	struct tar_field piece[21];
	char more, unused[7];
};
_Static_assert(sizeof(struct tar_sparse) <= sizeof(((struct tar_header *)0)->rest) &&
		       sizeof(struct tar_pieces) == TAR_BLOCK,
	       "old GNU");

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
