/*
 * A command's process, from fork() to exec.
 *
 * It has a copy of all of init's memory, so it builds its arguments and environment in
 * arrays of init's that nothing else uses. Errors go through the report pipe, which exec
 * closes. Until the user is changed it runs as root. The descriptors are given to the
 * user, who could not open /dev/stdout otherwise.
 */
#include "loader/init/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loader/init/fd.h"
#include "loader/init/proto.h"
#include "loader/init/tar.h"
#include "loader/init/text.h"
#include "loader/init/unpack.h"
#include "loader/init/user.h"

#define STRINGS_MAX (INIT_COMMAND_MAX / 2 + 8)
#define FILES_MAX 1024 /* of init itself */
#define TTY_GROUP 5    /* as devpts is mounted */

static char *args[STRINGS_MAX + 1]; /* and one more for the shell of a script */
static char *vars[STRINGS_MAX];
static struct user user;

static void process_fail(const struct process *process, int status, const struct text *why) __attribute__((noreturn));

static void process_fail(const struct process *process, int status, const struct text *why)
{
	const char byte = (char)status;

	/* If no reader is left, there is nothing else to do. */
	(void)fd_write(process->report, &byte, 1);
	(void)fd_write(process->report, why->s, why->len);
	_exit(status);
}

/* Sets KEY=VALUE, in place of what the key was set to. */
static void process_set(const char *var)
{
	size_t key = strcspn(var, "=") + 1, i = 0;

	while (vars[i] != NULL && strncmp(vars[i], var, key) != 0)
		i++;
	/* exec's arrays are not const, but it does not write to what they point to. */
	if (i < STRINGS_MAX - 1)
		vars[i] = (char *)(uintptr_t)var;
}

static const char *process_get(const char *key)
{
	size_t len = strlen(key);

	for (size_t i = 0; vars[i] != NULL; i++) {
		if (strncmp(vars[i], key, len) == 0)
			return vars[i] + len;
	}
	return "";
}

/* "N:SOFT:HARD": a limit by its number in Linux. A text of another form, and what the kernel refuses, changes nothing. */
static void process_limit(const char *text)
{
	unsigned long value[3]; /* as a struct rlimit behind the number */

	for (unsigned i = 0; i < 3; i++) {
		text = text_digits(text, ULONG_MAX, &value[i]);
		if (text == NULL)
			return;
		text += *text == ':';
	}
	(void)syscall(SYS_prlimit64, 0, value[0], &value[1], NULL);
}

static void process_set_all(const struct process *process)
{
	unsigned long group, mask;
	static char home[USER_HOME_MAX + 8] = "HOME=", name[USER_NAME_MAX + 8] = "USER=";
	const char *s;
	size_t at = 0, count = 0;

	process_set("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	strcat(home, user.home[0] == '\0' ? "/" : user.home);
	process_set(home);
	strcat(name, user.name);
	if (user.name[0] != '\0')
		process_set(name);
	if (process->tty)
		process_set("TERM=xterm");
	while ((s = text_next(process->list, process->len, &at)) != NULL) {
		if (s[0] == 'e')
			process_set(s + 1);
		else if (s[0] == 'a' && count < STRINGS_MAX - 1)
			args[1 + count++] = (char *)(uintptr_t)(s + 1);
		else if (s[0] == 'R')
			process_limit(s + 1);
		else if (s[0] == 'm' && text_number(s + 1, 0777, &mask))
			umask((mode_t)mask);
		else if (s[0] == 'G' && user.groups < USER_GROUPS_MAX && text_number(s + 1, UINT_MAX - 1, &group))
			user.group[user.groups++] = (gid_t)group;
	}
}

/* A soft limit that programs with select() and loops over all descriptors can live with, and no other hard one than Linux's. */
static void process_limit_files(void)
{
	struct rlimit files = { .rlim_cur = 1024, .rlim_max = 1 << 20 };
	unsigned long most;
	char text[32];
	long len = fd_read_file("/proc/sys/fs/nr_open", text, sizeof(text));

	if (len > 0 && text_digits(text, ULONG_MAX, &most) != NULL)
		files.rlim_max = most;
	/* It keeps what the kernel gave PID 1 if this fails. */
	(void)syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &files, NULL);
}

/*
 * Sets up a session of its own, the terminal, if it has one, and standard input, output
 * and errors.
 */
static void process_attach(const struct process *process)
{
	struct text why = { 0 };
	int fds[3];

	setsid();
	for (int i = 0; i < 3; i++) {
		/* First above those that they become, so that none is overwritten. */
		fds[i] = fcntl(process->fds[i], F_DUPFD_CLOEXEC, 3);
		/* A console may not be given away, which is no reason not to run. */
		(void)fchown(fds[i], user.uid, process->tty ? TTY_GROUP : user.gid);
	}
	for (int i = 0; i < 3; i++) {
		if (dup2(fds[i], i) < 0) {
			text_add(&why, "standard input and output", NULL);
			text_add_error(&why, errno);
			process_fail(process, PROCESS_NOT_RUN, &why);
		}
	}
	/* Without it there is no job control, and no more. */
	if (process->tty)
		(void)ioctl(0, TIOCSCTTY, 1);
}

