/*
 * Writes a tar archive, in GNU's old form: names of more than 100 bytes in a record of their own in front, sizes of more
 * than 8 GiB in binary. Files, directories and symbolic links; other kinds are left out, and so is what is in /proc and
 * /sys. Nothing is kept in memory but the path, so a tree may be as large and as deep as a path can name.
 */
#include "loader/init/tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "loader/init/fd.h"

#define BLOCK 512
#define PATH_BYTES 4096
#define NAMED_BYTES 200
#define BUFFER_BYTES (1U << 16)
#define ENTRIES_BYTES 2048 /* of each directory on the way down, on the stack */
#define PROC_MAGIC 0x9fa0
#define SYSFS_MAGIC 0x62656572
#define CGROUP2_MAGIC 0x63677270

struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], kind, link[100];
	char magic[8], user[32], group[32], major[8], minor[8], rest[167];
};
_Static_assert(sizeof(struct header) == BLOCK, "a header is a block");

/* As getdents64 has it. */
struct entry {
	uint64_t inode;
	int64_t next;
	uint16_t len;
	uint8_t kind;
	char name[];
};

struct tar {
	int to;
	bool dead; /* nothing can be written any more */
	bool good;
	struct text *why;
	size_t skip; /* of the path, what is not in the archive's names */
	size_t len;
	char path[PATH_BYTES];
};

static char buffer[BUFFER_BYTES];

static void tar_blame(struct tar *tar, const char *path, int error)
{
	size_t len = strlen(path);

	if (tar->good) {
		/* Of a long one the end, so that there is room for the reason. */
		text_add(tar->why, len > NAMED_BYTES ? "..." : "", len > NAMED_BYTES ? path + len - NAMED_BYTES : path,
			 NULL);
		text_add_error(tar->why, error);
	}
	tar->good = false;
}

static void tar_put(struct tar *tar, const void *data, size_t len)
{
	int ret = tar->dead ? 0 : fd_write(tar->to, data, len);

	if (ret < 0) {
		tar->dead = true;
		tar_blame(tar, tar->path, -ret);
	}
}

static void tar_pad(struct tar *tar, uint64_t len)
{
	static char zero[BLOCK];

	if (len % BLOCK != 0)
		tar_put(tar, zero, BLOCK - len % BLOCK);
}

/* In octal, or, if it does not fit, in binary with the first bit set. */
static void tar_number(char *field, size_t size, uint64_t number)
{
	bool octal = number >> (3 * (size - 1)) == 0;

	for (size_t i = size - 1; i-- > 0; number >>= octal ? 3 : 8)
		field[i + !octal] = (char)(octal ? '0' + (number & 7) : number & 0xff);
	if (!octal)
		field[0] = (char)0x80;
}

static void tar_put_header(struct tar *tar, struct header *header)
{
	unsigned sum = 0;

	memcpy(header->magic, "ustar  ", 8);
	memset(header->sum, ' ', sizeof(header->sum));
	for (size_t i = 0; i < sizeof(*header); i++)
		sum += ((const unsigned char *)header)[i];
	tar_number(header->sum, sizeof(header->sum) - 1, sum);
	header->sum[sizeof(header->sum) - 2] = '\0';
	tar_put(tar, header, sizeof(*header));
}

/* A name that may be too long for its field: then whole, in front of the header that it belongs to. */
static void tar_put_name(struct tar *tar, char kind, const char *name, char *field)
{
	struct header header = { .name = "././@LongLink", .kind = kind };
	size_t len = strlen(name);

	memcpy(field, name, len < 100 ? len : 100);
	if (len <= 100)
		return;
	tar_number(header.mode, sizeof(header.mode), 0);
	tar_number(header.uid, sizeof(header.uid), 0);
	tar_number(header.gid, sizeof(header.gid), 0);
	tar_number(header.mtime, sizeof(header.mtime), 0);
	tar_number(header.size, sizeof(header.size), len + 1);
	tar_put_header(tar, &header);
	tar_put(tar, name, len + 1);
	tar_pad(tar, len + 1);
}

static void tar_put_file(struct tar *tar, const struct stat *stat, char kind, const char *link)
{
	struct header header = { .kind = kind };
	uint64_t size = kind == '0' ? (uint64_t)stat->st_size : 0;

	tar_put_name(tar, 'K', link, header.link);
	tar_put_name(tar, 'L', tar->path + tar->skip, header.name);
	tar_number(header.mode, sizeof(header.mode), stat->st_mode & 07777);
	tar_number(header.uid, sizeof(header.uid), stat->st_uid);
	tar_number(header.gid, sizeof(header.gid), stat->st_gid);
	tar_number(header.size, sizeof(header.size), size);
	tar_number(header.mtime, sizeof(header.mtime), stat->st_mtime < 0 ? 0 : (uint64_t)stat->st_mtime);
	tar_put_header(tar, &header);
}

