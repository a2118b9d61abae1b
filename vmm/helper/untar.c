/*
 * Unpacks an archive; see untar.h.
 *
 * Members come with the directories before what is in them. The directories from dir down to the last member's are open,
 * as levels, each opened in the one above without following a link: no path of the guest is ever given to the kernel, only
 * single names. A directory gets its time when the archive leaves it.
 */
#include "vmm/helper/untar.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/helper/tar_format.h"

#define NAME_SIZE 4096 /* with a NUL, as the kernel takes them */
#define LEVELS_MAX 256
#define BUFFER_SIZE 65536U
#define MODE_MASK 0777U
#define PIECES_MAX 2048U /* of a file with holes; init sends 1,025 at most */

struct level {
	int fd;
	size_t len; /* of its path, in open */
	struct timespec mtime;
};

struct untar {
	const struct untar_params *params;
	struct err *e;
	uint64_t bytes, members;
	size_t at, len; /* of buffer */
	unsigned depth; /* levels that are open */
	struct level level[LEVELS_MAX];
	bool has_name, has_link; /* the next member's were in records of their own */
	char open[NAME_SIZE];	 /* the path of the last level */
	char name[NAME_SIZE], link[NAME_SIZE];
	uint64_t left_out;
	char first_left_out[256];
	unsigned num_pieces; /* of the next member */
	struct {
		uint64_t at, len;
	} piece[PIECES_MAX];
	char buffer[BUFFER_SIZE];
};

/* The header of the next member, checked. */
struct member {
	char kind;
	mode_t mode;
	uint64_t size;	/* of what is in the archive: all pieces */
	uint64_t whole; /* with its holes */
	struct timespec mtime;
};

/* Makes sure that something is in the buffer. */
static int fill(struct untar *u)
{
	ssize_t n;

	if (u->at < u->len)
		return 0;
	n = fdio_read(u->params->from, u->buffer, sizeof(u->buffer));
	if (n < 0)
		return err_neg(u->e, (int)n, "read");
	if (n == 0)
		return err_set(u->e, -EPIPE, u->bytes ? "it ended in the middle" : "nothing was sent");
	u->at = 0;
	u->len = (size_t)n;
	u->bytes += (uint64_t)n;
	if (u->bytes > u->params->max_bytes)
		return err_set(u->e, -EFBIG, "more than %llu bytes (--artifact-max, or --max of `mayfly cp`)",
			       (unsigned long long)u->params->max_bytes);
	return 0;
}

/* Takes the next len bytes: to memory, or away if to is NULL. */
static int take(struct untar *u, void *to, uint64_t len)
{
	while (len > 0) {
		size_t n;

		if (fill(u) < 0)
			return u->e->code;
		n = (size_t)MF_MIN(len, (uint64_t)(u->len - u->at));
		if (to)
			to = mempcpy(to, u->buffer + u->at, n);
		u->at += n;
		len -= n;
	}
	return 0;
}

static int skip_padding(struct untar *u, uint64_t size)
{
	return take(u, NULL, -size % TAR_BLOCK);
}

static int bad(struct untar *u, const char *why)
{
	return err_set(u->e, -EBADMSG, "not an archive of mayfly's init: %s", why);
}

/* Levels. */

static int leave(struct untar *u, unsigned depth)
{
	int r = 0;

	while (u->depth > depth) {
		const struct level *l = &u->level[--u->depth];
		const struct timespec times[] = { l->mtime, l->mtime };

		if (l->mtime.tv_nsec != UTIME_OMIT && futimens(l->fd, times) < 0 && !r)
			r = err_sys(u->e, "set the time of '%.*s'", (int)l->len, u->open);
		close(l->fd);
	}
	return r;
}

static int count_member(struct untar *u)
{
	if (++u->members > u->params->max_members)
		return err_set(u->e, -EDQUOT, "more than %llu files", (unsigned long long)u->params->max_members);
	return 0;
}

