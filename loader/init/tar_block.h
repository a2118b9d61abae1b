/* Blocks of a tar archive in GNU's old form: init writes them, and mayfly reads them. */
#ifndef MF_INIT_TAR_BLOCK_H
#define MF_INIT_TAR_BLOCK_H

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

#endif
