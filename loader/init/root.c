/*
 * What is mounted.
 *
 * Without a root drive, the initramfs stays the root. With one, it is mounted beside the initramfs and moved over its
 * root, as switch_root does; /dev goes with it. A file system that cannot be written to, by its kind or because its drive
 * is read-only, becomes the lower layer of an overlay whose upper one is in memory, so that programs find a root that they
 * can change. So does every drive that asks for it. The layers are in a directory of the initramfs, which is open as
 * root_layers, and are named from there: behind another root they cannot be seen.
 */
#include "loader/init/root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "loader/init/fd.h"
#include "loader/init/proto.h"

#define DEVICE_WAIT_MS 5000
#define DEVICE_TRY_MS 5
#define HEAD_BYTES 2048
#define PATH_BYTES 4096
#define LAYERS "/" INIT_DIR "/layers"
#define ROOT_AT "/" INIT_DIR "/root"

static bool root_ephemeral = true;
static int root_layers = -1;
static unsigned root_count;

bool root_is_ephemeral(void)
{
	return root_ephemeral;
}

void root_make_path(const char *path)
{
	char part[PATH_BYTES];
	size_t len = strlen(path);

	if (len >= sizeof(part))
		return;
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		/* It is there already, or whoever needs it will fail, and say so. */
		(void)mkdir(part, 0755);
	}
}

/* The kernel finds drives before it starts init, but for those whose driver takes its time. */
static int root_open_device(const char *device)
{
	for (int waited = 0;; waited += DEVICE_TRY_MS) {
		int fd = open(device, O_RDONLY | O_CLOEXEC);

		if (fd >= 0 || (errno != ENOENT && errno != ENXIO) || waited >= DEVICE_WAIT_MS)
			return fd < 0 ? -errno : fd;
		clock_sleep_ms(DEVICE_TRY_MS);
	}
}

static bool root_has(const uint8_t *head, size_t at, uint32_t magic, size_t len)
{
	return memcmp(head + at, &magic, len) == 0;
}

/* By what its superblock says, because the kernel complains loudly about each that is tried in vain. */
static const char *root_kind(const uint8_t *head)
{
	if (root_has(head, 0x438, 0xef53, 2))
		return "ext4";
	if (root_has(head, 0x400, 0xe0f5e1e2, 4))
		return "erofs";
	if (root_has(head, 0, 0x73717368, 4))
		return "squashfs";
	return NULL;
}

/* Mounts a file system, for writing if that is wanted and possible. */
static bool root_mount_plain(const char *device, const char *at, bool writable, struct text *why)
{
	static uint8_t head[HEAD_BYTES];
	int fd = root_open_device(device), ret = -1;
	const char *kind;
	ssize_t n;

	if (fd < 0) {
		text_add(why, "drive ", device, NULL);
		text_add_error(why, -fd);
		return false;
	}
	n = pread(fd, head, sizeof(head), 0);
	fd_close(&fd);
	kind = n == (ssize_t)sizeof(head) ? root_kind(head) : NULL;
	if (kind == NULL) {
		text_add(why, "drive ", device, ": there is no ext4, erofs or squashfs on it", NULL);
		return false;
	}
	if (writable)
		ret = mount(device, at, kind, 0, NULL);
	if (ret < 0 && (!writable || errno == EACCES || errno == EROFS))
		ret = mount(device, at, kind, MS_RDONLY, NULL);
	/* One that was not unmounted, on a drive that cannot be written to: its journal stays where it is. */
	if (ret < 0 && errno == EROFS)
		ret = mount(device, at, kind, MS_RDONLY, "noload");
	if (ret < 0) {
		int error = errno;

		text_add(why, "drive ", device, ": mounting its ", kind, NULL);
		text_add_error(why, error);
		if (error == ENODEV)
			text_add(why, "; the kernel has no ", kind, NULL);
		return false;
	}
	return true;
}

static bool root_is_read_only(const char *path)
{
	struct statvfs stat;

	return statvfs(path, &stat) == 0 && (stat.f_flag & ST_RDONLY) != 0;
}

/* Where the parts of the next overlay are; the numbers keep them apart. */
struct layers {
	struct text lower, memory, upper, work, options;
};

