/*
 * `mayfly logs`: what a VM in the background has said. Its log is two files, the older half and the
 * newer one (detach_log.c). With -f, inotify(7) reports what is written. A file that its writer has
 * closed is complete: either a newer one has its name, or the VM has ended.
 */
#include "vmm/cmd/logs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdio.h"
#include "vmm/base/parse.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/cmd/vms.h"
#include "vmm/records/record.h"

#define BUF_SIZE (64 * KIB)

struct logs_options {
	struct vms vms;
	bool follow, has_lines;
	uint64_t lines; /* of the end */
};

static int logs_set_lines(void *target, const char *text, struct err *e)
{
	struct logs_options *o = target;

	o->has_lines = true;
	return parse_u64(text, &o->lines) < 0 ? err_set(e, -EINVAL, "must be a number of lines") : 0;
}

static const struct cli_option logs_options[] = {
	{ 'f', "follow", NULL, "continue until the VM ends", .flag = CLI_FLAG(struct logs_options, follow) },
	{ 'n', "tail", "N", "the last N lines only", .set = logs_set_lines },
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage logs_usage = {
	.command = "logs",
	.synopsis = "[-f] [-n N] NAME",
	.about = "Prints what a VM of `mayfly run --detach` has written to stdout and stderr: the\n"
		 "command's output, or the console's, and mayfly's messages.\n\n",
	.options = logs_options,
	.operand = vms_add_name,
	.list_operands = vms_list,
};

static int open_half(const char *path, const char *suffix)
{
	MF_FREE char *name = NULL;

	if (asprintf(&name, "%s%s", path, suffix) < 0) {
		name = NULL; /* asprintf leaves it undefined */
		return -1;
	}
	return open(name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
}

static bool is_same(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Opens both halves; [0] is the older one, or -1. Their names may change meanwhile. */
static int open_halves(const char *path, int fd[2], struct err *e)
{
	for (;;) {
		MF_CLOSE int again = -1;

		fd[1] = open_half(path, "");
		if (fd[1] < 0)
			return err_sys(e, "open its log '%s'", path);
		fd[0] = open_half(path, "~");
		again = open_half(path, "");
		if (again >= 0 && is_same(again, fd[1]))
			return 0;
		close(fd[1]);
		if (fd[0] >= 0)
			close(fd[0]);
	}
}

/* Copies the file from its offset to stdout, up to EOF. */
static int print_rest(int fd, char *buf, struct err *e)
{
	ssize_t n;

	while ((n = fdio_read(fd, buf, BUF_SIZE)) > 0)
		if (fdio_write_all(STDOUT_FILENO, buf, (size_t)n) < 0)
			return err_sys(e, "write to stdout");
	return n < 0 ? err_neg(e, (int)n, "read its log") : 0;
}

/*
 * Moves the offset to where the last lines begin, *lines of them at most, and takes those that there
 * are off. The end of the text counts as the end of a line.
 */
static int seek_lines(int fd, char *buf, uint64_t *lines, bool last, struct err *e)
{
	off_t end = lseek(fd, 0, SEEK_END), at = end;

	while (at > 0 && *lines) {
		size_t len = (size_t)MF_MIN(at, (off_t)BUF_SIZE);
		int r = fdio_pread_all(fd, buf, len, (uint64_t)(at - (off_t)len));

		if (r < 0)
			return err_neg(e, r, "read its log");
		for (; len > 0; len--, at--) {
			bool is_end = buf[len - 1] == '\n' && !(last && at == end);

			if (is_end && --*lines == 0)
				break;
		}
	}
	return lseek(fd, at, SEEK_SET) < 0 ? err_sys(e, "seek in its log") : 0;
}

/* Prints both halves; fd[1] is then at its end. */
static int print_halves(const struct logs_options *o, const int fd[2], char *buf, struct err *e)
{
	uint64_t lines = o->lines;

	if (o->has_lines && seek_lines(fd[1], buf, &lines, true, e) < 0)
		return e->code;
	if (fd[0] >= 0 && o->has_lines && lseek(fd[1], 0, SEEK_CUR) > 0)
		(void)lseek(fd[0], 0, SEEK_END); /* cannot fail: it is a file */
	else if (fd[0] >= 0 && o->has_lines && seek_lines(fd[0], buf, &lines, false, e) < 0)
		return e->code;
	if (fd[0] >= 0 && print_rest(fd[0], buf, e) < 0)
		return e->code;
	return print_rest(fd[1], buf, e);
}

/* Waits until something happens to the file: more, or its writer has closed it, which *ret_closed says. */
static int await_change(int notify, bool *ret_closed, struct err *e)
{
	_Alignas(struct inotify_event) char events[4096];
	ssize_t n = read(notify, events, sizeof(events)), at = 0;

	if (n < 0 && errno != EINTR)
		return err_sys(e, "wait for its log");
	while (at < n) {
		const struct inotify_event *event = (const void *)(events + at);

		*ret_closed = *ret_closed || event->mask & (IN_CLOSE_WRITE | IN_Q_OVERFLOW | IN_IGNORED);
		at += (ssize_t)sizeof(*event) + event->len;
	}
	return 0;
}

/* Follows one file until it is complete. */
static int follow_file(int fd, char *buf, struct err *e)
{
	MF_CLOSE int notify = inotify_init1(IN_CLOEXEC);
	char path[32];
	bool closed;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (notify < 0 || inotify_add_watch(notify, path, IN_MODIFY | IN_CLOSE_WRITE) < 0)
		return err_sys(e, "watch its log");
	closed = !record_file_has_writer(fd); /* after the watch began: no event is missed */
	while (print_rest(fd, buf, e) == 0) {
		if (closed)
			return 0;
		if (await_change(notify, &closed, e) < 0)
			return e->code;
		closed = closed && !record_file_has_writer(fd);
	}
	return e->code;
}

/* Follows fd[1], and the files that take its name. */
static int follow(const char *path, int fd[2], char *buf, struct err *e)
{
	int next[2];

	for (;;) {
		if (follow_file(fd[1], buf, e) < 0)
			return e->code;
		if (access(path, F_OK) < 0)
			return 0; /* removed with its VM */
		if (open_halves(path, next, e) < 0)
			return e->code;
		if (is_same(next[1], fd[1])) {
			close(next[1]);
			if (next[0] >= 0)
				close(next[0]);
			return 0;
		}
		/* A whole half came and became the older one meanwhile. */
		if (next[0] >= 0 && !is_same(next[0], fd[1]) && print_rest(next[0], buf, e) < 0)
			return e->code;
		for (unsigned i = 0; i < 2; i++) {
			if (fd[i] >= 0)
				close(fd[i]);
			fd[i] = next[i];
		}
	}
}

static int logs_one(int dir, struct record *r, void *ctx, struct err *e)
{
	const struct logs_options *o = ctx;
	const char *path = record_text(r, "log");
	static char buf[BUF_SIZE];
	int fd[2], code;

	(void)dir;
	if (!path)
		return err_set(e, -ENOENT, "it runs in the foreground: only one of --detach has a log");
	if (open_halves(path, fd, e) < 0)
		return e->code;
	code = print_halves(o, fd, buf, e);
	if (code == 0 && o->follow)
		code = follow(path, fd, buf, e);
	for (unsigned i = 0; i < 2; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	return code;
}

int logs_command(int argc, char **argv)
{
	static struct logs_options o;
	struct err e;
	int status;

	if (vms_parse(&logs_usage, &o, argc, argv, &status) < 0)
		return status;
	if (o.vms.num > 1) {
		err_set(&e, -EINVAL, "logs: one NAME only");
		return report_err(&e);
	}
	return vms_each(&o.vms, NULL, logs_one, &o);
}
