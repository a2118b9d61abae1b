/*
 * Mounts.
 *
 * Without a root drive, the initramfs stays the root. With one, the drive is mounted
 * beside the initramfs and moved over its root, as switch_root does; /dev is moved with
 * it. A read-only file system, by its kind or by its drive, becomes the lower layer of an
 * overlay. The upper layer is in memory, so that programs find a writable root. Every
 * drive that asks for an overlay gets one, too.
 *
 * One tmpfs holds everything that is kept in memory: these layers, /tmp, /run and
 * /dev/shm. So one limit applies to them together, and a program that fills one of them
 * gets ENOSPC before the guest is out of memory. With a drive for them, layers and /tmp
 * are on that instead. Both are mounted on directories of the initramfs, open as
 * root_memory and root_store, and their directories are reached from there: below another
 * root they are not visible.
 *
 * An overlay cannot be the upper layer of another one. Directories in which programs have
 * overlays of their own are therefore bind mounts from root_store.
 */
#include "loader/init/root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loader/init/drive.h"
#include "loader/init/fd.h"
#include "loader/init/live.h"
#include "loader/init/proto.h"

#define PATH_BYTES 4096
#define MEMORY "/" INIT_DIR "/memory"
#define STORE "/" INIT_DIR "/store"
#define ROOT_AT "/" INIT_DIR "/root"

static bool root_ephemeral = true;
static int root_memory = -1, root_store = -1;
static unsigned root_count;

bool root_is_ephemeral(void)
{
	return root_ephemeral;
}

/* Makes the directories that the first len bytes of a path name. */
static int root_make_directories(const char *path, size_t len)
{
	char part[PATH_BYTES];
	int ret = 0;

	if (len >= sizeof(part))
		return -ENAMETOOLONG;
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && i < len)
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		ret = mkdir(part, 0755) < 0 && errno != EEXIST ? -errno : 0;
	}
	return ret;
}

int root_make_path(const char *path)
{
	return root_make_directories(path, strlen(path));
}

static bool root_is_read_only(const char *path)
{
	struct statvfs stat;

	return statvfs(path, &stat) == 0 && (stat.f_flag & ST_RDONLY) != 0;
}

/* A new name in root_memory or root_store, which is the working directory. */
static struct text root_new_name(const char *suffix)
{
	struct text name = { 0 };

	text_add_number(&name, root_count++);
	text_add(&name, suffix, NULL);
	return name;
}

/* A new directory that looks like another one. 0 or -errno. */
static int root_make_like(const char *path, const char *model)
{
	struct stat stat;

	return lstat(model, &stat) < 0 || mkdir(path, 0755) < 0 || chown(path, stat.st_uid, stat.st_gid) < 0 ||
			       chmod(path, stat.st_mode & 07777) < 0 ?
		       -errno :
		       0;
}

/*
 * Mounts a layer over the directory lower, at a place. The layer is in the working
 * directory. 0 or -errno.
 */
static int root_mount_overlay(const char *lower, const char *at, unsigned long flags)
{
	struct text upper = root_new_name(".upper"), work = root_new_name(".work"), options = { 0 };
	int ret = root_make_like(upper.s, lower);

	if (ret < 0 || mkdir(work.s, 0755) < 0)
		return ret < 0 ? ret : -errno;
	text_add(&options, "lowerdir=", lower, ",upperdir=", upper.s, ",workdir=", work.s, NULL);
	return mount("overlay", at, "overlay", flags, options.s) < 0 ? -errno : 0;
}

enum layer { LAYER_ALWAYS, LAYER_IF_READ_ONLY };

/*
 * With a layer if it is always wanted, or if the file system is read-only; says whether
 * it has one.
 */