static void root_new_layers(struct layers *layers)
{
	*layers = (struct layers){ 0 };
	text_add_number(&layers->memory, root_count++);
	text_add(&layers->lower, layers->memory.s, ".lower", NULL);
	text_add(&layers->upper, layers->memory.s, "/upper", NULL);
	text_add(&layers->work, layers->memory.s, "/work", NULL);
	text_add(&layers->options, "lowerdir=", layers->lower.s, ",upperdir=", layers->upper.s,
		 ",workdir=", layers->work.s, NULL);
	/* Mounting there will tell, if this fails. */
	(void)mkdir(layers->memory.s, 0755);
	(void)mkdir(layers->lower.s, 0755);
}

/* Mounts a layer in memory over layers->lower, at a place. 0 or -errno. */
static int root_mount_overlay(const struct layers *layers, const char *at)
{
	struct stat stat;

	if (mount("tmpfs", layers->memory.s, "tmpfs", 0, "mode=755") < 0 || mkdir(layers->upper.s, 0755) < 0 ||
	    mkdir(layers->work.s, 0755) < 0 || lstat(layers->lower.s, &stat) < 0)
		return -errno;
	/* Its root is seen as that of the overlay. */
	if (chown(layers->upper.s, stat.st_uid, stat.st_gid) < 0 || chmod(layers->upper.s, stat.st_mode & 07777) < 0)
		return -errno;
	return mount("overlay", at, "overlay", 0, layers->options.s) < 0 ? -errno : 0;
}

enum layer { LAYER_ALWAYS, LAYER_IF_READ_ONLY };

/* With a layer if it is always wanted, or if the file system is read-only; says whether it has one. */

static bool root_mount(const char *device, const char *at, enum layer layer, bool *ret_layered, struct text *why)
{
	struct layers layers;
	int ret;

	if (fchdir(root_layers) < 0) {
		text_add(why, "drive ", device, ": " LAYERS, NULL);
		text_add_error(why, errno);
		return false;
	}
	root_new_layers(&layers);
	if (!root_mount_plain(device, layers.lower.s, layer == LAYER_IF_READ_ONLY, why))
		return false;
	*ret_layered = layer == LAYER_ALWAYS || root_is_read_only(layers.lower.s);
	if (*ret_layered)
		ret = root_mount_overlay(&layers, at);
	else
		ret = mount(layers.lower.s, at, NULL, MS_MOVE, NULL) < 0 ? -errno : 0;
	if (chdir("/") < 0 || ret < 0) {
		text_add(why, "drive ", device, ": an overlay in memory", NULL);
		text_add_error(why, -ret);
		if (ret == -ENODEV)
			text_add(why, "; the kernel has no overlayfs", NULL);
		return false;
	}
	return true;
}

