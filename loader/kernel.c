/* The front door of the loader; see kernel.h. The first bytes of a file tell its format, never its name. */
#include "loader/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "loader/bzimage.h"
#include "loader/elf.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"

/* Names what a file is that is no kernel. */
static const struct {
	const char *magic;
	size_t len;
	const char *what;
} other_formats[] = {
	{ "\x1f\x8b", 2, "is compressed with gzip; uncompress it first" },
	{ "\3757zXZ", 5, "is compressed with xz; uncompress it first" },
	{ "\x28\xb5\x2f\xfd", 4, "is compressed with zstd; uncompress it first" },
	{ "\x04\x22\x4d\x18", 4, "is compressed with lz4; uncompress it first" },
	{ "\x02\x21\x4c\x18", 4, "is compressed with lz4; uncompress it first" },
	{ "BZh", 3, "is compressed with bzip2; uncompress it first" },
	{ "#!", 2, "is a script, not a kernel" },
	{ "MZ", 2, "is an EFI program without a Linux setup header; use a bzImage or the ELF vmlinux" },
};

static int refuse(const struct kernel_file *f, struct err *e)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(other_formats); i++)
		if (f->head_len >= other_formats[i].len &&
		    memcmp(f->head, other_formats[i].magic, other_formats[i].len) == 0)
			return err_set(e, -ENOEXEC, "%s", other_formats[i].what);
	return err_set(e, -ENOEXEC, "is neither an ELF file nor a bzImage");
}

static int load(struct kernel_image *ret, struct mem *m, const char *path, struct err *e)
{
	struct kernel_image image = { .initrd_end = UINT64_MAX };
	struct kernel_file f = { .fd = -1 };
	MF_CLOSE int fd = -1;
	ssize_t n;
	int rc;

	fd = fdio_open_file(path, O_RDONLY, false, &f.size, e);
	if (fd < 0)
		return e->code;
	f.fd = fd;
	if (f.size == 0)
		return err_set(e, -ENOEXEC, "is empty");
	n = fdio_pread(fd, f.head, sizeof(f.head), 0);
	if (n < 0)
		return err_neg(e, (int)n, "read its header");
	f.head_len = (uint64_t)n;
	if (elf_is_elf(&f))
		rc = elf_load(&image, m, &f, e);
	else if (bzimage_is_bzimage(&f))
		rc = bzimage_load(&image, m, &f, e);
	else
		rc = refuse(&f, e);
	if (rc == 0)
		*ret = image;
	return rc;
}

int kernel_load(struct kernel_image *ret, struct mem *m, const char *path, struct err *e)
{
	if (load(ret, m, path, e) < 0)
		return err_wrap(e, "kernel '%s'", path);
	return 0;
}
