/* Unpacks an archive; see unpack.h. A directory gets its time when the archive leaves it. */
#include "loader/init/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loader/init/fd.h"
#include "loader/init/tar_block.h"

#define PATH_BYTES 4096
#define SHOWN_BYTES 200 /* of a path, the end */
#define PREFIX_BYTES 155
#define LEVELS_MAX 256U

static struct {
	int from;
	bool into, owner; /* into: the path is a directory */
	const char *base;
	char block[1U << 16], name[PATH_BYTES], link[PATH_BYTES];
	char path[PATH_BYTES * 2], target[PATH_BYTES * 2], left[PATH_BYTES * 2]; /* left: the deepest directory */
	unsigned depth;
	struct {
		size_t len;
		int64_t mtime;
	} level[LEVELS_MAX]; /* directories that were made, down to left */
} u;

/* Takes len bytes of the archive, to memory, or away. */
static bool take(void *to, uint64_t len)
{
	while (len > 0) {
		size_t want = to == NULL && len > sizeof(u.block) ? sizeof(u.block) : (size_t)len;
		ssize_t n = read(u.from, to == NULL ? u.block : to, want);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = EPIPE;
		if (n <= 0)
			return false;
		to = to == NULL ? NULL : (char *)to + n;
		len -= (uint64_t)n;
	}
	return true;
}

static bool skip(uint64_t size)
{
	return take(NULL, -size % TAR_BLOCK);
}

/* In octal, or in binary with the first bit set. */
static int64_t number(const char *field, size_t size)
{
	bool binary = (field[0] & 0x80) != 0;
	uint64_t n = binary && field[0] == (char)0xff ? UINT64_MAX : 0;

	for (size_t i = binary; i < size && (binary || field[i] == ' ' || (field[i] >= '0' && field[i] <= '7')); i++)
		n = binary	    ? n << 8 | (unsigned char)field[i] :
		    field[i] == ' ' ? n :
				      n << 3 | (uint64_t)(field[i] - '0');
	return (int64_t)n;
}
#define NUMBER(field) number(field, sizeof(field))

static bool refuse(int error)
{
	errno = error;
	return false;
}

/* Where a member of that name goes. */
static void place(char *path, const char *name)
{
	while (*name == '/')
		name++;
	if (!u.into)
		name += strcspn(name, "/");
	strcpy(path, u.base);
	if (u.into && path[strlen(path) - 1] != '/')
		strcat(path, "/");
	strcat(path, name);
	for (size_t len = strlen(path); len > 1 && path[len - 1] == '/';)
		path[--len] = '\0';
}

