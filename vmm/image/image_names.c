/* Names of images; see image_names.h. Only this user writes to the cache; files may be torn or old all the same. */
#include "vmm/image/image_names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/helper/image_cache.h"

#define SUFFIX ".image"
#define WRITE_MAX_S 60		 /* that a file is written; then whoever did that is dead */
#define NAME_BYTES_MAX (4 * MIB) /* of a file: an image's configuration has as much */

void image_name_done(struct image_name *n)
{
	free(n->text);
	free(n->digest);
	free(n->file);
	json_decref(n->config);
	*n = (struct image_name){ 0 };
}

/* NULL with errno set. */
static DIR *open_cache(const struct image_cache *c)
{
	MF_CLOSE int fd = openat(c->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir)
		fd = -1; /* closedir closes it */
	return dir;
}

static void file_of(const char *text, char name[IMAGE_KEY_TEXT_MAX])
{
	struct image_key key;

	image_key_begin(&key, text, "");
	image_key_name(&key, SUFFIX, name);
}

static int take_members(json_t *json, struct image_name *ret)
{
	struct image_name n = { 0 };
	const char *text, *digest, *file;
	json_t *config;

	if (json_unpack(json, "{s:s, s:s, s:s, s:o}", "name", &text, "digest", &digest, "file", &file, "config",
			&config) < 0 ||
	    !json_is_object(config) || strchr(file, '/'))
		return -EBADMSG;
	n.text = strdup(text);
	n.digest = strdup(digest);
	n.file = strdup(file);
	n.config = json_incref(config);
	if (!n.text || !n.digest || !n.file) {
		image_name_done(&n);
		return -ENOMEM;
	}
	*ret = n;
	return 0;
}

/* Returns 0, or a negative errno; -EBADMSG if it is none of ours. */
static int read_name(const struct image_cache *c, const char *file, struct image_name *ret)
{
	MF_CLOSE int fd = openat(c->fd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	MF_FREE char *text = NULL;
	struct stat st;
	json_t *json;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > (off_t)NAME_BYTES_MAX)
		return -EBADMSG;
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	r = fdio_pread_all(fd, text, (size_t)st.st_size, 0);
	if (r < 0)
		return r;
	json = json_loadb(text, (size_t)st.st_size, JSON_REJECT_DUPLICATES, NULL);
	r = json ? take_members(json, ret) : -EBADMSG;
	json_decref(json);
	return r;
}

bool image_names_mean(const struct image_cache *c, const struct image_name *n)
{
	return faccessat(c->fd, n->file, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int image_names_find(const struct image_cache *c, const char *text, struct image_name *ret, struct err *e)
{
	char file[IMAGE_KEY_TEXT_MAX];
	struct image_name n;
	int r;

	file_of(text, file);
	r = read_name(c, file, &n);
	if (r == 0 && (strcmp(n.text, text) != 0 || !image_names_mean(c, &n))) {
		image_name_done(&n);
		r = -ENOENT;
	}
	if (r == -ENOENT || r == -EBADMSG)
		return err_set(e, -ENOENT, "it is not in the cache");
	if (r < 0)
		return err_neg(e, r, "read '%s/%s'", c->path, file);
	*ret = n;
	return 0;
}

static int write_file(const struct image_cache *c, const char *name, const char *text, struct err *e)
{
	MF_CLOSE int fd = openat(c->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return err_sys(e, "make '%s/%s'", c->path, name);
	r = fdio_write_all(fd, text, strlen(text));
	if (r == 0 && fdatasync(fd) < 0)
		r = -errno;
	return r < 0 ? err_neg(e, r, "write '%s/%s'", c->path, name) : 0;
}

int image_names_put(const struct image_cache *c, const struct image_name *n, struct err *e)
{
	char file[IMAGE_KEY_TEXT_MAX], new_file[NAME_MAX + 1];
	json_t *json = json_pack("{s:s, s:s, s:s, s:O}", "name", n->text, "digest", n->digest, "file", n->file,
				 "config", n->config);
	MF_FREE char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	int r;

	json_decref(json);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	file_of(n->text, file);
	snprintf(new_file, sizeof(new_file), "%s.%d", file, (int)getpid());
	(void)unlinkat(c->fd, new_file, 0); /* of a process that had this number */
	r = write_file(c, new_file, text, e);
	if (r == 0 && renameat(c->fd, new_file, c->fd, file) < 0)
		r = err_sys(e, "rename '%s/%s'", c->path, new_file);
	if (r < 0)
		(void)unlinkat(c->fd, new_file, 0); /* e says what is wrong */
	return r;
}

int image_names_remove(const struct image_cache *c, const char *text, struct err *e)
{
	char file[IMAGE_KEY_TEXT_MAX];

	file_of(text, file);
	if (unlinkat(c->fd, file, 0) < 0 && errno != ENOENT)
		return err_sys(e, "remove '%s/%s'", c->path, file);
	return 0;
}

void image_names_sweep(const struct image_cache *c)
{
	DIR *dir = open_cache(c);
	struct dirent *entry;
	struct stat st;

	while (dir && (entry = readdir(dir)))
		if (strstr(entry->d_name, SUFFIX ".") && fstatat(c->fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    st.st_mtim.tv_sec + WRITE_MAX_S < time(NULL))
			(void)unlinkat(c->fd, entry->d_name, 0); /* the next one tries again */
	if (dir)
		closedir(dir);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct image_name *)a)->text, ((const struct image_name *)b)->text);
}

/* Adds the name in that file. Returns 0 or -ENOMEM. */
static int add(const struct image_cache *c, const char *file, struct image_name **list, size_t *num)
{
	const char *suffix = strstr(file, SUFFIX);
	struct image_name *more, n;
	int r;

	if (!suffix || strcmp(suffix, SUFFIX) != 0)
		return 0;
	r = read_name(c, file, &n);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	more = reallocarray(*list, *num + 1, sizeof(n));
	if (!more) {
		image_name_done(&n);
		return -ENOMEM;
	}
	more[(*num)++] = n;
	*list = more;
	return 0;
}

int image_names_list(const struct image_cache *c, struct image_name **ret, size_t *ret_num, struct err *e)
{
	DIR *dir = open_cache(c);
	struct image_name *list = NULL;
	struct dirent *entry;
	size_t num = 0;
	int r = 0;

	if (!dir)
		return err_sys(e, "read directory '%s'", c->path);
	while (r == 0 && (entry = readdir(dir)))
		r = add(c, entry->d_name, &list, &num);
	closedir(dir);
	if (r < 0) {
		image_names_free(list, num);
		return err_set(e, r, "out of memory");
	}
	if (num)
		qsort(list, num, sizeof(*list), compare_names);
	*ret = list;
	*ret_num = num;
	return 0;
}

void image_names_free(struct image_name *list, size_t num)
{
	for (size_t i = 0; i < num; i++)
		image_name_done(&list[i]);
	free(list);
}
