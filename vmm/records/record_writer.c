/* The VM's own side of its record; see record.h. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdio.h"
#include "vmm/base/last_words.h"
#include "vmm/base/log.h"
#include "vmm/base/own_dir.h"
#include "vmm/config/config.h"
#include "vmm/records/record.h"
#include "vmm/records/record_parts.h"

#define TRIES 100
#define TRY_MS 10

/* A string that JSON can hold: without UTF-8, bytes beyond ASCII become '?'. NULL for NULL. */
static json_t *text_json(const char *text)
{
	json_t *json = text ? json_string(text) : NULL;
	MF_FREE char *ascii = !json && text ? strdup(text) : NULL;

	for (char *c = ascii; c && *c; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	return ascii ? json_string(ascii) : json;
}

/* The same for a path, which a process elsewhere can use. */
static json_t *path_json(const char *path)
{
	MF_FREE char *cwd = path && *path != '/' ? getcwd(NULL, 0) : NULL;
	MF_FREE char *whole = NULL;

	if (cwd && asprintf(&whole, "%s/%s", cwd, path) < 0)
		whole = NULL; /* asprintf leaves it undefined */
	return text_json(whole ? whole : path);
}

static json_t *command_json(const struct config_list *args)
{
	json_t *list = json_array();
	size_t len = 0;

	for (unsigned i = 0; i < args->num; i++) {
		len += strlen(args->text[i]) + 1;
		if (len > RECORD_COMMAND_MAX) {
			(void)json_array_append_new(list, json_string("...")); /* a missing one is no loss */
			break;
		}
		(void)json_array_append_new(list, text_json(args->text[i])); /* the same */
	}
	return list;
}

/* Adds a member, unless it is NULL. */
static void put(json_t *to, const char *key, json_t *value)
{
	if (value)
		(void)json_object_set_new(to, key, value); /* without memory, json_dumps fails as well */
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (double)(ts.tv_sec * 1000 + ts.tv_nsec / 1000000) / 1000;
}

/* The first line. Returns a new string, or NULL. */
static char *first_line(const struct config *c, const char *name, const char *id)
{
	json_t *json = json_object();
	MF_FREE char *text = NULL;
	char *line;

	put(json, "mayfly", json_integer(RECORD_VERSION));
	put(json, "name", json_string(name));
	put(json, "id", json_string(id));
	put(json, "named", json_boolean(c->name));
	put(json, "pid", json_integer(getpid()));
	put(json, "start_ticks", json_integer((json_int_t)record_start_ticks(getpid())));
	put(json, "uid", json_integer(geteuid()));
	put(json, "created", json_real(now()));
	put(json, "command", command_json(&c->command.args));
	put(json, "root", c->num_drives ? path_json(c->drive[0].path) : NULL);
	put(json, "kernel", path_json(c->kernel));
	put(json, "cpus", json_integer(c->cpus));
	put(json, "mem", json_integer((json_int_t)c->mem));
	put(json, "jail", json_boolean(c->jail.on));
	put(json, "detached", json_boolean(c->detach));
	put(json, "control", c->control ? path_json(c->control) : NULL);
	put(json, "vsock", path_json(c->vsock.path));
	put(json, "pool", path_json(c->pool));
	put(json, "waits", c->pool && !c->pool_runs ? json_true() : NULL);
	text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(15));
	json_decref(json);
	if (!text || asprintf(&line, "%s\n", text) < 0)
		return NULL;
	return line;
}

