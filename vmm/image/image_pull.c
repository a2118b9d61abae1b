/*
 * Pulls images; see image_pull.h.
 *
 * Theory of operation. An image is worked on in the directory IMAGE.pull of the cache,
 * which is locked meanwhile (flock). In it:
 *
 *	work/layout	an OCI layout: skopeo copies the image to it
 *	work/rootfs	umoci unpacks the layers to it
 *
 * Then mkfs.erofs writes the image, which gets its name in the cache when it is complete.
 * All three run in sandboxes. What they leave behind is read with the same care as what
 * a registry sends.
 */
#include "vmm/image/image_pull.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/helper/archive_bound.h"
#include "vmm/helper/image_cache.h"
#include "vmm/helper/spawn.h"
#include "vmm/image/image_config.h"
#include "vmm/image/image_names.h"
#include "vmm/image/reference.h"
#include "vmm/image/sandbox.h"
#include "vmm/image/skopeo.h"

#define PULL_SUFFIX ".pull"
#define LOCK_SECONDS_MAX "3600" /* as long as the fetching may take */
#define LOCK_TRIES_MAX 100
#define WORK "work"
#define LAYOUT SANDBOX_WORK "/layout:image"
#define LAYOUT_BLOBS SANDBOX_WORK "/layout/blobs/sha256/"
#define JSON_BYTES_MAX (4 * MIB) /* of a manifest or a configuration: containers/image has this limit */
#define SAID_MAX (64 * KIB)
#define DIGEST_PREFIX "sha256:"
#define DIGEST_HEX 64
#define DEVICES_SHOWN 8
#define DEVICE_WORDS "creating empty file in place of device"
/* umoci takes the sparse files of POSIX archives. Those of GNU tar's own format are members of a type of their own. */
#define GNU_SPARSE_WORDS "unknown typeflag '\\x53'"

struct pull {
	const struct image_cache *cache;
	const struct image_reference *ref;
	const char *shown; /* or NULL */
	char digest[SKOPEO_DIGEST_MAX];
	char name[IMAGE_KEY_TEXT_MAX]; /* of the image in the cache */
	char *dir, *work;	       /* paths */
	int fd;			       /* of dir, locked */
	char *said;
	struct archive_bound bound; /* of what its layers unpack to */
};

/* The directory. */

/* Another process has it. flock(1) has a limit of time, and leaves the lock to whoever has the descriptor. */
static int await(const char *path, int fd, struct err *e)
{
	static const char *const argv[] = { "flock", "--timeout", LOCK_SECONDS_MAX, "3", NULL };
	const int fds[SPAWN_FDS] = { -1, -1, -1, fd };
	pid_t pid = spawn_start(argv, fds, SIGKILL, "util-linux", e);

	if (pid < 0)
		return pid;
	(void)spawn_wait(pid, argv[0], e); /* whether it has the lock is asked next */
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return err_sys(e, "lock directory '%s'", path);
	return err_set(e, -ETIMEDOUT,
		       "another process has pulled it for " LOCK_SECONDS_MAX
		       " s and has not finished: end that one, which 'fuser %s' names, or try again",
		       path);
}

/*
 * Makes and locks a directory; waits while another process has it, and reports that if
 * shown is set. Returns 0 or -errno with e set; 1 if that one has removed it.
 */
static int lock_once(const char *path, const char *shown, int *ret_fd, struct err *e)
{
	MF_CLOSE int fd = -1;
	struct stat mine, there;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make directory '%s'", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 1 : err_sys(e, "open directory '%s'", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return err_sys(e, "lock directory '%s'", path);
		if (shown)
			report_line("image '%s': another process pulls it: waiting, for " LOCK_SECONDS_MAX " s at most",
				    shown);
		if (await(path, fd, e) < 0)
			return e->code;
	}
	if (fstat(fd, &mine) < 0 || stat(path, &there) < 0 || mine.st_ino != there.st_ino)
		return 1;
	*ret_fd = mf_take_fd(&fd);
	return 0;
}

