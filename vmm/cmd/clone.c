/*
 * `mayfly clone`: each VM is a process of its own, a `mayfly restore`, with its own filters, jail and record. This one starts
 * them, copies their output line by line, forwards signals, and waits.
 */
#include "vmm/cmd/clone.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/fdio.h"
#include "vmm/base/parse.h"
#include "vmm/base/report.h"
#include "vmm/base/signals.h"
#include "vmm/base/util.h"
#include "vmm/cmd/claim.h"
#include "vmm/cmd/clone_dir.h"
#include "vmm/cmd/fork.h"
#include "vmm/cmd/look.h"
#include "vmm/cmd/restore.h"
#include "vmm/cmd/words.h"
#include "vmm/process/ending.h"

#define CLONES_MAX 256
#define LINE_BYTES 4096 /* a longer line is printed in pieces */

struct clone_options {
	const char *from, *name, *pool;
	unsigned num; /* 0: one, which has our streams, if there is a pool */
	bool detach, tty;
	struct words options, command; /* of `mayfly restore` */
	struct fork fork;	       /* or none */
};

/* What a VM says on one of its streams. */
struct stream {
	int fd; /* or -1: it has ended */
	size_t len;
	char line[LINE_BYTES];
};

struct clone {
	pid_t pid; /* 0: it has ended */
	int status;
	char label[80]; /* in front of its lines */
	struct stream stream[WORDS_STREAMS];
};

static int set_num(void *target, const char *text, struct err *e)
{
	uint64_t n;

	if (parse_u64(text, &n) < 0 || n < 1 || n > CLONES_MAX)
		return err_set(e, -EINVAL, "must be a number from 1 to %d", CLONES_MAX);
	((struct clone_options *)target)->num = (unsigned)n;
	return 0;
}

static int set_name(void *target, const char *text, struct err *e)
{
	(void)e; /* `mayfly restore` checks it */
	((struct clone_options *)target)->name = text;
	return 0;
}

static int set_pool(void *target, const char *text, struct err *e)
{
	if (!*text)
		return err_set(e, -EINVAL, "must not be empty");
	((struct clone_options *)target)->pool = text;
	return 0;
}

static int set_from(void *target, const char *text, struct err *e)
{
	struct clone_options *o = target;

	if (o->from)
		return err_set(e, -EINVAL, "unexpected argument '%.60s' (put '--' before a command)", text);
	o->from = text;
	return 0;
}

static int add_argument(void *target, const char *text, struct err *e)
{
	return words_add(&((struct clone_options *)target)->command, text, e);
}

static int pass_option(void *target, const struct cli_option *option, const char *value, struct err *e)
{
	struct clone_options *o = target;

	o->detach = o->detach || !strcmp(option->long_name, "detach");
	o->tty = o->tty || !strcmp(option->long_name, "tty");
	return words_add_option(&o->options, option, value, e);
}

