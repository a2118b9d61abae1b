/* The types of values that more than one key has; see config_field.h. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "virtio/ratelimit.h"
#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"

#define STRING (1U << JSON_STRING)
#define INTEGER (1U << JSON_INTEGER)
#define BOOLEAN (1U << JSON_TRUE | 1U << JSON_FALSE)

#define LIMIT_TEXT_MAX 72 /* bytes: three numbers of 64 bits */

bool config_put(json_t *to, const char *key, json_t *value)
{
	return json_object_set_new(to, key, value) == 0;
}

/* Texts. */

int config_copy_text(char **to, const char *text, size_t max_len, struct err *e)
{
	char *copy;

	if (strlen(text) > max_len)
		return err_set(e, -EINVAL, "is longer than %zu bytes", max_len);
	copy = strdup(text);
	if (!copy)
		return err_sys(e, "copy it");
	free(*to);
	*to = copy;
	return 0;
}

int config_copy_path(char **to, const char *text, struct err *e)
{
	if (!*text)
		return err_set(e, -EINVAL, "must not be empty");
	return config_copy_text(to, text, CONFIG_PATH_MAX, e);
}

static int set_text(void *object, const struct config_field *f, const char *text, struct err *e)
{
	if (f->check && f->check(text, f, e) < 0)
		return e->code;
	return config_copy_text(config_at(object, f), text, f->max, e);
}

int config_check_not_empty(const char *text, const struct config_field *f, struct err *e)
{
	(void)f; /* its length is checked when it is copied */
	return *text ? 0 : err_set(e, -EINVAL, "must not be empty");
}

int config_check_id(const char *text, const struct config_field *f, struct err *e)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
	size_t len = strlen(text);

	if (len >= 1 && len <= f->max && strspn(text, allowed) == len)
		return 0;
	return err_set(e, -EINVAL, "must be 1 to %d letters, digits, '_' or '-'", (int)f->max);
}

int config_check_name(const char *text, const struct config_field *f, struct err *e)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";
	size_t len = strlen(text);

	if (len >= 1 && len <= f->max && strspn(text, allowed) == len && *text != '.' && *text != '-')
		return 0;
	return err_set(e, -EINVAL,
		       "must be 1 to %d letters, digits, '_', '-' or '.', and begin with none of the last two",
		       (int)f->max);
}

bool config_print_text(const void *object, const struct config_field *f, json_t *to)
{
	char *const *text = config_at(object, f);

	return !*text || config_put(to, f->key, json_string(*text));
}

void config_free_text(void *object, const struct config_field *f)
{
	char **text = config_at(object, f);

	free(*text);
	*text = NULL;
}

const struct config_type config_type_text = {
	.json = STRING, .set = set_text, .print = config_print_text, .done = config_free_text
};

/* Lists of texts. */

int config_texts_add(struct config_list *l, const char *text, struct err *e)
{
	char **more = reallocarray(l->text, l->num + 1, sizeof(*more));
	char *copy;

	if (!more)
		return err_sys(e, "copy it");
	l->text = more;
	copy = strdup(text);
	if (!copy)
		return err_sys(e, "copy it");
	l->text[l->num++] = copy;
	return 0;
}

void config_texts_done(struct config_list *l)
{
	for (unsigned i = 0; i < l->num; i++)
		free(l->text[i]);
	free(l->text);
	*l = (struct config_list){ 0 };
}

static int add_text(void *object, const struct config_field *f, const char *text, struct err *e)
{
	struct config_list *l = config_at(object, f);

	if (f->check(text, f, e) < 0)
		return e->code;
	if (l->num == CONFIG_TEXTS_MAX)
		return err_set(e, -EINVAL, "there can be at most %d", CONFIG_TEXTS_MAX);
	return config_texts_add(l, text, e);
}

bool config_print_texts(const void *object, const struct config_field *f, json_t *to)
{
	const struct config_list *l = config_at(object, f);

	return !l->num || config_put(to, f->key, config_strings(l->text, l->num));
}

