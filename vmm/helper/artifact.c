/*
 * Copies files out of the guest; see artifact.h.
 *
 * Theory of operation. The unpacking code is not trusted to confine itself. For each
 * artifact there are two processes:
 *
 *	keeper		has HOSTDIR and the fresh directory in it, never the archive. Waits for the unpacker. If all has arrived,
 *			and mayfly is still there, checks the result, and moves it to its place (artifact_dir.c).
 *			In any case it removes the fresh directory: also when mayfly was killed, which closes the socket.
 *	unpacker	reads the archive (untar.c). Has the socket and the fresh directory, and nothing else: Landlock lets it
 *			make files, directories and links below, or else its root is there; no capabilities, a seccomp
 *			filter, a limit for each file, for all of them, and for their number
 *
 * They share a page with the process that has started them, for the error message. A
 * compromised unpacker may write anything there.
 */
#include "vmm/helper/artifact.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jailer/landlock.h"
#include "jailer/privileges.h"
#include "jailer/seccomp.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/printable.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/artifact_dir.h"
#include "vmm/helper/spawn.h"
#include "vmm/helper/untar.h"
#include "vmm/process/confine.h"

#define WHAT(config) ((config)->merge ? "copy of" : "artifact")
#define UNPACKER_FILES 300 /* a directory for each level on the way down, and some */

/* In the processes. */

/* The descriptors that fd names become 0, 1, ..., and all others are closed. */
static int keep_only(int *const fd[], int num, struct err *e)
{
	for (int i = 0; i < num; i++) {
		*fd[i] = fcntl(*fd[i], F_DUPFD, num);
		if (*fd[i] < 0)
			return err_sys(e, "copy a descriptor");
	}
	for (int i = 0; i < num; i++) {
		if (dup2(*fd[i], i) < 0)
			return err_sys(e, "copy a descriptor");
		*fd[i] = i;
	}
	return close_range((unsigned)num, ~0U, 0) < 0 ? err_sys(e, "close descriptors") : 0;
}

/* Nothing outside of the working directory can be named. */
static int confine_names(struct err *e)
{
	static const struct landlock_dir dir = { ".", LANDLOCK_UNPACK };
	int abi = landlock_abi();

	/*
	 * No Landlock, or one that makes no hard links between directories. Without capabilities, which are dropped next,
	 * there is no way out of this.
	 */
	if (abi < LANDLOCK_ABI_LINKS && (chroot(".") == 0 || (unshare(CLONE_NEWUSER) == 0 && chroot(".") == 0)))
		return 0;
	if (abi > 0)
		return landlock_restrict(&dir, 1, e);
	return err_sys(e,
		       "this kernel has no Landlock (since 5.13, CONFIG_SECURITY_LANDLOCK, and 'landlock' in lsm= if "
		       "that is given), and another root is not allowed either: use one of them, or no artifacts");
}

static int confine_unpacker(int dir, uint64_t max_bytes, struct err *e)
{
	const struct rlimit size = { max_bytes, max_bytes }, files = { UNPACKER_FILES, UNPACKER_FILES };
	static const struct confine_own own = CONFINE_OWN_NONE;
	struct confine confine;

	if (fchdir(dir) < 0)
		return err_sys(e, "enter the fresh directory");
	if (seccomp_no_new_privs(e) < 0 || confine_names(e) < 0)
		return e->code;
	if (setrlimit(RLIMIT_FSIZE, &size) < 0 || setrlimit(RLIMIT_NOFILE, &files) < 0)
		return err_sys(e, "set limits");
	if (privileges_drop(0, e) < 0)
		return e->code;
	confine_init(&confine, SECCOMP_POLICY_KILL);
	return confine_thread(&confine, THREAD_UNPACK, &own, e);
}

static void __attribute__((noreturn)) unpack(int from, int dir, const char *name, uint64_t max_bytes, struct err *said)
{
	int *const fd[] = { &from, &dir };
	struct untar_params params = { .name = name, .max_bytes = max_bytes, .max_members = ARTIFACT_MEMBERS_MAX };

	(void)prctl(PR_SET_NAME, "unpack"); /* for people, and tests */
	if (keep_only(fd, MF_ARRAY_SIZE(fd), said) < 0 || confine_unpacker(dir, max_bytes, said) < 0) {
		err_wrap(said, "confine the process that unpacks it");
		_exit(1);
	}
	params.from = from;
	params.dir = dir;
	/* It is waited for: the way out of the guest is open from now on. */
	if (write(from, "", 1) != 1)
		_exit(1);
	_exit(untar(&params, said) < 0);
}

/* Waits for the unpacker. Returns 0, or a negative errno with said set, by it or here. */
static int wait_for(pid_t pid, struct err *said)
{
	struct err e;

	if (spawn_wait(pid, "the process that unpacks it", &e) == 0)
		return 0;
	if (said->code == 0)
		*said = e;
	return -ECHILD;
}

