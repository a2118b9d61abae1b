/* What the user asked for: defaults, the kernel, and the checks between parts. See config.h. */
#include "vmm/config/config.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config_field.h"
#include "vmm/config/config_parts.h"

#define OWN_PLACES 3
#define KERNEL_DEFAULT "microvm"
#define KERNEL_MINIMAL "minimal"

void config_init(struct config *c)
{
	*c = (struct config){
		.cpus = 1, .mem = CONFIG_MEM_DEFAULT, .log_level = LOG_LEVEL_WARN, .vsock.cid = CONFIG_CID_DEFAULT
	};
}

void config_done(struct config *c)
{
	config_fields_done(config_fields, c);
	config_texts_done(&c->command.groups);
	config_texts_done(&c->command.limits);
	config_texts_done(&c->sysctl);
	free(c->hostname);
	free(c->serial_out);
	free(c->template.cold);
	free(c->restore_state);
	free(c->restore_memory);
	free(c->restore_parent);
	*c = (struct config){ 0 };
}

int config_set(struct config *c, const char *key, const char *text, struct err *e)
{
	const struct config_field *f = config_find_field(config_fields, key);

	assert(f);
	return f->type->set(c, f, text, e);
}

bool config_has_vsock(const struct config *c)
{
	return c->vsock.path || c->vsock.awaited || c->command.args.num > 0;
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

/* The first of these files, where each place is searched for all of them; or NULL. */
static char *find_first(const char *const *names)
{
	for (unsigned i = 0; i < OWN_PLACES; i++) {
		for (const char *const *name = names; *name; name++) {
			char *path = own_path(i, *name);

			if (path && access(path, R_OK) == 0)
				return path;
			free(path);
		}
	}
	return NULL;
}

char *config_find_file(const char *name)
{
	return find_first((const char *const[]){ name, NULL });
}

/* Whether text names one of the project's kernels, whose file is vmlinux-NAME. */
static bool kernel_is_name(const char *text)
{
	return strcmp(text, KERNEL_DEFAULT) == 0 || strcmp(text, KERNEL_MINIMAL) == 0;
}

static int kernel_missing(const char *whose, const char *file, struct err *e)
{
	MF_FREE char *beside = own_path(0, file);
	MF_FREE char *in_prefix = own_path(1, file);

	for (unsigned i = 0; i < OWN_PLACES; i++) {
		MF_FREE char *path = own_path(i, file);

		/* It may be a link into the home of the user who built it. */
		if (path && access(path, R_OK) < 0 && errno == EACCES)
			return err_sys(e, "kernel '%s'", path);
	}
	return err_set(e, -ENOENT,
		       "%s there is neither '%s' nor '%s' nor '/usr/share/mayfly/%s'; run `make kernel`, or name a "
		       "kernel with -k FILE",
		       whose, beside ? beside : "?", in_prefix ? in_prefix : "?", file);
}

static int find_named_kernel(struct config *c, struct err *e)
{
	char whose[32], file[32];
	MF_FREE char *found = NULL;

	snprintf(whose, sizeof(whose), "kernel '%s':", c->kernel);
	snprintf(file, sizeof(file), "vmlinux-%s", c->kernel);
	found = config_find_file(file);
	return found ? config_copy_path(&c->kernel, found, e) : kernel_missing(whose, file, e);
}

int config_find_kernel(struct config *c, struct err *e)
{
	const char *from_env = getenv("MAYFLY_KERNEL");
	MF_FREE char *found = NULL;

	if (!c->kernel && from_env && *from_env) {
		if (!kernel_is_name(from_env) && access(from_env, R_OK) < 0)
			return err_sys(e, "kernel '%s' from $MAYFLY_KERNEL", from_env);
		if (config_copy_path(&c->kernel, from_env, e) < 0)
			return e->code;
	}
	if (c->kernel)
		return kernel_is_name(c->kernel) ? find_named_kernel(c, e) : 0;
	found = find_first((const char *const[]){ "vmlinux", "vmlinux-" KERNEL_DEFAULT, NULL });
	return found ? config_copy_path(&c->kernel, found, e) :
		       kernel_missing("no kernel: $MAYFLY_KERNEL is not set, and", "vmlinux", e);
}

static int config_complete_times(struct config *c, struct err *e)
{
	const char *from_env = getenv(CONFIG_BOOT_TIMEOUT_ENV);

	if (c->timeout_ms == CONFIG_NO_LIMIT)
		c->timeout_ms = 0;
	if (!c->command.args.num || c->boot_timeout_ms)
		return 0;
	c->boot_timeout_ms = CONFIG_BOOT_TIMEOUT_MS;
	if (!from_env || !*from_env || config_set(c, "boot_timeout", from_env, e) == 0)
		return 0;
	return err_wrap(e, "$" CONFIG_BOOT_TIMEOUT_ENV);
}

static int config_complete_name(struct config *c, struct err *e)
{
	if (c->name && !c->control && config_control_path(&c->control, c->name, e) < 0)
		return err_wrap(e, "name");
	return 0;
}

int config_check_claim(struct config *c, struct err *e)
{
	if (config_check_command(c, e) < 0)
		return e->code;
	config_complete_command(&c->command);
	if (c->timeout_ms == CONFIG_NO_LIMIT)
		c->timeout_ms = 0;
	return config_complete_name(c, e);
}

static bool has_root(const struct config *c)
{
	bool found = c->num_drives || c->initrd;

	for (unsigned i = 0; i < c->num_live; i++)
		found |= !strcmp(c->live[i].guest, "/");
	return found;
}

int config_check(struct config *c, struct err *e)
{
	if (c->append && c->cmdline)
		return err_set(e, -EINVAL,
			       "append and cmdline are both set, but cmdline replaces what append adds to: choose one");
	if (config_complete_snapshot(c, e) < 0 || config_complete_root(c, e) < 0 || config_complete_drives(c, e) < 0)
		return e->code;
	if (!config_has_vsock(c) && c->vsock.cid != CONFIG_CID_DEFAULT)
		return err_set(e, -EINVAL, "vsock has a cid, but no path");
	if (config_complete_nets(c, e) < 0 || config_complete_secrets(c, e) < 0 || config_check_command(c, e) < 0)
		return e->code;
	config_complete_command(&c->command);
	if (config_complete_times(c, e) < 0)
		return e->code;
	if (config_complete_name(c, e) < 0)
		return e->code;
	if (c->restore_state || (c->kernel && !kernel_is_name(c->kernel)))
		return 0; /* a snapshot has its kernel in memory */
	/* A Linux without one panics; another kernel may need none. */
	if (!has_root(c))
		return err_set(e, -EINVAL, "no root: give -r DIR, -r IMAGE, -d IMAGE or -i INITRD");
	return config_find_kernel(c, e);
}