static bool root_mount(const char *device, const char *at, enum layer layer, bool *ret_layered, struct text *why)
{
	struct text lower = root_new_name(".lower");
	int ret;

	if (fchdir(root_store) < 0 || mkdir(lower.s, 0755) < 0) {
		text_add(why, "drive ", device, ": " MEMORY, NULL);
		text_add_error(why, errno);
		return false;
	}
	if (!drive_mount(device, lower.s, layer == LAYER_IF_READ_ONLY, NULL, why))
		return false;
	*ret_layered = layer == LAYER_ALWAYS || root_is_read_only(lower.s);
	if (*ret_layered)
		ret = root_mount_overlay(lower.s, at, 0);
	else
		ret = mount(lower.s, at, NULL, MS_MOVE, NULL) < 0 ? -errno : 0;
	if (chdir("/") < 0 || ret < 0) {
		text_add(why, "drive ", device, ": an overlay", NULL);
		text_add_error(why, -ret);
		if (ret == -ENODEV)
			text_add(why, "; the kernel has no overlayfs", NULL);
		return false;
	}
	return true;
}

/*
 * The size of the tmpfs, in the kernel's syntax. Without a root drive, programs write to
 * the initramfs, which is a tmpfs of its own and may fill half of the memory.
 */
static bool root_mount_memory(const char *size, bool has_drive, struct text *why)
{
	struct text options = { 0 };

	text_add(&options, "mode=755,size=", size != NULL ? size : has_drive ? "50%" : "20%", NULL);
	(void)root_make_path(MEMORY);
	if (mount("tmpfs", MEMORY, "tmpfs", 0, options.s) == 0)
		root_memory = open(MEMORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root_memory < 0) {
		text_add(why, "a tmpfs of ", options.s, NULL);
		text_add_error(why, errno);
	}
	root_store = root_memory;
	return root_memory >= 0;
}

/*
 * A drive in place of the tmpfs for layers and /tmp. What is deleted there is given back
 * to the host. Its inode tables are zeros without a thread of the kernel that writes
 * them.
 */
static bool root_mount_store(const char *device, struct text *why)
{
	(void)root_make_path(STORE);
	if (!drive_mount(device, STORE, true, "discard,noinit_itable", why))
		return false;
	root_store = open(STORE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root_store < 0)
		text_add_error(why, errno);
	return root_store >= 0;
}

void root_mount_dev(void)
{
	/* The kernel has mounted it if it has CONFIG_DEVTMPFS_MOUNT and no initramfs. */
	(void)mkdir("/dev", 0755);
	(void)mount("dev", "/dev", "devtmpfs", MS_NOSUID, "mode=755");
}

/*
 * Where something of the boot text is mounted. Not by strstr(), whose code takes 1 KiB.
 */
static const char *root_path_of(const char *spec)
{
	while (spec[0] != '\0' && (spec[0] != ':' || spec[1] != '/'))
		spec++;
	return spec[0] == '\0' ? spec : spec + 1;
}

/* A live directory that is the root, "pN:/": what follows its letter; or NULL. */
static const char *root_find_live(const char *boot, size_t len)
{
	const char *s;
	size_t at = 0;

	while ((s = text_next(boot, len, &at)) != NULL) {
		if (s[0] == 'p' && root_path_of(s)[0] != '\0' && root_path_of(s)[1] == '\0')
			return s + 1;
	}
	return NULL;
}

static bool root_mount_live(const char *spec, struct text *why)
{
	struct text number = { 0 };
	int ret;

	text_add_bytes(&number, spec, strcspn(spec, ":"));
	ret = live_mount(number.s, ROOT_AT, false);
	root_ephemeral = false;
	if (ret < 0) {
		text_add(why, "live directory ", number.s, " (for /)", NULL);
		text_add_error(why, -ret);
	}
	return ret == 0;
}

