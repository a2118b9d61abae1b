/* What is left of dead VMs, and their processes; see record.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdio.h"
#include "vmm/base/last_words.h"
#include "vmm/base/own_dir.h"
#include "vmm/base/unix_socket.h"
#include "vmm/records/record.h"
#include "vmm/records/record_parts.h"

#define STATUS_KILLED (STATUS_SIGNAL_BASE + SIGKILL)
#define JUNK_S 60 /* the age of a file that no record explains */

int record_lock(int fd, off_t byte)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno; /* POSIX allows either */
}

int record_claim(int dir, const char *name, int fd)
{
	struct stat mine, named;
	int r = record_lock(fd, RECORD_CLAIM);

	if (r < 0)
		return r;
	if (fstat(fd, &mine) < 0)
		return -errno;
	if (fstatat(dir, name, &named, AT_SYMLINK_NOFOLLOW) < 0 || mine.st_dev != named.st_dev ||
	    mine.st_ino != named.st_ino)
		return -ESTALE;
	return record_is_locked(fd, RECORD_LIFE) ? -EBUSY : 0;
}

static bool is_id(const char *text)
{
	return text && strlen(text) == 8 && strspn(text, "0123456789abcdef") == 8;
}

void record_remove_logs(int dir, const char *id)
{
	struct err e;
	MF_CLOSE int logs = own_dir_open(dir, "../" RECORDS_LOGS, false, &e);
	char old[16];

	if (logs < 0 || !is_id(id))
		return;
	snprintf(old, sizeof(old), "%s~", id);
	(void)unlinkat(logs, id, 0); /* it need not have any */
	(void)unlinkat(logs, old, 0);
}

/* Opens and claims the record of a dead VM; record_done ends that. Returns as record_settle. */
static int claim(int dir, const char *name, struct record *ret)
{
	struct err e;
	int r = record_read(dir, name, ret, &e);

	if (r < 0)
		return r;
	r = ret->alive ? -EBUSY : record_claim(dir, name, ret->fd);
	if (r == 0)
		r = record_update(ret); /* another process may have changed it before */
	if (r < 0)
		record_done(ret);
	return r;
}

static void remove_left(const struct record *r)
{
	const char *control = record_text(r, "control"), *vsock = record_text(r, "vsock");
	const char *cgroup = record_text(r, "cgroup");

	if (control)
		unix_socket_remove_stale(control, SOCK_SEQPACKET);
	if (vsock)
		unix_socket_remove_stale(vsock, SOCK_STREAM);
	if (cgroup)
		(void)rmdir(cgroup); /* another one may have it */
}

int record_settle(int dir, const char *name, enum end_cause cause)
{
	struct last_words line = { .len = 0 };
	struct record r;
	int result = claim(dir, name, &r);

	if (result < 0)
		return result;
	if (!json_object_get(r.json, "ended")) {
		remove_left(&r);
		if (json_is_true(json_object_get(r.json, "killing")))
			cause = END_KILLED;
		record_put_end(&line, cause, STATUS_KILLED);
		/* A torn line would hide this one. */
		result = ftruncate(r.fd, r.good) < 0 ? -errno : fdio_write_all(r.fd, line.text, line.len);
	}
	record_done(&r);
	return result;
}

void record_note_kill(struct record *r)
{
	static const char line[] = "{\"killing\":true}\n";

	(void)fdio_write_all(r->fd, line, sizeof(line) - 1); /* without it, the cause is "lost" */
}

int record_remove(int dir, const char *name)
{
	struct record r;
	int result = claim(dir, name, &r);

	if (result < 0)
		return result;
	if (!json_object_get(r.json, "ended"))
		remove_left(&r);
	record_remove_logs(dir, record_text(&r, "id"));
	result = unlinkat(dir, name, 0) < 0 ? -errno : 0;
	record_done(&r);
	return result;
}

int record_status(const struct record *r)
{
	return json_object_get(r->json, "code") ? (int)record_number(r, "code") & 0xff : STATUS_KILLED;
}

/* Cleaning. */

static bool is_older(const struct stat *st, time_t s)
{
	return time(NULL) - st->st_mtim.tv_sec > s;
}

