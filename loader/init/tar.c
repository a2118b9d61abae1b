/*
 * Writes a tar archive, in GNU's old form. Names of more than 100 bytes are in a record
 * of their own in front. Sizes of more than 8 GiB and times before 1970 are in binary,
 * files with holes are sparse. Files of /proc and /sys are left out. Devices, FIFOs and
 * sockets have only a header, so that the host can report them.
 *
 * A tree may be as large, and as deep, as a path can name. The only state in memory is
 * the path, and the names of the first LINKS_MAX files that have more than one.
 */
#include "loader/init/tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "loader/init/fd.h"
#include "loader/init/tar_block.h"

#define PATH_BYTES 4096
#define NAMED_BYTES 200
#define BUFFER_BYTES (1U << 16)
#define ENTRIES_BYTES 2048 /* of each directory on the way down, on the stack */
#define PROC_MAGIC 0x9fa0
#define SYSFS_MAGIC 0x62656572
#define CGROUP2_MAGIC 0x63677270
#define LINKS_MAX 8192U		    /* a power of 2 */
#define LINK_NAMES_BYTES (1U << 20) /* of them */
#define PIECES_MAX 1024U	    /* of a file with holes; the rest is one */

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
	bool holes; /* are left out */
	struct text *why;
	size_t skip; /* length of the part of the path that is not in the archive's names */
	size_t len;
	char path[PATH_BYTES];
};

static char buffer[BUFFER_BYTES];

static struct {
	uint64_t at, len;
} pieces[PIECES_MAX + 1];

/* Files with more than one name, by inode. Mapped when the first is found: most archives have none. */
static struct {
	uint32_t count, names_len;
	struct {
		uint64_t device, inode;
		uint32_t name; /* that was sent, in names; 0: a free place */
	} file[LINKS_MAX];
	char names[LINK_NAMES_BYTES];
} * links;

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
	static char zero[TAR_BLOCK];

	if (len % TAR_BLOCK != 0)
		tar_put(tar, zero, TAR_BLOCK - len % TAR_BLOCK);
}

/* In octal, or, if it does not fit, in binary with the first bit set. */
static void tar_number(char *field, size_t size, int64_t number)
{
	bool octal = (uint64_t)number >> (3 * (size - 1)) == 0;

	field[0] = (char)(number < 0 ? 0xff : 0x80);
	for (size_t i = size - 1; i-- > 0; number >>= octal ? 3 : 8)
		field[i + !octal] = (char)(octal ? '0' + (number & 7) : number & 0xff);
}

static void tar_put_header(struct tar *tar, struct tar_header *header)
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
	struct tar_header header = { .name = "././@LongLink", .kind = kind };
	size_t len = strlen(name);

	memcpy(field, name, len < 100 ? len : 100);
	if (len <= 100)
		return;
	tar_number(header.mode, sizeof(header.mode), 0);
	tar_number(header.uid, sizeof(header.uid), 0);
	tar_number(header.gid, sizeof(header.gid), 0);
	tar_number(header.mtime, sizeof(header.mtime), 0);
	tar_number(header.size, sizeof(header.size), (int64_t)len + 1);
	tar_put_header(tar, &header);
	tar_put(tar, name, len + 1);
	tar_pad(tar, len + 1);
}

/* Its header, with rest in it, and size bytes to come. */
static void tar_put_file(struct tar *tar, const struct stat *stat, char kind, const char *link, uint64_t size,
			 const struct tar_sparse *rest)
{
	struct tar_header header = { .kind = kind };

	tar_put_name(tar, 'K', link, header.link);
	tar_put_name(tar, 'L', tar->path + tar->skip, header.name);
	tar_number(header.mode, sizeof(header.mode), stat->st_mode & 07777);
	tar_number(header.uid, sizeof(header.uid), stat->st_uid);
	tar_number(header.gid, sizeof(header.gid), stat->st_gid);
	tar_number(header.size, sizeof(header.size), (int64_t)size);
	tar_number(header.mtime, sizeof(header.mtime), stat->st_mtime);
	if (rest != NULL)
		memcpy(header.rest, rest, sizeof(*rest));
	tar_put_header(tar, &header);
}