bool root_enter(const char *boot, size_t len, struct text *why)
{
	const char *device = text_find(boot, len, 'r'), *store = text_find(boot, len, 'D');
	const char *live = root_find_live(boot, len);

	if (!root_mount_memory(text_find(boot, len, 's'), device != NULL || live != NULL, why) ||
	    (store != NULL && !root_mount_store(store, why)))
		return false;
	if (device == NULL && live == NULL)
		return true;
	(void)root_make_path(ROOT_AT);
	if (live != NULL ? !root_mount_live(live, why) :
			   !root_mount(device, ROOT_AT, LAYER_IF_READ_ONLY, &root_ephemeral, why))
		return false;
	(void)mkdir(ROOT_AT "/dev", 0755);
	/*
	 * If the root has no directory for it, it is not mounted, and a program that
	 * needs it reports that.
	 */
	(void)mount("/dev", ROOT_AT "/dev", NULL, MS_MOVE, NULL);
	if (chdir(ROOT_AT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0) {
		text_add(why, "changing to the root on ", live != NULL ? "a live directory" : device, NULL);
		text_add_error(why, errno);
		return false;
	}
	return true;
}

static bool root_is_empty(const char *path)
{
	char buf[512];
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long n, more = 0;

	/*
	 * "." and ".." are the first that a directory has, and all that an empty one has.
	 */
	n = fd < 0 ? 0 : syscall(SYS_getdents64, fd, buf, sizeof(buf));
	for (long at = 0, count = 0; at < n && !more; at += ((struct dirent64 *)(buf + at))->d_reclen)
		more = ++count > 2;
	fd_close(&fd);
	return !more;
}

/*
 * A directory whose changes are lost. One that has something already keeps that: as it is
 * if changes to the root are lost, too, else below a layer. In root_memory or root_store.
 */
static void root_mount_lost(const char *at, mode_t mode)
{
	struct text name = root_new_name(".lost");

	/* A program that needs one of them reports it; many need none. */
	if (!root_is_empty(at)) {
		if (!root_ephemeral)
			(void)root_mount_overlay(at, at, MS_NOSUID | MS_NODEV);
		return;
	}
	(void)mkdir(at, 0755);
	(void)mkdir(name.s, mode);
	(void)chmod(name.s, mode);
	(void)mount(name.s, at, NULL, MS_BIND, NULL);
	(void)mount(NULL, at, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV, NULL);
}

/*
 * A new directory of root_store at a place: no overlay, so programs can have upper layers
 * in it. 0 or -errno.
 */
static int root_mount_own(const char *at)
{
	struct text name = root_new_name(".own");
	int ret = root_is_empty(at) ? root_make_path(at) : -ENOTEMPTY;

	if (ret == 0)
		ret = fchdir(root_store) < 0 ? -errno : root_make_like(name.s, at);
	if (ret == 0 && mount(name.s, at, NULL, MS_BIND, NULL) < 0)
		ret = -errno;
	(void)chdir("/");
	return ret;
}

/* Where programs that the root has keep containers. */
static void root_mount_containers(void)
{
	static const struct {
		const char *has, *at;
	} programs[] = {
		{ "/etc/containers", "/var/lib/containers" },
		{ "/usr/bin/docker", "/var/lib/docker" },
		{ "/usr/sbin/dockerd", "/var/lib/docker" },
	};

	/*
	 * If it fails, or has something already, the programs find it as the root has it.
	 */
	for (size_t i = 0; root_ephemeral && i < sizeof(programs) / sizeof(programs[0]); i++)
		if (access(programs[i].has, F_OK) == 0)
			(void)root_mount_own(programs[i].at);
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
		/* The same as in root_mount_lost. */
		(void)mkdir(usual[i].at, 0755);
		(void)mount(usual[i].kind, usual[i].at, usual[i].kind, usual[i].flags, usual[i].options);
	}
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		(void)symlink(links[i].to, links[i].name);
	if (fchdir(root_memory) == 0) {
		root_mount_lost("/dev/shm", 01777);
		root_mount_lost("/run", 0755);
	}
	if (fchdir(root_store) == 0)
		root_mount_lost("/tmp", 01777);
	(void)chdir("/");
	root_mount_containers();
	/* Where /var/lock leads. */
	if (mkdir("/run/lock", 01777) == 0)
		(void)chmod("/run/lock", 01777);
}

