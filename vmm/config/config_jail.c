/* The jail of `mayfly run` in the configuration: its types of values. See config_field.h. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"

#define STRING (1U << JSON_STRING)
#define INTEGER (1U << JSON_INTEGER)
#define BOOLEAN (1U << JSON_TRUE | 1U << JSON_FALSE)

#define ID_MAX 0xfffffffdU /* of a user or group; the last two numbers mean none */

/* N, or FIRST-LAST. */
static int set_ids(void *object, const struct config_field *f, const char *text, struct err *e)
{
	MF_FREE char *first = strdup(text);
	char *last = first ? strchr(first, '-') : NULL;
	struct config_ids *ids = config_at(object, f);
	uint64_t from = 0, to;

	if (!first)
		return err_sys(e, "copy it");
	if (last)
		*last++ = '\0';
	if (parse_u64(first, &from) < 0 || parse_u64(last ? last : first, &to) < 0 || from < 1 || to < from ||
	    to > ID_MAX)
		return err_set(e, -EINVAL, "must be a number, 1 or more, or a range of them such as 100000-165535");
	if (geteuid() != 0)
		return err_set(e, -EPERM, "only root can choose it: leave it out");
	*ids = (struct config_ids){ .first = (uint32_t)from, .num = to - from + 1 };
	return 0;
}

static bool print_ids(const void *object, const struct config_field *f, json_t *to)
{
	const struct config_ids *ids = config_at(object, f);

	if (ids->num == 0)
		return true;
	return config_put(to, f->key,
			  ids->num == 1 ? json_integer(ids->first) :
					  json_sprintf("%" PRIu32 "-%" PRIu64, ids->first, ids->first + ids->num - 1));
}

const struct config_type config_type_ids = { .json = STRING | INTEGER, .set = set_ids, .print = print_ids };

/*
 * The kernel's files accept words; check restricts their characters to those that occur
 * there.
 */
static int check_words(const char *text, const char *allowed, const char *form, struct err *e)
{
	return *text && strspn(text, allowed) == strlen(text) ? 0 : err_set(e, -EINVAL, "must be %s", form);
}

int config_check_cpu_max(const char *text, const struct config_field *f, struct err *e)
{
	(void)f; /* its length is checked when it is copied */
	return check_words(text, "0123456789max ", "QUOTA or 'QUOTA PERIOD' in microseconds, such as '50000 100000'",
			   e);
}

static int set_memory_max(void *object, const struct config_field *f, const char *text, struct err *e)
{
	char bytes[24];
	uint64_t size;

	if (parse_size(text, &size) < 0 || size == 0)
		return err_set(e, -EINVAL, "must be a size such as 512M");
	snprintf(bytes, sizeof(bytes), "%" PRIu64, size);
	return config_copy_text(config_at(object, f), bytes, CONFIG_ID_MAX, e);
}

const struct config_type config_type_memory_max = {
	.json = STRING | INTEGER, .set = set_memory_max, .print = config_print_text, .done = config_free_text
};

static int set_pids_max(void *object, const struct config_field *f, const char *text, struct err *e)
{
	if (check_words(text, "0123456789", "a number", e) < 0)
		return e->code;
	return config_copy_text(config_at(object, f), text, CONFIG_ID_MAX, e);
}

static bool print_pids_max(const void *object, const struct config_field *f, json_t *to)
{
	char *const *text = config_at(object, f);

	return !*text || config_put(to, f->key, json_integer(strtoll(*text, NULL, 10)));
}

const struct config_type config_type_pids_max = {
	.json = INTEGER, .set = set_pids_max, .print = print_pids_max, .done = config_free_text
};

static int add_io_max(void *object, const struct config_field *f, const char *text, struct err *e)
{
	struct config_jail *j = object;

	(void)f; /* one of an array */
	if (j->num_io_max == CONFIG_IO_MAX_MAX)
		return err_set(e, -EINVAL, "there can be at most %d", CONFIG_IO_MAX_MAX);
	if (check_words(text, "0123456789:abcdefghijklmnopqrstuvwxyz= ",
			"'MAJOR:MINOR KEY=N ...' with rbps, wbps, riops or wiops, such as '8:0 wbps=10485760'",
			e) < 0 ||
	    config_copy_text(&j->io_max[j->num_io_max], text, CONFIG_ID_MAX, e) < 0)
		return e->code;
	j->num_io_max++;
	return 0;
}

static bool print_io_max(const void *object, const struct config_field *f, json_t *to)
{
	const struct config_jail *j = object;

	return config_put(to, f->key, config_strings(j->io_max, j->num_io_max));
}

static void free_io_max(void *object, const struct config_field *f)
{
	struct config_jail *j = object;

	(void)f; /* an array */
	while (j->num_io_max)
		free(j->io_max[--j->num_io_max]);
}

const struct config_type config_type_io_max = {
	.json = 1U << JSON_ARRAY, .value = CONFIG_MANY, .set = add_io_max, .print = print_io_max, .done = free_io_max
};

static int set_jail(void *object, const struct config_field *f, const char *text, struct err *e)
{
	struct config_jail *j = config_at(object, f);

	j->on = true;
	if (!strcmp(text, "true") || !strcmp(text, "false"))
		return config_copy_bool(&j->on, text, e);
	return config_take_spec(config_jail_fields, j, text, "", e);
}

static int read_jail(void *object, const struct config_field *f, json_t *value, const char *prefix, struct err *e)
{
	struct config_jail *j = config_at(object, f);

	(void)prefix; /* it is at the top */
	j->on = true;
	return config_read_object(config_jail_fields, j, value, "jail.", e);
}

static bool print_jail(const void *object, const struct config_field *f, json_t *to)
{
	const struct config_jail *j = config_at(object, f);
	json_t *jail = j->on ? json_object() : NULL;
	bool ok = !j->on || config_print_object(config_jail_fields, j, jail);

	return !j->on || (config_put(to, f->key, jail) && ok);
}

static void free_jail(void *object, const struct config_field *f)
{
	config_fields_done(config_jail_fields, config_at(object, f));
}

const struct config_type config_type_jail = {
	.json = BOOLEAN | 1U << JSON_OBJECT, .set = set_jail, .read = read_jail, .print = print_jail, .done = free_jail
};