bool root_enter(const char *boot, size_t len, struct text *why)
{
	const char *device = text_find(boot, len, 'r');

	/* The kernel has mounted it if it has CONFIG_DEVTMPFS_MOUNT and no initramfs. */
	(void)mkdir("/dev", 0755);
	(void)mount("dev", "/dev", "devtmpfs", MS_NOSUID, "mode=755");
	root_make_path(LAYERS);
	root_layers = open(LAYERS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (device == NULL)
		return true;
	root_make_path(ROOT_AT);
	if (!root_mount(device, ROOT_AT, LAYER_IF_READ_ONLY, &root_ephemeral, why))
		return false;
	(void)mkdir(ROOT_AT "/dev", 0755);
	/* If the root has no place for it, it is not there, and the first to miss it says so. */
	(void)mount("/dev", ROOT_AT "/dev", NULL, MS_MOVE, NULL);
	if (chdir(ROOT_AT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0) {
		text_add(why, "changing to the root on drive ", device, NULL);
		text_add_error(why, errno);
		return false;
	}
	return true;
}

void root_mount_usual(void)
{
	static const struct {
		const char *kind, *at, *options;
		unsigned long flags;
	} usual[] = {
		{ "proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
		{ "sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
		{ "cgroup2", "/sys/fs/cgroup", "nsdelegate", MS_NOSUID | MS_NODEV | MS_NOEXEC },
		{ "devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666", MS_NOSUID | MS_NOEXEC },
		{ "tmpfs", "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV },
		{ "tmpfs", "/tmp", "mode=1777", MS_NOSUID | MS_NODEV },
		{ "tmpfs", "/run", "mode=755", MS_NOSUID | MS_NODEV },
	};
	static const struct {
		const char *name, *to;
	} links[] = {
		{ "/dev/fd", "/proc/self/fd" },
		{ "/dev/stdin", "/proc/self/fd/0" },
		{ "/dev/stdout", "/proc/self/fd/1" },
		{ "/dev/stderr", "/proc/self/fd/2" },
	};

	for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) {
		/* Whoever misses one of them will say so: many programs need none. */
		(void)mkdir(usual[i].at, 0755);
		(void)mount(usual[i].kind, usual[i].at, usual[i].kind, usual[i].flags, usual[i].options);
	}
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		(void)symlink(links[i].to, links[i].name);
}

/* DEVICE:PATH: with an overlay ('v'), read-only without one ('V'), or for writing ('w'). */
static bool root_mount_drive(char kind, const char *spec, struct text *why)
{
	const char *colon = strchr(spec, ':');
	struct text device = { 0 };
	bool layered;

	if (colon == NULL || colon[1] != '/' || (size_t)(colon - spec) >= sizeof(device.s)) {
		text_add(why, "drive '", spec, "': not DEVICE:PATH", NULL);
		return false;
	}
	memcpy(device.s, spec, (size_t)(colon - spec));
	root_make_path(colon + 1);
	if (kind == 'v' ? root_mount(device.s, colon + 1, LAYER_ALWAYS, &layered, why) :
			  root_mount_plain(device.s, colon + 1, kind == 'w', why))
		return true;
	text_add(why, " (for ", colon + 1, ")", NULL);
	return false;
}

bool root_mount_drives(const char *boot, size_t len, struct text *why)
{
	const char *s;
	size_t at = 0;

	while ((s = text_next(boot, len, &at)) != NULL) {
		if ((s[0] == 'v' || s[0] == 'V' || s[0] == 'w') && !root_mount_drive(s[0], s + 1, why))
			return false;
	}
	return true;
}

/* Takes the next word of a line of /proc/mounts, where spaces and the like are written in octal, in place. */
static char *root_next_word(char **at)
{
	char *word = *at, *to = word, *from = word;

	while (*from != ' ' && *from != '\n' && *from != '\0') {
		if (from[0] == '\\' && from[1] != '\0' && from[2] != '\0' && from[3] != '\0') {
			*to++ = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*at = *from == '\0' ? from : from + 1;
	*to = '\0';
	return word;
}

/* Whether what is written to a drive, or a partition of it, is lost with the machine. */
static bool root_is_lost(const char *boot, size_t len, const char *device)
{
	const char *s;
	size_t at = 0;

	while ((s = text_next(boot, len, &at)) != NULL) {
		if (s[0] == 'l' && strncmp(device, s + 1, strlen(s + 1)) == 0)
			return true;
	}
	return false;
}

void root_leave(const char *boot, size_t len, struct text *why)
{
	static char mounts[1 << 16];
	long size = fd_read_file("/proc/mounts", mounts, sizeof(mounts));
	bool synced = false;

	mounts[size < 0 ? 0 : size] = '\0';
	for (char *at = mounts; *at != '\0';) {
		char *end = strchr(at, '\n');
		const char *device = root_next_word(&at), *path = root_next_word(&at);
		int fd;

		(void)root_next_word(&at);
		/* What is lost, or read-only, has nothing to be written; a remount waits for 2 grace periods of the kernel. */
		if (strncmp(device, "/dev/", 5) == 0 && at[1] == 'w' && !root_is_lost(boot, len, device)) {
			/* First, since one file system may be in a file of another. */
			if (!synced)
				sync();
			synced = true;
			/* Tells errors, also those that came before and that no program was told. */
			fd = open(path, O_RDONLY | O_CLOEXEC);
			if (fd >= 0 && syncfs(fd) < 0) {
				text_add(why, why->len > 0 ? "; " : "", path, NULL);
				text_add_error(why, errno);
			}
			fd_close(&fd);
			/* One that is still in use stays as it is: everything on it is written. */
			(void)mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY, NULL);
		}
		at = end == NULL ? at + strlen(at) : end + 1;
	}
}
