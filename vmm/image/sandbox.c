/* Programs in bubblewrap; see sandbox.h. */
#include "vmm/image/sandbox.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/helper/archive_bound.h"
#include "vmm/helper/spawn.h"

#define TIME_MAX_S "4000" /* of a program; skopeo has a lower limit of its own */
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* What a program needs that writes the files of an image as they are there. */
static const char *const file_capabilities[] = { "CAP_CHOWN",  "CAP_DAC_OVERRIDE", "CAP_FOWNER",
						 "CAP_FSETID", "CAP_MKNOD",	   "CAP_SETFCAP" };

void sandbox_add(struct sandbox *s, ...)
{
	const char *text;
	va_list args;

	va_start(args, s);
	while ((text = va_arg(args, const char *))) {
		assert(s->num < SANDBOX_ARGS_MAX);
		s->argv[s->num++] = text;
	}
	va_end(args);
}

static void begin(struct sandbox *s, const char *program, const char *package, const char *work)
{
	s->program = program;
	s->package = package;
	s->out = -1;
	sandbox_add(s, "bwrap", "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
		    "--cap-drop", "ALL", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink",
		    "usr/sbin", "/sbin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc",
		    "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--bind", work, SANDBOX_WORK, "--symlink",
		    SANDBOX_WORK, "/var/tmp", "--chdir", SANDBOX_WORK, NULL);
}

/* Root has all ids. */
static void add_ids(struct sandbox *s)
{
	if (geteuid() != 0)
		sandbox_add(s, "unshare", "--map-root-user", "--map-auto", "--", NULL);
}

void sandbox_begin_ids(struct sandbox *s, const char *program, const char *package, const char *work)
{
	*s = (struct sandbox){ .num = 0 };
	add_ids(s);
	begin(s, program, package, work);
	sandbox_add(s, "--unshare-net", NULL);
	for (size_t i = 0; i < MF_ARRAY_SIZE(file_capabilities); i++)
		sandbox_add(s, "--cap-add", file_capabilities[i], NULL);
}

void sandbox_begin_network(struct sandbox *s, const char *program, const char *package, const char *work)
{
	*s = (struct sandbox){ .num = 0 };
	begin(s, program, package, work);
}

void sandbox_program(struct sandbox *s, uint64_t file_max)
{
	s->file_max = file_max;
	sandbox_add(s, "--", NULL);
	if (file_max) {
		snprintf(s->limit, sizeof(s->limit), "--fsize=%llu", (unsigned long long)file_max);
		sandbox_add(s, "prlimit", s->limit, "--", NULL);
	}
	sandbox_add(s, "timeout", "-k", "5", TIME_MAX_S, s->program, NULL);
}

/* Whether a directory of PATH has the program. */
static bool is_installed(const char *program)
{
	const char *path = getenv("PATH");
	MF_FREE char *copy = strdup(path ? path : "/usr/bin:/bin");
	char *rest = copy, *dir;

	while (rest && (dir = strsep(&rest, ":"))) {
		MF_FREE char *file = NULL;

		if (asprintf(&file, "%s/%s", dir, program) < 0)
			file = NULL; /* asprintf leaves it undefined */
		if (file && access(file, X_OK) == 0)
			return true;
	}
	return false;
}

static int check_installed(const struct sandbox *s, struct err *e)
{
	const struct {
		const char *program, *package;
	} needed[] = { { s->program, s->package },
		       { "bwrap", "bubblewrap" },
		       { strcmp(s->argv[0], "bwrap") ? "newuidmap" : "bwrap", "uidmap" } };

	for (size_t i = 0; i < MF_ARRAY_SIZE(needed); i++)
		if (!is_installed(needed[i].program))
			return err_set(e, -ENOENT, "%s is not installed ('apt install %s')", needed[i].program,
				       needed[i].package);
	return 0;
}

/* skopeo's errors are lines of key="value"; the message is the last. */
static const char *message_of(char *line)
{
	char *message = strstr(line, "msg=\"");
	size_t len;

	if (!message)
		return line + strcspn(line, LETTERS);
	message += strlen("msg=\"");
	len = strlen(message);
	if (len && message[len - 1] == '"')
		message[len - 1] = '\0';
	return message;
}

/* In the words of programs in Go, which write by parts: the last one is written in part. */
static bool met_limit(const char *said)
{
	return strstr(said, "file too large") || strstr(said, "SIGXFSZ") || strstr(said, "short write");
}

static int fail(const struct sandbox *s, char *said, struct err *e)
{
	static const char *const skip[] = { "usage", "Usage", NULL };
	char max[PARSE_SIZE_TEXT_MAX];

	if (strstr(said, "unshare: failed to find sub"))
		return err_set(e, -ECHILD,
			       "this user has no subordinate ids for the files of an image; root gives some by 'usermod "
			       "--add-subuids 100000-165535 --add-subgids 100000-165535 USER'");
	if (s->file_max && met_limit(said)) {
		parse_format_size(s->file_max, max);
		return err_set(e, -EFBIG,
			       "%s writes a file of more than %s bytes, the most that an image may have "
			       "($" ARCHIVE_BOUND_ENV ")",
			       s->program, max);
	}
	return err_set(e, -ECHILD, "%s has failed: %s", s->program,
		       message_of((char *)(uintptr_t)spawn_last_line(said, skip)));
}

int sandbox_run(struct sandbox *s, char *said, size_t size, struct err *e)
{
	MF_CLOSE int said_read = -1;
	MF_CLOSE int said_write = -1;
	int ends[2], r;
	pid_t pid;

	if (check_installed(s, e) < 0)
		return e->code;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	said_read = ends[0];
	said_write = ends[1];
	pid = spawn_start(s->argv, (const int[SPAWN_FDS]){ -1, s->out, said_write, -1 }, SIGKILL, "util-linux", e);
	if (pid < 0)
		return pid;
	close(mf_take_fd(&said_write));
	/* It ends with the sandbox, of which no process outlives the first. */
	s->said_lost = spawn_read_end(said_read, said, size);
	r = spawn_wait(pid, s->program, e);
	return r == -ECHILD && *said ? fail(s, said, e) : r;
}

void sandbox_remove(const char *path)
{
	static const int none[SPAWN_FDS] = { -1, -1, -1, -1 };
	struct sandbox s = { .num = 0 };
	struct err e;
	pid_t pid;

	add_ids(&s);
	sandbox_add(&s, "rm", "-rf", "--", path, NULL);
	pid = spawn_start(s.argv, none, SIGKILL, "coreutils", &e);
	if (pid > 0)
		(void)spawn_wait(pid, "rm", &e);
}