static bool set_times(const char *path, int64_t mtime)
{
	const struct timespec times[] = { { .tv_sec = mtime }, { .tv_sec = mtime } };

	return syscall(SYS_utimensat, AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Leaves the directories that path is not in. */
static bool leave(const char *path)
{
	bool good = true;

	while (u.depth > 0) {
		size_t len = u.level[u.depth - 1].len;

		u.left[len] = '\0';
		if (strncmp(path, u.left, len) == 0 && path[len] == '/')
			break;
		good &= set_times(u.left, u.level[--u.depth].mtime);
	}
	return good;
}

/* Blocks of zeros become holes. */
static bool copy(int fd, uint64_t len)
{
	while (len > 0) {
		size_t n = len < sizeof(u.block) ? (size_t)len : sizeof(u.block), zeros = 0;
		int ret;

		if (!take(u.block, n))
			return false;
		while (zeros < n && u.block[zeros] == 0)
			zeros++;
		ret = zeros == n ? (lseek(fd, (off_t)n, SEEK_CUR) < 0 ? -errno : 0) : fd_write(fd, u.block, n);
		if (ret < 0)
			return refuse(-ret);
		len -= n;
	}
	return true;
}

static bool make_file(uint64_t size)
{
	int fd = open(u.path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	bool good = fd >= 0 && copy(fd, size) && ftruncate(fd, (off_t)size) == 0;
	int error = errno;

	fd_close(&fd);
	return good ? skip(size) : refuse(error);
}

/* False, and no error: it is there already, and stays as it is. */
static bool make_directory(int64_t mtime)
{
	struct stat there;

	if (mkdir(u.path, 0700) < 0) {
		if (errno == EEXIST && stat(u.path, &there) == 0)
			errno = S_ISDIR(there.st_mode) ? 0 : ENOTDIR;
		return false;
	}
	if (u.depth < LEVELS_MAX) {
		strcpy(u.left, u.path);
		u.level[u.depth].len = strlen(u.path);
		u.level[u.depth++].mtime = mtime;
	}
	return true;
}

static bool make(const struct tar_header *h, uint64_t size)
{
	int64_t mtime = NUMBER(h->mtime);
	bool good = false;

	place(u.path, u.name);
	if (!leave(u.path))
		return false;
	if (h->kind != '5')
		(void)unlink(u.path); /* what cannot be removed is in the way below */
	errno = EOPNOTSUPP;
	switch (h->kind) {
	case '1':
		place(u.target, u.link);
		return link(u.target, u.path) == 0;
	case '2':
		good = symlink(u.link, u.path) == 0;
		break;
	case '5':
		good = make_directory(mtime);
		break;
	case '0':
	case '\0':
		good = make_file(size);
	}
	if (!good)
		return errno == 0;
	return (!u.owner || lchown(u.path, (uid_t)NUMBER(h->uid), (gid_t)NUMBER(h->gid)) == 0) &&
	       (h->kind == '2' || chmod(u.path, NUMBER(h->mode) & 07777) == 0) && set_times(u.path, mtime);
}

/* A name in a record of its own, perhaps without a NUL; to has PATH_BYTES, and ends with one. */
static bool take_long(char *to, uint64_t size)
{
	if (size > PATH_BYTES)
		return refuse(ENAMETOOLONG);
	return take(to, size) && (to[PATH_BYTES - 1] == '\0' || refuse(ENAMETOOLONG)) && skip(size);
}

static bool take_all(void)
{
	struct tar_header h;

	for (;;) {
		uint64_t size;

		if (!take(&h, sizeof(h)))
			return false;
		if (h.name[0] == '\0')
			break;
		if (memcmp(h.magic, "ustar", 5) != 0)
			return refuse(EBADMSG);
		size = (uint64_t)NUMBER(h.size);
		if (h.kind == 'L' || h.kind == 'K') {
			if (!take_long(h.kind == 'L' ? u.name : u.link, size))
				return false;
			continue;
		}
		if (u.name[0] == '\0') {
			/* ustar has the beginning of a long name elsewhere. */
			if (h.magic[5] == '\0' && h.rest[0] != '\0') {
				memcpy(u.name, h.rest, PREFIX_BYTES);
				strcat(u.name, "/");
			}
			memcpy(u.name + strlen(u.name), h.name, sizeof(h.name));
		}
		if (u.link[0] == '\0')
			memcpy(u.link, h.link, sizeof(h.link));
		if (!make(&h, size))
			return false;
		memset(u.name, 0, sizeof(u.name));
		memset(u.link, 0, sizeof(u.link));
	}
	while (read(u.from, u.block, sizeof(u.block)) > 0)
		; /* what fills the last record: its writer does not expect the end yet */
	return true;
}

bool unpack_archive(const char *path, int from, bool owner, struct text *why)
{
	size_t len = strlen(path);
	struct stat stat_;
	bool good;

	u.from = from;
	u.owner = owner;
	u.base = path;
	u.into = stat(path, &stat_) == 0 && S_ISDIR(stat_.st_mode);
	good = len < PATH_BYTES ? u.into || path[len - 1] != '/' || refuse(ENOENT) : refuse(ENAMETOOLONG);
	if (good && take_all() && leave(""))
		return true;
	path = u.path[0] != '\0' ? u.path : path;
	len = strlen(path);
	text_add(why, len > SHOWN_BYTES ? "..." : "", len > SHOWN_BYTES ? path + len - SHOWN_BYTES : path, NULL);
	text_add_error(why, errno);
	return false;
}
