/* Hooks of a container; see hooks.h. */
#include "vmm/oci/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/printable.h"
#include "vmm/base/util.h"
#include "vmm/oci/json_at.h"

#define SAID_MAX 256 /* bytes of what a hook says that go into a message; the rest is read and dropped */
#define EXEC_STATUS 127

static const char *const kinds[] = { "prestart", "createRuntime", "createContainer", "poststart", "poststop" };

/* Texts of the document, and a NULL. */
struct hook {
	const char *path, *dir;
	const char **args, **env;
	uint64_t timeout_s;
};

struct said {
	char text[SAID_MAX + 1];
	size_t len;
};

/* Checks of the document. */

static int check_texts(const struct json_at *hook, const char *key, struct err *e)
{
	struct json_at all, text;

	if (json_at_member(hook, key, JSON_ARRAY, false, &all, e) < 0)
		return e->code;
	for (size_t i = 0; i < json_at_size(&all); i++)
		if (json_at_element(&all, i, JSON_STRING, &text, e) < 0)
			return e->code;
	return 0;
}

static int check_hook(const struct json_at *hook, struct err *e)
{
	const char *path = NULL;
	uint64_t timeout = 1;

	if (json_at_text(hook, "path", true, &path, e) < 0 || check_texts(hook, "args", e) < 0 ||
	    check_texts(hook, "env", e) < 0 ||
	    json_at_number(hook, "timeout", false, HOOKS_TIMEOUT_MAX_S, &timeout, e) < 0)
		return e->code;
	if (*path != '/')
		return err_set(e, -EINVAL, "%s.path: must begin with '/'", hook->name);
	return timeout ? 0 : err_set(e, -EINVAL, "%s.timeout: must be greater than 0", hook->name);
}

static int check_kind(const struct json_at *hooks, const char *kind, struct err *e)
{
	struct json_at list, hook;

	if (json_at_member(hooks, kind, JSON_ARRAY, false, &list, e) < 0)
		return e->code;
	if (json_at_size(&list) > HOOKS_MAX)
		return err_set(e, -E2BIG, "%s: there can be at most %d", list.name, HOOKS_MAX);
	for (size_t i = 0; i < json_at_size(&list); i++)
		if (json_at_element(&list, i, JSON_OBJECT, &hook, e) < 0 || check_hook(&hook, e) < 0)
			return e->code;
	return 0;
}

int hooks_read(const struct json_at *top, const json_t **ret, struct err *e)
{
	struct json_at hooks, list;

	if (json_at_member(top, "hooks", JSON_OBJECT, false, &hooks, e) < 0 ||
	    json_at_member(&hooks, "startContainer", JSON_ARRAY, false, &list, e) < 0)
		return e->code;
	if (json_at_size(&list))
		return err_set(e, -ENOTSUP, "%s: a microVM runs no hooks in the guest", list.name);
	for (size_t i = 0; i < MF_ARRAY_SIZE(kinds); i++)
		if (check_kind(&hooks, kinds[i], e) < 0)
			return e->code;
	*ret = json_object_size(hooks.json) ? hooks.json : NULL;
	return 0;
}

/* The program. */

/* The strings of an array, checked; first is in front of an empty one, if it is none itself. NULL: no memory. */
static const char **texts(const json_t *array, const char *first)
{
	const size_t num = json_array_size(array);
	const char **list = calloc(num + 2, sizeof(*list));

	if (list)
		list[0] = first;
	for (size_t i = 0; list && i < num; i++)
		list[i] = json_string_value(json_array_get(array, i));
	return list;
}