/* Makes the file under a name of its own, with the lock and the first line. */
static int make_file(struct record_writer *w, const char *aside, const char *line, struct err *e)
{
	int r;

	w->fd = openat(w->dir, aside, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (w->fd < 0)
		return err_sys(e, "make a record");
	r = record_lock(w->fd, RECORD_LIFE);
	if (r == 0)
		r = fdio_write_all(w->fd, line, strlen(line));
	return r < 0 ? err_neg(e, r, "write a record") : 0;
}

/* Another file has the name: removes the record of a VM that has ended. 0 or -EAGAIN: try again. */
static int take_over(const struct record_writer *w, struct err *e)
{
	MF_CLOSE int fd = openat(w->dir, w->name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct record old;
	int r;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_sys(e, "examine the record of that name");
	r = record_claim(w->dir, w->name, fd);
	if (r == -EAGAIN || r == -ESTALE)
		return r == -EAGAIN ? r : 0;
	if (record_read(w->dir, w->name, &old, e) == 0) {
		if (r == -EBUSY)
			err_set(e, -EEXIST,
				"a VM of that name runs, PID %d: end it (mayfly stop %s), or choose another name",
				old.pid, old.name);
		else
			record_remove_logs(w->dir, record_text(&old, "id"));
		record_done(&old);
	} else if (r == -EBUSY) {
		err_set(e, -EEXIST, "a VM of that name runs: choose another name");
	}
	if (r < 0)
		return r == -EBUSY ? e->code : err_neg(e, r, "lock the record of that name");
	return unlinkat(w->dir, w->name, 0) < 0 && errno != ENOENT ? err_sys(e, "remove the record of that name") : 0;
}

/* Gives the file its name, as soon as that is free. */
static int take_name(const struct record_writer *w, const char *aside, struct err *e)
{
	static const struct timespec pause = { .tv_nsec = TRY_MS * 1000000L };
	int r = 0;

	for (unsigned i = 0; i < TRIES; i++) {
		if (linkat(w->dir, aside, w->dir, w->name, 0) == 0)
			return 0;
		if (errno != EEXIST)
			return err_sys(e, "name the record");
		r = take_over(w, e);
		if (r < 0 && r != -EAGAIN)
			return r;
		if (r == -EAGAIN)
			nanosleep(&pause, NULL);
	}
	return err_set(e, -EAGAIN, "other processes hold the record of that name: try again");
}

/* Cleans up, unless somebody has just done so: the time of the last access to the directory says so. */
static void clean_now_and_then(int dir)
{
	const struct timespec times[] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } };
	struct timespec ts;
	struct stat st;
	struct err e;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (fstat(dir, &st) < 0 || (ts.tv_sec - st.st_atim.tv_sec) * 1000 < RECORD_CLEAN_MS)
		return;
	if (records_clean(dir, &e) < 0)
		log_info("records: %s; continuing", e.text);
	(void)futimens(dir, times); /* it is cleaned again then */
}

char *record_directory(const struct record_writer *w)
{
	MF_FREE char *run = NULL;
	struct err e;
	char *path;

	if (w->fd < 0 || config_run_dir(&run, &e) < 0 || asprintf(&path, "%s/" RECORDS_DIR, run) < 0)
		return NULL;
	return path;
}

int record_begin(struct record_writer *w, const struct config *c, struct err *e)
{
	struct record_writer new = RECORD_WRITER_INIT;
	MF_FREE char *line = NULL;
	char id[9], aside[32];
	uint32_t random[2];
	int r;

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return err_sys(e, "choose a name");
	snprintf(id, sizeof(id), "%08x", random[0]);
	json_object_seed(random[1] | 1); /* 0 would make it read /dev/urandom, which takes longer */
	snprintf(aside, sizeof(aside), ".new-%s", id);
	snprintf(new.name, sizeof(new.name), "%s", c->name ? c->name : id);
	snprintf(new.id, sizeof(new.id), "%s", id);
	new.remove = c->remove || (!c->name && !c->detach);
	new.dir = records_open(true, e);
	if (new.dir < 0)
		return new.dir;
	if (!c->pool_runs) /* a claim is not made to wait for that */
		clean_now_and_then(new.dir);
	line = first_line(c, new.name, id);
	r = line ? make_file(&new, aside, line, e) : err_set(e, -ENOMEM, "out of memory");
	if (r == 0)
		r = take_name(&new, aside, e);
	(void)unlinkat(new.dir, aside, 0); /* records_clean removes what is left */
	if (r < 0) {
		close(new.dir);
		if (new.fd >= 0)
			close(new.fd);
		return r;
	}
	*w = new;
	return 0;
}

