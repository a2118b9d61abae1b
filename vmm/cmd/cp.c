/*
 * `mayfly cp`: copies files between the host and a running guest.
 *
 * Theory of operation. The guest's init sends or unpacks a tar archive in place of a command (loader/init/proto.h). Here the
 * command's stream is that of another process:
 *
 *	guest -> host	stdout is the socket of two processes that unpack what a hostile guest may send, as they do an
 *			artifact (vmm/helper/artifact.c)
 *	host -> guest	stdin is the pipe of a process that packs the files, by the code of init (loader/init/tar.c)
 *
 * With "-" it is our own stdin or stdout.
 */
#include "vmm/cmd/cp.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loader/init/tar.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/log.h"
#include "vmm/base/parse.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/cmd/session.h"
#include "vmm/config/config.h"
#include "vmm/helper/artifact.h"

struct cp {
	struct config config; /* seccomp alone is used */
	struct session_params session;
	struct session x; /* its threads may run until the process ends */
	const char *path[2];
	unsigned num_paths;
	bool owner; /* files keep their owners in the guest */
	uint64_t max_bytes;
	bool out;	  /* of the guest */
	char *guest;	  /* its path there; begins with a slash */
	const char *host; /* the other path, or "-" */
	struct config_artifact params;
	struct artifact artifact;
	pid_t packer; /* or 0 */
};

static int cp_set_key(void *target, const char *key, const char *text, struct err *e)
{
	return config_set(&((struct cp *)target)->config, key, text, e);
}

static int cp_set_path(void *target, const char *text, struct err *e)
{
	struct cp *c = target;

	if (c->num_paths == MF_ARRAY_SIZE(c->path))
		return err_set(e, -EINVAL, "more than two paths; try 'mayfly cp --help'");
	if (!*text)
		return err_set(e, -EINVAL, "a path must not be empty");
	c->path[c->num_paths++] = text;
	return 0;
}

static int cp_set_max(void *target, const char *text, struct err *e)
{
	if (parse_size(text, &((struct cp *)target)->max_bytes) < 0 || !((struct cp *)target)->max_bytes)
		return err_set(e, -EINVAL, "must be a size: 100M, 8G, ...");
	return 0;
}

static int cp_set_wait(void *target, const char *text, struct err *e)
{
	return session_set_time(&((struct cp *)target)->session.wait_ms, text, e);
}

static const struct cli_option cp_options[] = {
	{ .help = "Copying" },
	{ 'a', "archive", NULL, "in the guest, files keep their owners (numbers);\ndefault: they are root's",
	  .flag = CLI_FLAG(struct cp, owner) },
	{ 0, "max", "SIZE", "how much may come from the guest; default: 8G", .set = cp_set_max },
	{ 0, "wait", "TIME", "wait until the guest takes commands, if it does not\nyet; default: for 30s",
	  .set = cp_set_wait, .fixed = "30s" },
	{ 'h', "help", NULL, "this text", .set = NULL },
	CLI_SAFETY_OPTIONS,
	{ 0 },
};

const struct cli_usage cli_cp_usage = {
	.command = "cp",
	.synopsis = "[options] NAME:PATH PATH|-, or PATH|- NAME:PATH",
	.about = "Copies a file or a directory from the guest of `mayfly run --name NAME`, or into\n"
		 "it. PATH/. is what is in a directory; - is a tar archive on stdin or stdout. A\n"
		 "PATH of the host that has a colon begins with ./ or /.\n",
	.options = cp_options,
	.set_key = cp_set_key,
	.operand = cp_set_path,
};

/* The colon behind NAME, or NULL: a path of the host. */
static const char *colon_of(const char *path)
{
	const char *colon = strchr(path, ':');

	return colon && colon != path && !memchr(path, '/', (size_t)(colon - path)) ? colon : NULL;
}

