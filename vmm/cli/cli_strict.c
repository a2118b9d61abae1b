/*
 * Command lines as Firecracker's programs take them: each option is a word, "--name", and so is its value; no short
 * options but -h, no "--name=value", no option twice, no other words. See cli.h.
 */
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/suggest.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"

#define VALUE_SHOWN 60 /* bytes of a value in a message */

static int unknown(const struct cli_usage *u, const char *given, struct err *e)
{
	struct suggest n = { .word = given + MF_MIN(strspn(given, "-"), 2U) };

	n.len = strlen(n.word);
	if (given[0] != '-')
		return err_set(e, -EINVAL, "unexpected argument '%.*s'; try 'mayfly %s --help'", VALUE_SHOWN, given,
			       u->command);
	if (strchr(given, '='))
		return err_set(e, -EINVAL, "unknown option '%.*s' (a value is an argument of its own, without '=')",
			       VALUE_SHOWN, given);
	for (const struct cli_option *o = u->options; o->help; o++) {
		if (o->long_name)
			suggest_try(&n, o->long_name);
	}
	if (n.best)
		return err_set(e, -EINVAL, "unknown option '%.*s'; did you mean '--%s'? try 'mayfly %s --help'",
			       VALUE_SHOWN, given, n.best, u->command);
	return err_set(e, -EINVAL, "unknown option '%.*s'; try 'mayfly %s --help'", VALUE_SHOWN, given, u->command);
}

static const struct cli_option *find(const struct cli_usage *u, const char *given)
{
	const bool is_short = given[0] == '-' && given[1] && !given[2]; /* -h */

	if (strncmp(given, "--", 2) != 0 && !is_short)
		return NULL;
	for (const struct cli_option *o = u->options; o->help; o++) {
		if (o->long_name && (is_short ? o->short_name == given[1] : !strcmp(o->long_name, given + 2)))
			return o;
	}
	return NULL;
}

int cli_parse_strict(const struct cli_usage *u, void *target, int argc, char **argv, int *ret_rest, struct err *e)
{
	bool given[CLI_OPTIONS_MAX] = { false };
	int i = 1;

	for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
		const struct cli_option *o = find(u, argv[i]);
		const char *value = NULL;

		if (!o)
			return unknown(u, argv[i], e);
		if (!o->set && !o->key) {
			cli_print_help(u, stdout);
			return cli_check_stdout(e) < 0 ? e->code : 1;
		}
		if (given[o - u->options] && !o->repeatable)
			return err_set(e, -EINVAL, "option '--%s' was given twice", o->long_name);
		given[o - u->options] = true;
		if (o->value_name) {
			value = i + 1 < argc ? argv[i + 1] : NULL;
			if (!value || !strncmp(value, "--", 2))
				return err_set(e, -EINVAL, "option '--%s' needs a value (%s); try 'mayfly %s --help'",
					       o->long_name, o->value_name, u->command);
			i++;
		}
		if (u->set_key(target, o->key, value ? value : o->fixed, e) < 0)
			return value ? err_wrap(e, "option '--%s %.*s%s'", o->long_name, VALUE_SHOWN, value,
						strlen(value) > VALUE_SHOWN ? "..." : "") :
				       err_wrap(e, "option '--%s'", o->long_name);
	}
	*ret_rest = i < argc ? i + 1 : argc;
	return 0;
}