static const struct cli_option clone_options[] = {
	{ 'n', "number", "N", "how many; default: 1", .set = set_num },
	{ 0, "name", "NAME", "they are NAME-1, NAME-2 and so on", .set = set_name },
	{ 0, "pool", "PATH",
	  "take VMs that wait at the socket of `mayfly pool`;\nwithout -n: one, with this command's streams",
	  .set = set_pool, .words = CLI_FILES },
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage clone_usage = {
	.command = "clone",
	.synopsis = "DIR|NAME|--pool PATH [-n N] [options of restore] [-- COMMAND [ARG...]]",
	.about = "Starts N VMs from the snapshot in DIR, or from the running VM NAME as it is now. %d\n"
		 "in the value of an option of `mayfly restore` is the number of each: --net\n"
		 "tap=tap%d, --vsock /run/vm%d. (-n is the number of VMs here: a network is --net.)\n"
		 "Each line that one prints has its name, or its number, in front. The status is\n"
		 "that of the first one that failed.\n\n",
	.options = clone_options,
	.argument = add_argument,
	.operand = set_from,
	.passes = &restore_usage,
	.pass = pass_option,
};

/* Adds the text, in which each "%d" becomes number. */
static int add_numbered(struct words *w, const char *text, unsigned number, struct err *e)
{
	char whole[LINE_BYTES];
	size_t len = 0;

	while (*text) {
		bool is_number = !strncmp(text, "%d", 2);
		int n = is_number ? snprintf(whole + len, sizeof(whole) - len, "%u", number) :
				    snprintf(whole + len, sizeof(whole) - len, "%c", *text);

		if (n < 0 || len + (size_t)n >= sizeof(whole))
			return err_set(e, -E2BIG, "an option has more than %d bytes", LINE_BYTES - 1);
		len += (size_t)n;
		text += is_number ? 2 : 1;
	}
	whole[len] = '\0';
	return words_add(w, whole, e);
}

/* The command line of the VM with that number. */
static int make_words(const struct clone_options *o, unsigned number, const char *dir, struct words *w, struct err *e)
{
	char name[128];

	w->num = 0;
	if (words_add(w, o->fork.num ? FORK_NAME : "mayfly", e) < 0 ||
	    words_add(w,
		      o->fork.num ? o->fork.memories :
		      o->pool	  ? "clone" :
				    "restore",
		      e) < 0 ||
	    (o->pool && (words_add(w, "--pool", e) < 0 || words_add(w, o->pool, e) < 0)))
		return e->code;
	for (unsigned i = 0; i < o->options.num; i++)
		if (add_numbered(w, o->options.word[i], number, e) < 0)
			return e->code;
	snprintf(name, sizeof(name), "--name=%.100s-%u", o->name ? o->name : "", number);
	if ((o->name && words_add(w, name, e) < 0) || (dir && words_add(w, dir, e) < 0) ||
	    (o->command.num && words_add(w, "--", e) < 0) || words_add_all(w, &o->command, e) < 0)
		return e->code;
	w->word[w->num] = NULL;
	return 0;
}

/* Prints a line, or a piece of a long one. */
static void print_line(const struct clone *c, int fd, const char *line, size_t len)
{
	char text[sizeof(c->label) + LINE_BYTES + 4];
	int n = snprintf(text, sizeof(text), "%s: %.*s\n", c->label, (int)len, line);

	(void)fdio_write_all(fd, text, (size_t)n); /* of a reader that has gone, nothing is expected */
}

static void take_output(struct clone *c, int which)
{
	struct stream *s = &c->stream[which];
	ssize_t n = read(s->fd, s->line + s->len,
			 sizeof(s->line) - s->len); /* what is there: the others have some, too */
	int fd = STDOUT_FILENO + which;
	size_t begin = 0;

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		if (s->len)
			print_line(c, fd, s->line, s->len);
		close(mf_take_fd(&s->fd));
		return;
	}
	n += (ssize_t)s->len;
	for (char *end; (end = memchr(s->line + begin, '\n', (size_t)n - begin)); begin = (size_t)(end - s->line) + 1)
		print_line(c, fd, s->line + begin, (size_t)(end - s->line) - begin);
	s->len = (size_t)n - begin;
	memmove(s->line, s->line + begin, s->len);
	if (s->len == sizeof(s->line)) {
		print_line(c, fd, s->line, s->len);
		s->len = 0;
	}
}

/* Notes which have ended. Returns how many run. */
static unsigned reap(struct clone *clones, unsigned num)
{
	unsigned running = 0;

	for (struct clone *c = clones; c < clones + num; c++) {
		int status;

		if (c->pid && waitpid(c->pid, &status, WNOHANG) == c->pid) {
			c->pid = 0;
			c->status = words_status(status);
		}
		running += c->pid != 0;
	}
	return running;
}

/* Until all have ended, and all output is printed. Returns the number of a signal that asked for the end, or 0. */
static int serve(struct clone *clones, unsigned num, int signals)
{
	static struct pollfd fds[1 + WORDS_STREAMS * CLONES_MAX];
	int asked = 0;

	for (;;) {
		unsigned running = reap(clones, num), open = 0;

		fds[0] = (struct pollfd){ .fd = signals, .events = POLLIN };
		for (unsigned i = 0; i < num * WORDS_STREAMS; i++) {
			int fd = clones[i / WORDS_STREAMS].stream[i % WORDS_STREAMS].fd;

			fds[1 + i] = (struct pollfd){ .fd = fd, .events = POLLIN };
			open += fd >= 0;
		}
		if (!running && !open)
			return asked;
		if (poll(fds, 1 + num * WORDS_STREAMS, -1) < 0)
			continue;
		if (fds[0].revents) {
			struct signalfd_siginfo info;

			if (read(signals, &info, sizeof(info)) == sizeof(info) && info.ssi_signo != SIGCHLD) {
				asked = (int)info.ssi_signo;
				for (unsigned i = 0; i < num; i++)
					if (clones[i].pid)
						(void)kill(clones[i].pid, asked);
			}
		}
		for (unsigned i = 0; i < num * WORDS_STREAMS; i++)
			if (fds[1 + i].revents)
				take_output(&clones[i / WORDS_STREAMS], (int)(i % WORDS_STREAMS));
	}
}