/* Opens name, len bytes of u->name that end at end, in the last level; makes it if it is not there. */
static int enter_one(struct untar *u, size_t start, size_t end, mode_t mode)
{
	char name[NAME_MAX + 1];
	int fd, parent = u->depth ? u->level[u->depth - 1].fd : u->params->dir;

	if (end - start > NAME_MAX || u->depth == LEVELS_MAX)
		return err_set(u->e, -ENAMETOOLONG, "directory '%.*s': its name is too long", (int)end, u->name);
	*(char *)mempcpy(name, u->name + start, end - start) = '\0';
	if (mkdirat(parent, name, (mode & MODE_MASK) | S_IRWXU) == 0) {
		if (count_member(u) < 0)
			return u->e->code;
	} else if (errno != EEXIST) {
		return err_sys(u->e, "make directory '%.*s'", (int)end, u->name);
	}
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(u->e, "open directory '%.*s'", (int)end, u->name);
	u->level[u->depth++] = (struct level){ .fd = fd, .len = end, .mtime = { .tv_nsec = UTIME_OMIT } };
	memcpy(u->open, u->name, end);
	return 0;
}

/* Makes the directory that is the first len bytes of u->name, from base on, the last level. mode: if it is not there. */
static int enter(struct untar *u, size_t base, size_t len, mode_t mode)
{
	size_t start = base;
	unsigned depth = 0;

	while (depth < u->depth && u->level[depth].len <= len && memcmp(u->open, u->name, u->level[depth].len) == 0 &&
	       (u->level[depth].len == len || u->name[u->level[depth].len] == '/'))
		start = u->level[depth++].len + 1;
	if (leave(u, depth) < 0)
		return u->e->code;
	while (start < len) {
		size_t end = start + strcspn(u->name + start, "/");

		end = MF_MIN(end, len);
		if (enter_one(u, start, end, end == len ? mode : MODE_MASK) < 0)
			return u->e->code;
		start = end + 1;
	}
	return 0;
}

/* Members. */

/* Checks a name, and cuts the slashes behind it. Sets *ret_base to where the part begins that is below the directory. */
static int check_name(struct untar *u, char *name, size_t *ret_base)
{
	size_t want = strlen(u->params->name), len = strlen(name);
	bool in_dir = strcmp(u->params->name, ".") == 0;

	while (len > 1 && name[len - 1] == '/')
		name[--len] = '\0';
	if (strncmp(name, u->params->name, want) != 0 || (name[want] && name[want] != '/'))
		return err_set(u->e, -EBADMSG, "'%s' was sent, and not asked for", name);
	*ret_base = in_dir ? MF_MIN(want + 1, len) : 0;
	for (size_t at = *ret_base, n; at < len; at += n + 1) {
		n = strcspn(name + at, "/");
		if (n == 0 || (n == 1 && name[at] == '.') || (n == 2 && !strncmp(name + at, "..", 2)))
			return err_set(u->e, -EBADMSG, "'%s' is no name for a file", name);
	}
	return 0;
}

/* Writes the next size bytes of the archive. */
static int unpack_bytes(struct untar *u, int fd, uint64_t size)
{
	for (uint64_t left = size; left > 0;) {
		size_t n;
		int r;

		if (fill(u) < 0)
			return err_wrap(u->e, "'%s'", u->name);
		n = (size_t)MF_MIN(left, (uint64_t)(u->len - u->at));
		r = fdio_write_all(fd, u->buffer + u->at, n);
		if (r < 0)
			return err_neg(u->e, r, "write '%s'", u->name);
		u->at += n;
		left -= n;
	}
	return 0;
}

static int unpack_file(struct untar *u, int dir, const char *name, const struct member *m)
{
	const struct timespec times[] = { m->mtime, m->mtime };
	MF_CLOSE int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, m->mode & MODE_MASK);

	if (fd < 0)
		return err_sys(u->e, "make '%s'", u->name);
	if (m->kind == '0' && unpack_bytes(u, fd, m->size) < 0)
		return u->e->code;
	for (unsigned i = 0; m->kind == 'S' && i < u->num_pieces; i++) {
		if (lseek(fd, (off_t)u->piece[i].at, SEEK_SET) < 0)
			return err_sys(u->e, "write '%s'", u->name);
		if (unpack_bytes(u, fd, u->piece[i].len) < 0)
			return u->e->code;
	}
	if (m->kind == 'S' && ftruncate(fd, (off_t)m->whole) < 0)
		return err_sys(u->e, "write '%s'", u->name);
	if (futimens(fd, times) < 0 || close(mf_take_fd(&fd)) < 0)
		return err_sys(u->e, "write '%s'", u->name);
	return skip_padding(u, m->size);
}