/* Which of the two is the guest's. */
static int cp_parse_paths(struct cp *c, struct err *e)
{
	const char *colon[2];
	MF_FREE char *name = NULL;

	if (c->num_paths < 2)
		return err_set(e, -EINVAL, "two paths are needed; try 'mayfly cp --help'");
	colon[0] = colon_of(c->path[0]);
	colon[1] = colon_of(c->path[1]);
	if (!colon[0] == !colon[1])
		return err_set(e, -EINVAL, "one path must be the guest's, NAME:PATH, and the other the host's");
	c->out = colon[0];
	c->host = c->path[c->out];
	name = strndup(c->path[!c->out], (size_t)(colon[!c->out] - c->path[!c->out]));
	c->guest = malloc(strlen(colon[!c->out]) + sizeof("//"));
	if (!name || !c->guest)
		return err_set(e, -ENOMEM, "out of memory");
	c->session.guest = mf_take_ptr(&name);
	strcpy(c->guest, colon[!c->out][1] == '/' ? "" : "/");
	strcat(c->guest, colon[!c->out] + 1);
	if (strlen(c->guest) >= PATH_MAX - 2)
		return err_set(e, -ENAMETOOLONG, "the path is too long");
	/* An archive has names of its own: it needs a directory. */
	if (!c->out && !strcmp(c->host, "-"))
		strcat(c->guest, c->guest[strlen(c->guest) - 1] == '/' ? "" : "/");
	return 0;
}