/* As many bytes as the header says, whatever happens to the file meanwhile. */
static void tar_put_content(struct tar *tar, int fd, uint64_t size)
{
	bool more = true;

	for (uint64_t left = size; left > 0 && !tar->dead;) {
		size_t want = left < sizeof(buffer) ? (size_t)left : sizeof(buffer);
		ssize_t n = more ? read(fd, buffer, want) : 0;

		/* The host expects so many bytes: those that are not there are zeros, and it hears of that. */
		if (n < 0 || (n == 0 && more))
			tar_blame(tar, tar->path, n < 0 ? errno : ENODATA);
		if (n <= 0) {
			more = false;
			memset(buffer, 0, want);
			n = (ssize_t)want;
		}
		tar_put(tar, buffer, (size_t)n);
		left -= (uint64_t)n;
	}
	tar_pad(tar, size);
}

static void tar_walk(struct tar *tar, int in, const char *name);

static void tar_directory(struct tar *tar, int fd)
{
	char entries[ENTRIES_BYTES] __attribute__((aligned(8)));
	size_t len = tar->len;
	struct statfs statfs;
	long n;

	if (fstatfs(fd, &statfs) == 0 &&
	    (statfs.f_type == PROC_MAGIC || statfs.f_type == SYSFS_MAGIC || statfs.f_type == CGROUP2_MAGIC))
		return;
	while (!tar->dead && (n = syscall(SYS_getdents64, fd, entries, sizeof(entries))) > 0) {
		for (long at = 0; at < n;) {
			const struct entry *entry = (const struct entry *)(entries + at);

			at += entry->len;
			if (strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0)
				tar_walk(tar, fd, entry->name);
			tar->len = len;
			tar->path[len] = '\0';
		}
	}
	if (!tar->dead && n < 0)
		tar_blame(tar, tar->path, errno);
}

/* Puts out what is at tar->path, which is name in an open directory. */
static void tar_node(struct tar *tar, int in, const char *name, const struct stat *stat)
{
	bool is_directory = S_ISDIR(stat->st_mode);
	int fd;

	if (S_ISLNK(stat->st_mode)) {
		static char link[PATH_BYTES];
		ssize_t len = readlinkat(in, name, link, sizeof(link) - 1);

		link[len < 0 ? 0 : len] = '\0';
		if (len < 0)
			tar_blame(tar, tar->path, errno);
		else
			tar_put_file(tar, stat, '2', link);
		return;
	}
	if (!is_directory && !S_ISREG(stat->st_mode))
		return;
	fd = openat(in, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | (is_directory ? O_DIRECTORY : 0));
	if (fd < 0) {
		tar_blame(tar, tar->path, errno);
		return;
	}
	if (is_directory) {
		tar->path[tar->len++] = '/';
		tar->path[tar->len] = '\0';
		tar_put_file(tar, stat, '5', "");
		tar_directory(tar, fd);
	} else {
		tar_put_file(tar, stat, '0', "");
		tar_put_content(tar, fd, (uint64_t)stat->st_size);
		/* As of /proc, whose files have no size. */
		if (stat->st_size == 0 && read(fd, buffer, 1) > 0)
			tar_blame(tar, tar->path, ENODATA);
	}
	close(fd);
}

static void tar_walk(struct tar *tar, int in, const char *name)
{
	size_t len = strlen(name);
	struct stat stat;

	/* And a slash behind it, and the NUL. */
	if (tar->len + len + 2 > sizeof(tar->path)) {
		tar_blame(tar, tar->path, ENAMETOOLONG);
		return;
	}
	memcpy(tar->path + tar->len, name, len + 1);
	tar->len += len;
	if (fstatat(in, name, &stat, AT_SYMLINK_NOFOLLOW) < 0)
		tar_blame(tar, tar->path, errno);
	else
		tar_node(tar, in, name, &stat);
}

bool tar_send(const char *path, int to, struct text *why)
{
	static char end[2 * BLOCK];
	struct tar tar = { .to = to, .good = true, .why = why };
	size_t len = strlen(path);
	struct stat stat;

	while (len > 1 && path[len - 1] == '/')
		len--;
	if (len >= sizeof(tar.path) - 2) {
		tar_blame(&tar, path, ENAMETOOLONG);
		return false;
	}
	memcpy(tar.path, path, len);
	tar.len = len;
	if (len == 1)
		tar.path[tar.len++] = '.';
	tar.skip = (size_t)(strrchr(tar.path, '/') + 1 - tar.path);
	/* What was asked for may be behind a link; links that are in it are sent as such. */
	if (fstatat(AT_FDCWD, tar.path, &stat, 0) < 0) {
		tar_blame(&tar, path, errno);
		return false;
	}
	tar_node(&tar, AT_FDCWD, tar.path, &stat);
	tar_put(&tar, end, sizeof(end));
	return tar.good;
}
