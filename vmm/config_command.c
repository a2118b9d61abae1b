/* The command of the configuration, which is run in the guest: its setters. See config.h. */
#include <errno.h>
#include <string.h>

#include "loader/init/proto.h"
#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/config.h"
#include "vmm/config_parts.h"

/* Of the text that the guest's init gets; what else is in there is short, and checked by itself. */
#define TEXT_MAX (INIT_PAYLOAD_MAX - 16 * KIB)

static void list_done(struct config_list *l)
{
	for (unsigned i = 0; i < l->num; i++)
		free(l->text[i]);
	free(l->text);
	*l = (struct config_list){ 0 };
}

static int list_add(struct config_command *cmd, struct config_list *l, const char *text, struct err *e)
{
	size_t len = strlen(text) + 2;
	char **more;
	char *copy;

	if (len > TEXT_MAX - cmd->text_len)
		return err_set(e, -E2BIG, "command and environment have more than %llu KiB together",
			       (unsigned long long)(TEXT_MAX / KIB));
	more = reallocarray(l->text, l->num + 1, sizeof(*more));
	if (!more)
		return err_sys(e, "copy it");
	l->text = more;
	copy = strdup(text);
	if (!copy)
		return err_sys(e, "copy it");
	l->text[l->num++] = copy;
	cmd->text_len += len;
	return 0;
}

void config_command_done(struct config_command *cmd)
{
	list_done(&cmd->args);
	list_done(&cmd->env);
	free(cmd->workdir);
	free(cmd->user);
	*cmd = (struct config_command){ 0 };
}

int config_add_arg(struct config *c, const char *text, struct err *e)
{
	if (c->command.args_of_file) {
		for (unsigned i = 0; i < c->command.args.num; i++)
			c->command.text_len -= strlen(c->command.args.text[i]) + 2;
		list_done(&c->command.args);
		c->command.args_of_file = false;
	}
	if (c->command.args.num == 0 && !*text)
		return err_set(e, -EINVAL, "the command must not be empty");
	return list_add(&c->command, &c->command.args, text, e);
}

int config_add_env(struct config *c, const char *text, struct err *e)
{
	MF_FREE char *both = NULL;
	const char *value;

	if (!*text || *text == '=')
		return err_set(e, -EINVAL, "must be NAME=VALUE, or NAME, whose value is then mayfly's own");
	if (strchr(text, '='))
		return list_add(&c->command, &c->command.env, text, e);
	value = getenv(text);
	if (!value)
		return 0; /* as it is here: not set */
	if (asprintf(&both, "%s=%s", text, value) < 0) {
		both = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	return list_add(&c->command, &c->command.env, both, e);
}

int config_set_workdir(struct config *c, const char *text, struct err *e)
{
	if (*text != '/')
		return err_set(e, -EINVAL, "must be a path in the guest that begins with '/'");
	return config_copy_path(&c->command.workdir, text, e);
}

int config_set_user(struct config *c, const char *text, struct err *e)
{
	size_t name = strcspn(text, ":");

	if (!name || strlen(text) > CONFIG_USER_MAX ||
	    (text[name] && (!text[name + 1] || strchr(text + name + 1, ':'))))
		return err_set(e, -EINVAL, "must be USER or USER:GROUP, names or numbers, %d bytes at most",
			       CONFIG_USER_MAX);
	return config_copy_text(&c->command.user, text, CONFIG_USER_MAX, e);
}

int config_set_tty(struct config *c, const char *text, struct err *e)
{
	bool is_true = false;

	if (config_copy_bool(&is_true, text, e) < 0)
		return e->code;
	c->command.tty = is_true ? CONFIG_TTY_ON : CONFIG_TTY_OFF;
	return 0;
}

int config_set_timeout(struct config *c, const char *text, struct err *e)
{
	uint64_t ms;

	if (parse_duration(text, &ms) < 0 || ms == 0 || ms > CONFIG_TIMEOUT_MAX_MS)
		return err_set(e, -EINVAL, "must be a time such as 30s, 500ms, 5m or 1h, 24 days at most");
	c->timeout_ms = ms;
	return 0;
}

int config_set_name(struct config *c, const char *text, struct err *e)
{
	return config_copy_id(&c->name, text, e);
}

int config_set_control(struct config *c, const char *text, struct err *e)
{
	if (strlen(text) > CONFIG_CONTROL_MAX)
		return err_set(e, -EINVAL, "is longer than the %d bytes that a socket's name has", CONFIG_CONTROL_MAX);
	return config_copy_path(&c->control, text, e);
}

int config_set_console(struct config *c, const char *text, struct err *e)
{
	return config_copy_bool(&c->console, text, e);
}

int config_check_command(const struct config *c, struct err *e)
{
	const struct config_command *cmd = &c->command;

	if (cmd->args.num)
		return 0;
	if (cmd->env.num || cmd->workdir || cmd->user || cmd->tty != CONFIG_TTY_AUTO || c->control || c->console)
		return err_set(e, -EINVAL,
			       "env, workdir, user, tty, control and console need a command: mayfly run ... -- COMMAND");
	return 0;
}

/* Appends letter, text and NUL. */
static char *put(char *at, char letter, const char *text)
{
	size_t len = strlen(text) + 1;

	*at = letter;
	memcpy(at + 1, text, len);
	return at + 1 + len;
}

char *config_command_text(const struct config_command *cmd, const char *tty, size_t *ret_len)
{
	size_t size = cmd->text_len + 8 + (tty ? strlen(tty) : 0) + (cmd->workdir ? strlen(cmd->workdir) : 0) +
		      (cmd->user ? strlen(cmd->user) : 0);
	char *text = malloc(size), *at = text;

	if (!text)
		return NULL;
	for (unsigned i = 0; i < cmd->args.num; i++)
		at = put(at, 'a', cmd->args.text[i]);
	for (unsigned i = 0; i < cmd->env.num; i++)
		at = put(at, 'e', cmd->env.text[i]);
	if (cmd->workdir)
		at = put(at, 'w', cmd->workdir);
	if (cmd->user)
		at = put(at, 'u', cmd->user);
	if (tty)
		at = put(at, 't', tty);
	*ret_len = (size_t)(at - text);
	return text;
}