static int keep(struct artifact_dir *d, int from, uint64_t max_bytes, pid_t parent, struct err *said)
{
	int *const fd[] = { &from, &d->host, &d->fresh };
	const uint64_t mask = 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_FOWNER;
	struct err e;
	pid_t pid;
	int r;

	(void)setpgid(0, 0); /* Ctrl-C on the terminal is mayfly's affair */
	(void)prctl(PR_SET_NAME, "artifact");
	if (keep_only(fd, MF_ARRAY_SIZE(fd), said) < 0)
		return said->code;
	pid = fork();
	if (pid < 0)
		return err_sys(said, "fork");
	if (pid == 0)
		unpack(from, d->fresh, d->name, max_bytes, said);
	close(from);
	/* With what the user may do in HOSTDIR anyway, and no more. */
	r = privileges_drop(geteuid() == 0 ? mask : 0, &e);
	if (wait_for(pid, said) < 0)
		return -ECHILD;
	if (!r && getppid() != parent)
		r = err_set(&e, -ECANCELED, "mayfly has gone");
	if (!r)
		r = artifact_dir_move(d, ARTIFACT_MEMBERS_MAX, max_bytes, &e);
	if (r < 0)
		*said = e;
	return r;
}

static void __attribute__((noreturn))
run_keeper(struct artifact_dir *d, int from, uint64_t max_bytes, pid_t parent, struct err *said)
{
	struct err e;
	int r = keep(d, from, max_bytes, parent, said);

	if (artifact_dir_remove(d, &e) < 0 && r == 0) {
		err_wrap(&e, "it has arrived, but what was there before is left");
		*said = e;
		r = e.code;
	}
	_exit(r < 0);
}

/* In the process that starts them. */

/*
 * Waits for the keeper. Returns 0, or -ECHILD with e set to its message, made printable.
 */
static int wait_for_keeper(struct artifact *a, struct err *e)
{
	int r = spawn_wait(a->pid, "its keeper", e);

	a->pid = 0;
	a->said->text[sizeof(a->said->text) - 1] = '\0';
	if (a->said->text[0]) {
		printable_guest(e->text, sizeof(e->text), a->said->text);
		if (a->config->merge)
			r = -ECHILD; /* a part of a copy is none */
		e->code = r < 0 ? -ECHILD : 0;
		if (!r)
			log_warn("artifact '%s': %s", a->config->guest, e->text);
	}
	(void)munmap(a->said, sizeof(*a->said)); /* only memory would be lost */
	free(a->place);
	a->place = NULL;
	return r;
}

/* Returns when the unpacker is confined. */
static int start_keeper(struct artifact *a, struct artifact_dir *d, int guest, int host, struct err *e)
{
	uint64_t max_bytes = a->config->max_bytes ? a->config->max_bytes : ARTIFACT_BYTES_DEFAULT;
	pid_t parent = getpid();
	ssize_t n;
	char byte;

	a->said = mmap(NULL, sizeof(*a->said), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (a->said == MAP_FAILED)
		return err_sys(e, "out of memory");
	a->pid = fork();
	if (a->pid == 0)
		run_keeper(d, host, max_bytes, parent, a->said);
	close(host);
	if (a->pid < 0) {
		err_sys(e, "fork");
		(void)munmap(a->said, sizeof(*a->said));
		return e->code;
	}
	do
		n = read(guest, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return 0;
	return wait_for_keeper(a, e) < 0 ? e->code : err_set(e, -ECHILD, "its processes have ended");
}

int artifact_start(struct artifact *a, const struct config_artifact *config, struct err *e)
{
	struct artifact_dir d;
	MF_CLOSE int guest = -1;
	MF_FREE char *real = NULL;
	int pair[2], r;

	*a = (struct artifact){ .config = config, .socket = -1 };
	if (artifact_dir_open(&d, config, e) < 0)
		return err_wrap(e, "%s '%s'", WHAT(config), config->guest);
	real = realpath(config->host, NULL);
	if (!real || asprintf(&a->place, "%s/%s", strcmp(real, "/") ? real : "", strcmp(d.name, ".") ? d.name : "") < 0)
		a->place = NULL;
	if (!a->place || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		r = err_sys(e, "make a socket pair");
	} else {
		guest = pair[0];
		r = start_keeper(a, &d, guest, pair[1], e);
	}
	if (r < 0) {
		struct err ignored;

		(void)artifact_dir_remove(&d, &ignored); /* the keeper has done it, if there was one */
		free(a->place);
		*a = (struct artifact){ 0 };
		artifact_dir_close(&d);
		return err_wrap(e, "%s '%s'", WHAT(config), config->guest);
	}
	artifact_dir_close(&d);
	(void)fcntl(guest, F_SETFL, O_NONBLOCK); /* cannot fail */
	a->socket = mf_take_fd(&guest);
	return 0;
}

/* Whether path is place, or below it. */
static bool is_in(const char *path, const char *place)
{
	size_t len = strlen(place);

	return strncmp(path, place, len) == 0 && (path[len] == '/' || path[len] == '\0' || place[len - 1] == '/');
}

int artifact_check_places(const struct artifact *a, const struct artifact *b, struct err *e)
{
	if (!is_in(a->place, b->place) && !is_in(b->place, a->place))
		return 0;
	return err_set(e, -EINVAL, "artifacts '%s' and '%s' cannot both arrive: one would be '%s', and the other '%s'",
		       a->config->guest, b->config->guest, a->place, b->place);
}

int artifact_finish(struct artifact *a, struct err *e)
{
	if (!a->pid)
		return 0;
	if (a->socket >= 0)
		close(mf_take_fd(&a->socket));
	if (wait_for_keeper(a, e) < 0)
		return err_wrap(e, "%s '%s' did not arrive", WHAT(a->config), a->config->guest);
	return 0;
}
