/* The jail of `mayfly run` in the configuration: its setters. See config.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/config.h"
#include "vmm/config_parts.h"

#define ID_MAX 0xfffffffdU /* of a user or group; the last two numbers mean none */
#define NOFILE_MIN 64U
#define NOFILE_MAX (1U << 20)

void config_jail_done(struct config_jail *j)
{
	free(j->id);
	free(j->cpu_max);
	free(j->memory_max);
	free(j->pids_max);
	for (unsigned i = 0; i < j->num_io_max; i++)
		free(j->io_max[i]);
	*j = (struct config_jail){ 0 };
}

int config_jail_strict(struct config *c, const char *text, struct err *e)
{
	return config_copy_bool(&c->jail.strict, text, e);
}

int config_jail_id(struct config *c, const char *text, struct err *e)
{
	return config_copy_id(&c->jail.id, text, e);
}

/* N, or FIRST-LAST. */
static int set_ids(struct config_ids *to, const char *text, struct err *e)
{
	MF_FREE char *first = strdup(text);
	char *last = first ? strchr(first, '-') : NULL;
	uint64_t from = 0, to_id;

	if (!first)
		return err_sys(e, "copy it");
	if (last)
		*last++ = '\0';
	if (parse_u64(first, &from) < 0 || parse_u64(last ? last : first, &to_id) < 0 || from < 1 || to_id < from ||
	    to_id > ID_MAX)
		return err_set(e, -EINVAL, "must be a number, 1 or more, or a range of them such as 100000-165535");
	if (geteuid() != 0)
		return err_set(e, -EPERM, "only root can choose, others stay who they are");
	*to = (struct config_ids){ .first = (uint32_t)from, .num = to_id - from + 1 };
	return 0;
}

int config_jail_uid(struct config *c, const char *text, struct err *e)
{
	return set_ids(&c->jail.uid, text, e);
}

int config_jail_gid(struct config *c, const char *text, struct err *e)
{
	return set_ids(&c->jail.gid, text, e);
}

/* What the kernel's files take: words of the letters that occur in it. */
static int set_words(char **to, const char *text, const char *allowed, const char *form, struct err *e)
{
	if (!*text || strspn(text, allowed) != strlen(text))
		return err_set(e, -EINVAL, "must be %s", form);
	return config_copy_text(to, text, CONFIG_ID_MAX, e);
}

int config_jail_cpu_max(struct config *c, const char *text, struct err *e)
{
	return set_words(&c->jail.cpu_max, text, "0123456789max ",
			 "QUOTA or 'QUOTA PERIOD' in microseconds, such as '50000 100000'", e);
}

int config_jail_memory_max(struct config *c, const char *text, struct err *e)
{
	char bytes[24];
	uint64_t size;

	if (parse_size(text, &size) < 0 || size == 0)
		return err_set(e, -EINVAL, "must be a size such as 512M");
	snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)size);
	return config_copy_text(&c->jail.memory_max, bytes, CONFIG_ID_MAX, e);
}

int config_jail_pids_max(struct config *c, const char *text, struct err *e)
{
	return set_words(&c->jail.pids_max, text, "0123456789", "a number", e);
}

int config_jail_io_max(struct config *c, const char *text, struct err *e)
{
	struct config_jail *j = &c->jail;

	if (j->num_io_max == CONFIG_IO_MAX_MAX)
		return err_set(e, -EINVAL, "there can be at most %d", CONFIG_IO_MAX_MAX);
	if (set_words(&j->io_max[j->num_io_max], text, "0123456789:abcdefghijklmnopqrstuvwxyz= ",
		      "'MAJOR:MINOR KEY=N ...' with rbps, wbps, riops or wiops, such as '8:0 wbps=10485760'", e) < 0)
		return e->code;
	j->num_io_max++;
	return 0;
}

int config_jail_nofile(struct config *c, const char *text, struct err *e)
{
	uint64_t num;

	if (parse_u64(text, &num) < 0 || num < NOFILE_MIN || num > NOFILE_MAX)
		return err_set(e, -EINVAL, "must be %u to %u", NOFILE_MIN, NOFILE_MAX);
	c->jail.nofile = num;
	return 0;
}

int config_jail_fsize(struct config *c, const char *text, struct err *e)
{
	uint64_t size;

	if (parse_size(text, &size) < 0 || size == 0)
		return err_set(e, -EINVAL, "must be a size such as 10G");
	c->jail.fsize = size;
	return 0;
}

/* The parts on the command line. */
static const struct config_option jail_options[] = {
	{ "strict", config_jail_strict, CONFIG_FLAG },	   { "id", config_jail_id, CONFIG_ONCE },
	{ "uid", config_jail_uid, CONFIG_ONCE },	   { "gid", config_jail_gid, CONFIG_ONCE },
	{ "cpu-max", config_jail_cpu_max, CONFIG_ONCE },   { "memory-max", config_jail_memory_max, CONFIG_ONCE },
	{ "pids-max", config_jail_pids_max, CONFIG_ONCE }, { "io-max", config_jail_io_max, CONFIG_MANY },
	{ "nofile", config_jail_nofile, CONFIG_ONCE },	   { "fsize", config_jail_fsize, CONFIG_ONCE },
};

const char *config_jail_option(unsigned i)
{
	return i < MF_ARRAY_SIZE(jail_options) ? jail_options[i].name : NULL;
}

int config_set_jail(struct config *c, const char *text, struct err *e)
{
	c->jail.on = true;
	if (!strcmp(text, "true") || !strcmp(text, "false"))
		return config_copy_bool(&c->jail.on, text, e);
	return config_take_options(c, text, jail_options, MF_ARRAY_SIZE(jail_options),
				   "strict, id=, uid=, gid=, cpu-max=, memory-max=, pids-max=, io-max=, nofile= and fsize=",
				   e);
}