static void __attribute__((noreturn)) become(const struct hook *h, int state, int said, int netns, pid_t parent)
{
	sigset_t none;

	(void)setpgid(0, 0); /* cannot fail, nor can the next four: what it starts ends with it if it is late */
	(void)signal(SIGPIPE, SIG_DFL);
	(void)signal(SIGXFSZ, SIG_DFL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	if (dup2(state, 0) == 0 && dup2(said, 1) == 1 && dup2(said, 2) == 2 &&
	    (netns < 0 || setns(netns, CLONE_NEWNET) == 0) && chdir(h->dir) == 0) {
		closefrom(3); /* an engine's may lack CLOEXEC */
		execve(h->path, (char *const *)(uintptr_t)h->args, (char *const *)(uintptr_t)h->env);
	}
	(void)dprintf(2, "start it: %s", strerror(errno)); /* the status says it, too */
	_exit(EXEC_STATUS);
}

/* What can be read at once. False: there will be no more. */
static bool drain(int fd, struct said *said)
{
	char more[4096];
	ssize_t n;

	while ((n = read(fd, more, sizeof(more))) > 0) {
		const size_t kept = MF_MIN((size_t)n, SAID_MAX - said->len);

		memcpy(said->text + said->len, more, kept);
		said->len += kept;
	}
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

/* Until it has ended, or its time is over. Returns 0, or -ETIMEDOUT. It may leave processes that hold its output. */
static int await_end(int process, int out, uint64_t timeout_s, struct said *said)
{
	const uint64_t until = clock_now_ms() + timeout_s * 1000;
	struct pollfd p[] = { { .fd = process, .events = POLLIN }, { .fd = out, .events = POLLIN } };
	uint64_t now = clock_now_ms();

	for (; now < until && !p[0].revents; now = clock_now_ms()) {
		const int n = poll(p, 2, (int)(until - now));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n < 0)
			p[0].revents = p[1].revents = 0;
		if (p[1].revents && !drain(out, said))
			p[1].fd = -1;
	}
	if (p[0].revents && p[1].fd >= 0)
		(void)drain(out, said); /* what it has said last */
	return p[0].revents ? 0 : -ETIMEDOUT;
}

static int finish(pid_t pid, int r, const struct hook *h, struct said *said, struct err *e)
{
	int status = 0;

	if (r < 0)
		(void)kill(-pid, SIGKILL); /* our child, which has not been waited for, and what it has started */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	said->text[said->len] = '\0';
	said->text[strcspn(said->text, "\n")] = '\0';
	printable_guest(said->text, sizeof(said->text), said->text);
	if (r == -ETIMEDOUT)
		return err_set(e, r, "'%.160s' has not ended in %llu s, and was killed", h->path,
			       (unsigned long long)h->timeout_s);
	if (r < 0)
		return err_neg(e, r, "'%.160s': wait for it", h->path);
	if (WIFSIGNALED(status))
		return err_set(e, -ECHILD, "'%.160s' was ended by signal %d%s%s", h->path, WTERMSIG(status),
			       *said->text ? ": " : "", said->text);
	if (WEXITSTATUS(status))
		return err_set(e, -ECHILD, "'%.160s' has failed with status %d%s%s", h->path, WEXITSTATUS(status),
			       *said->text ? ": " : "", said->text);
	return 0;
}

static int run_hook(const struct hook *h, int state, int netns, struct err *e)
{
	struct said said = { .len = 0 };
	MF_CLOSE int out = -1;
	MF_CLOSE int process = -1;
	const pid_t parent = getpid();
	int fd[2], r;
	pid_t pid;

	if (lseek(state, 0, SEEK_SET) < 0 || pipe2(fd, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	out = fd[0];
	fflush(NULL);
	pid = fcntl(out, F_SETFL, O_NONBLOCK) < 0 ? -1 : fork();
	if (pid == 0)
		become(h, state, fd[1], netns, parent);
	close(fd[1]);
	if (pid < 0)
		return err_sys(e, "fork");
	process = pidfd_open(pid, 0);
	r = process < 0 ? -errno : await_end(process, out, h->timeout_s, &said);
	return finish(pid, r, h, &said, e);
}

/* Each hook gets it from the beginning, without a pipe that could be full. Returns a descriptor, or -errno with e set. */
static int state_file(const json_t *state, struct err *e)
{
	MF_CLOSE int fd = memfd_create("state", MFD_CLOEXEC);
	MF_FREE char *text = json_dumps(state, JSON_COMPACT);
	int r;

	if (fd < 0)
		return err_sys(e, "the state");
	r = text ? fdio_write_all(fd, text, strlen(text)) : -ENOMEM;
	return r < 0 ? err_neg(e, r, "the state") : mf_take_fd(&fd);
}

static int run_one(const json_t *json, const json_t *state, int fd, int netns, struct err *e)
{
	const char *const path = json_string_value(json_object_get(json, "path"));
	const json_t *timeout = json_object_get(json, "timeout");
	MF_FREE const char **args = texts(json_object_get(json, "args"), path);
	MF_FREE const char **env = texts(json_object_get(json, "env"), NULL);
	const char *dir = json_string_value(json_object_get(state, "bundle"));
	const struct hook h = {
		.path = path,
		.dir = dir ? dir : "/",
		.args = args,
		.env = env,
		.timeout_s = json_is_integer(timeout) ? (uint64_t)json_integer_value(timeout) : HOOKS_TIMEOUT_S,
	};

	return args && env ? run_hook(&h, fd, netns, e) : err_set(e, -ENOMEM, "out of memory");
}

int hooks_run(const json_t *hooks, const char *kind, const json_t *state, int netns, struct err *e)
{
	const json_t *list = json_object_get(hooks, kind);
	MF_CLOSE int fd = -1;

	if (!json_array_size(list))
		return 0;
	fd = state_file(state, e);
	if (fd < 0)
		return err_wrap(e, "hooks.%s", kind);
	for (size_t i = 0; i < json_array_size(list); i++)
		if (run_one(json_array_get(list, i), state, fd, netns, e) < 0)
			return err_wrap(e, "hooks.%s[%zu]", kind, i);
	return 0;
}