static const char *last_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Where what comes from the guest goes, as cp(1) and docker have it. */
static int cp_choose_place(struct cp *c, struct err *e)
{
	const char *wanted = last_of(c->guest);
	const char *name = last_of(c->host);
	bool contents = !*wanted || !strcmp(wanted, ".");
	struct stat st;
	bool exists = stat(c->host, &st) == 0;

	c->params = (struct config_artifact){ .guest = c->guest, .max_bytes = c->max_bytes, .merge = true };
	if (!strcmp(wanted, ".."))
		return err_set(e, -EINVAL, "'%s' has no name of its own", c->guest);
	if (!exists && errno != ENOENT)
		return err_sys(e, "'%s'", c->host);
	if (exists && !S_ISDIR(st.st_mode) && (contents || !*name))
		return err_set(e, -ENOTDIR, "'%s' is no directory", c->host);
	if (contents || (exists && S_ISDIR(st.st_mode))) {
		c->params.host = strdup(c->host);
	} else if (!*name) {
		return err_set(e, -ENOENT, "there is no directory '%s'", c->host);
	} else {
		c->params.host = name == c->host ? strdup(".") : strndup(c->host, (size_t)(name - c->host));
		c->params.as = name;
		if (c->params.host && stat(c->params.host, &st) < 0)
			return err_sys(e, "directory '%s'", c->params.host);
	}
	return c->params.host ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* The processes that unpack what comes on our stdout. */
static int cp_start_unpacker(struct cp *c, struct err *e)
{
	size_t len = strlen(c->guest);
	int none = open("/dev/null", O_RDONLY | O_CLOEXEC);

	while (len > 1 && c->guest[len - 1] == '/')
		c->guest[--len] = '\0';
	if (none < 0 || dup2(none, STDIN_FILENO) < 0)
		return err_sys(e, "open /dev/null");
	if (!strcmp(c->host, "-"))
		return isatty(STDOUT_FILENO) ? err_set(e, -EINVAL, "stdout is a terminal, and an archive is no text") :
					       0;
	if (cp_choose_place(c, e) < 0 || artifact_start(&c->artifact, &c->params, e) < 0)
		return e->code;
	if (dup2(c->artifact.socket, STDOUT_FILENO) < 0)
		return err_sys(e, "copy a descriptor");
	(void)fcntl(STDOUT_FILENO, F_SETFL, 0); /* cannot fail */
	close(mf_take_fd(&c->artifact.socket));
	return 0;
}

static void __attribute__((noreturn)) cp_pack(const char *path, int to)
{
	struct text why = { 0 };

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* cannot fail */
	(void)signal(SIGPIPE, SIG_DFL);		/* the same: why the guest takes no more, it says itself */
	if (tar_send(path, to, false, &why))
		_exit(STATUS_OK);
	report_line("cp: %s", why.s);
	_exit(STATUS_FAILED);
}

/* The process that packs what goes to the guest, by our stdin. */
static int cp_start_packer(struct cp *c, struct err *e)
{
	MF_FREE char *cwd = *c->host == '/' ? strdup("") : getcwd(NULL, 0);
	char path[PATH_MAX];
	struct stat st;
	int fd[2];

	if (!strcmp(c->host, "-"))
		return 0;
	if (!cwd || snprintf(path, sizeof(path), "%s%s%s", cwd, *cwd ? "/" : "", c->host) >= (int)sizeof(path) - 2)
		return err_set(e, -ENAMETOOLONG, "the path is too long");
	if (stat(path, &st) < 0)
		return err_sys(e, "'%s'", c->host);
	if (!strcmp(last_of(path), ".."))
		return err_set(e, -EINVAL, "'%s' has no name of its own", c->host);
	if (pipe2(fd, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	c->packer = fork();
	if (c->packer < 0)
		return err_sys(e, "fork");
	if (c->packer == 0) {
		close(fd[0]);
		cp_pack(path, fd[1]);
	}
	close(fd[1]);
	if (dup2(fd[0], STDIN_FILENO) < 0)
		return err_sys(e, "copy a descriptor");
	close(fd[0]);
	return 0;
}

/* Lets the other process end. Returns the exit status, of which the session's is status. */
static int cp_finish(struct cp *c, int status)
{
	struct err e;
	int packed;

	if (c->artifact.pid) {
		(void)shutdown(STDOUT_FILENO, SHUT_WR); /* a socket: cannot fail */
		if (artifact_finish(&c->artifact, &e) < 0 && status == STATUS_OK)
			status = session_status(&c->x, e.code, &e, "cp");
	}
	/* If the guest did not take it all, it may be waiting for that, and ends with us. */
	if (c->packer && status == STATUS_OK && (waitpid(c->packer, &packed, 0) != c->packer || packed))
		status = STATUS_FAILED;
	return status;
}

static int cp_run(struct cp *c, struct err *e)
{
	char text[PATH_MAX + 8];
	size_t len;
	int r;

	c->session.seccomp = c->config.seccomp;
	r = session_open(&c->x, &c->session, e);
	if (r == 0)
		r = c->out ? cp_start_unpacker(c, e) : cp_start_packer(c, e);
	if (r < 0)
		return r;
	c->session.no_errors = true;
	len = (size_t)snprintf(text, sizeof(text), "%c%s", c->out ? 'o' : 'i', c->guest) + 1;
	if (c->owner)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "k") + 1;
	return session_run(&c->x, text, len, e);
}

int cp_command(int argc, char **argv)
{
	static struct cp c;
	struct err e;
	int r, status;

	config_init(&c.config);
	log_set_thread("cp");
	r = cli_parse(&cli_cp_usage, &c, argc, argv, &e);
	if (r > 0)
		return STATUS_OK;
	if (r == 0)
		r = cp_parse_paths(&c, &e);
	if (r == 0)
		r = cp_run(&c, &e);
	/* A process that unpacks removes what it has, before we die of a signal. */
	if (r < 0 && c.artifact.pid) {
		struct err ignored;

		(void)shutdown(STDOUT_FILENO, SHUT_WR);	      /* a socket: cannot fail */
		(void)artifact_finish(&c.artifact, &ignored); /* it did not arrive: that is what e says */
	}
	status = session_status(&c.x, r, &e, "cp");
	return cp_finish(&c, status == STATUS_OK || r < 0 ? status : STATUS_FAILED);
}