/* A file that is no record: of a process that was killed while it made one, or damaged. */
static void remove_junk(int dir, const char *name)
{
	MF_CLOSE int fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && is_older(&st, JUNK_S) &&
	    record_claim(dir, name, fd) == 0)
		(void)unlinkat(dir, name, 0); /* or the next one does it */
}

/* Calls one for each name in a directory. */
static void each_name(int dir, void (*one)(int dir, const char *name, void *ctx), void *ctx)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *names = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!names && fd >= 0)
		close(fd);
	while (names && (entry = readdir(names)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			one(dir, entry->d_name, ctx);
	if (names)
		closedir(names);
}

struct known {
	const struct record *list;
	size_t num;
};

static void clean_name(int dir, const char *name, void *ctx)
{
	const struct known *known = ctx;

	for (size_t i = 0; i < known->num; i++)
		if (!strcmp(known->list[i].name, name))
			return;
	remove_junk(dir, name);
}

static void clean_log(int dir, const char *name, void *ctx)
{
	const struct known *known = ctx;
	struct stat st;

	for (size_t i = 0; i < known->num; i++)
		if (!strncmp(record_text(&known->list[i], "id"), name, strcspn(name, "~")))
			return;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && is_older(&st, JUNK_S))
		(void)unlinkat(dir, name, 0); /* or the next one does it */
}

static int by_change(const void *a, const void *b)
{
	const struct record *x = a, *y = b;

	if (x->changed.tv_sec != y->changed.tv_sec)
		return x->changed.tv_sec < y->changed.tv_sec ? 1 : -1;
	return x->changed.tv_nsec < y->changed.tv_nsec ? 1 : x->changed.tv_nsec > y->changed.tv_nsec ? -1 : 0;
}

int records_clean(int dir, struct err *e)
{
	struct record *list = NULL;
	struct known known;
	MF_CLOSE int logs = -1;
	struct err none;
	size_t num, ended = 0;

	if (records_list(dir, &list, &num, e) < 0)
		return e->code;
	if (num)
		qsort(list, num, sizeof(*list), by_change);
	for (size_t i = 0; i < num; i++) {
		const struct stat st = { .st_mtim = list[i].changed };

		if (list[i].alive)
			continue;
		/* What fails is another process's work, or tried again the next time. */
		if (ended++ >= RECORD_KEEP_NUM || is_older(&st, RECORD_KEEP_S))
			(void)record_remove(dir, list[i].name);
		else if (!json_object_get(list[i].json, "ended"))
			(void)record_settle(dir, list[i].name, END_LOST);
	}
	known = (struct known){ list, num };
	each_name(dir, clean_name, &known);
	logs = own_dir_open(dir, "../" RECORDS_LOGS, false, &none);
	if (logs >= 0)
		each_name(logs, clean_log, &known);
	records_free(list, num);
	return 0;
}

/* Processes. */

uint64_t record_start_ticks(pid_t pid)
{
	char path[32], text[1024];
	const char *at;
	ssize_t len;
	MF_CLOSE int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? 0 : fdio_read(fd, text, sizeof(text) - 1);
	text[len > 0 ? len : 0] = '\0';
	at = strrchr(text, ')'); /* the name before it may hold anything */
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0; /* not by sscanf: it brings 36 KB of code into memory at each start */
}

int record_open_process(const struct record *r, struct err *e)
{
	MF_CLOSE int fd = pidfd_open(r->pid, 0);
	bool foreign;

	if (fd < 0)
		return errno == ESRCH ? err_set(e, -ESRCH, "it has ended") : err_sys(e, "find process %d", r->pid);
	/*
	 * The lock is looked at after the process was opened, so that is not a later one with that PID; and after its start,
	 * which is none if it has ended meanwhile.
	 */
	foreign = r->start_ticks && record_start_ticks(r->pid) != r->start_ticks;
	if (!record_is_locked(r->fd, RECORD_LIFE))
		return err_set(e, -ESRCH, "it has ended");
	if (foreign)
		return err_set(e, -EPERM, "process %d is not its: it runs in another PID namespace", r->pid);
	return mf_take_fd(&fd);
}
