/*
 * `mayfly restore`: a VM from a snapshot. Its configuration is the snapshot's, changed by the
 * options; then it runs as that of `mayfly run`.
 *
 * The options are read twice, since they may stand in front of the directory whose
 * configuration they change: the first time only for that directory.
 */
#include "vmm/cmd/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/api/api.h"
#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"
#include "vmm/cmd/run.h"
#include "vmm/config/config.h"
#include "vmm/snapshot/dir.h"
#include "vmm/vm/vm_state.h"

struct restore_options {
	struct config *config; /* NULL: the directory alone is looked for */
	const char *dir, *state, *memory, *parent;
	unsigned nets; /* that were given */
};

static int set_key(void *target, const char *key, const char *text, struct err *e)
{
	const struct restore_options *o = target;

	return o->config ? config_set(o->config, key, text, e) : 0;
}

/* With the first argument, the snapshot's own command is not that of this VM any more. */
static int add_argument(void *target, const char *text, struct err *e)
{
	struct restore_options *o = target;

	if (!o->config)
		return 0;
	if (!o->config->command.args.num)
		return err_set(e, -EINVAL, "the snapshot's guest was started without a command, so it takes none");
	o->config->restore_command = true;
	return cli_add_command_argument(o->config, text, e);
}

static int add_operand(void *target, const char *text, struct err *e)
{
	struct restore_options *o = target;

	if (o->dir && strcmp(o->dir, text) != 0)
		return err_set(e, -EINVAL, "one directory is all that it takes");
	o->dir = text;
	return 0;
}

static int set_state(void *target, const char *text, struct err *e)
{
	(void)e;
	((struct restore_options *)target)->state = text;
	return 0;
}

static int set_memory(void *target, const char *text, struct err *e)
{
	(void)e;
	((struct restore_options *)target)->memory = text;
	return 0;
}

static int set_parent(void *target, const char *text, struct err *e)
{
	(void)e;
	((struct restore_options *)target)->parent = text;
	return 0;
}

static int set_drive(void *target, const char *text, struct err *e)
{
	const struct restore_options *o = target;
	const char *equals = strchr(text, '=');

	if (!equals || !equals[1])
		return err_set(e, -EINVAL, "must be ID=PATH");
	for (unsigned i = 0; o->config && i < o->config->num_drives; i++) {
		struct config_drive *d = &o->config->drive[i];
		char *path;

		if (strncmp(d->id, text, (size_t)(equals - text)) != 0 || d->id[equals - text])
			continue;
		path = strdup(equals + 1);
		if (!path)
			return err_set(e, -ENOMEM, "out of memory");
		free(d->path);
		d->path = path;
		d->directory = d->tar = d->file = false;
		d->empty = 0;
		d->replaced = true;
		return 0;
	}
	return o->config ? err_set(e, -EINVAL, "the snapshot has no such drive") : 0;
}

/* The first one replaces the snapshot's first interface, and so on. The guest keeps the address that it knows. */
static int set_net(void *target, const char *text, struct err *e)
{
	struct restore_options *o = target;
	struct config *c = o->config;
	struct config_net *net, old;
	unsigned num;
	int r;

	if (!c)
		return 0;
	if (o->nets == c->num_nets)
		return err_set(e, -EINVAL, "the snapshot has %u interfaces", c->num_nets);
	/* The new one is read in the place of the old one, of which it keeps the id and the address. */
	net = &c->net[o->nets];
	old = *net;
	net->id = NULL;
	num = c->num_nets;
	c->num_nets = o->nets;
	r = config_set(c, "nets", text, e);
	c->num_nets = num;
	if (r == 0 && net->has_mac && (!old.has_mac || memcmp(net->mac, old.mac, sizeof(old.mac)) != 0))
		r = err_set(e, -EINVAL, "a guest that runs keeps its MAC address: leave mac= out");
	free(net->id);
	net->id = old.id;
	net->awaited = old.awaited;
	net->has_mac = old.has_mac;
	memcpy(net->mac, old.mac, sizeof(old.mac));
	o->nets++;
	return r;
}

