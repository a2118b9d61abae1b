/* What the user asked for: defaults, setters and the checks between parts. See config.h; JSON is in config_json.c. */
#include "vmm/config.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "virtio/vsock.h"
#include "vmm/agent_client.h"
#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/config_parts.h"

#define OWN_PLACES 3

static const char *const entry_names[] = {
	[CONFIG_ENTRY_AUTO] = "auto",
	[CONFIG_ENTRY_LINUX64] = "linux64",
	[CONFIG_ENTRY_PVH] = "pvh",
};

static const char *const io_engine_names[] = {
	[LOOP_ENGINE_RING] = "ring",
	[LOOP_ENGINE_SYNC] = "sync",
};

void config_init(struct config *c)
{
	*c = (struct config){
		.cpus = 1, .mem = CONFIG_MEM_DEFAULT, .log_level = LOG_LEVEL_WARN, .vsock.cid = CONFIG_CID_DEFAULT
	};
}

void config_done(struct config *c)
{
	/* All of them: the one after the last may be half described. */
	for (unsigned i = 0; i < CONFIG_DRIVES_MAX; i++)
		config_drive_done(&c->drive[i]);
	for (unsigned i = 0; i < CONFIG_NETS_MAX; i++)
		config_net_done(&c->net[i]);
	free(c->kernel);
	free(c->initrd);
	free(c->append);
	free(c->cmdline);
	free(c->vsock.path);
	free(c->log_file);
	free(c->timeline_file);
	free(c->name);
	free(c->control);
	config_command_done(&c->command);
	config_jail_done(&c->jail);
	config_drive_done(&c->rootfs);
	for (unsigned i = 0; i < CONFIG_ARTIFACTS_MAX; i++)
		config_artifact_done(&c->artifact[i]);
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

static int take_option(struct config *c, const char *part, const struct config_option *o, struct err *e)
{
	const char *value = part[strlen(o->name)] ? part + strlen(o->name) + 1 : NULL;

	if (o->kind == CONFIG_FLAG ? value != NULL : value == NULL)
		return err_set(e, -EINVAL, "'%s' %s", o->name, value ? "takes no value" : "needs a value");
	return o->set(c, value ? value : "true", e) < 0 ? err_wrap(e, "'%s'", part) : 0;
}

int config_take_options(struct config *c, const char *text, const struct config_option *option, size_t num,
			const char *all, struct err *e)
{
	MF_FREE char *copy = strdup(text);
	char *rest = copy, *part;
	unsigned seen = 0;

	if (!copy)
		return err_sys(e, "copy it");
	assert(num <= sizeof(seen) * CHAR_BIT);
	while ((part = strsep(&rest, ","))) {
		size_t i = 0, len = strcspn(part, "=");

		while (i < num && (strlen(option[i].name) != len || strncmp(part, option[i].name, len) != 0))
			i++;
		if (i == num)
			return err_set(e, -EINVAL, "'%s' is none of %s", part, all);
		if (option[i].kind != CONFIG_MANY && seen & 1U << i)
			return err_set(e, -EINVAL, "'%s' is there twice", option[i].name);
		seen |= 1U << i;
		if (take_option(c, part, &option[i], e) < 0)
			return e->code;
	}
	return 0;
}

int config_copy_limit(struct ratelimit_params *to, const char *text, bool is_size, struct err *e)
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

static const char *const seccomp_words[] = {
	[SECCOMP_POLICY_KILL] = "kill",
	[SECCOMP_POLICY_LOG] = "log",
	[SECCOMP_POLICY_OFF] = "off",
};

int config_set_seccomp(struct config *c, const char *text, struct err *e)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(seccomp_words); i++) {
		if (!strcmp(text, seccomp_words[i])) {
			c->seccomp = (enum seccomp_policy)i;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "must be kill, log or off");
}

const char *config_seccomp_name(const struct config *c)
{
	return seccomp_words[c->seccomp];
}

int config_set_io_engine(struct config *c, const char *text, struct err *e)
{
	for (size_t i = 0; i < MF_ARRAY_SIZE(io_engine_names); i++) {
		if (!strcmp(text, io_engine_names[i])) {
			c->io_engine = (enum loop_engine)i;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "must be ring or sync");
}

const char *config_io_engine_name(enum loop_engine engine)
{
	return io_engine_names[engine];
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

int config_set_timeline(struct config *c, const char *text, struct err *e)
{
	return config_copy_path(&c->timeline_file, text, e);
}

int config_set_dry_run(struct config *c, const char *text, struct err *e)
{
	return config_copy_bool(&c->dry_run, text, e);
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

bool config_has_vsock(const struct config *c)
{
	return c->vsock.path || c->command.args.num > 0;
}

unsigned config_num_devices(const struct config *c)
{
	return c->num_drives + c->num_nets + (config_has_vsock(c) ? 1 : 0);
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

/* Where a file of mayfly's own may be: a new string for each i below OWN_PLACES. */
static char *own_path(unsigned i, const char *name)
{
	char dir[PATH_MAX], *path;
	const char *up;
	int len;

	own_directory(dir, sizeof(dir));
	up = strrchr(dir, '/'); /* PREFIX/bin has PREFIX/share beside it */
	if (i == 0)
		len = asprintf(&path, "%s/%s", dir, name);
	else if (i == 1)
		len = asprintf(&path, "%.*s/share/mayfly/%s", up ? (int)(up - dir) : 0, dir, name);
	else
		len = asprintf(&path, "/usr/share/mayfly/%s", name);
	return len < 0 ? NULL : path;
}

char *config_find_file(const char *name)
{
	for (unsigned i = 0; i < OWN_PLACES; i++) {
		char *path = own_path(i, name);

		if (path && access(path, R_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

int config_find_kernel(struct config *c, struct err *e)
{
	const char *from_env = getenv("MAYFLY_KERNEL");
	MF_FREE char *found = NULL;
	MF_FREE char *beside = NULL;
	MF_FREE char *in_prefix = NULL;

	if (from_env && *from_env) {
		if (access(from_env, R_OK) < 0)
			return err_sys(e, "kernel '%s' from $MAYFLY_KERNEL", from_env);
		return config_copy_path(&c->kernel, from_env, e);
	}
	found = config_find_file("vmlinux");
	if (found)
		return config_copy_path(&c->kernel, found, e);
	beside = own_path(0, "vmlinux");
	in_prefix = own_path(1, "vmlinux");
	return err_set(e, -ENOENT,
		       "no kernel: $MAYFLY_KERNEL is not set and there is neither '%s' nor '%s' nor "
		       "'/usr/share/mayfly/vmlinux'; name one with -k FILE",
		       beside ? beside : "?", in_prefix ? in_prefix : "?");
}

int config_check(struct config *c, struct err *e)
{
	if (c->append && c->cmdline)
		return err_set(e, -EINVAL,
			       "append and cmdline are both set, but cmdline replaces what append adds to: choose one");
	if (config_complete_root(c, e) < 0 || config_check_drives(c, e) < 0)
		return e->code;
	if (!config_has_vsock(c) && c->vsock.cid != CONFIG_CID_DEFAULT)
		return err_set(e, -EINVAL, "vsock has a cid, but no path");
	if (config_check_nets(c, e) < 0 || config_complete_nets(c, e) < 0 || config_check_command(c, e) < 0)
		return e->code;
	if (c->name && !c->control && c->command.args.num && agent_control_path(&c->control, c->name, e) < 0)
		return err_wrap(e, "name");
	return c->kernel ? 0 : config_find_kernel(c, e);
}
