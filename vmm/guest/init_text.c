/* The texts that tell init in the guest what to do; see init_text.h. */
#include "vmm/guest/init_text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader/init/proto.h"
#include "vmm/config/config.h"
#include "vmm/config/config_names.h"

#define HOST_NAME "mayfly"

_Static_assert(CONFIG_DRIVES_MAX <= 26, "drives are /dev/vda to /dev/vdz");

/* An entry: a letter, its text, and a NUL. finish reports all failures to write. */
static void __attribute__((format(printf, 2, 3))) put(FILE *f, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vfprintf(f, format, args);
	va_end(args);
	(void)fputc('\0', f);
}

/* Closes a stream of memory, whose text this is. */
static char *finish(FILE *f, char **text)
{
	bool failed = ferror(f);

	if (fclose(f) == EOF || failed) {
		free(*text);
		return NULL;
	}
	return *text;
}

/* How a drive is mounted, and whether it need not be left clean: its layer ends with the VM. */
static void put_drive(FILE *f, const struct config_drive *d, unsigned i)
{
	char letter = d->mount_read_only ? 'V' : d->read_only ? 'v' : 'w';

	if (d->file)
		letter = d->mount_read_only ? 'F' : 'f';
	if (d->mount)
		put(f, "%c/dev/vd%c:%s", letter, 'a' + (int)i, d->mount);
	if (d->empty)
		put(f, "D/dev/vd%c", 'a' + (int)i);
	if (d->overlay)
		put(f, "l/dev/vd%c", 'a' + (int)i);
}

static void put_secret(FILE *f, const struct config_secret *s)
{
	(void)fprintf(f, "z%s:", s->name);
	for (size_t i = 0; i < s->len; i++)
		(void)fprintf(f, "%02x", s->data[i]);
	(void)fputc('\0', f);
}

static void put_tmpfs(FILE *f, const struct config_tmpfs *t)
{
	if (t->size)
		put(f, "mmode=%o,size=%" PRIu64 ":%s", t->mode, t->size, t->path);
	else
		put(f, "mmode=%o:%s", t->mode, t->path);
}

/* An IPv6 address, checked, as the digits that init reads; and what follows it. */
static void put_ipv6(FILE *f, char letter, const char *text)
{
	const size_t len = strcspn(text, "/");
	char address[INET6_ADDRSTRLEN];
	struct in6_addr addr = { 0 };

	snprintf(address, sizeof(address), "%.*s", (int)len, text);
	(void)inet_pton(AF_INET6, address, &addr);
	(void)fputc(letter, f);
	for (size_t i = 0; i < sizeof(addr); i++)
		(void)fprintf(f, "%02x", addr.s6_addr[i]);
	put(f, "%s", text + len);
}

/* Of the first interface. */
static void put_net(FILE *f, const struct config_net *n)
{
	if (n->ip)
		put(f, "n%s", n->ip);
	if (n->ip && n->gateway)
		put(f, "g%s", n->gateway);
	if (n->ip6)
		put_ipv6(f, 'N', n->ip6);
	if (n->ip6 && n->gateway6)
		put_ipv6(f, 'G', n->gateway6);
}

/* /etc/resolv.conf, if there is a name server. */
static void put_resolver(FILE *f, const struct config *c)
{
	const char *dns = NULL;
	unsigned num = 0;

	for (unsigned i = 0; i < c->num_nets && !dns; i++)
		dns = c->net[i].dns;
	if (!dns && !c->dns.num)
		return;
	(void)fputc('d', f);
	for (unsigned i = 0; i < c->dns.num; i++)
		(void)fprintf(f, "nameserver %s\n", c->dns.text[i]);
	if (!c->dns.num)
		(void)fprintf(f, "nameserver %s\n", dns);
	for (unsigned i = 0; i < c->dns_search.num; i++) {
		if (strcmp(c->dns_search.text[i], ".") != 0)
			(void)fprintf(f, "%s %s", num++ ? "" : "search", c->dns_search.text[i]);
	}
	put(f, "%s", num ? "\n" : "");
}

const char *init_text_hostname(const struct config *c)
{
	if (c->hostname)
		return c->hostname;
	return c->name ? c->name : HOST_NAME;
}

/* What precedes the root's own lines in /etc/hosts: as docker has it, the guest's name is that of its address. */
static void put_hosts(FILE *f, const struct config *c)
{
	const char *ip = c->num_nets && c->net[0].ip ? c->net[0].ip : "127.0.1.1";
	const char *name = init_text_hostname(c);

	(void)fputs("k127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n"
		    "ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
		    f);
	(void)fprintf(f, "%.*s\t%s", (int)strcspn(ip, "/"), ip, name);
	if (strchr(name, '.'))
		(void)fprintf(f, " %.*s", (int)strcspn(name, "."), name);
	for (unsigned i = 0; i < c->add_host.num; i++) {
		char address[INET6_ADDRSTRLEN];
		bool gateway = false;
		size_t len = 0;

		(void)config_split_host(c->add_host.text[i], &len, address, &gateway); /* checked */
		(void)fprintf(f, "\n%s\t%.*s", gateway ? config_gateway(c) : address, (int)len, c->add_host.text[i]);
	}
	put(f, "\n");
}