/* The same, until it has one that is there: others remove what nobody has locked yet (image_pull_sweep). */
static int lock(const char *path, const char *shown, int *ret_fd, struct err *e)
{
	int r = 1;

	for (unsigned i = 0; r == 1 && i < LOCK_TRIES_MAX; i++)
		r = lock_once(path, shown, ret_fd, e);
	return r == 1 ? err_set(e, -EBUSY, "directory '%s' is removed by others again and again", path) : r;
}

void image_pull_sweep(const struct image_cache *cache)
{
	int fd = openat(cache->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		const char *suffix = strstr(entry->d_name, PULL_SUFFIX);
		MF_CLOSE int one = -1;
		MF_FREE char *path = NULL;

		if (!suffix || strcmp(suffix, PULL_SUFFIX) != 0)
			continue;
		one = openat(cache->fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (one < 0 || flock(one, LOCK_EX | LOCK_NB) < 0 ||
		    asprintf(&path, "%s/%s", cache->path, entry->d_name) < 0) {
			path = NULL; /* asprintf leaves it undefined */
			continue;
		}
		sandbox_remove(path);
	}
	image_names_sweep(cache);
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}

/*
 * The digest of the manifest. To find out that of an archive, skopeo unpacks it, to a
 * directory of its own.
 */
static int find_digest(struct pull *p, struct err *e)
{
	char dir[sizeof("0123456789" PULL_SUFFIX)];
	MF_FREE char *path = NULL;
	MF_CLOSE int fd = -1;
	int r;

	snprintf(dir, sizeof(dir), "%d" PULL_SUFFIX, (int)getpid());
	if (asprintf(&path, "%s/%s", p->cache->path, dir) < 0) {
		path = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (lock(path, NULL, &fd, e) < 0)
		return e->code;
	r = skopeo_digest(p->ref, path, p->bound.max, p->digest, e);
	sandbox_remove(path);
	return r;
}

/* What is in the layout. */

/* Reads a JSON file below the working directory, without following symlinks. NULL with e set. */
static json_t *read_json(const struct pull *p, const char *path, struct err *e)
{
	const struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
				      .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
	MF_CLOSE int fd = (int)syscall(SYS_openat2, p->fd, path, &how, sizeof(how));
	MF_FREE char *text = NULL;
	json_t *json = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		err_sys(e, "open '%s' of the image", path);
		return NULL;
	}
	if (S_ISREG(st.st_mode) && st.st_size <= (off_t)JSON_BYTES_MAX)
		text = malloc((size_t)st.st_size + 1);
	if (text && fdio_pread_all(fd, text, (size_t)st.st_size, 0) == 0)
		json = json_loadb(text, (size_t)st.st_size, 0, NULL);
	if (!json)
		err_set(e, -EBADMSG, "'%s' of the image is no JSON of %llu MiB at most", path,
			(unsigned long long)(JSON_BYTES_MAX / MIB));
	return json;
}

static bool is_digest(const char *text)
{
	return text && !strncmp(text, DIGEST_PREFIX, strlen(DIGEST_PREFIX)) &&
	       strspn(text + strlen(DIGEST_PREFIX), "0123456789abcdef") == DIGEST_HEX &&
	       strlen(text) == strlen(DIGEST_PREFIX) + DIGEST_HEX;
}

/* The file that a descriptor of OCI names. */
static json_t *read_blob(const struct pull *p, const json_t *descriptor, struct err *e)
{
	const char *digest = json_string_value(json_object_get(descriptor, "digest"));
	char path[sizeof(WORK "/layout/blobs/sha256/") + DIGEST_HEX];

	if (!is_digest(digest)) {
		err_set(e, -EBADMSG, "a descriptor of the image has no SHA-256 digest");
		return NULL;
	}
	snprintf(path, sizeof(path), WORK "/layout/blobs/sha256/%s", digest + strlen(DIGEST_PREFIX));
	return read_json(p, path, e);
}

/* Bytes of all layers, as they are compressed. For people. */
static double layers_mib(const json_t *layers)
{
	const json_t *layer;
	double bytes = 0;
	size_t i;

	json_array_foreach(layers, i, layer)
		bytes += json_number_value(json_object_get(layer, "size"));
	return bytes / (double)MIB;
}

/* Returns the checked "config", and the manifest's "layers", owned, or NULL; NULL with e set. */
static json_t *read_config(const struct pull *p, json_t **ret_layers, struct err *e)
{
	json_t *index = read_json(p, WORK "/layout/index.json", e), *manifest = NULL, *image = NULL, *config = NULL;

	if (index)
		manifest = read_blob(p, json_array_get(json_object_get(index, "manifests"), 0), e);
	if (manifest)
		image = read_blob(p, json_object_get(manifest, "config"), e);
	if (image)
		config = image_config_check(image, e);
	*ret_layers = config ? json_incref(json_object_get(manifest, "layers")) : NULL;
	json_decref(index);
	json_decref(manifest);
	json_decref(image);
	return config;
}

/* The steps. */

/* What an ordinary user cannot make is an empty file: says so. */
static void say_devices(const struct pull *p, bool more)
{
	char *rest = p->said, *line, *name, *end;
	unsigned num = 0;

	while ((line = strsep(&rest, "\n"))) {
		name = strstr(line, DEVICE_WORDS) ? strchr(line, '{') : NULL;
		end = name ? strchr(name, '}') : NULL;
		if (!end || ++num > DEVICES_SHOWN)
			continue;
		*end = '\0';
		report_line("image '%s': '/%s' is a device, for which an ordinary user gets an empty file", p->shown,
			    name + 1);
	}
	if (num > DEVICES_SHOWN)
		report_line("image '%s': there are %s%u such devices", p->shown, more ? "more than " : "", num);
}

/* Before umoci unpacks a layer: tar lists it, by whatever it is compressed. */
static int bound_layer(const struct pull *p, struct archive_bound *bound, const json_t *layer, struct err *e)
{
	const char *digest = json_string_value(json_object_get(layer, "digest"));
	char path[sizeof(LAYOUT_BLOBS) + DIGEST_HEX];
	struct sandbox s;

	if (!is_digest(digest))
		return err_set(e, -EBADMSG, "a layer of the image has no SHA-256 digest");
	snprintf(path, sizeof(path), LAYOUT_BLOBS "%s", digest + strlen(DIGEST_PREFIX));
	sandbox_begin_ids(&s, "tar", "tar", p->work);
	sandbox_program(&s, 0);
	sandbox_add(&s, ARCHIVE_BOUND_OPTIONS, "--file", path, NULL);
	if (archive_bound_add(bound, s.argv, NULL, -1, e) < 0)
		return err_wrap(e, "layer '%s'", digest);
	return 0;
}

static int unpack(const struct pull *p, const json_t *layers, struct err *e)
{
	struct archive_bound bound = p->bound;
	const json_t *layer;
	struct sandbox s;
	size_t i;

	json_array_foreach(layers, i, layer)
		if (bound_layer(p, &bound, layer, e) < 0)
			return e->code;
	sandbox_begin_ids(&s, "umoci", "umoci", p->work);
	sandbox_program(&s, p->bound.max);
	sandbox_add(&s, "raw", "unpack", "--keep-dirlinks", "--image", LAYOUT, SANDBOX_WORK "/rootfs", NULL);
	if (sandbox_run(&s, p->said, SAID_MAX, e) < 0) {
		if (!strstr(e->text, GNU_SPARSE_WORDS))
			return e->code;
		return err_wrap(e,
				"a layer has a sparse file in GNU tar's format: make the layer with 'tar --format=posix'");
	}
	if (p->shown)
		say_devices(p, s.said_lost);
	return 0;
}

static int make(const struct pull *p, struct err *e)
{
	struct image_cache_part part;
	struct sandbox s;
	struct err none;
	int r = image_cache_begin(p->cache, p->name, &part, e);

	if (r < 0)
		return r;
	sandbox_begin_ids(&s, "mkfs.erofs", "erofs-utils", p->work);
	sandbox_add(&s, "--bind", part.path, "/image", NULL);
	sandbox_program(&s, 0);
	sandbox_add(&s, "--quiet", "/image", SANDBOX_WORK "/rootfs", NULL);
	r = sandbox_run(&s, p->said, SAID_MAX, e);
	if (r < 0) {
		(void)image_cache_end(p->cache, &part, NULL, &none); /* e says what is wrong */
		return r;
	}
	return image_cache_end(p->cache, &part, p->ref->text, e);
}

/* Returns the image's configuration, or NULL with e set. */
static json_t *fetch(const struct pull *p, struct err *e)
{
	json_t *config, *layers;
	int r;

	sandbox_remove(p->work);
	if (mkdir(p->work, 0700) < 0) {
		err_sys(e, "make directory '%s'", p->work);
		return NULL;
	}
	if (p->shown && !isatty(STDERR_FILENO))
		report_line("image '%s': fetching", p->shown);
	if (skopeo_copy(p->ref, p->digest, p->work, p->bound.max, LAYOUT, p->shown != NULL, e) < 0)
		return NULL;
	config = read_config(p, &layers, e);
	if (!config)
		return NULL;
	if (p->shown)
		report_line("image '%s': unpacking %.1f MiB of layers", p->shown, layers_mib(layers));
	r = unpack(p, layers, e);
	json_decref(layers);
	if (r == 0 && make(p, e) == 0)
		return config;
	json_decref(config);
	return NULL;
}

/* The configuration of the image by another name that is in the cache; NULL: there is none. */
static json_t *config_of_other(const struct pull *p)
{
	struct image_name *list;
	json_t *config = NULL;
	struct err e;
	size_t num;

	if (image_names_list(p->cache, &list, &num, &e) < 0)
		return NULL;
	for (size_t i = 0; i < num && !config; i++)
		if (!strcmp(list[i].file, p->name))
			config = json_incref(list[i].config);
	image_names_free(list, num);
	return config;
}

/* Takes the image if the cache has it, and gives it this name, too. */
static int take(const struct pull *p, json_t *config, struct image_name *ret, struct err *e)
{
	struct image_name n = { .config = config ? config : config_of_other(p) };
	MF_CLOSE int fd = image_cache_take(p->cache, p->name, O_RDONLY, e);

	n.text = strdup(p->ref->text);
	n.digest = strdup(p->digest);
	n.file = strdup(p->name);
	if (fd < 0 || !n.config)
		err_set(e, -ENOENT, "its image has been removed");
	else if (!n.text || !n.digest || !n.file)
		err_set(e, -ENOMEM, "out of memory");
	else if (image_names_put(p->cache, &n, e) == 0) {
		*ret = n;
		return mf_take_fd(&fd);
	}
	image_name_done(&n);
	return e->code;
}

/* With the directory locked. */
static int pull_locked(const struct pull *p, struct image_name *ret, struct err *e)
{
	int fd = take(p, NULL, ret, e); /* another process has pulled it */
	json_t *config;

	if (fd != -ENOENT)
		return fd;
	config = fetch(p, e);
	return config ? take(p, config, ret, e) : e->code;
}

static int pull(struct pull *p, struct image_name *ret, struct err *e)
{
	struct image_key key;
	int fd;

	if (archive_bound_init(&p->bound, e) < 0 || find_digest(p, e) < 0)
		return e->code;
	image_key_begin(&key, p->digest, "");
	image_key_name(&key, ".erofs", p->name);
	if (asprintf(&p->dir, "%s/%s" PULL_SUFFIX, p->cache->path, p->name) < 0)
		p->dir = NULL; /* asprintf leaves it undefined */
	if (!p->dir || asprintf(&p->work, "%s/" WORK, p->dir) < 0)
		p->work = NULL; /* the same */
	p->said = malloc(SAID_MAX);
	if (!p->work || !p->said)
		return err_set(e, -ENOMEM, "out of memory");
	fd = take(p, NULL, ret, e);
	if (fd != -ENOENT)
		return fd;
	image_pull_sweep(p->cache);
	if (lock(p->dir, p->shown, &p->fd, e) < 0)
		return e->code;
	fd = pull_locked(p, ret, e);
	sandbox_remove(p->dir);
	return fd;
}

int image_pull(const struct image_cache *cache, const struct image_reference *ref, const char *shown,
	       struct image_name *ret, struct err *e)
{
	struct pull p = { .cache = cache, .ref = ref, .shown = shown, .fd = -1 };
	int fd = pull(&p, ret, e);

	if (p.fd >= 0)
		close(p.fd);
	free(p.dir);
	free(p.work);
	free(p.said);
	return fd;
}
