/* The kind of a file, by its first bytes; see image_kind.h. */
#include "vmm/config/image_kind.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"

#define HEAD_BYTES (68 * KIB) /* btrfs has its superblock at 64 KiB */
#define MBR_ENTRY 446
#define MBR_ENTRY_BYTES 16
#define MBR_ENTRIES 4

#define MOUNTED "mayfly's init mounts ext4, erofs and squashfs"
#define CONVERT "convert it: qemu-img convert -O raw", " disk.raw"
#define LOSETUP "give one partition of it: losetup -P --show -f"
#define EACH " makes a device of each"

static const struct kind {
	unsigned at, len;
	const char *magic;
	enum image_use use;
	const char *is;
	const char *hint, *after; /* what to do; with after, the path is between them */
} kinds[] = {
	/* what is mounted */
	{ 0x438, 2, "\x53\xef", IMAGE_USE_WRITABLE, NULL, NULL, NULL },
	{ 0x400, 4, "\xe2\xe1\xf5\xe0", IMAGE_USE_READ_ONLY, NULL, NULL, NULL },
	{ 0, 4, "hsqs", IMAGE_USE_READ_ONLY, NULL, NULL, NULL },
	{ 257, 5, "ustar", IMAGE_USE_TAR, NULL, NULL, NULL },
	/* what a kernel may know */
	{ 0, 4, "XFSB", IMAGE_USE_KERNEL, "an XFS image", MOUNTED, NULL },
	{ 0x10040, 8, "_BHRfS_M", IMAGE_USE_KERNEL, "a btrfs image", MOUNTED, NULL },
	/* what is no disk */
	{ 0, 4, "QFI\xfb", IMAGE_USE_NONE, "a qcow2 image", CONVERT },
	{ 0, 4, "KDMV", IMAGE_USE_NONE, "a VMDK image", CONVERT },
	{ 0x40, 4, "\x7f\x10\xda\xbe", IMAGE_USE_NONE, "a VDI image", CONVERT },
	{ 0, 8, "vhdxfile", IMAGE_USE_NONE, "a VHDX image", CONVERT },
	{ 0, 8, "conectix", IMAGE_USE_NONE, "a VHD image", CONVERT },
	{ 0, 4, "PK\3\4", IMAGE_USE_NONE, "a zip archive", "give a directory with its files: unzip -d DIR", "" },
	{ 0, 6, "070701", IMAGE_USE_NONE, "a cpio archive", "give it as an initrd: -i", "" },
	{ 0x8001, 5, "CD001", IMAGE_USE_NONE, "an ISO 9660 image", "give a directory with its files: bsdtar -C DIR -xf",
	  "" },
	{ 512, 8, "EFI PART", IMAGE_USE_NONE, "a disk with a partition table (GPT)", LOSETUP, EACH },
};

static const struct compression {
	const char *magic;
	unsigned len;
	const char *program, *package;
} compressions[] = {
	{ "\x1f\x8b", 2, "gzip", "gzip" },
	{ "\xfd\x37zXZ", 6, "xz", "xz-utils" },
	{ "\x28\xb5\x2f\xfd", 4, "zstd", "zstd" },
	{ "BZh", 3, "bzip2", "bzip2" },
};

static const struct kind mbr_kind = {
	.use = IMAGE_USE_NONE, .is = "a disk with a partition table (MBR)", .hint = LOSETUP, .after = EACH
};

/*
 * A boot sector alone ends in these bytes, too; a table has an entry with a type and a
 * first sector.
 */
static bool has_mbr(const uint8_t *head)
{
	if (head[510] != 0x55 || head[511] != 0xaa)
		return false;
	for (unsigned i = 0; i < MBR_ENTRIES; i++) {
		const uint8_t *entry = head + MBR_ENTRY + i * MBR_ENTRY_BYTES;
		uint32_t first;

		memcpy(&first, entry + 8, sizeof(first));
		if ((entry[0] & 0x7f) == 0 && entry[4] && first)
			return true;
	}
	return false;
}

static const struct kind *find_kind(const uint8_t *head, size_t len)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(kinds); i++)
		if (kinds[i].at + kinds[i].len <= len && !memcmp(head + kinds[i].at, kinds[i].magic, kinds[i].len))
			return &kinds[i];
	return len >= 512 && has_mbr(head) ? &mbr_kind : NULL;
}

static const struct compression *find_compression(const uint8_t *head, size_t len)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(compressions); i++)
		if (compressions[i].len <= len && !memcmp(head, compressions[i].magic, compressions[i].len))
			return &compressions[i];
	return NULL;
}

/* As tar(1) names them: NAME.tar.gz, NAME.tgz and so on. */
static bool is_archive_name(const char *path)
{
	static const char *const suffixes[] = { ".tgz", ".txz", ".tzst", ".tbz2", ".tbz" };
	const char *name = strrchr(path, '/'), *suffix;

	name = name ? name + 1 : path;
	if (strstr(name, ".tar."))
		return true;
	suffix = strrchr(name, '.');
	for (size_t i = 0; suffix && i < MF_ARRAY_SIZE(suffixes); i++)
		if (!strcmp(suffix, suffixes[i]))
			return true;
	return false;
}

const char *image_kind_decompressor(int fd, const char **ret_package)
{
	uint8_t head[8];
	ssize_t len = fdio_pread(fd, head, sizeof(head), 0);
	const struct compression *c = len > 0 ? find_compression(head, (size_t)len) : NULL;

	if (c)
		*ret_package = c->package;
	return c ? c->program : NULL;
}

enum image_use image_kind_look(const char *path, struct err *e)
{
	MF_FREE uint8_t *head = malloc(HEAD_BYTES);
	MF_CLOSE int fd = -1;
	const struct compression *compression;
	const struct kind *kind;
	struct stat st;
	ssize_t len;

	if (!head || stat(path, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		return IMAGE_USE_UNKNOWN;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	len = fd < 0 ? -1 : fdio_pread(fd, head, HEAD_BYTES, 0);
	if (len < 0)
		return IMAGE_USE_UNKNOWN;
	compression = find_compression(head, (size_t)len);
	if (compression && is_archive_name(path))
		return IMAGE_USE_TAR;
	if (compression) {
		err_set(e, -EINVAL,
			"'%s' is compressed by %s; decompress it: %s -d '%s' (an archive needs a name such as "
			"ROOT.tar.gz)",
			path, compression->program, compression->program, path);
		return IMAGE_USE_NONE;
	}
	kind = find_kind(head, (size_t)len);
	if (!kind) {
		err_set(e, -EINVAL,
			"'%s' is a file with no file system in it; give a directory, or an image (" MOUNTED ")", path);
		return S_ISREG(st.st_mode) ? IMAGE_USE_FILE : IMAGE_USE_KERNEL;
	}
	if (kind->after)
		err_set(e, -EINVAL, "'%s' is %s; %s '%s'%s", path, kind->is, kind->hint, path, kind->after);
	else if (kind->is)
		err_set(e, -EINVAL, "'%s' is %s; %s", path, kind->is, kind->hint);
	return kind->use;
}
