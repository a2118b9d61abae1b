/* What the user asked for: defaults, setters and the checks between parts. See config.h; JSON is in config_json.c. */
#include "vmm/config.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "virtio/vsock.h"
#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/config_parts.h"

#define KERNEL_SYSTEM "/usr/share/mayfly/vmlinux"

static const char *const entry_names[] = {
	[CONFIG_ENTRY_AUTO] = "auto",
	[CONFIG_ENTRY_LINUX64] = "linux64",
	[CONFIG_ENTRY_PVH] = "pvh",
};

void config_init(struct config *c)
{
	*c = (struct config){
		.cpus = 1, .mem = CONFIG_MEM_DEFAULT, .log_level = LOG_LEVEL_WARN, .vsock.cid = CONFIG_CID_DEFAULT
	};
}

static void drive_done(struct config_drive *d)
{
	free(d->path);
	free(d->id);
	free(d->serial);
	*d = (struct config_drive){ 0 };
}

void config_done(struct config *c)
{
	/* All of them: the one after the last may be half described. */
	for (unsigned i = 0; i < CONFIG_DRIVES_MAX; i++)
		drive_done(&c->drive[i]);
	for (unsigned i = 0; i < CONFIG_NETS_MAX; i++)
		config_net_done(&c->net[i]);
	free(c->kernel);
	free(c->initrd);
	free(c->append);
	free(c->cmdline);
	free(c->vsock.path);
	free(c->log_file);
	*c = (struct config){ 0 };
}

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

int config_copy_bool(bool *to, const char *text, struct err *e)
{
	bool is_true = !strcmp(text, "true");

	if (!is_true && strcmp(text, "false") != 0)
		return err_set(e, -EINVAL, "must be true or false");
	*to = is_true;
	return 0;
}

int config_copy_id(char **to, const char *text, struct err *e)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
	size_t len = strlen(text);

	if (len < 1 || len > CONFIG_ID_MAX || strspn(text, allowed) != len)
		return err_set(e, -EINVAL, "must be 1 to %d letters, digits, '_' or '-'", CONFIG_ID_MAX);
	return config_copy_text(to, text, CONFIG_ID_MAX, e);
}

int config_set_kernel(struct config *c, const char *text, struct err *e)
{
	return config_copy_path(&c->kernel, text, e);
}

int config_set_initrd(struct config *c, const char *text, struct err *e)
{
	return config_copy_path(&c->initrd, text, e);
}

int config_set_append(struct config *c, const char *text, struct err *e)
{
	return config_copy_text(&c->append, text, CONFIG_CMDLINE_MAX, e);
}

int config_set_cmdline(struct config *c, const char *text, struct err *e)
{
	return config_copy_text(&c->cmdline, text, CONFIG_CMDLINE_MAX, e);
}

int config_set_entry(struct config *c, const char *text, struct err *e)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(entry_names); i++) {
		if (!strcmp(text, entry_names[i])) {
			c->entry = (enum config_entry)i;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "must be auto, linux64 or pvh");
}

const char *config_entry_name(enum config_entry entry)
{
	return entry_names[entry];
}

int config_set_cpus(struct config *c, const char *text, struct err *e)
{
	uint64_t cpus;

	if (parse_u64(text, &cpus) < 0 || cpus < 1 || cpus > CONFIG_CPUS_MAX)
		return err_set(e, -EINVAL, "must be 1 to %d", CONFIG_CPUS_MAX);
	c->cpus = (unsigned)cpus;
	return 0;
}

int config_set_mem(struct config *c, const char *text, struct err *e)
{
	char min[PARSE_SIZE_TEXT_MAX], max[PARSE_SIZE_TEXT_MAX];
	uint64_t mem = 0;
	int r = parse_size(text, &mem);

	if (r == -EINVAL)
		return err_set(e, r, "must be a size such as 128M or 2G");
	if (r < 0 || mem < CONFIG_MEM_MIN || mem > CONFIG_MEM_MAX) {
		parse_format_size(CONFIG_MEM_MIN, min);
		parse_format_size(CONFIG_MEM_MAX, max);
		return err_set(e, -EINVAL, "must be %s to %s (a number alone is bytes)", min, max);
	}
	c->mem = mf_align_up(mem, MF_PAGE_SIZE);
	return 0;
}

int config_set_log_level(struct config *c, const char *text, struct err *e)
{
	if (!log_level_parse(text, &c->log_level))
		return err_set(e, -EINVAL, "must be error, warn, info or debug");
	return 0;
}