/* The file of a drive at a path. 0 or -errno; or 1, and why is set. */
static int root_mount_file(const char *device, const char *path, bool writable, struct text *why)
{
	struct text file = root_new_name(".file");
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
	bool layered;

	/*
	 * It may be another kind of file, or its file system read-only: what matters is
	 * that it is there.
	 */
	fd_close(&fd);
	if (fchdir(root_store) < 0 || mkdir(file.s, 0755) < 0)
		return -errno;
	if (writable ? !root_mount(device, file.s, LAYER_ALWAYS, &layered, why) :
		       !drive_mount(device, file.s, false, NULL, why))
		return 1;
	text_add(&file, "/" INIT_FILE_NAME, NULL);
	return fchdir(root_store) < 0 || mount(file.s, path, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

static const char *root_name_of(char kind)
{
	return kind == 'm' ? "tmpfs " : kind == 'b' ? "volume" : (kind | 0x20) == 'p' ? "live directory " : "drive ";
}

/* See the mounts of the boot text in proto.h. */
static bool root_mount_one(const char *spec, struct text *why)
{
	const char *path = root_path_of(spec);
	bool is_file = (spec[0] | 0x20) == 'f', layered;
	struct text from = { 0 };
	int ret;

	text_add_bytes(&from, spec + 1, (size_t)(path - spec - 2));
	ret = root_make_directories(path, is_file ? (size_t)(strrchr(path, '/') - path) : strlen(path));
	if (ret == 0 && spec[0] == 'm')
		ret = mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, from.s) < 0 ? -errno : 0;
	else if (ret == 0 && spec[0] == 'b')
		ret = root_mount_own(path);
	else if (ret == 0 && (spec[0] | 0x20) == 'p')
		ret = live_mount(from.s, path, spec[0] == 'P');
	else if (ret == 0 && is_file)
		ret = root_mount_file(from.s, path, spec[0] == 'f', why);
	else if (ret == 0 && spec[0] == 'v')
		ret = !root_mount(from.s, path, LAYER_ALWAYS, &layered, why);
	else if (ret == 0)
		ret = !drive_mount(from.s, path, spec[0] == 'w', NULL, why);
	(void)chdir("/");
	if (ret < 0) {
		text_add(why, root_name_of(spec[0]), from.s, NULL);
		if (ret == -EROFS)
			text_add(why, ": the file system there is read-only, and has no place for it", NULL);
		else
			text_add_error(why, -ret);
		if (ret == -ENODEV)
			text_add(why, "; the kernel has no file system of this kind", NULL);
	}
	if (ret != 0)
		text_add(why, " (for ", path, ")", NULL);
	return ret == 0;
}

/* How many directories a mount is below the root; 0: it is no mount. */
static unsigned root_depth(const char *spec)
{
	const char *path = strchr("vVwmbpPfF", spec[0]) != NULL ? root_path_of(spec) : "";
	unsigned depth = 0;

	for (; *path != '\0'; path++)
		depth += path[0] != '/' && (path[1] == '/' || path[1] == '\0');
	return depth;
}

/*
 * The nearest to the root first, whatever their order: a mount hides earlier mounts below
 * its directory.
 */
bool root_mount_drives(const char *boot, size_t len, struct text *why)
{
	bool deeper = true;

	for (unsigned depth = 1; deeper; depth++) {
		const char *s;
		size_t at = 0;

		deeper = false;
		while ((s = text_next(boot, len, &at)) != NULL) {
			deeper |= root_depth(s) > depth;
			if (root_depth(s) == depth && !root_mount_one(s, why))
				return false;
		}
	}
	return true;
}

bool root_seal(const char *boot, size_t len, struct text *why)
{
	if (text_find(boot, len, 'R') == NULL || mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0)
		return true;
	text_add(why, "a read-only root", NULL);
	text_add_error(why, errno);
	return false;
}