void config_free_texts(void *object, const struct config_field *f)
{
	config_texts_done(config_at(object, f));
}

const struct config_type config_type_texts = { .json = 1U << JSON_ARRAY,
					       .value = CONFIG_MANY,
					       .set = add_text,
					       .print = config_print_texts,
					       .done = config_free_texts };

/* Booleans. */

int config_copy_bool(bool *to, const char *text, struct err *e)
{
	bool is_true = !strcmp(text, "true");

	if (!is_true && strcmp(text, "false") != 0)
		return err_set(e, -EINVAL, "must be true or false");
	*to = is_true;
	return 0;
}

static int set_bool(void *object, const struct config_field *f, const char *text, struct err *e)
{
	return config_copy_bool(config_at(object, f), text, e);
}

static bool print_bool(const void *object, const struct config_field *f, json_t *to)
{
	const bool *value = config_at(object, f);

	return (f->flags & CONFIG_SPARSE && !*value) || config_put(to, f->key, json_boolean(*value));
}

const struct config_type config_type_bool = {
	.json = BOOLEAN, .value = CONFIG_FLAG, .set = set_bool, .print = print_bool
};

/* Numbers: unsigned or uint64_t, by the size of the member. */

static void store(void *object, const struct config_field *f, uint64_t number)
{
	if (f->size == sizeof(uint32_t))
		*(uint32_t *)config_at(object, f) = (uint32_t)number;
	else
		*(uint64_t *)config_at(object, f) = number;
}

static uint64_t load(const void *object, const struct config_field *f)
{
	return f->size == sizeof(uint32_t) ? *(const uint32_t *)config_at(object, f) :
					     *(const uint64_t *)config_at(object, f);
}

static int set_number(void *object, const struct config_field *f, const char *text, struct err *e)
{
	uint64_t number;

	if (parse_u64(text, &number) < 0 || number < f->min || number > f->max)
		return err_set(e, -EINVAL, "must be %" PRIu64 " to %" PRIu64, f->min, f->max);
	store(object, f, number);
	return 0;
}

static bool print_number(const void *object, const struct config_field *f, json_t *to)
{
	uint64_t number = load(object, f);

	return (f->flags & CONFIG_SPARSE && !number) || config_put(to, f->key, json_integer((json_int_t)number));
}

const struct config_type config_type_number = { .json = INTEGER, .set = set_number, .print = print_number };

static int set_word(void *object, const struct config_field *f, const char *text, struct err *e)
{
	char words[128] = "";

	for (unsigned i = 0; f->words[i]; i++) {
		const char *between = i == 0 ? "" : f->words[i + 1] ? ", " : " or ";

		if (!strcmp(text, f->words[i])) {
			store(object, f, i);
			return 0;
		}
		strncat(words, between, sizeof(words) - strlen(words) - 1);
		strncat(words, f->words[i], sizeof(words) - strlen(words) - 1);
	}
	return err_set(e, -EINVAL, "must be %s", words);
}

static bool print_word(const void *object, const struct config_field *f, json_t *to)
{
	return config_put(to, f->key, json_string(f->words[load(object, f)]));
}

const struct config_type config_type_word = { .json = STRING, .set = set_word, .print = print_word };

/* Sizes and times. */

static int set_mem(void *object, const struct config_field *f, const char *text, struct err *e)
{
	char min[PARSE_SIZE_TEXT_MAX], max[PARSE_SIZE_TEXT_MAX];
	uint64_t mem = 0;
	int r = parse_size(text, &mem);

	if (r == -EINVAL)
		return err_set(e, r, "must be a size such as 128M or 2G");
	if (r < 0 || mem < f->min || mem > f->max) {
		parse_format_size(f->min, min);
		parse_format_size(f->max, max);
		if (r == 0 && mem >= f->min >> 20 && mem <= f->max >> 20 && !text[strspn(text, "0123456789")])
			return err_set(e, -EINVAL, "must be %s to %s; a number alone is bytes: did you mean %sM?", min,
				       max, text);
		return err_set(e, -EINVAL, "must be %s to %s (a number alone is bytes)", min, max);
	}
	store(object, f, mf_align_up(mem, MF_PAGE_SIZE));
	return 0;
}