/* Another name for the file that was unpacked as u->link. */
static int unpack_link(struct untar *u, int dir, const char *name)
{
	size_t start = 0;
	MF_CLOSE int at = -1;

	if (check_name(u, u->link, &start) < 0)
		return u->e->code;
	for (size_t n; u->link[start + (n = strcspn(u->link + start, "/"))] == '/'; start += n + 1) {
		char part[NAME_MAX + 1];
		int next;

		if (n > NAME_MAX)
			return err_set(u->e, -ENAMETOOLONG, "link to '%s'", u->link);
		*(char *)mempcpy(part, u->link + start, n) = '\0';
		next = openat(at < 0 ? u->params->dir : at, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return err_sys(u->e, "link '%s' to '%s'", u->name, u->link);
		if (at >= 0)
			close(at);
		at = next;
	}
	if (linkat(at < 0 ? u->params->dir : at, u->link + start, dir, name, 0) < 0)
		return err_sys(u->e, "link '%s' to '%s'", u->name, u->link);
	return 0;
}

static void leave_out(struct untar *u)
{
	if (u->left_out++ == 0)
		snprintf(u->first_left_out, sizeof(u->first_left_out), "%s", u->name);
}

static int unpack_member(struct untar *u, const struct member *m)
{
	size_t base = 0, len, slash;
	int dir;

	if (check_name(u, u->name, &base) < 0)
		return u->e->code;
	if (strchr("346", m->kind)) {
		leave_out(u);
		return 0;
	}
	len = strlen(u->name);
	if (m->kind == '5') {
		if (enter(u, base, len, m->mode) < 0)
			return u->e->code;
		if (u->depth)
			u->level[u->depth - 1].mtime = m->mtime;
		return 0;
	}
	for (slash = len; slash > base && u->name[slash] != '/';)
		slash--;
	if (base == len || (slash == base && strchr("12", m->kind) && base == 0))
		return err_set(u->e, -EBADMSG, "'%s' is neither a file nor a directory", u->name);
	if (enter(u, base, slash, MODE_MASK) < 0 || count_member(u) < 0)
		return u->e->code;
	dir = u->depth ? u->level[u->depth - 1].fd : u->params->dir;
	if (slash > base)
		slash++;
	if (m->kind == '2') {
		const struct timespec times[] = { m->mtime, m->mtime };

		return symlinkat(u->link, dir, u->name + slash) < 0 ||
				       utimensat(dir, u->name + slash, times, AT_SYMLINK_NOFOLLOW) < 0 ?
			       err_sys(u->e, "make '%s'", u->name) :
			       0;
	}
	if (m->kind == '1')
		return unpack_link(u, dir, u->name + slash);
	return unpack_file(u, dir, u->name + slash, m);
}

/* A name that is longer than its field, in a record of its own. */
static int take_long(struct untar *u, char name[NAME_SIZE], bool *has, uint64_t size)
{
	if (*has || size == 0 || size > NAME_SIZE)
		return bad(u, "a long name");
	if (take(u, name, size) < 0 || skip_padding(u, size) < 0)
		return u->e->code;
	if (name[size - 1] != '\0')
		return bad(u, "a long name without an end");
	*has = true;
	return 0;
}

static void take_short(char *to, const char *field, size_t size, bool *has)
{
	if (!*has)
		*(char *)mempcpy(to, field, strnlen(field, size)) = '\0';
	*has = false;
}

/* Takes fields up to one of zeros, which only the last block has. Each is behind the one before, and none behind the end. */
static bool take_pieces(struct untar *u, struct member *m, const struct tar_field *field, unsigned num)
{
	for (unsigned i = 0; i < num && field[i].len[0]; i++) {
		uint64_t at, len,
			end = u->num_pieces ? u->piece[u->num_pieces - 1].at + u->piece[u->num_pieces - 1].len : 0;

		if (u->num_pieces == PIECES_MAX || !tar_number(field[i].at, sizeof(field[i].at), &at) ||
		    !tar_number(field[i].len, sizeof(field[i].len), &len) || at < end || at > m->whole ||
		    len > m->whole - at)
			return false;
		u->piece[u->num_pieces].at = at;
		u->piece[u->num_pieces++].len = len;
	}
	return true;
}

/* The pieces of a sparse file, which are as many bytes as it has in the archive. */
static int take_sparse(struct untar *u, struct member *m, const struct tar_header *h)
{
	struct tar_sparse rest;
	struct tar_pieces block;
	uint64_t bytes = 0;
	bool good, more;

	memcpy(&rest, h->rest, sizeof(rest));
	u->num_pieces = 0;
	good = tar_number(rest.size, sizeof(rest.size), &m->whole) && m->whole <= INT64_MAX &&
	       take_pieces(u, m, rest.piece, MF_ARRAY_SIZE(rest.piece));
	for (more = rest.more; good && more; more = block.more) {
		if (take(u, &block, sizeof(block)) < 0)
			return u->e->code;
		good = take_pieces(u, m, block.piece, MF_ARRAY_SIZE(block.piece)) && block.piece[0].len[0];
	}
	for (unsigned i = 0; i < u->num_pieces; i++)
		bytes += u->piece[i].len;
	return good && bytes == m->size ? 0 : bad(u, "the holes of a file");
}

static int take_member(struct untar *u, const struct tar_header *h)
{
	struct member m = { .kind = h->kind ? h->kind : '0' };
	uint64_t mode;
	int64_t mtime;

	if (!tar_has_sum(h) || memcmp(h->magic, "ustar", 5) != 0 || !tar_number(h->size, sizeof(h->size), &m.size) ||
	    !tar_number(h->mode, sizeof(h->mode), &mode) || !tar_signed(h->mtime, sizeof(h->mtime), &mtime))
		return bad(u, "a header");
	if (m.kind == 'L')
		return take_long(u, u->name, &u->has_name, m.size);
	if (m.kind == 'K')
		return take_long(u, u->link, &u->has_link, m.size);
	take_short(u->name, h->name, sizeof(h->name), &u->has_name);
	take_short(u->link, h->link, sizeof(h->link), &u->has_link);
	if (!u->name[0] || !strchr("0123456S", m.kind) || (!strchr("0S", m.kind) && m.size))
		return err_set(u->e, -EBADMSG, "'%s' is neither a file, a directory nor a link", u->name);
	m.whole = m.size;
	if (m.kind == 'S' && take_sparse(u, &m, h) < 0)
		return u->e->code;
	if (m.whole > u->params->max_bytes)
		return err_set(u->e, -EFBIG, "'%s' has more than %llu bytes (--artifact-max, or --max of `mayfly cp`)",
			       u->name, (unsigned long long)u->params->max_bytes);
	m.mode = (mode_t)mode;
	m.mtime.tv_sec = (time_t)mtime;
	return unpack_member(u, &m);
}

/* What is behind the end fills a record, as tar(1) has it. */
static int take_rest(struct untar *u)
{
	for (;;) {
		u->at = u->len;
		if (fill(u) < 0)
			return u->e->code == -EPIPE ? 0 : u->e->code;
	}
}

int untar(const struct untar_params *params, struct err *e)
{
	static struct untar u; /* large; it is called once in a process */
	struct tar_header h;
	int r = 0;

	u = (struct untar){ .params = params, .e = e };
	while (!r) {
		r = take(&u, &h, sizeof(h));
		if (r || tar_is_end(&h))
			break;
		r = take_member(&u, &h);
	}
	if (!r)
		r = take(&u, &h, sizeof(h));
	if (!r && !tar_is_end(&h))
		r = bad(&u, "half an end");
	if (!r)
		r = leave(&u, 0);
	while (u.depth)
		close(u.level[--u.depth].fd);
	if (!r && !u.members && strcmp(params->name, ".") != 0)
		r = bad(&u, "nothing is in it");
	if (!r)
		r = take_rest(&u);
	if (!r)
		*e = (struct err){ 0 };
	if (!r && u.left_out)
		err_set(e, 0, "left out: %" PRIu64 " devices, FIFOs and sockets, as '%s'", u.left_out,
			u.first_left_out);
	return r;
}