/* What a template does not have, although its kernel has booted. */
static void put_restored(FILE *f, const struct config *c)
{
	for (unsigned i = 0; i < c->num_drives; i++)
		put(f, "c/dev/vd%c", 'a' + (int)i);
	for (unsigned i = 0; i < c->num_nets; i++) {
		const uint8_t *mac = c->net[i].mac;

		put(f, "x%02x%02x%02x%02x%02x%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	}
}

char *init_text_boot(const struct config *c, size_t *ret_len)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, ret_len);

	if (!f)
		return NULL;
	if (c->template.made) {
		put(f, "T");
		return finish(f, &text);
	}
	if (c->template.used)
		put_restored(f, c);
	/* With an initrd of its own a guest has its root in that. */
	if (c->num_drives && !c->initrd && !c->drive[0].mount)
		put(f, "r/dev/vda");
	for (unsigned i = 0; i < c->num_drives; i++)
		put_drive(f, &c->drive[i], i);
	for (unsigned i = 0; i < c->num_tmpfs; i++)
		put_tmpfs(f, &c->tmpfs[i]);
	for (unsigned i = 0; i < c->num_secrets; i++)
		put_secret(f, &c->secret[i]);
	for (unsigned i = 0; i < c->num_own; i++)
		put(f, "b:%s", c->own[i]);
	for (unsigned i = 0; i < c->num_live; i++)
		put(f, "%c%u:%s", c->live[i].read_only ? 'P' : 'p', i, c->live[i].guest);
	if (c->scratch)
		put(f, "s%" PRIu64, c->scratch);
	for (unsigned i = 0; i < c->sysctl.num; i++)
		put(f, "y%s", c->sysctl.text[i]);
	if (c->threads_max)
		put(f, "q%" PRIu64, c->threads_max);
	if (c->root_read_only)
		put(f, "R");
	put(f, "h%s", init_text_hostname(c));
	if (c->num_nets)
		put_net(f, &c->net[0]);
	for (unsigned i = 1; i < c->num_nets; i++)
		put(f, "E%s", c->net[i].ip ? c->net[i].ip : "");
	put_resolver(f, c);
	put_hosts(f, c);
	if (c->snapshot)
		put(f, "S");
	for (unsigned i = 0; i < c->num_artifacts; i++)
		put(f, "o%s", c->artifact[i].guest);
	return finish(f, &text);
}

static void put_env(FILE *f, const struct config_command *cmd)
{
	for (unsigned i = 0; i < cmd->env.num; i++)
		put(f, "e%s", cmd->env.text[i]);
}

static void put_place(FILE *f, const struct config_command *cmd)
{
	if (cmd->workdir)
		put(f, "w%s", cmd->workdir);
	if (cmd->user)
		put(f, "u%s", cmd->user);
	for (unsigned i = 0; i < cmd->groups.num; i++)
		put(f, "G%s", cmd->groups.text[i]);
	for (unsigned i = 0; i < cmd->limits.num; i++)
		put(f, "R%s", cmd->limits.text[i]);
	if (cmd->umask_more)
		put(f, "m%u", cmd->umask_more - 1);
}

char *init_text_command(const struct config_command *cmd, const char *tty, size_t *ret_len)
{
	const char *term = tty ? getenv("TERM") : NULL;
	char *text = NULL;
	FILE *f = open_memstream(&text, ret_len);

	if (!f || cmd->none || cmd->held)
		return f ? finish(f, &text) : NULL;
	for (unsigned i = 0; i < cmd->args.num; i++)
		put(f, "a%s", cmd->args.text[i]);
	/* The caller's TERM. env follows it, and overrides it. */
	if (term && *term && strlen(term) < CONFIG_ID_MAX)
		put(f, "eTERM=%s", term);
	put_env(f, cmd);
	put_place(f, cmd);
	if (tty)
		put(f, "t%s", tty);
	return finish(f, &text);
}

int init_text_defaults_init(struct init_text_defaults *d, const struct config_command *cmd)
{
	FILE *f = open_memstream(&d->text, &d->len);

	if (!f)
		return -ENOMEM;
	put_env(f, cmd);
	(void)fflush(f); /* finish reports a failure */
	d->env_len = d->len;
	put_place(f, cmd);
	d->text = finish(f, &d->text);
	return d->text ? 0 : -ENOMEM;
}

void init_text_defaults_done(struct init_text_defaults *d)
{
	free(d->text);
	*d = (struct init_text_defaults){ 0 };
}

static bool has_arguments(const char *text, size_t len)
{
	for (size_t at = 0; at < len; at += strnlen(text + at, len - at) + 1)
		if (text[at] == 'a')
			return true;
	return false;
}

ssize_t init_text_complete(char *text, size_t len, size_t max, const struct init_text_defaults *d)
{
	if (!has_arguments(text, len))
		return (ssize_t)len;
	if (text[len - 1] != '\0')
		return -EPROTO;
	if (len > max || d->len > max - len)
		return -E2BIG;
	/* Of a variable, init takes the last word; of the others the first. */
	memmove(text + d->env_len, text, len);
	memcpy(text, d->text, d->env_len);
	memcpy(text + d->env_len + len, d->text + d->env_len, d->len - d->env_len);
	return (ssize_t)(len + d->len);
}
