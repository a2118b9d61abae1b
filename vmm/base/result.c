/*
 * How a run ended; see result.h.
 *
 * A file is written under another name beside it, which was opened at the start: the filter of a thread forbids opening it at
 * the end. It gets its name when it is whole, so that a reader finds all of it or nothing. Pipes and sockets get it by
 * one write(2) that does not block.
 */
#include "vmm/base/result.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/date.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"

#define MESSAGE_MAX 512

/* The process in a jail may write anything here. */
struct shared {
	atomic_int cause; /* one more than enum end_cause; 0: none so far */
	atomic_int code, signo, oom;
	_Atomic uint64_t at_ms[RESULT_NUM_TIMES]; /* by clock_now_ms; 0: it has not happened */
	char message[MESSAGE_MAX];
};

static struct shared own = { .code = -1 };

static struct {
	struct shared *shared;
	uint64_t start_ms, start_unix_ms; /* the same time by two clocks */
	int fd, dir_fd;			  /* dir_fd -1: fd is a pipe, or the like */
	dev_t dev;
	ino_t ino;
	char aside[NAME_MAX + 1], name[NAME_MAX + 1];
	atomic_bool ended;
} result = { .shared = &own, .fd = -1, .dir_fd = -1 };

static const char *const time_names[RESULT_NUM_TIMES] = {
	[RESULT_STARTED] = "started",
	[RESULT_BOOTED] = "booted",
	[RESULT_COMMAND] = "command_started",
	[RESULT_ENDED] = "ended",
};

void result_init(void)
{
	struct timespec now;

	atomic_store(&result.shared->code, -1);
	clock_gettime(CLOCK_REALTIME, &now);
	result.start_unix_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	result.start_ms = clock_now_ms();
	result_at(RESULT_STARTED);
}

void result_share(void)
{
	struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		return;
	memcpy(s, &own, sizeof(*s)); /* there is one thread */
	result.shared = s;
}

/* The number of a descriptor of ours that path names, or -1. */
static int own_descriptor(const char *path)
{
	static const char dir[] = "/dev/fd/";
	uint64_t n;

	if (strcmp(path, "/dev/stdout") == 0)
		return STDOUT_FILENO;
	if (strcmp(path, "/dev/stderr") == 0)
		return STDERR_FILENO;
	return strncmp(path, dir, sizeof(dir) - 1) == 0 && parse_u64(path + sizeof(dir) - 1, &n) == 0 && n < INT_MAX ?
		       (int)n :
		       -1;
}

/* Removes what is at path, and makes the file beside it. */
static int open_aside(const char *path, struct err *e)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	MF_FREE char *dir = strndup(path, (size_t)(name - path));
	bool fits = snprintf(result.name, sizeof(result.name), "%s", name) < (int)sizeof(result.name) &&
		    snprintf(result.aside, sizeof(result.aside), ".%s.part", name) < (int)sizeof(result.aside);
	struct stat st;

	if (!dir || !fits || !*name)
		return err_set(e, -EINVAL, "is no name for a file");
	result.dir_fd = open(*dir ? dir : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (result.dir_fd < 0)
		return err_sys(e, "open its directory");
	(void)unlinkat(result.dir_fd, result.aside, 0); /* of a mayfly that was killed */
	if (unlinkat(result.dir_fd, name, 0) < 0 && errno != ENOENT)
		return err_sys(e, "remove the old one");
	result.fd = openat(result.dir_fd, result.aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (result.fd < 0 || fstat(result.fd, &st) < 0)
		return err_sys(e, "make a file beside it");
	result.dev = st.st_dev;
	result.ino = st.st_ino;
	return 0;
}

int result_open(const char *path, struct err *e)
{
	int given = own_descriptor(path);
	struct stat st;

	if (given >= 0) {
		result.fd = fcntl(given, F_DUPFD_CLOEXEC, 3);
	} else if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		result.fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	} else if (open_aside(path, e) < 0) {
		result_leave();
		return err_wrap(e, "result '%s'", path);
	}
	return result.fd < 0 ? err_sys(e, "result '%s'", path) : 0;
}

void result_leave(void)
{
	if (result.fd >= 0)
		close(mf_take_fd(&result.fd));
	if (result.dir_fd >= 0)
		close(mf_take_fd(&result.dir_fd));
}

int result_fd(void)
{
	return result.fd;
}

int result_dir_fd(void)
{
	return result.dir_fd;
}

void result_at(enum result_time what)
{
	uint64_t never = 0;

	(void)atomic_compare_exchange_strong(&result.shared->at_ms[what], &never,
					     clock_now_ms()); /* the first counts */
}

void result_set(enum end_cause cause, int code, int signo)
{
	int none = 0;

	if (!atomic_compare_exchange_strong(&result.shared->cause, &none, (int)cause + 1))
		return;
	atomic_store(&result.shared->code, code);
	atomic_store(&result.shared->signo, signo);
}

void result_set_command(int status, bool signalled, bool oom, int passed)
{
	if (oom)
		result_had_oom();
	if (passed)
		result_set(END_SIGNAL, status, passed);
	else if (!signalled)
		result_set(END_COMMAND, status, 0);
	else
		result_set(oom && status == STATUS_SIGNAL_BASE + SIGKILL ? END_OOM : END_SIGNALLED, status,
			   status - STATUS_SIGNAL_BASE);
}