/* As many bytes as the header says, whatever happens to the file meanwhile. */
static void tar_put_content(struct tar *tar, int fd, uint64_t at, uint64_t size)
{
	bool more = true;

	for (uint64_t left = size; left > 0 && !tar->dead;) {
		size_t want = left < sizeof(buffer) ? (size_t)left : sizeof(buffer);
		ssize_t n = more ? pread(fd, buffer, want, (off_t)(at + size - left)) : 0;

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
}

/* Finds what of a file is no hole. How many pieces; the last, of no bytes, tells where a hole at the end is over. */
static unsigned tar_find_pieces(int fd, uint64_t size, uint64_t *ret_bytes)
{
	unsigned count = 0;
	uint64_t end = 0;

	*ret_bytes = 0;
	while (end < size && count < PIECES_MAX) {
		off_t data = lseek(fd, (off_t)end, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			break;
		data = data < 0 ? (off_t)end : data;
		hole = count == PIECES_MAX - 1 ? -1 : lseek(fd, data, SEEK_HOLE);
		if ((uint64_t)data >= size)
			break;
		end = hole < 0 || (uint64_t)hole > size ? size : (uint64_t)hole;
		pieces[count].at = (uint64_t)data;
		pieces[count].len = end - (uint64_t)data;
		*ret_bytes += pieces[count++].len;
	}
	if (end < size) {
		pieces[count].at = size;
		pieces[count++].len = 0;
	}
	return count;
}

static void tar_put_piece(struct tar_field *field, unsigned piece)
{
	tar_number(field->at, sizeof(field->at), (int64_t)pieces[piece].at);
	tar_number(field->len, sizeof(field->len), (int64_t)pieces[piece].len);
}

static void tar_put_sparse(struct tar *tar, int fd, const struct stat *stat, unsigned count, uint64_t bytes)
{
	struct tar_sparse rest = { .more = count > 4 };
	unsigned put = 0;

	for (; put < 4 && put < count; put++)
		tar_put_piece(&rest.piece[put], put);
	tar_number(rest.size, sizeof(rest.size), stat->st_size);
	tar_put_file(tar, stat, 'S', "", bytes, &rest);
	while (put < count) {
		struct tar_pieces block = { .more = count - put > 21 };

		for (unsigned i = 0; i < 21 && put < count; i++, put++)
			tar_put_piece(&block.piece[i], put);
		tar_put(tar, &block, sizeof(block));
	}
	for (unsigned i = 0; i < count; i++)
		tar_put_content(tar, fd, pieces[i].at, pieces[i].len);
	tar_pad(tar, bytes);
}

static void tar_put_regular(struct tar *tar, int fd, const struct stat *stat)
{
	uint64_t size = (uint64_t)stat->st_size, bytes = size;

	if (tar->holes && (uint64_t)stat->st_blocks < size / 512) {
		unsigned count = tar_find_pieces(fd, size, &bytes);

		if (bytes < size) {
			tar_put_sparse(tar, fd, stat, count, bytes);
			return;
		}
	}
	tar_put_file(tar, stat, '0', "", size, NULL);
	tar_put_content(tar, fd, 0, size);
	tar_pad(tar, size);
	/* As of /proc, whose files have no size. */
	if (size == 0 && read(fd, buffer, 1) > 0)
		tar_blame(tar, tar->path, ENODATA);
}

/* The name that a file was sent by before, or NULL: then it has this one from now on, if there is room. */
static const char *tar_find_link(const struct tar *tar, const struct stat *stat)
{
	const char *name = tar->path + tar->skip;
	size_t len = strlen(name) + 1;
	uint32_t at = (uint32_t)stat->st_ino % LINKS_MAX;

	if (links == NULL) {
		void *map = mmap(NULL, sizeof(*links), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (map == MAP_FAILED)
			return NULL;
		links = map;
		links->names_len = 1;
	}
	for (; links->file[at].name != 0; at = (at + 1) % LINKS_MAX) {
		if (links->file[at].device == stat->st_dev && links->file[at].inode == stat->st_ino)
			return links->names + links->file[at].name;
	}
	if (links->count == LINKS_MAX - 1 || len > LINK_NAMES_BYTES - links->names_len)
		return NULL;
	links->count++;
	links->file[at].device = stat->st_dev;
	links->file[at].inode = stat->st_ino;
	links->file[at].name = links->names_len;
	memcpy(links->names + links->names_len, name, len);
	links->names_len += (uint32_t)len;
	return NULL;
}

static void tar_walk(struct tar *tar, int in, const char *name);

static void tar_directory(struct tar *tar, int fd)
{
	char entries[ENTRIES_BYTES] __attribute__((aligned(8)));
	size_t len = tar->len;
	struct statfs statfs;
	long n = 0;

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

/* Writes the file at tar->path, which is name in an open directory. */
static void tar_node(struct tar *tar, int in, const char *name, const struct stat *stat)
{
	bool is_directory = S_ISDIR(stat->st_mode);
	const char *sent = NULL;
	int fd;

	if (S_ISLNK(stat->st_mode)) {
		static char link[PATH_BYTES];
		ssize_t len = readlinkat(in, name, link, sizeof(link) - 1);

		link[len < 0 ? 0 : len] = '\0';
		if (len < 0)
			tar_blame(tar, tar->path, errno);
		else
			tar_put_file(tar, stat, '2', link, 0, NULL);
		return;
	}
	if (!is_directory && !S_ISREG(stat->st_mode)) {
		tar_put_file(tar, stat, S_ISCHR(stat->st_mode) ? '3' : S_ISBLK(stat->st_mode) ? '4' : '6', "", 0, NULL);
		return;
	}
	if (!is_directory && stat->st_nlink > 1)
		sent = tar_find_link(tar, stat);
	if (sent != NULL) {
		tar_put_file(tar, stat, '1', sent, 0, NULL);
		return;
	}
	fd = openat(in, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | (is_directory ? O_DIRECTORY : 0));
	if (fd < 0) {
		tar_blame(tar, tar->path, errno);
		return;
	}
	if (is_directory) {
		tar->path[tar->len++] = '/';
		tar->path[tar->len] = '\0';
		tar_put_file(tar, stat, '5', "", 0, NULL);
		tar_directory(tar, fd);
	} else {
		tar_put_regular(tar, fd, stat);
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

bool tar_send(const char *path, int to, bool holes, struct text *why)
{
	static char end[2 * TAR_BLOCK];
	struct tar tar = { .to = to, .holes = holes, .good = true, .why = why };
	size_t len = strlen(path);
	struct stat stat;

	/* Names of another archive are of no use in this one. */
	if (links != NULL)
		(void)munmap(links, sizeof(*links));
	links = NULL;
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
	/* The path may lead through a link; links below it are sent as links. */
	if (fstatat(AT_FDCWD, tar.path, &stat, 0) < 0) {
		tar_blame(&tar, path, errno);
		return false;
	}
	tar_node(&tar, AT_FDCWD, tar.path, &stat);
	tar_put(&tar, end, sizeof(end));
	return tar.good;
}
