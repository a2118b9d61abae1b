/* Reads records; see record.h. All that a file says is checked here: it may be torn, or somebody else's. */
#include "vmm/records/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/own_dir.h"
#include "vmm/config/config.h"
#include "vmm/records/record_parts.h"

#define NUMBER_MAX (1LL << 53) /* what every reader of JSON understands */

_Static_assert(RECORD_NAME_MAX == CONFIG_ID_MAX, "a record has the VM's name");

/* The members that readers here rely on. "ended" and "started" are numbers of either type. */
static const struct {
	const char *key;
	bool number;
} checked[] = {
	{ "name", false },	 { "id", false },   { "cause", false }, { "control", false }, { "vsock", false },
	{ "cgroup", false },	 { "log", false },  { "root", false },	{ "kernel", false },  { "pid", true },
	{ "start_ticks", true }, { "mem", true },   { "cpus", true },	{ "code", true },     { "created", true },
	{ "started", true },	 { "ended", true },
};

const char *record_state_name(enum record_state state)
{
	static const char *const names[] = {
		[RECORD_WAITING] = "waiting", [RECORD_STARTING] = "starting", [RECORD_RUNNING] = "running",
		[RECORD_ENDED] = "ended",     [RECORD_LOST] = "lost",
	};

	return names[state];
}

int records_open(bool make, struct err *e)
{
	MF_FREE char *path = NULL;
	MF_CLOSE int parent = -1;
	int dir;

	if (config_run_dir(&path, e) < 0)
		return e->code;
	parent = own_dir_open(AT_FDCWD, path, make, e);
	if (parent < 0)
		return parent;
	dir = own_dir_open(parent, RECORDS_DIR, make, e);
	return dir < 0 ? err_wrap(e, "in '%s'", path) : dir;
}

bool record_name_is_valid(const char *name)
{
	const size_t len = strlen(name);

	return len > 0 && len <= RECORD_NAME_MAX && name[0] != '.' && !strchr(name, '/');
}

bool record_is_locked(int fd, off_t byte)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	/* Without an answer, nothing may be removed. */
	return fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

bool record_file_has_writer(int fd)
{
	return record_is_locked(fd, RECORD_LIFE);
}

/* All numbers, since record_number converts them. */
static bool has_types(json_t *json)
{
	const char *key;
	json_t *member;

	json_object_foreach(json, key, member)
		if (json_is_number(member) &&
		    (json_number_value(member) < 0 || json_number_value(member) > (double)NUMBER_MAX))
			return false;
	for (size_t i = 0; i < MF_ARRAY_SIZE(checked); i++) {
		const json_t *value = json_object_get(json, checked[i].key);

		if (!value)
			continue;
		if (checked[i].number ? !json_is_number(value) : !json_is_string(value))
			return false;
	}
	return true;
}

/* Adds the members of a line. Returns false if it is no object of ours. */
static bool take_line(json_t *json, const char *line, size_t len)
{
	json_t *members = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	bool good = json_is_object(members) && has_types(members) && json_object_update(json, members) == 0;

	json_decref(members);
	return good;
}

static enum record_state state_of(const struct record *r)
{
	const char *cause = record_text(r, "cause");

	if (json_object_get(r->json, "ended"))
		return cause && !strcmp(cause, end_cause_name(END_LOST)) ? RECORD_LOST : RECORD_ENDED;
	if (!r->alive)
		return RECORD_LOST;
	if (json_is_true(json_object_get(r->json, "waits")))
		return RECORD_WAITING;
	return json_object_get(r->json, "started") ? RECORD_RUNNING : RECORD_STARTING;
}

/* Reads the lines of text. Returns 0, or -EBADMSG if the first is none of ours. */
static int take_text(struct record *r, const char *text, size_t len)
{
	const char *line = text, *end;
	json_t *json = json_object();

	for (; json && (end = memchr(line, '\n', len)); line = end + 1) {
		if (!take_line(json, line, (size_t)(end - line)))
			break;
		len -= (size_t)(end + 1 - line);
		r->good += end + 1 - line;
	}
	json_decref(r->json);
	r->json = json;
	if (record_number(r, "mayfly") != RECORD_VERSION || record_number(r, "pid") <= 0 ||
	    record_number(r, "pid") > INT32_MAX || !record_text(r, "id") || !record_text(r, "name") ||
	    strcmp(record_text(r, "name"), r->name) != 0)
		return -EBADMSG;
	r->pid = (pid_t)record_number(r, "pid");
	r->start_ticks = (uint64_t)record_number(r, "start_ticks");
	r->state = state_of(r);
	return json_object_set_new(json, "state", json_string(record_state_name(r->state))) < 0 ? -ENOMEM : 0;
}

