/* The command of the configuration, which is run in the guest: its types of values. See config_field.h. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loader/init/proto.h"
#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/unix_socket.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"
#include "vmm/config/config_parts.h"

/* Of the text that the guest's init gets; what else is in there is short, and checked by itself. */
#define TEXT_MAX (INIT_COMMAND_MAX - 16 * KIB)

static int list_add(struct config_command *cmd, struct config_list *l, const char *text, struct err *e)
{
	size_t len = strlen(text) + 2;

	if (len > TEXT_MAX - cmd->text_len)
		return err_set(e, -E2BIG, "command and environment together exceed %llu KiB",
			       (unsigned long long)(TEXT_MAX / KIB));
	if (config_texts_add(l, text, e) < 0)
		return e->code;
	cmd->text_len += len;
	return 0;
}

static int add_arg(void *object, const struct config_field *f, const char *text, struct err *e)
{
	struct config_command *cmd = &((struct config *)object)->command;

	if (cmd->args_of_file) {
		for (unsigned i = 0; i < cmd->args.num; i++)
			cmd->text_len -= strlen(cmd->args.text[i]) + 2;
		config_texts_done(&cmd->args);
		cmd->args_of_file = false;
	}
	if (cmd->args.num == 0 && !*text)
		return err_set(e, -EINVAL, "the command must not be empty");
	return list_add(cmd, config_at(object, f), text, e);
}

static int add_env(void *object, const struct config_field *f, const char *text, struct err *e)
{
	struct config_command *cmd = &((struct config *)object)->command;
	MF_FREE char *both = NULL;
	const char *value;

	if (!*text || *text == '=')
		return err_set(e, -EINVAL,
			       "must be NAME=VALUE, or NAME, which takes the value from mayfly's environment");
	if (strchr(text, '='))
		return list_add(cmd, config_at(object, f), text, e);
	value = getenv(text);
	if (!value)
		return 0; /* as it is here: not set */
	if (asprintf(&both, "%s=%s", text, value) < 0) {
		both = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	return list_add(cmd, config_at(object, f), both, e);
}

void config_take_command(struct config *c, struct config_list *ret_args, struct config_list *ret_env)
{
	*ret_args = c->command.args;
	*ret_env = c->command.env;
	c->command.args = c->command.env = (struct config_list){ 0 };
	c->command.args_of_file = false;
	c->command.text_len = 0;
}

const struct config_type config_type_args = {
	.json = 1U << JSON_ARRAY, .set = add_arg, .print = config_print_texts, .done = config_free_texts
};

const struct config_type config_type_env = {
	.json = 1U << JSON_ARRAY, .set = add_env, .print = config_print_texts, .done = config_free_texts
};

int config_check_workdir(const char *text, const struct config_field *f, struct err *e)
{
	(void)f; /* its length is checked when it is copied */
	return *text == '/' ? 0 : err_set(e, -EINVAL, "must be a path in the guest that begins with '/'");
}

int config_check_user(const char *text, const struct config_field *f, struct err *e)
{
	size_t name = strcspn(text, ":");

	if (!name || strlen(text) > f->max || (text[name] && (!text[name + 1] || strchr(text + name + 1, ':'))))
		return err_set(e, -EINVAL, "must be USER or USER:GROUP, names or numbers, %d bytes at most",
			       (int)f->max);
	return 0;
}

static int set_tty(void *object, const struct config_field *f, const char *text, struct err *e)
{
	bool is_true = false;

	if (config_copy_bool(&is_true, text, e) < 0)
		return e->code;
	*(enum config_tty *)config_at(object, f) = is_true ? CONFIG_TTY_ON : CONFIG_TTY_OFF;
	return 0;
}

static bool print_tty(const void *object, const struct config_field *f, json_t *to)
{
	const enum config_tty *tty = config_at(object, f);

	return *tty == CONFIG_TTY_AUTO || config_put(to, f->key, json_boolean(*tty == CONFIG_TTY_ON));
}

const struct config_type config_type_tty = { .json = 1U << JSON_TRUE | 1U << JSON_FALSE,
					     .set = set_tty,
					     .print = print_tty };

static int set_signal(void *object, const struct config_field *f, const char *text, struct err *e)
{
	if (parse_signal(text, config_at(object, f)) < 0)
		return err_set(e, -EINVAL, "must be a signal such as SIGINT, QUIT, RTMIN+3 or 10");
	return 0;
}

static bool print_signal(const void *object, const struct config_field *f, json_t *to)
{
	const int *signo = config_at(object, f);

	return !*signo || config_put(to, f->key, json_integer(*signo));
}

const struct config_type config_type_signal = { .json = 1U << JSON_STRING | 1U << JSON_INTEGER,
						.set = set_signal,
						.print = print_signal };

int config_check_control(const char *text, const struct config_field *f, struct err *e)
{
	if (strlen(text) > f->max)
		return err_set(e, -EINVAL, "must be %d bytes at most, the length of a socket's name", (int)f->max);
	return config_check_not_empty(text, f, e);
}

void config_complete_command(struct config_command *cmd)
{
	bool ours = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);

	cmd->terminal = cmd->args.num && (cmd->tty == CONFIG_TTY_ON || (cmd->tty == CONFIG_TTY_AUTO && ours));
}

