/* The archive that is added to the guest's initramfs; see initramfs.h. */
#include "loader/initramfs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"

#define HEADER_LEN 110
#define ALIGN 4
/*
 * The archive's length is a multiple of this; zeros behind its end mean nothing. Linux has as much memory less as its initrd
 * has pages: so a boot, and one that becomes a template and has shorter texts, have the same MemTotal.
 */
#define ARCHIVE_ALIGN (16 * KIB)
#define TRAILER "TRAILER!!!"

/* The size of one file in the archive; names and data begin at multiples of 4. */
static size_t entry_len(const struct initramfs_file *f)
{
	return mf_align_up(HEADER_LEN + strlen(f->path) + 1, ALIGN) + mf_align_up(f->len, ALIGN);
}

/* Returns the end of the written part. The padding is zero already. */
static uint8_t *put_entry(uint8_t *at, const struct initramfs_file *f, unsigned inode)
{
	size_t name_len = strlen(f->path) + 1;
	unsigned links = S_ISDIR(f->mode) ? 2 : 1;
	char header[HEADER_LEN + 1];

	/* magic, inode, mode, uid, gid, links, mtime, size, two devices of two numbers, length of the name, checksum */
	snprintf(header, sizeof(header), "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", inode, f->mode,
		 0U, 0U, links, 0U, (unsigned)f->len, 0U, 0U, 0U, 0U, (unsigned)name_len, 0U);
	memcpy(at, header, HEADER_LEN);
	memcpy(at + HEADER_LEN, f->path, name_len);
	at += mf_align_up(HEADER_LEN + name_len, ALIGN);
	if (f->len)
		memcpy(at, f->data, f->len);
	return at + mf_align_up(f->len, ALIGN);
}

int initramfs_make(uint8_t **ret, size_t *ret_len, const struct initramfs_file *files, size_t num, struct err *e)
{
	static const struct initramfs_file trailer = { .path = TRAILER };
	size_t len = entry_len(&trailer);
	uint8_t *archive, *at;

	for (size_t i = 0; i < num; i++)
		len += entry_len(&files[i]);
	len = mf_align_up(len, ARCHIVE_ALIGN);
	archive = at = calloc(1, len);
	if (!archive)
		return err_set(e, -ENOMEM, "no memory for an initramfs of %zu bytes", len);
	for (size_t i = 0; i < num; i++)
		at = put_entry(at, &files[i], (unsigned)i + 1);
	put_entry(at, &trailer, 0);
	*ret = archive;
	*ret_len = len;
	return 0;
}