int record_update(struct record *r)
{
	MF_FREE char *text = NULL;
	struct stat st;
	ssize_t len;

	if (fstat(r->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH) ||
	    st.st_size > RECORD_BYTES_MAX)
		return -EBADMSG;
	r->alive = record_is_locked(r->fd, RECORD_LIFE); /* first: a dead one's text is complete */
	text = malloc(RECORD_BYTES_MAX);
	if (!text)
		return -ENOMEM;
	len = fdio_pread(r->fd, text, RECORD_BYTES_MAX, 0);
	if (len < 0)
		return (int)len;
	r->changed = st.st_mtim;
	r->good = 0;
	return take_text(r, text, (size_t)len);
}

int record_read(int dir, const char *name, struct record *ret, struct err *e)
{
	struct record r = { .fd = -1 };
	int code;

	if (!record_name_is_valid(name))
		return err_set(e, -ENOENT, "no VM can have that name");
	snprintf(r.name, sizeof(r.name), "%s", name);
	r.fd = openat(dir, name, O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (r.fd < 0 && errno == ENOENT)
		return err_set(e, -ENOENT, "no VM has that name; `mayfly ps -a` lists them");
	if (r.fd < 0 && (errno == ELOOP || errno == EACCES || errno == EISDIR))
		return err_set(e, -EBADMSG, "its record is a symlink, a directory, or another user's");
	if (r.fd < 0)
		return err_sys(e, "open its record");
	code = record_update(&r);
	if (code < 0) {
		record_done(&r);
		return code == -EBADMSG ? err_set(e, code, "its record is damaged, or another user's") :
					  err_neg(e, code, "read its record");
	}
	*ret = r;
	return 0;
}

int record_find(const char *name, struct record *ret, struct err *e)
{
	MF_CLOSE int dir = records_open(false, e);

	if (dir == -ENOENT)
		err_set(e, -ENOENT, "no VM has that name; `mayfly ps -a` lists them");
	return dir < 0 || record_read(dir, name, ret, e) < 0 ? err_wrap(e, "'%.80s'", name) : 0;
}

void record_done(struct record *r)
{
	json_decref(r->json);
	if (r->fd >= 0)
		close(r->fd);
	*r = (struct record){ .fd = -1 };
}

const char *record_text(const struct record *r, const char *key)
{
	return json_string_value(json_object_get(r->json, key));
}

double record_time(const struct record *r, const char *key)
{
	return json_number_value(json_object_get(r->json, key));
}

int64_t record_number(const struct record *r, const char *key)
{
	return (int64_t)record_time(r, key);
}

static int by_age(const void *a, const void *b)
{
	const struct record *x = a, *y = b;
	const double first = record_time(x, "created"), second = record_time(y, "created");

	return first < second ? -1 : first > second ? 1 : strcmp(x->name, y->name);
}

/* Adds a record to a list with room for *room. */
static int add(struct record **list, size_t *num, size_t *room, struct record *r)
{
	if (*num == *room) {
		struct record *more = reallocarray(*list, *room * 2 + 16, sizeof(**list));

		if (!more)
			return -ENOMEM;
		*list = more;
		*room = *room * 2 + 16;
	}
	(*list)[(*num)++] = *r;
	return 0;
}

int records_list(int dir, struct record **ret, size_t *ret_num, struct err *e)
{
	MF_CLOSE int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct record *list = NULL, r;
	size_t num = 0, room = 0;
	struct dirent *entry;
	struct err why;
	DIR *names;
	int code = 0;

	names = fd < 0 ? NULL : fdopendir(fd);
	if (!names)
		return err_sys(e, "list the records");
	fd = -1; /* closedir closes it */
	while (code == 0 && (entry = readdir(names))) {
		code = record_read(dir, entry->d_name, &r, &why);
		if (code == -ENOENT || code == -EBADMSG) {
			code = 0; /* removed meanwhile, or none of ours */
			continue;
		}
		if (code < 0)
			break;
		close(mf_take_fd(&r.fd)); /* there may be more of them than a process may have files */
		code = add(&list, &num, &room, &r);
		if (code < 0)
			record_done(&r);
	}
	closedir(names);
	if (code < 0) {
		records_free(list, num);
		return err_neg(e, code, "list the records");
	}
	if (num)
		qsort(list, num, sizeof(*list), by_age);
	*ret = list;
	*ret_num = num;
	return 0;
}

void records_free(struct record *list, size_t num)
{
	for (size_t i = 0; i < num; i++)
		record_done(&list[i]);
	free(list);
}