int record_open_logs(const struct record_writer *w, char **ret_path, struct err *e)
{
	MF_FREE char *run = NULL;
	MF_CLOSE int parent = -1;
	int dir;

	if (config_run_dir(&run, e) < 0)
		return e->code;
	parent = own_dir_open(AT_FDCWD, run, false, e);
	dir = parent < 0 ? parent : own_dir_open(parent, RECORDS_LOGS, true, e);
	if (dir < 0)
		return dir;
	if (asprintf(ret_path, "%s/" RECORDS_LOGS "/%s", run, w->id) < 0) {
		*ret_path = NULL; /* asprintf leaves it undefined */
		close(dir);
		return err_set(e, -ENOMEM, "out of memory");
	}
	return dir;
}

/* Adds a line. json is taken over. */
static void add_line(struct record_writer *w, json_t *json, const char *what)
{
	MF_FREE char *text = json_dumps(json, JSON_COMPACT);
	MF_FREE char *line = NULL;

	json_decref(json);
	if (!text || asprintf(&line, "%s\n", text) < 0)
		line = NULL; /* asprintf leaves it undefined */
	if (w->fd >= 0 && (!line || fdio_write_all(w->fd, line, strlen(line)) < 0))
		log_warn("the record lacks '%s'; continuing", what);
}

void record_add_text(struct record_writer *w, const char *key, const char *value)
{
	json_t *json = json_object();

	put(json, key, text_json(value));
	add_line(w, json, key);
}

void record_drop(struct record_writer *w)
{
	if (w->fd < 0)
		return;
	(void)unlinkat(w->dir, w->name, 0); /* or the next one that cleans up removes it */
	close(mf_take_fd(&w->fd));
	close(mf_take_fd(&w->dir));
}

void record_waits(struct record_writer *w)
{
	json_t *json = json_object();

	put(json, "waits", json_true());
	add_line(w, json, "waits");
}

int record_claimed(struct record_writer *w, const struct config *c, struct err *e)
{
	struct record_writer named = RECORD_WRITER_INIT;
	json_t *json;

	if (c->name) {
		if (record_begin(&named, c, e) < 0)
			return e->code;
		record_drop(w);
		*w = named;
	}
	json = json_object();
	put(json, "waits", json_false());
	put(json, "command", command_json(&c->command.args));
	add_line(w, json, "command");
	return 0;
}

/* Async-signal-safe from here on. */

static void put_time(struct last_words *l, const char *key)
{
	struct timespec ts;
	uint64_t ms;

	clock_gettime(CLOCK_REALTIME, &ts);
	ms = (uint64_t)ts.tv_nsec / 1000000;
	last_words_put(l, "{\"");
	last_words_put(l, key);
	last_words_put(l, "\":");
	last_words_put_number(l, (uint64_t)ts.tv_sec, 10);
	last_words_put(l, ms < 10 ? ".00" : ms < 100 ? ".0" : ".");
	last_words_put_number(l, ms, 10);
}

void record_put_end(struct last_words *l, enum end_cause cause, int code)
{
	put_time(l, "ended");
	last_words_put(l, ",\"cause\":\"");
	last_words_put(l, end_cause_name(cause));
	last_words_put(l, "\",\"code\":");
	last_words_put_number(l, (uint64_t)code, 10);
	last_words_put(l, "}\n");
}

void record_started(struct record_writer *w)
{
	struct last_words line = { .len = 0 };

	if (w->fd < 0)
		return;
	put_time(&line, "started");
	last_words_put(&line, "}\n");
	(void)!write(w->fd, line.text, line.len); /* without it, the VM is listed as one that starts */
	if (w->ready_fd >= 0)
		(void)!write(w->ready_fd, "", 1); /* if the log has ended, nobody waits */
}

void record_end(struct record_writer *w, enum end_cause cause, int code)
{
	struct last_words line = { .len = 0 };

	if (w->fd < 0 || w->ended)
		return;
	w->ended = true;
	record_put_end(&line, cause, code < 0 ? STATUS_SIGNAL_BASE - code : code);
	(void)!write(w->fd, line.text, line.len); /* without it, the VM is listed as lost */
	if (w->remove)
		(void)unlinkat(w->dir, w->name, 0); /* or the next one that cleans up removes it */
}