static void process_become(const struct process *process)
{
	const char *directory = text_find(process->list, process->len, 'w');
	const char *spec = text_find(process->list, process->len, 'u');
	struct text why = { 0 };

	/* Not by setuid() and the like: their care for threads would be a tenth of the program. */
	if (syscall(SYS_setgroups, user.groups, user.group) < 0 || syscall(SYS_setgid, user.gid) < 0 ||
	    syscall(SYS_setuid, user.uid) < 0) {
		text_add(&why, "user '", spec == NULL ? "root" : spec, "'", NULL);
		text_add_error(&why, errno);
		process_fail(process, PROCESS_NOT_RUN, &why);
	}
	if (directory == NULL) {
		/* Neither is a must. */
		if (spec == NULL || chdir(user.home) < 0)
			(void)chdir("/");
	} else if (chdir(directory) < 0) {
		text_add(&why, "directory '", directory, "'", NULL);
		text_add_error(&why, errno);
		process_fail(process, PROCESS_NOT_RUN, &why);
	}
}

/* Returns only if it fails: an errno. */
static int process_exec(const char *path)
{
	static char shell[] = "/bin/sh";
	int error;

	execve(path, &args[1], vars);
	error = errno;
	if (error != ENOEXEC)
		return error;
	/* A script that does not say what runs it, as execvp() would. */
	args[0] = shell;
	args[1] = (char *)(uintptr_t)path;
	execve(shell, args, vars);
	return error;
}

/* Tries the directories of PATH; the error that says most. */
static int process_search(const char *name)
{
	static char path[4096];
	const char *at = process_get("PATH=");
	size_t name_len = strlen(name);
	int ret = ENOENT;

	for (;;) {
		size_t len = strcspn(at, ":");

		if (len + name_len + 2 <= sizeof(path)) {
			int error;

			memcpy(path, at, len);
			/* An empty one is the working directory. */
			path[len] = '/';
			memcpy(path + len + (len > 0), name, name_len + 1);
			error = process_exec(path);
			if (error == EACCES)
				ret = error;
			else if (error != ENOENT && error != ENOTDIR)
				return error;
			else if (access(path, F_OK) == 0)
				return ELIBBAD;
		}
		if (at[len] == '\0')
			return ret;
		at += len + 1;
	}
}

static void process_start(const struct process *process)
{
	const char *name = args[1];
	bool is_path = strchr(name, '/') != NULL;
	int error = is_path ? process_exec(name) : process_search(name);
	struct text why = { 0 };

	if (is_path && error == ENOENT && access(name, F_OK) == 0)
		error = ELIBBAD;
	text_add(&why, "command '", name, "'", NULL);
	if (error == ENOENT && !is_path) {
		text_add(&why, ": not found in PATH, ", process_get("PATH="), NULL);
	} else if (error == ELIBBAD) {
		/* exec says ENOENT for these too, and the file is there. */
		text_add(&why, ": its interpreter or dynamic loader is missing", NULL);
	} else {
		text_add_error(&why, error);
	}
	process_fail(process, error == ENOENT || error == ENOTDIR ? PROCESS_NOT_FOUND : PROCESS_NOT_RUN, &why);
}

/* Copies files for the host, if that is what the command asks for. */
static void process_copy(const struct process *process)
{
	const char *from = text_find(process->list, process->len, 'o');
	const char *to = text_find(process->list, process->len, 'i');
	bool owner = text_find(process->list, process->len, 'k') != NULL;
	struct text why = { 0 };

	if (from == NULL && to == NULL)
		return;
	/* There is no exec to close what other commands would wait for the end of. */
	for (int fd = 3; fd < FILES_MAX; fd++) {
		if (fd != process->report)
			close(fd);
	}
	if (from != NULL ? tar_send(from, 1, true, &why) : unpack_archive(to, 0, owner, &why))
		_exit(0);
	process_fail(process, PROCESS_NOT_COPIED, &why);
}

void process_run(const struct process *process)
{
	const char *spec = text_find(process->list, process->len, 'u');
	struct text why = { 0 };
	sigset_t none;

	if (!user_find(spec == NULL ? "0" : spec, &user, &why))
		process_fail(process, PROCESS_NOT_RUN, &why);
	if (spec == NULL && user.name[0] == '\0')
		user = (struct user){ .name = "root", .home = "/root" };
	process_limit_files();
	process_set_all(process);
	if (args[1] == NULL && text_find(process->list, process->len, 'o') == NULL &&
	    text_find(process->list, process->len, 'i') == NULL) {
		text_add(&why, "the command has no words", NULL);
		process_fail(process, PROCESS_NOT_RUN, &why);
	}
	process_attach(process);
	/* Unlike init, it may be killed for lack of memory. Without /proc this changes nothing. */
	(void)fd_write_file("/proc/self/oom_score_adj", "0");
	process_become(process);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	process_copy(process);
	process_start(process);
	_exit(PROCESS_NOT_RUN);
}