int config_check_command(const struct config *c, struct err *e)
{
	const struct config_command *cmd = &c->command;

	if (cmd->args.num)
		return 0;
	if (cmd->env.num || cmd->workdir || cmd->user || cmd->tty != CONFIG_TTY_AUTO || c->console)
		return err_set(e, -EINVAL,
			       "env, workdir, user, tty and console need a command: mayfly run ... -- COMMAND");
	if (c->num_artifacts)
		return err_set(e, -EINVAL, "artifacts need a command: mayfly run ... -- COMMAND");
	if (c->num_tmpfs || c->num_own || c->num_live || c->num_secrets || c->scratch || c->disk)
		return err_set(e, -EINVAL,
			       "volumes, tmpfs, secrets, scratch and disk need a command: mayfly run ... -- COMMAND");
	for (unsigned i = 0; i < c->num_drives; i++) {
		if (c->drive[i].mount)
			return err_set(e, -EINVAL,
				       "drive '%s' has a mount path, which needs a command: mayfly run ... -- COMMAND",
				       c->drive[i].id);
	}
	return 0;
}

bool config_is_control_dir(const char *dir)
{
	const char *last = strrchr(dir, '/');
	char own[CONFIG_OWN_DIR_MAX];

	snprintf(own, sizeof(own), CONFIG_OWN_DIR, geteuid());
	return (last && strcmp(last + 1, CONFIG_RUN_DIR) == 0) || strcmp(dir, own) == 0;
}

/* Puts together the path, if its directory can be made, and a socket can have that name. */
static bool try_directory(char *path, const char *runtime, const char *name)
{
	if (!runtime || *runtime != '/' || access(runtime, W_OK | X_OK) < 0)
		return false;
	return snprintf(path, UNIXNAME_MAX + 1, "%s/" CONFIG_RUN_DIR "/%s.sock", runtime, name) <= UNIXNAME_MAX;
}

int config_control_path(char **ret, const char *name, struct err *e)
{
	char path[UNIXNAME_MAX + 1], user[32];
	uid_t uid = geteuid();

	snprintf(user, sizeof(user), "/run/user/%u", uid);
	/* Root of a user namespace cannot write to /run. */
	if ((uid != 0 || !try_directory(path, "/run", name)) && !try_directory(path, getenv("XDG_RUNTIME_DIR"), name) &&
	    !try_directory(path, user, name))
		snprintf(path, sizeof(path), CONFIG_OWN_DIR "/%s.sock", uid, name);
	*ret = strdup(path);
	return *ret ? 0 : err_set(e, -ENOMEM, "out of memory");
}

int config_run_dir(char **ret, struct err *e)
{
	if (config_control_path(ret, "x", e) < 0)
		return e->code;
	*strrchr(*ret, '/') = '\0';
	return 0;
}