int config_set_log_file(struct config *c, const char *text, struct err *e)
{
	return config_copy_path(&c->log_file, text, e);
}

int config_set_time(struct config *c, const char *text, struct err *e)
{
	return config_copy_bool(&c->time, text, e);
}

int config_set_dry_run(struct config *c, const char *text, struct err *e)
{
	return config_copy_bool(&c->dry_run, text, e);
}

int config_begin_drive(struct config *c, struct err *e)
{
	if (c->num_drives == CONFIG_DRIVES_MAX)
		return err_set(e, -EINVAL, "there can be at most %d drives", CONFIG_DRIVES_MAX);
	drive_done(&c->drive[c->num_drives]);
	return 0;
}

static struct config_drive *begun_drive(struct config *c)
{
	assert(c->num_drives < CONFIG_DRIVES_MAX);
	return &c->drive[c->num_drives];
}

int config_drive_path(struct config *c, const char *text, struct err *e)
{
	return config_copy_path(&begun_drive(c)->path, text, e);
}

int config_drive_id(struct config *c, const char *text, struct err *e)
{
	return config_copy_id(&begun_drive(c)->id, text, e);
}

int config_drive_serial(struct config *c, const char *text, struct err *e)
{
	size_t len = strlen(text);
	bool printable = true;

	for (size_t i = 0; i < len; i++)
		printable = printable && text[i] >= 0x20 && text[i] <= 0x7e;
	if (len < 1 || len > CONFIG_SERIAL_MAX || !printable)
		return err_set(e, -EINVAL, "must be 1 to %d printable ASCII characters", CONFIG_SERIAL_MAX);
	return config_copy_text(&begun_drive(c)->serial, text, CONFIG_SERIAL_MAX, e);
}

int config_drive_read_only(struct config *c, const char *text, struct err *e)
{
	return config_copy_bool(&begun_drive(c)->read_only, text, e);
}

int config_end_drive(struct config *c, struct err *e)
{
	struct config_drive *d = begun_drive(c);

	if (!d->path)
		return err_set(e, -EINVAL, "needs a path");
	if (!d->id && asprintf(&d->id, "drive%u", c->num_drives) < 0) {
		d->id = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	c->num_drives++;
	return 0;
}

/* The options of a drive on the command line. A name that ends in '=' has the rest of its part as value. */
static const struct drive_option {
	const char *name;
	config_setter *set; /* NULL: known, but this version cannot do it */
	const char *fixed;  /* the value of an option that has none of its own */
	unsigned what;	    /* options that exclude each other share a bit */
} drive_options[] = {
	{ "ro", config_drive_read_only, "true", 1 << 0 },
	{ "rw", config_drive_read_only, "false", 1 << 0 },
	{ "id=", config_drive_id, NULL, 1 << 1 },
	{ "serial=", config_drive_serial, NULL, 1 << 2 },
	{ "direct", NULL, NULL, 1 << 3 },
	{ "overlay", NULL, NULL, 1 << 4 },
	{ "overlay=", NULL, NULL, 1 << 4 },
};

static const struct drive_option *find_drive_option(const char *part)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(drive_options); i++) {
		const struct drive_option *o = &drive_options[i];
		size_t len = strlen(o->name);

		if (o->name[len - 1] == '=' ? !strncmp(part, o->name, len) : !strcmp(part, o->name))
			return o;
	}
	return NULL;
}

/* Applies one part; *seen holds the options that were already there. */
static int take_drive_option(struct config *c, const struct drive_option *o, const char *part, unsigned *seen,
			     struct err *e)
{
	if (!o->set)
		return err_set(e, -ENOTSUP, "'%s' is not supported by this version", part);
	if (*seen & o->what)
		return err_set(e, -EINVAL, "'%s' comes on top of another option of its kind", part);
	*seen |= o->what;
	if (o->set(c, o->fixed ? o->fixed : part + strlen(o->name), e) < 0)
		return err_wrap(e, "'%s'", part);
	return 0;
}

int config_add_drive(struct config *c, const char *spec, struct err *e)
{
	MF_FREE char *path = strdup(spec);
	unsigned seen = 0;
	char *colon;

	if (!path)
		return err_sys(e, "copy it");
	if (config_begin_drive(c, e) < 0)
		return e->code;
	while ((colon = strrchr(path, ':'))) {
		const struct drive_option *o = find_drive_option(colon + 1);

		if (!o)
			break;
		if (take_drive_option(c, o, colon + 1, &seen, e) < 0)
			return e->code;
		*colon = '\0';
	}
	if (config_drive_path(c, path, e) < 0)
		return err_wrap(e, "path");
	return config_end_drive(c, e);
}

