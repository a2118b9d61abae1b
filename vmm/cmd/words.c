/* See words.h. */
#include "vmm/cmd/words.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/cli/cli.h"

int words_add(struct words *w, const char *text, struct err *e)
{
	if (w->num == WORDS_MAX)
		return err_set(e, -E2BIG, "more than %d words", WORDS_MAX);
	w->word[w->num] = strdup(text);
	return w->word[w->num++] ? 0 : err_set(e, -ENOMEM, "out of memory");
}

int words_add_all(struct words *w, const struct words *more, struct err *e)
{
	for (unsigned i = 0; i < more->num; i++)
		if (words_add(w, more->word[i], e) < 0)
			return e->code;
	return 0;
}

int words_add_option(struct words *w, const struct cli_option *o, const char *value, struct err *e)
{
	MF_FREE char *text = NULL;

	if (asprintf(&text, value ? "--%s=%s" : "--%s", o->long_name, value) < 0) {
		text = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	return words_add(w, text, e);
}
