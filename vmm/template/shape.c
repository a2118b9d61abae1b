/* The shape of a VM; see shape.h. */
#include "vmm/template/shape.h"

#include <cpuid.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "virtio/image.h"
#include "vmm/base/err.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"

#define OWN_PROGRAM "/proc/self/exe"

/* A drive that is no image of ours, and has no sectors: the guest could wait for a size. */
static bool is_empty(const struct config_drive *d)
{
	struct stat st;

	return !config_drive_is_made(d) && stat(d->path, &st) == 0 && S_ISREG(st.st_mode) &&
	       st.st_size < (off_t)IMAGE_SECTOR_SIZE;
}

const char *shape_unfit(const struct config *c)
{
	if (!c->command.args.num)
		return "without a command there is no init of mayfly in the guest";
	if (c->console)
		return "--console shows a boot";
	if (c->snapshot)
		return "--snapshot is of a VM that was booted";
	for (unsigned i = 0; i < c->num_nets; i++)
		if (c->net[i].kind == CONFIG_NET_FD)
			return "what an interface by fd=N offers is not known in advance";
	for (unsigned i = 0; i < c->num_drives; i++)
		if (is_empty(&c->drive[i]))
			return "a drive is empty";
	return NULL;
}

static void put_stat(FILE *f, const char *what, const struct stat *st)
{
	(void)fprintf(f, "%s %ju %jd %jd.%09ld %jd.%09ld\n", what, (uintmax_t)st->st_ino, (intmax_t)st->st_size,
		      (intmax_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, (intmax_t)st->st_ctim.tv_sec,
		      st->st_ctim.tv_nsec);
}

static int put_file(FILE *f, const char *what, const char *path, struct err *e)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_sys(e, "%s '%s'", what, path);
	put_stat(f, what, &st);
	return 0;
}

/* What the guest's kernel asks a device once: a drive's flags, an interface's MTU. */
static void put_settings(FILE *f, const struct config *c)
{
	char own[PATH_MAX];
	ssize_t len = readlink(OWN_PROGRAM, own, sizeof(own));

	(void)fprintf(f, "mayfly " MF_VERSION " %.*s\nkernel %s\ninitrd %s\n", len > 0 ? (int)len : 0, own, c->kernel,
		      c->initrd ? c->initrd : "");
	(void)fprintf(f, "cpus %u\nmem %" PRIu64 "\nentry %d\nappend %s\ncmdline %s\n", c->cpus, c->mem, (int)c->entry,
		      c->append ? c->append : "", c->cmdline ? c->cmdline : "");
	for (unsigned i = 0; i < c->num_drives; i++) {
		const struct config_drive *d = &c->drive[i];

		(void)fprintf(f, "drive %s%s\n", d->read_only ? "ro" : "rw",
			      d->overlay || d->cache == CONFIG_CACHE_UNSAFE ? "" : " flush");
	}
	for (unsigned i = 0; i < c->num_nets; i++)
		(void)fprintf(f, "net %s %u\n", c->net[i].kind == CONFIG_NET_TAP ? "tap" : "user", c->net[i].mtu);
}

/* The processor, but for its number among others, and the host's kernel. */
static void put_host(FILE *f)
{
	unsigned a = 0, b = 0, c = 0, d = 0;
	struct utsname host;

	(void)uname(&host); /* cannot fail */
	(void)fprintf(f, "host %s %s\n", host.release, host.version);
	__cpuid(0, a, b, c, d);
	(void)fprintf(f, "cpu %08x%08x%08x", b, d, c);
	__cpuid(1, a, b, c, d);
	(void)fprintf(f, " %08x %08x %08x", a, c, d);
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
		(void)fprintf(f, " %08x %08x %08x", b, c, d);
	(void)fputc('\n', f);
}

static int put_files(FILE *f, const struct config *c, struct err *e)
{
	if (put_file(f, "mayfly", OWN_PROGRAM, e) < 0 || put_file(f, "kernel", c->kernel, e) < 0 ||
	    (c->initrd && put_file(f, "initrd", c->initrd, e) < 0))
		return e->code;
	return 0;
}

int shape_of(struct shape *ret, const struct config *c, struct err *e)
{
	FILE *f = open_memstream(&ret->text, &ret->len);
	struct image_key key;
	bool failed;
	int r;

	if (!f)
		return err_sys(e, "open a stream");
	put_settings(f, c);
	put_host(f);
	failed = fflush(f) == EOF;
	if (!failed)
		image_key_begin(&key, ret->text, IMAGE_CACHE_TEMPLATE);
	r = put_files(f, c, e);
	failed = ferror(f) || failed;
	if (fclose(f) == EOF || failed)
		return err_set(e, -ENOMEM, "out of memory");
	if (r < 0)
		return r;
	/* So a template of older files of these names is removed when the new one is complete. */
	image_key_add(&key, ret->text, ret->len);
	image_key_name(&key, IMAGE_CACHE_TEMPLATE, ret->name);
	return 0;
}

void shape_done(struct shape *s)
{
	free(s->text);
	*s = (struct shape){ 0 };
}

char *shape_file_text(const struct shape *s, const struct stat *state, const struct stat *memory, size_t *ret_len)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, ret_len);
	bool failed;

	if (!f)
		return NULL;
	(void)fwrite(s->text, 1, s->len, f);
	put_stat(f, "state", state);
	put_stat(f, "memory", memory);
	failed = ferror(f);
	if (fclose(f) == EOF || failed) {
		free(text);
		return NULL;
	}
	return text;
}
