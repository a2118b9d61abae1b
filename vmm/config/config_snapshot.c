/* The snapshot of `mayfly run --snapshot`: when it is taken, and what does not go with it. See config_field.h. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"
#include "vmm/config/config_parts.h"

#define TEXT_PREFIX "text="
#define NO_COMMAND ":" /* what a shell calls the command that does nothing */

/*
 * "ready", then what begins with a digit, then "text=", are taken: so no time is ever a text,
 * and every text can be written.
 */
enum config_until config_until(const struct config *c, const char **ret_text, uint64_t *ret_ms)
{
	const char *text = c->until ? c->until : "ready";

	if (!strcmp(text, "ready"))
		return CONFIG_UNTIL_READY;
	if (isdigit((unsigned char)*text))
		return parse_duration(text, ret_ms) < 0 ? CONFIG_UNTIL_NONE : CONFIG_UNTIL_TIME;
	if (!strncmp(text, TEXT_PREFIX, strlen(TEXT_PREFIX)))
		text += strlen(TEXT_PREFIX);
	*ret_text = text;
	return *text ? CONFIG_UNTIL_TEXT : CONFIG_UNTIL_NONE;
}

int config_check_until(const char *text, const struct config_field *f, struct err *e)
{
	const struct config c = { .until = (char *)(uintptr_t)text };
	const char *part;
	uint64_t ms = 0;

	if (strlen(text) > f->max || config_until(&c, &part, &ms) == CONFIG_UNTIL_NONE || ms > CONFIG_TIMEOUT_MAX_MS)
		return err_set(e, -EINVAL,
			       "must be ready, a time such as 5s, or a text of %d bytes at most; text=5s is a text",
			       (int)f->max);
	return 0;
}

/* What a snapshot at the end of this run cannot have. */
static const char *conflict(const struct config *c)
{
	if (c->restore_state)
		return "restore";
	if (c->detach)
		return "detach";
	if (c->command.tty == CONFIG_TTY_ON)
		return "tty";
	if (c->num_live)
		return "live directories (-v DIR:/GUEST without ':copy')";
	return c->num_artifacts ? "artifacts" : NULL;
}

int config_complete_snapshot(struct config *c, struct err *e)
{
	const char *other = conflict(c);

	if (!c->snapshot)
		return c->until ? err_set(e, -EINVAL, "until needs the directory of a snapshot: --snapshot DIR") : 0;
	if (other)
		return err_set(e, -EINVAL, "snapshot and %s do not go together", other);
	if (!c->command.args.num && !c->until)
		return err_set(e, -EINVAL,
			       "snapshot needs a command, or a time: --until ready, a time such as 5s, or a text");
	if (!c->command.args.num && !strcmp(c->until, "ready") && config_set(c, "command", NO_COMMAND, e) < 0)
		return e->code;
	if (!c->command.args.num)
		return 0;
	c->command.none = c->command.args.num == 1 && !strcmp(c->command.args.text[0], NO_COMMAND);
	c->command.tty = CONFIG_TTY_OFF; /* or there were no snapshot */
	return 0;
}
