/* `mayfly pool`: its options, its socket, and the command line of its members. What it does is in vmm/pool/serve.c. */
#include "vmm/cmd/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/log.h"
#include "vmm/base/parse.h"
#include "vmm/base/report.h"
#include "vmm/base/unix_socket.h"
#include "vmm/base/util.h"
#include "vmm/cmd/member.h"
#include "vmm/cmd/restore.h"
#include "vmm/cmd/words.h"
#include "vmm/config/config.h"
#include "vmm/pool/claim.h"
#include "vmm/pool/pool.h"
#include "vmm/pool/serve.h"
#include "vmm/process/ending.h"
#include "vmm/process/notify.h"

#define LISTEN_FD 3 /* sd_listen_fds(3): the first */
#define AGE_MAX_MS (24ULL * 24 * 3600 * 1000)

struct pool_options {
	const char *dir, *socket;
	unsigned size, drives;
	uint64_t max_age_ms;
	bool cold;
	struct config config; /* only its log_level is used */
	struct words shared;  /* options of `mayfly restore` */
};

static int set_size(void *target, const char *text, struct err *e)
{
	uint64_t n;

	if (parse_u64(text, &n) < 0 || n < 1 || n > POOL_SIZE_MAX)
		return err_set(e, -EINVAL, "must be a number from 1 to %d", POOL_SIZE_MAX);
	((struct pool_options *)target)->size = (unsigned)n;
	return 0;
}

static int set_drives(void *target, const char *text, struct err *e)
{
	uint64_t n;

	if (parse_u64(text, &n) < 0 || n > POOL_DRIVES_MAX)
		return err_set(e, -EINVAL, "must be a number up to %d", POOL_DRIVES_MAX);
	((struct pool_options *)target)->drives = (unsigned)n;
	return 0;
}

static int set_max_age(void *target, const char *text, struct err *e)
{
	uint64_t ms;

	if (parse_duration(text, &ms) < 0 || !ms || ms > AGE_MAX_MS)
		return err_set(e, -EINVAL, "must be a time of up to 24 days: 30s, 5m, 1h30m");
	((struct pool_options *)target)->max_age_ms = ms;
	return 0;
}

static int set_cold(void *target, const char *text, struct err *e)
{
	(void)text; /* it takes none */
	(void)e;
	((struct pool_options *)target)->cold = true;
	return 0;
}

static int set_socket(void *target, const char *text, struct err *e)
{
	(void)e; /* unix_socket_listen checks it */
	((struct pool_options *)target)->socket = text;
	return 0;
}

static int set_dir(void *target, const char *text, struct err *e)
{
	struct pool_options *o = target;

	if (o->dir)
		return err_set(e, -EINVAL, "unexpected argument '%.60s': one directory is all that it takes", text);
	o->dir = text;
	return 0;
}

static int pass_option(void *target, const struct cli_option *option, const char *value, struct err *e)
{
	struct pool_options *o = target;

	if (strcmp(option->long_name, "drive") != 0 && pool_whose_option(option->long_name) != POOL_OF_POOL)
		return err_set(e, -EINVAL, "it is that of one VM: `mayfly clone --pool` takes it, or `mayfly restore`");
	if (!strcmp(option->long_name, "net") && strncmp(value, "user", 4) != 0)
		return err_set(
			e, -EINVAL,
			"must be a user network: a tap, or a descriptor, is each client's own (mayfly clone --pool PATH --net tap=NAME)");
	if (!strcmp(option->long_name, "quiet"))
		o->config.log_level = LOG_LEVEL_ERROR;
	else if (!strcmp(option->long_name, "log-level") && config_set(&o->config, "log_level", value, e) < 0)
		return e->code;
	return words_add_option(&o->shared, option, value, e);
}