static const struct cli_option restore_options[] = {
	{ .help = "Snapshot" },
	{ 0, "state", "FILE", "its state; default: DIR/" SNAPSHOT_STATE, .set = set_state },
	{ 0, "memory", "FILE", "its memory; default: DIR/" SNAPSHOT_MEMORY, .set = set_memory },
	{ 0, "parent", "DIR", "what it was saved against by --diff; default: where that\nwas, or beside DIR",
	  .set = set_parent },

	{ .help = "What is not as it was" },
	{ 'd', "drive", "ID=PATH", "the drive ID of the snapshot is PATH; repeatable", .set = set_drive },
	{ 'n', "net", "SPEC", "as of `mayfly run`: the first replaces the first\ninterface of the snapshot; repeatable",
	  .set = set_net, .words = "tap= fd= user" },
	{ 0, "vsock", "SPEC", "PATH: sockets between guest and host", .key = "vsock", .words = CLI_FILES },
	{ 0, "name", "NAME", "how other commands find it", .key = "name" },
	{ 0, "control", "PATH", "the socket of other commands; default: by NAME", .key = "control",
	  .words = CLI_FILES },
	{ 0, "console", NULL, "show the guest's console on stderr", .key = "console", .fixed = "true" },

	{ .help = "COMMAND" },
	CLI_COMMAND_OPTIONS,

	{ .help = "Running" },
	{ 0, "jail", "SPEC", "run it in a jail; see mayfly(1)", .key = "jail", .fixed = "true", .words = CLI_SPEC },
	{ 0, "timeout", "TIME", "end it after TIME: 30s, 500ms, 5m; status 124", .key = "timeout" },
	{ 0, "forkable", NULL, "as of `mayfly run`", .key = "forkable", .fixed = "true" },
	{ 0, "io-engine", "HOW", "ring, sync or auto", .key = "io_engine" },
	{ 0, "detach", NULL, "return when it runs, and print the VM's name", .key = "detach", .fixed = "true" },
	{ 0, "log-max", "SIZE", "how much is kept of what it prints then; default: 2M", .key = "log_max" },
	{ 0, "rm", NULL, "forget the VM, and its log, when it has ended", .key = "rm", .fixed = "true" },
	{ 0, "dry-run", NULL, "print the configuration as JSON and exit", .key = "dry_run", .fixed = "true" },
	CLI_REPORT_OPTIONS,

	CLI_SAFETY_OPTIONS,

	CLI_MESSAGE_OPTIONS,
	{ 0 },
};

const struct cli_usage restore_usage = {
	.command = "restore",
	.synopsis = "[options] DIR [-- COMMAND [ARG...]]",
	.about = "Starts a VM from the snapshot in DIR (or in --state and --memory, if Firecracker's API\n"
		 "wrote it), which stays as it is: many VMs can be started\n"
		 "from it, and share its memory. Connections of the vsock and of user networks are\n"
		 "reset. A drive has to be the same file as in the snapshot, and unchanged; otherwise\n"
		 "name another one with -d. With COMMAND, that is run in the guest, and its end is the\n"
		 "VM's; the snapshot's command goes on without its streams.\n\n",
	.options = restore_options,
	.operand = add_operand,
	.argument = add_argument,
	.set_key = set_key,
};