int config_vsock_path(struct config *c, const char *text, struct err *e)
{
	if (strlen(text) > VSOCK_PATH_MAX)
		return err_set(e, -EINVAL,
			       "is longer than %d bytes (a Unix socket's name has 107 at most, and _PORT goes behind it)",
			       VSOCK_PATH_MAX);
	return config_copy_path(&c->vsock.path, text, e);
}

static int parse_cid(const char *text, uint32_t *ret, struct err *e)
{
	uint64_t cid;

	if (parse_u64(text, &cid) < 0 || cid < VSOCK_CID_MIN || cid > VSOCK_CID_MAX)
		return err_set(e, -EINVAL, "must be %u to %u", VSOCK_CID_MIN, VSOCK_CID_MAX);
	*ret = (uint32_t)cid;
	return 0;
}

int config_vsock_cid(struct config *c, const char *text, struct err *e)
{
	return parse_cid(text, &c->vsock.cid, e);
}

int config_set_vsock(struct config *c, const char *spec, struct err *e)
{
	static const char option[] = ",cid=";
	MF_FREE char *path = strdup(spec);
	uint32_t cid = CONFIG_CID_DEFAULT;
	char *comma;

	if (!path)
		return err_sys(e, "copy it");
	comma = strrchr(path, ',');
	if (comma && !strncmp(comma, option, sizeof(option) - 1)) {
		if (parse_cid(comma + sizeof(option) - 1, &cid, e) < 0)
			return err_wrap(e, "cid");
		*comma = '\0';
	}
	if (config_vsock_path(c, path, e) < 0)
		return err_wrap(e, "path");
	c->vsock.cid = cid;
	return 0;
}

unsigned config_num_devices(const struct config *c)
{
	return c->num_drives + c->num_nets + (c->vsock.path ? 1 : 0);
}

/* Sets dir to the directory of this binary, or to "" if that cannot be found out. */
static void own_directory(char *dir, size_t size)
{
	ssize_t len = readlink("/proc/self/exe", dir, size - 1);
	char *slash;

	dir[len > 0 ? len : 0] = '\0';
	slash = strrchr(dir, '/');
	if (slash)
		*slash = '\0';
}

static int find_kernel(struct config *c, struct err *e)
{
	const char *from_env = getenv("MAYFLY_KERNEL");
	char dir[PATH_MAX];
	MF_FREE char *built = NULL;

	if (from_env && *from_env) {
		if (access(from_env, R_OK) < 0)
			return err_sys(e, "kernel '%s' from $MAYFLY_KERNEL", from_env);
		return config_copy_path(&c->kernel, from_env, e);
	}
	own_directory(dir, sizeof(dir));
	if (asprintf(&built, "%s/vmlinux", dir) < 0) {
		built = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (access(built, R_OK) == 0)
		return config_copy_path(&c->kernel, built, e);
	if (access(KERNEL_SYSTEM, R_OK) == 0)
		return config_copy_path(&c->kernel, KERNEL_SYSTEM, e);
	return err_set(e, -ENOENT,
		       "no kernel: $MAYFLY_KERNEL is not set and there is neither '%s' nor '%s'; name one with -k FILE",
		       built, KERNEL_SYSTEM);
}

int config_check(struct config *c, struct err *e)
{
	if (c->append && c->cmdline)
		return err_set(e, -EINVAL,
			       "append and cmdline are both set, but cmdline replaces what append adds to: choose one");
	for (unsigned i = 0; i < c->num_drives; i++) {
		for (unsigned j = 0; j < i; j++) {
			if (!strcmp(c->drive[i].id, c->drive[j].id))
				return err_set(e, -EINVAL, "drives '%s' and '%s' have the same id '%s'",
					       c->drive[j].path, c->drive[i].path, c->drive[i].id);
		}
	}
	if (!c->vsock.path && c->vsock.cid != CONFIG_CID_DEFAULT)
		return err_set(e, -EINVAL, "vsock has a cid, but no path");
	if (config_check_nets(c, e) < 0)
		return e->code;
	return c->kernel ? 0 : find_kernel(c, e);
}