static bool print_mem(const void *object, const struct config_field *f, json_t *to)
{
	char text[PARSE_SIZE_TEXT_MAX];

	parse_format_size(load(object, f), text);
	return config_put(to, f->key, json_string(text));
}

const struct config_type config_type_mem = { .json = STRING | INTEGER, .set = set_mem, .print = print_mem };

static int set_size(void *object, const struct config_field *f, const char *text, struct err *e)
{
	char min[PARSE_SIZE_TEXT_MAX];
	uint64_t size;

	if (parse_size(text, &size) < 0 || size == 0)
		return err_set(e, -EINVAL, "must be a size such as 10G");
	if (size < f->min) {
		parse_format_size(f->min, min);
		return err_set(e, -EINVAL, "must be %s at least", min);
	}
	store(object, f, size);
	return 0;
}

const struct config_type config_type_size = { .json = STRING | INTEGER, .set = set_size, .print = print_number };

static int set_duration(void *object, const struct config_field *f, const char *text, struct err *e)
{
	uint64_t ms = 0;

	if (strcmp(text, "none") != 0 && (parse_duration(text, &ms) < 0 || ms > f->max))
		return err_set(e, -EINVAL, "must be a time such as 30s, 500ms, 5m or 1h30m, 24 days at most, or none");
	store(object, f, ms ? ms : CONFIG_NO_LIMIT);
	return 0;
}

static bool print_duration(const void *object, const struct config_field *f, json_t *to)
{
	uint64_t ms = load(object, f);

	if (ms == CONFIG_NO_LIMIT)
		return config_put(to, f->key, json_string("none"));
	return !ms || config_put(to, f->key, json_sprintf("%" PRIu64 "ms", ms));
}

const struct config_type config_type_duration = { .json = STRING | INTEGER,
						  .set = set_duration,
						  .print = print_duration };

/* SIZE[+BURST]/MILLISECONDS, a token bucket: of bytes (10M/1000), or of operations. */
static int copy_limit(struct ratelimit_params *to, const char *text, bool is_size, struct err *e)
{
	int (*parse)(const char *text, uint64_t *ret) = is_size ? parse_size : parse_u64;
	MF_FREE char *size = strdup(text);
	struct ratelimit_params p = { 0 };
	char *ms, *burst;

	if (!size)
		return err_sys(e, "copy it");
	ms = strchr(size, '/');
	if (ms)
		*ms++ = '\0';
	burst = strchr(size, '+');
	if (burst)
		*burst++ = '\0';
	if (!ms || parse(size, &p.size) < 0 || (burst && parse(burst, &p.one_time_burst) < 0) ||
	    parse_u64(ms, &p.refill_ms) < 0 || !p.size || !p.refill_ms)
		return err_set(e, -EINVAL, "must be SIZE/MILLISECONDS or SIZE+BURST/MILLISECONDS, such as %s/1000",
			       is_size ? "10M" : "5000");
	*to = p;
	return 0;
}

static int set_limit_bytes(void *object, const struct config_field *f, const char *text, struct err *e)
{
	return copy_limit(config_at(object, f), text, true, e);
}

static int set_limit_ops(void *object, const struct config_field *f, const char *text, struct err *e)
{
	return copy_limit(config_at(object, f), text, false, e);
}

static bool print_limit(const void *object, const struct config_field *f, json_t *to)
{
	const struct ratelimit_params *p = config_at(object, f);
	char text[LIMIT_TEXT_MAX];

	snprintf(text, sizeof(text), "%" PRIu64 "+%" PRIu64 "/%" PRIu64, p->size, p->one_time_burst, p->refill_ms);
	return !p->size || config_put(to, f->key, json_string(text));
}

const struct config_type config_type_limit_bytes = { .json = STRING, .set = set_limit_bytes, .print = print_limit };
const struct config_type config_type_limit_ops = { .json = STRING, .set = set_limit_ops, .print = print_limit };