static char *path_of(const char *dir, const char *name, const char *given)
{
	char *path;

	if (given)
		return strdup(given);
	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* What its options say is of a new command: one that runs already has its environment. */
static int check_command(struct config *c, const struct config_command *old, struct err *e)
{
	if (c->restore_command)
		return 0;
	if (c->command.env.num != old->env.num || c->command.user != old->user || c->command.workdir != old->workdir ||
	    c->command.tty != CONFIG_TTY_AUTO)
		return err_set(e, -EINVAL, "env, user, workdir and tty need a COMMAND; the snapshot's runs already");
	if (c->command.args.num)
		c->command.tty = CONFIG_TTY_OFF; /* or there were no snapshot */
	return 0;
}

/* Of a state that Firecracker's API wrote, which has its configuration in itself. */
static int read_state(struct config *c, struct err *e)
{
	MF_FREE char *text = NULL;

	if (vm_read_config(c, &text, e) < 0)
		return e->code;
	if (!text)
		return err_set(e, -ENOENT, "there is neither '" SNAPSHOT_CONFIG "' nor a configuration in '%s'",
			       c->restore_state);
	return api_restore_config(c, text, e);
}

/* ret_own: the configuration is a file of the directory. */
static int read_config(struct config *c, const struct restore_options *o, bool *ret_own, struct err *e)
{
	MF_FREE char *config = o->dir ? path_of(o->dir, SNAPSHOT_CONFIG, NULL) : NULL;

	c->restore_state = path_of(o->dir, SNAPSHOT_STATE, o->state);
	c->restore_memory = path_of(o->dir, SNAPSHOT_MEMORY, o->memory);
	c->restore_parent = o->parent ? strdup(o->parent) : NULL;
	if ((o->dir && !config) || !c->restore_state || !c->restore_memory || (o->parent && !c->restore_parent))
		return err_set(e, -ENOMEM, "out of memory");
	*ret_own = config && access(config, F_OK) == 0;
	/* Without either, the file is what is missing. */
	if (!*ret_own && (!config || access(c->restore_state, F_OK) == 0))
		return read_state(c, e);
	return config_read_file(c, config, e);
}

/* The last ones are those that the client of a pool brings. */
static int await_drives(struct config *c, unsigned num, struct err *e)
{
	if (num > c->num_drives)
		return err_set(e, -EINVAL, "the snapshot has %u drives, and --drives is %u", c->num_drives, num);
	for (unsigned i = c->num_drives - num; i < c->num_drives; i++) {
		struct config_drive *d = &c->drive[i];

		d->awaited = d->replaced = true;
		d->directory = d->tar = d->file = false;
		d->empty = 0;
	}
	return 0;
}

/*
 * Of a pool: what is one VM's alone comes with its client, in their order. The pool's options replace the first interfaces, as those of
 * a plain clone would: its own come behind them.
 */
static int await_names(struct config *c, unsigned given, struct err *e)
{
	const struct config_net *user = NULL;

	for (unsigned i = given; i < c->num_nets; i++) {
		struct config_net *n = &c->net[i];

		if (n->kind == CONFIG_NET_USER) {
			user = n;
			continue;
		}
		if (user)
			return err_set(e, -EINVAL,
				       "net '%s': each client brings its own, behind the user network '%s': give the pool "
				       "one --net user for each up to that",
				       n->id, user->id);
		n->awaited = true;
		n->fd = -1;
	}
	c->vsock.awaited = c->vsock.path != NULL;
	free(mf_take_ptr(&c->vsock.path));
	return 0;
}

static int parse_and_await(struct config *c, unsigned drives, int argc, char **argv, struct err *e)
{
	struct restore_options o = { 0 };
	struct config_command old; /* its pointers are only compared */
	bool own;
	int r = cli_parse(&restore_usage, &o, argc, argv, e);

	if (r)
		return r;
	if (!o.dir && (!o.state || !o.memory))
		return err_set(e, -EINVAL, "which snapshot? mayfly restore DIR");
	r = read_config(c, &o, &own, e);
	if (r < 0)
		return err_wrap(e, "snapshot '%s'", o.dir ? o.dir : o.state);
	o.config = c;
	c->command.tty = CONFIG_TTY_AUTO;
	old = c->command;
	r = cli_parse(&restore_usage, &o, argc, argv, e);
	if (r == 0)
		r = check_command(c, &old, e);
	if (r == 0)
		r = config_check(c, e);
	if (r == 0)
		r = await_drives(c, drives, e);
	if (r == 0 && c->pool)
		r = await_names(c, o.nets, e);
	return r < 0 ? r : vm_find_layers(c, own ? o.dir : NULL, e);
}

int restore_parse(struct config *c, int argc, char **argv, struct err *e)
{
	return parse_and_await(c, 0, argc, argv, e);
}

int restore_parse_member(struct config *c, int argc, char **argv, struct err *e)
{
	uint64_t drives;

	if (argc < 4 || parse_u64(argv[1], &drives) < 0 || drives > CONFIG_DRIVES_MAX)
		return err_set(e, -EINVAL, "only `mayfly pool` starts a member");
	c->pool = argv[argc - 1];
	return parse_and_await(c, (unsigned)drives, argc - 2, argv + 2, e);
}

int restore_claim(struct config *c, int argc, char **argv, struct err *e)
{
	struct restore_options o = { .config = c };
	struct config_command old;
	int r;

	while (o.nets < c->num_nets && !c->net[o.nets].awaited)
		o.nets++; /* the client's are behind them */

	c->command.tty = CONFIG_TTY_AUTO;
	old = c->command;
	r = cli_parse(&restore_usage, &o, argc, argv, e);
	if (r > 0)
		r = err_set(e, -EINVAL, "no help is given here");
	if (r == 0)
		r = check_command(c, &old, e);
	if (r == 0)
		r = config_check_claim(c, e);
	return r;
}

int restore_command(int argc, char **argv)
{
	return run_vm(restore_parse, argc, argv);
}
