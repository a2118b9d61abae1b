/* `mayfly cache`: what is kept of packed directories and archives. */
#include "vmm/cmd/cache.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "vmm/base/err.h"
#include "vmm/base/exit_status.h"
#include "vmm/base/parse.h"
#include "vmm/base/printable.h"
#include "vmm/base/report.h"
#include "vmm/base/util.h"
#include "vmm/helper/image_cache.h"

#define SOURCE_SHOWN 4096 /* bytes of a path */

struct request {
	const char *verb, *size; /* or NULL */
};

static int set_word(void *target, const char *text, struct err *e)
{
	struct request *r = target;

	if (!r->verb)
		r->verb = text;
	else if (!r->size && !strcmp(r->verb, "prune"))
		r->size = text;
	else
		return err_set(e, -EINVAL, "unexpected argument '%s'", text);
	return 0;
}

static const struct cli_option cache_options[] = {
	{ 'h', "help", NULL, "this text", .set = NULL },
	{ 0 },
};

const struct cli_usage cache_usage = {
	.command = "cache",
	.synopsis = "ls|prune [SIZE]|path",
	.about = "The images of directories, archives and files (-r, -v), empty disks (--disk), and\n"
		 "templates of booted kernels (--boot), that are kept for the next run:\n"
		 "  ls             lists them: size, last use (UTC), * if a VM uses it, what it is of\n"
		 "  prune [SIZE]   removes those that no VM uses, until all have SIZE at most;\n"
		 "                 default: 0\n"
		 "  path           prints the directory in which they are\n"
		 "$MAYFLY_CACHE_MAX is the size to which each run that packs keeps them; default: 8G\n\n",
	.options = cache_options,
	.operand = set_word,
	.operands = "ls prune path",
};

static double mib(uint64_t bytes)
{
	return (double)bytes / (double)MIB;
}

static void print_entry(const struct image_cache_entry *i)
{
	char source[SOURCE_SHOWN], used[32];
	struct tm tm;

	snprintf(source, sizeof(source), "%s", i->source ? i->source : "?");
	printable_line(source);
	gmtime_r(&i->used.tv_sec, &tm);
	strftime(used, sizeof(used), "%Y-%m-%d %H:%M", &tm);
	printf("%10.1f MiB  %s %c %s\n", mib(i->bytes), used, i->in_use ? '*' : ' ', source);
}

static int list(const struct image_cache *c, struct err *e)
{
	struct image_cache_entry *entry;
	uint64_t total = 0;
	size_t num;

	if (image_cache_list(c, &entry, &num, e) < 0)
		return e->code;
	for (size_t i = 0; i < num; i++) {
		print_entry(&entry[i]);
		total += entry[i].bytes;
	}
	printf("%10.1f MiB  of %.1f in %s\n", mib(total), mib(c->max_bytes), c->path);
	image_cache_free_list(entry, num);
	return 0;
}

static int prune(const struct image_cache *c, const char *size, struct err *e)
{
	uint64_t max = 0, removed, left;

	if (size && parse_size(size, &max) < 0)
		return err_set(e, -EINVAL, "prune '%s': must be a size such as 512M or 8G", size);
	if (image_cache_prune(c, max, &removed, &left, e) < 0)
		return e->code;
	printf("%.1f MiB removed, %.1f MiB left\n", mib(removed), mib(left));
	return 0;
}

static int answer(const struct image_cache *c, const struct request *request, struct err *e)
{
	if (!strcmp(request->verb, "ls"))
		return list(c, e);
	if (!strcmp(request->verb, "prune"))
		return prune(c, request->size, e);
	printf("%s\n", c->path);
	return 0;
}

int cache_command(int argc, char **argv)
{
	struct image_cache cache = { .fd = -1 };
	struct request request = { .verb = NULL };
	struct err e;
	int r = cli_parse(&cache_usage, &request, argc, argv, &e);

	if (r > 0)
		return STATUS_OK;
	if (r == 0 && (!request.verb || (strcmp(request.verb, "ls") != 0 && strcmp(request.verb, "prune") != 0 &&
					 strcmp(request.verb, "path") != 0)))
		r = err_set(&e, -EINVAL, "cache: say 'ls', 'prune' or 'path' (see `mayfly cache --help`)");
	if (r == 0)
		r = image_cache_open(&cache, &e);
	if (r == 0)
		r = answer(&cache, &request, &e);
	image_cache_close(&cache);
	if (r == 0)
		r = cli_check_stdout(&e);
	return r < 0 ? report_err(&e) : STATUS_OK;
}