static const struct cli_option pool_options[] = {
	{ 0, "size", "N", "how many wait; required", .set = set_size },
	{ 0, "socket", "PATH", "where clients connect; required, unless systemd has\nmade it", .set = set_socket,
	  .words = CLI_FILES },
	{ 0, "max-age", "TIME", "one that has waited for so long is replaced", .set = set_max_age },
	{ 0, "drives", "N", "the last N drives of the snapshot are each client's own", .set = set_drives },
	{ 0, "cold", NULL, "their guests do not run before a client comes", .set = set_cold },
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage pool_usage = {
	.command = "pool",
	.synopsis = "DIR --size N --socket PATH [options of restore]",
	.about = "Keeps N VMs from the snapshot in DIR that are ready to run, for `mayfly clone --pool PATH`;\n"
		 "guests with mayfly's init run already, until they are idle.\n"
		 "Each is a process of its own, which a client takes over. It runs until a signal ends it;\n"
		 "VMs that clients have taken live on. Of the options of `mayfly restore`, it takes\n"
		 "--drive, --jail, --net user, --io-engine, --seccomp, --log-level and --quiet. Taps and\n"
		 "--vsock are each client's own. docs/pool.md has more.\n\n",
	.options = pool_options,
	.operand = set_dir,
	.passes = &restore_usage,
	.pass = pass_option,
};

/* The socket that systemd has made, or -1. */
static int take_listening(struct err *e)
{
	const char *pid = getenv("LISTEN_PID"), *num = getenv("LISTEN_FDS");
	int value = 0;
	socklen_t len = sizeof(value);

	if (!pid || !num || strtol(pid, NULL, 10) != getpid())
		return -1;
	(void)unsetenv("LISTEN_PID"); /* cannot fail: the names are valid */
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_FDNAMES");
	if (strcmp(num, "1") != 0)
		return err_set(e, -EINVAL, "LISTEN_FDS: a pool has one socket, not %.20s", num);
	if (getsockopt(LISTEN_FD, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) < 0 || !value ||
	    getsockopt(LISTEN_FD, SOL_SOCKET, SO_TYPE, &value, &len) < 0 || value != SOCK_SEQPACKET)
		return err_set(
			e, -EINVAL,
			"LISTEN_FDS: the descriptor is no socket that listens for packets (ListenSequentialPacket=)");
	(void)fcntl(LISTEN_FD, F_SETFD, FD_CLOEXEC);
	(void)fcntl(LISTEN_FD, F_SETFL, O_NONBLOCK);
	return LISTEN_FD;
}

static int listen_at(struct unix_socket *u, const struct pool_options *o, struct err *e)
{
	int fd = take_listening(e);
	mode_t mask;
	int r;

	if (fd >= 0 || fd < -1)
		return fd;
	if (!o->socket)
		return err_set(e, -EINVAL, "where do clients connect? mayfly pool DIR --size N --socket PATH");
	mask = umask(0177); /* a client has what it runs; there is one thread */
	r = unix_socket_listen(u, o->socket, SOCK_SEQPACKET, e);
	umask(mask);
	return r < 0 ? err_wrap(e, "socket '%s'", o->socket) : u->fd;
}

static void stop_listening(void *ctx)
{
	unix_socket_remove(ctx);
}

/* A link stays one: it may lead to another snapshot tomorrow. */
static char *whole_path(const char *dir)
{
	MF_FREE char *cwd = *dir == '/' ? strdup("") : getcwd(NULL, 0);
	char *path;

	return cwd && asprintf(&path, "%s%s%s", cwd, *dir == '/' ? "" : "/", dir) >= 0 ? path : NULL;
}

/* The command line of a member, and the claim with what a client does without one. */
static int describe(const struct pool_options *o, const char *dir, struct words *member, struct pool_claim *plain,
		    struct err *e)
{
	char drives[16];

	snprintf(drives, sizeof(drives), "%u", o->drives);
	if (words_add(member, POOL_MEMBER_NAME, e) < 0 || words_add(member, drives, e) < 0 ||
	    words_add(member, o->cold ? POOL_MEMBER_COLD : POOL_MEMBER_RUNS, e) < 0 ||
	    words_add_all(member, &o->shared, e) < 0 || words_add(member, dir, e) < 0)
		return e->code;
	if (pool_claim_init(plain) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	if (pool_claim_add(plain, POOL_FROM, dir, e) < 0)
		return e->code;
	for (unsigned i = 0; i < o->shared.num; i++)
		if (pool_claim_add(plain, POOL_SHARED, o->shared.word[i], e) < 0)
			return e->code;
	return 0;
}

static int run_pool(const struct pool_options *o, struct unix_socket *u, struct err *e)
{
	static const struct ending_kind kind = { .asked_ms = ENDING_ASKED_MS };
	static struct words member;
	char identity[POOL_IDENTITY_MAX];
	struct pool_serve p = { .size = o->size, .max_age_ms = o->max_age_ms, .closed = stop_listening, .ctx = u };
	struct pool_claim plain;
	int r;

	log_setup(o->config.log_level, -1);
	p.dir = whole_path(o->dir);
	if (!p.dir || describe(o, p.dir, &member, &plain, e) < 0)
		return p.dir ? e->code : err_set(e, -ENOMEM, "out of memory");
	p.member = member.word;
	p.plain = &plain;
	r = pool_identity(identity, p.dir);
	if (r < 0)
		return err_neg(e, r, "snapshot '%s': look at its state", p.dir);
	words_prepare_jails(&o->shared);
	p.signal_fd = ending_setup(&kind, e);
	if (p.signal_fd < 0)
		return p.signal_fd;
	(void)signal(SIGCHLD, SIG_IGN); /* nobody waits for members */
	p.listen_fd = listen_at(u, o, e);
	if (p.listen_fd < 0)
		return p.listen_fd;
	notify_open();
	ending_serve();
	r = pool_serve(&p, e);
	notify_stopping();
	pool_claim_done(&plain);
	return r;
}

int pool_command(int argc, char **argv)
{
	static struct pool_options o; /* large, so it is set here: the binary has no copy */
	struct unix_socket u = UNIXNAME_INIT;
	struct err e;
	int r;

	o.config.log_level = LOG_LEVEL_WARN;
	r = cli_parse(&pool_usage, &o, argc, argv, &e);

	if (r > 0)
		return STATUS_OK;
	if (r == 0 && !o.dir)
		r = err_set(&e, -EINVAL, "of which snapshot? mayfly pool DIR --size N --socket PATH");
	if (r == 0 && !o.size)
		r = err_set(&e, -EINVAL, "how many VMs? mayfly pool DIR --size N --socket PATH");
	if (r == 0)
		r = run_pool(&o, &u, &e);
	unix_socket_done(&u);
	return r < 0 ? report_err(&e) : ending_status_of(-r);
}