/* Starts all and waits for them. Returns mayfly's exit status. */
static int run_clones(const struct clone_options *o, const char *dir, int signals)
{
	MF_FREE struct clone *clones = calloc(o->num, sizeof(*clones));
	static struct words w;
	int status = STATUS_OK, asked;
	unsigned num = 0;
	struct err e;

	if (!clones) {
		err_set(&e, -ENOMEM, "out of memory");
		return report_err(&e);
	}

	if (o->num > 1 && !o->pool)
		words_prepare_jails(&o->options);
	for (; num < o->num; num++) {
		struct clone *c = &clones[num];
		int fd[WORDS_STREAMS] = { -1, -1 };

		*c = (struct clone){ .stream = { { .fd = -1 }, { .fd = -1 } } };
		snprintf(c->label, sizeof(c->label), "%.60s%s%u", o->name ? o->name : "", o->name ? "-" : "", num + 1);
		c->pid = make_words(o, num + 1, dir, &w, &e) < 0 ? e.code : words_start(&w, o->detach ? NULL : fd, &e);
		if (c->pid < 0) {
			status = report_err(&e);
			break;
		}
		for (int i = 0; i < WORDS_STREAMS; i++)
			c->stream[i].fd = fd[i];
	}
	for (unsigned i = 0; status != STATUS_OK && i < num; i++)
		(void)kill(clones[i].pid, SIGTERM); /* all of them, or none */
	asked = serve(clones, num, signals);
	for (unsigned i = 0; i < num && status == STATUS_OK; i++)
		status = clones[i].status;
	return asked ? -asked : status;
}

/* A snapshot of the running VM, below the directory. Returns 0, 1 if `mayfly snapshot` has said why not, or -errno with e set. */
static int take_snapshot(const char *name, char *path, size_t size, const char *dir, struct err *e)
{
	static struct words w;
	pid_t pid;

	snprintf(path, size, "%s/" CLONE_DIR_SNAPSHOT, dir);
	if (words_add(&w, "mayfly", e) < 0 || words_add(&w, "snapshot", e) < 0 || words_add(&w, name, e) < 0 ||
	    words_add(&w, path, e) < 0)
		return e->code;
	pid = words_start(&w, NULL, e);
	if (pid < 0)
		return pid;
	return words_wait(pid) != 0;
}

static int clone_snapshot(const struct clone_options *o, const char *dir, int signals)
{
	char path[CLONE_DIR_MAX + 16];
	struct err e;
	int r = take_snapshot(o->from, path, sizeof(path), dir, &e);

	return r < 0 ? report_err(&e) : r ? STATUS_FAILED : run_clones(o, path, signals);
}

static int clone_fork(struct clone_options *o, struct json_t *config, const char *dir, int signals)
{
	struct err e;
	int status;

	o->fork = FORK_INIT;
	if (fork_take(&o->fork, o->from, config, dir, &e) < 0) {
		err_wrap(&e, "fork of '%s'", o->from);
		status = report_err(&e);
	} else {
		status = run_clones(o, o->fork.path, signals);
	}
	fork_done(&o->fork);
	return status;
}

static int clone_running(struct clone_options *o, int signals)
{
	struct clone_dir dir;
	struct look l = { 0 };
	struct err e;
	int status;

	if (clone_dir_make(&dir, &e) < 0)
		return report_err(&e);
	/* Of one that does not answer, `mayfly snapshot` says why. */
	if (look_at(&l, o->from, &e) == 0 && json_is_true(json_object_get(l.config, "forkable")))
		status = clone_fork(o, l.config, dir.path, signals);
	else
		status = clone_snapshot(o, dir.path, signals);
	look_done(&l);
	clone_dir_done(&dir);
	return status;
}

static int clone_all(struct clone_options *o, int signals)
{
	struct stat st;

	if (o->pool || (stat(o->from, &st) == 0 && S_ISDIR(st.st_mode)))
		return run_clones(o, o->from, signals);
	return clone_running(o, signals);
}

static int run_claim(const struct clone_options *o)
{
	const struct claim_params p = {
		.pool = o->pool, .dir = o->from, .name = o->name, .options = &o->options, .command = &o->command
	};
	int status = claim_run(&p);
	sigset_t set;

	if (status >= 0)
		return status;
	/* As the VM's own process would have: a shell's loop ends by SIGINT. */
	(void)signal(-status, SIG_DFL); /* cannot fail */
	sigemptyset(&set);
	sigaddset(&set, -status);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
	(void)raise(-status);
	return STATUS_SIGNAL_BASE - status;
}

int clone_command(int argc, char **argv)
{
	static struct clone_options o; /* large, so it is set here: the binary has no copy */
	static const int taken[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD };
	MF_CLOSE int signals = -1;
	struct err e;
	int r;

	r = cli_parse(&clone_usage, &o, argc, argv, &e);
	if (r > 0)
		return STATUS_OK;
	if (r == 0 && !o.from && !o.pool)
		r = err_set(&e, -EINVAL, "which snapshot, or VM? mayfly clone DIR -n 3");
	if (r == 0 && o.pool && !o.num)
		return run_claim(&o);
	if (r == 0 && o.tty)
		r = err_set(&e, -EINVAL, "--tty: several VMs cannot have one terminal");
	o.num = MF_MAX(o.num, 1U);
	signals = signals_open(taken, MF_ARRAY_SIZE(taken), NULL); /* before there is a child */
	if (r == 0 && signals < 0)
		r = err_neg(&e, signals, "make a signalfd");
	if (r < 0)
		return report_err(&e);
	r = clone_all(&o, signals);
	return r < 0 ? STATUS_SIGNAL_BASE - r : r;
}
