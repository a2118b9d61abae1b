/* `mayfly images`: lists and removes images of containers. */
#include "vmm/cmd/images.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/printable.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/helper/image_cache.h"
#include "vmm/image/image.h"
#include "vmm/image/image_names.h"
#include "vmm/image/image_pull.h"
#include "vmm/image/reference.h"

#define NAME_SHOWN 4096 /* bytes */
#define DIGEST_SHOWN 12 /* hexadecimal digits, as docker */
#define NAMES_MAX 64	/* of one command line */
#define REGISTRY "docker://"

struct request {
	const char *verb, *name[NAMES_MAX];
	unsigned num;
	bool quiet;
};

static int set_word(void *target, const char *text, struct err *e)
{
	struct request *r = target;

	if (!r->verb)
		r->verb = text;
	else if (r->num < NAMES_MAX && (!strcmp(r->verb, "rm") || !strcmp(r->verb, "pull")))
		r->name[r->num++] = text;
	else
		return err_set(e, -EINVAL, "unexpected argument '%s'", text);
	return 0;
}

static const struct cli_option images_options[] = {
	{ 0, "quiet", NULL, "pull: report nothing but errors", .flag = CLI_FLAG(struct request, quiet) },
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage images_usage = {
	.command = "images",
	.synopsis = "ls|pull IMAGE...|rm IMAGE...|prune",
	.about = "The images of containers that `mayfly run IMAGE` has fetched:\n"
		 "  ls        lists them: digest, size, last use (UTC), * if a VM uses it, name\n"
		 "  pull      fetches what the names mean now\n"
		 "  rm        removes names, and images without a name that no VM uses\n"
		 "  prune     removes all images that no VM uses, and what was half fetched\n"
		 "They are in the cache of `mayfly cache`, which has one size for all. $MAYFLY_IMAGE_MAX is\n"
		 "what one may unpack to; default: 32G\n\n",
	.options = images_options,
	.operand = set_word,
	.operands = "ls pull rm prune",
};

/* The cache's entry of a file, or NULL. */
static const struct image_cache_entry *find_entry(const struct image_cache_entry *entry, size_t num, const char *file)
{
	for (size_t i = 0; i < num; i++)
		if (!strcmp(entry[i].name, file))
			return &entry[i];
	return NULL;
}

static void print_name(const struct image_name *n, const struct image_cache_entry *entry)
{
	const char *shown = strncmp(n->text, REGISTRY, strlen(REGISTRY)) ? n->text : n->text + strlen(REGISTRY);
	const char *colon = strchr(n->digest, ':');
	char name[NAME_SHOWN], used[32];
	struct tm tm;

	snprintf(name, sizeof(name), "%s", shown);
	printable_line(name);
	gmtime_r(&entry->used.tv_sec, &tm);
	strftime(used, sizeof(used), "%Y-%m-%d %H:%M", &tm);
	printf("%.*s %10.1f MiB  %s %c %s\n", DIGEST_SHOWN, colon ? colon + 1 : n->digest,
	       (double)entry->bytes / (double)MIB, used, entry->in_use ? '*' : ' ', name);
}

/* What each verb works on. */
struct images {
	const struct image_cache *cache;
	struct image_name *name;
	size_t num_names;
	struct image_cache_entry *entry;
	size_t num_entries;
};

static int images_open(struct images *i, const struct image_cache *cache, struct err *e)
{
	*i = (struct images){ .cache = cache };
	if (image_names_list(cache, &i->name, &i->num_names, e) < 0)
		return e->code;
	return image_cache_list(cache, &i->entry, &i->num_entries, e);
}

static void images_close(struct images *i)
{
	image_names_free(i->name, i->num_names);
	image_cache_free_list(i->entry, i->num_entries);
}

static int list(const struct images *i)
{
	const struct image_cache_entry *entry;

	for (size_t n = 0; n < i->num_names; n++)
		if ((entry = find_entry(i->entry, i->num_entries, i->name[n].file)))
			print_name(&i->name[n], entry);
	return 0;
}

/* How many other names an image has. */
static unsigned others(const struct images *i, const struct image_name *name)
{
	unsigned num = 0;

	for (size_t n = 0; n < i->num_names; n++)
		num += &i->name[n] != name && i->name[n].file && !strcmp(i->name[n].file, name->file);
	return num;
}

/* Removes a name, and its image, if that has no other. */
static int remove_name(const struct images *i, struct image_name *name, struct err *e)
{
	const struct image_cache_entry *entry = find_entry(i->entry, i->num_entries, name->file);

	if (entry && !others(i, name) && !image_cache_remove(i->cache, name->file))
		return err_set(e, -EBUSY, "a VM uses it");
	if (image_names_remove(i->cache, name->text, e) < 0)
		return e->code;
	name->file[0] = '\0'; /* it is no other's any more */
	return 0;
}

static int remove_one(const struct images *i, const char *word, struct err *e)
{
	struct image_reference ref;
	int r = image_reference_parse(word, &ref, e);

	if (r == 0) {
		r = err_set(e, -ENOENT, "it is not in the cache; `mayfly images ls` lists them");
		for (size_t n = 0; n < i->num_names; n++)
			if (!strcmp(i->name[n].text, ref.text))
				r = remove_name(i, &i->name[n], e);
		image_reference_done(&ref);
	}
	return r < 0 ? err_wrap(e, "image '%.80s'", word) : 0;
}

/* An image that a name has meant: others in the cache are made of paths. */
static bool is_of_container(const struct image_cache_entry *entry)
{
	return entry->source && strchr(entry->source, ':') && *entry->source != '/';
}

static int prune(const struct images *i, struct err *e)
{
	uint64_t removed = 0;

	image_pull_sweep(i->cache);
	for (size_t n = 0; n < i->num_entries; n++)
		if (is_of_container(&i->entry[n]) && image_cache_remove(i->cache, i->entry[n].name))
			removed += i->entry[n].bytes;
	for (size_t n = 0; n < i->num_names; n++)
		if (!image_names_mean(i->cache, &i->name[n]) && image_names_remove(i->cache, i->name[n].text, e) < 0)
			return e->code;
	printf("%.1f MiB removed\n", (double)removed / (double)MIB);
	return 0;
}

static int answer(const struct image_cache *cache, const struct request *r, struct err *e)
{
	struct images i;
	int code = images_open(&i, cache, e);

	if (code == 0 && !strcmp(r->verb, "ls"))
		code = list(&i);
	else if (code == 0 && !strcmp(r->verb, "prune"))
		code = prune(&i, e);
	else
		for (unsigned n = 0; code == 0 && n < r->num; n++)
			code = strcmp(r->verb, "rm") ? image_fetch(cache, r->name[n], !r->quiet, e) :
						       remove_one(&i, r->name[n], e);
	images_close(&i);
	return code;
}

static int check(const struct request *r, struct err *e)
{
	bool named = r->verb && (!strcmp(r->verb, "rm") || !strcmp(r->verb, "pull"));

	if (!named && (!r->verb || (strcmp(r->verb, "ls") != 0 && strcmp(r->verb, "prune") != 0)))
		return err_set(e, -EINVAL, "images: say 'ls', 'pull', 'rm' or 'prune' (see `mayfly images --help`)");
	return named && !r->num ? err_set(e, -EINVAL, "images: which one?") : 0;
}

int images_command(int argc, char **argv)
{
	struct image_cache cache = { .fd = -1 };
	struct request request = { .verb = NULL };
	struct err e;
	int r = cli_parse(&images_usage, &request, argc, argv, &e);

	if (r > 0)
		return STATUS_OK;
	if (r == 0)
		r = check(&request, &e);
	if (r == 0)
		r = image_cache_open(&cache, &e);
	if (r == 0)
		r = answer(&cache, &request, &e);
	image_cache_close(&cache);
	if (r == 0)
		r = cli_check_stdout(&e);
	return r < 0 ? report_err(&e) : STATUS_OK;
}