enum end_cause result_cause(void)
{
	unsigned cause = (unsigned)atomic_load(&result.shared->cause);

	return cause ? (enum end_cause)(cause - 1) : END_FAILED;
}

void result_had_oom(void)
{
	atomic_store(&result.shared->oom, 1);
}

void result_say(const char *line)
{
	snprintf(result.shared->message, sizeof(result.shared->message), "%s", line);
}

const char *result_message(void)
{
	return result.shared->message;
}

static void put_padded(struct last_words *l, unsigned n, unsigned digits)
{
	for (unsigned i = 1, least = 10; i < digits; i++, least *= 10)
		if (n < least)
			last_words_put(l, "0");
	last_words_put_number(l, n, 10);
}

/* RFC 3339, with milliseconds, in UTC. */
static void put_time(struct last_words *l, uint64_t unix_ms)
{
	const uint32_t day_s = (uint32_t)(unix_ms / 1000 % 86400);
	const struct date date = date_of((uint32_t)(unix_ms / 86400000));
	const struct {
		unsigned n, digits;
		const char *behind;
	} parts[] = {
		{ (unsigned)date.year, 4, "-" },
		{ date.month, 2, "-" },
		{ date.day, 2, "T" },
		{ day_s / 3600, 2, ":" },
		{ day_s / 60 % 60, 2, ":" },
		{ day_s % 60, 2, "." },
		{ (unsigned)(unix_ms % 1000), 3, "Z" },
	};

	last_words_put(l, "\"");
	for (size_t i = 0; i < MF_ARRAY_SIZE(parts); i++) {
		put_padded(l, parts[i].n, parts[i].digits);
		last_words_put(l, parts[i].behind);
	}
	last_words_put(l, "\"");
}

/* A string of JSON, in ASCII: bytes that are none become '?'. */
static void put_string(struct last_words *l, const char *text, size_t max)
{
	last_words_put(l, "\"");
	for (size_t i = 0; i < max && text[i]; i++) {
		char byte = text[i];
		const char one[] = { byte, '\0' };

		if (byte == '"' || byte == '\\')
			last_words_put(l, "\\");
		last_words_put(l, byte < ' ' || byte > '~' ? "?" : one);
	}
	last_words_put(l, "\"");
}

static void put_key(struct last_words *l, const char *key)
{
	last_words_put(l, ", ");
	put_string(l, key, SIZE_MAX);
	last_words_put(l, ": ");
}

/* Of those that are not negative, or else null. */
static void put_number(struct last_words *l, const char *key, int n)
{
	put_key(l, key);
	if (n < 0)
		last_words_put(l, "null");
	else
		last_words_put_number(l, (uint64_t)n, 10);
}

void result_text(struct last_words *ret, int status)
{
	struct shared *s = result.shared;
	int signo = atomic_load(&s->signo);
	bool over = atomic_load(&s->cause);

	ret->len = 0;
	last_words_put(ret, "{\"version\": 1, \"cause\": ");
	put_string(ret, over ? end_cause_name(result_cause()) : "", SIZE_MAX);
	put_number(ret, "status", !over ? -1 : status < 0 ? STATUS_SIGNAL_BASE - status : status);
	put_number(ret, "code", atomic_load(&s->code));
	put_number(ret, "signal", signo > 0 ? signo : -1);
	put_key(ret, "oom");
	last_words_put(ret, atomic_load(&s->oom) ? "true" : "false");
	put_key(ret, "message");
	put_string(ret, s->message, sizeof(s->message));
	for (unsigned i = 0; i < RESULT_NUM_TIMES; i++) {
		uint64_t at_ms = atomic_load(&s->at_ms[i]);

		put_key(ret, time_names[i]);
		if (at_ms < result.start_ms || !at_ms)
			last_words_put(ret, "null");
		else
			put_time(ret, result.start_unix_ms + at_ms - result.start_ms);
	}
	last_words_put(ret, "}\n");
}

/* To the pipe, the terminal or the socket, unless that would have to wait. */
static int write_now(const struct last_words *l)
{
	struct pollfd room = { .fd = result.fd, .events = POLLOUT };
	ssize_t n = poll(&room, 1, 0) > 0 ? write(result.fd, l->text, l->len) : -1;

	return n == (ssize_t)l->len ? 0 : -EAGAIN;
}

/* Whether the name beside is still that of our file: another mayfly with the same result takes it. */
static bool is_ours(void)
{
	struct stat st;

	return fstatat(result.dir_fd, result.aside, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == result.dev &&
	       st.st_ino == result.ino;
}

static int write_file(const struct last_words *l)
{
	ssize_t n = write(result.fd, l->text, l->len);
	int r = n == (ssize_t)l->len ? 0 : n < 0 ? -errno : -ENOSPC;

	if (!is_ours())
		return -ESTALE;
	/* Not by renameat2(3), which without flags is renameat(2), and another entry in each filter. */
	if (r == 0 && syscall(SYS_renameat2, result.dir_fd, result.aside, result.dir_fd, result.name, 0) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(result.dir_fd, result.aside, 0); /* only the file beside is left then */
	return r;
}

int result_end(int status)
{
	static struct last_words text; /* too large for the stack of a signal */

	if (atomic_exchange(&result.ended, true))
		return 0;
	result_at(RESULT_ENDED);
	if (result.fd < 0)
		return 0;
	result_text(&text, status);
	return result.dir_fd < 0 ? write_now(&text) : write_file(&text);
}
