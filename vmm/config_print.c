/* The configuration as JSON that config_json.c reads again, for --dry-run; see config.h. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/config.h"

/* Adds text under key unless it is NULL. */
static void put_text(json_t *object, const char *key, const char *text, bool *ok)
{
	if (text && json_object_set_new(object, key, json_string(text)) < 0)
		*ok = false;
}

static void put_value(json_t *object, const char *key, json_t *value, bool *ok)
{
	if (json_object_set_new(object, key, value) < 0)
		*ok = false;
}

static void put_bucket(json_t *object, const char *key, const struct ratelimit_params *p, bool *ok)
{
	if (p->size)
		put_value(object, key,
			  json_pack("{s:I,s:I,s:I}", "size", (json_int_t)p->size, "one_time_burst",
				    (json_int_t)p->one_time_burst, "refill_time", (json_int_t)p->refill_ms),
			  ok);
}

static void put_drive(json_t *object, const struct config_drive *d, bool *ok)
{
	char size[PARSE_SIZE_TEXT_MAX];
	json_t *limits = json_object();

	put_text(object, "path", d->path, ok);
	put_text(object, "id", d->id, ok);
	put_text(object, "serial", d->serial, ok);
	put_value(object, "read_only", json_boolean(d->read_only), ok);
	put_value(object, "direct", json_boolean(d->direct), ok);
	put_text(object, "cache", config_cache_name(d->cache), ok);
	parse_format_size(d->overlay_size, size);
	if (d->overlay)
		put_value(object, "overlay", d->overlay_size ? json_string(size) : json_true(), ok);
	put_text(object, "overlay_dir", d->overlay_dir, ok);
	put_text(object, "mount", d->mount, ok);
	if (d->mount)
		put_value(object, "mount_read_only", json_boolean(d->mount_read_only), ok);
	put_bucket(limits, "bandwidth", &d->bandwidth, ok);
	put_bucket(limits, "ops", &d->ops, ok);
	if (json_object_size(limits) > 0)
		put_value(object, "rate_limiter", json_incref(limits), ok);
	json_decref(limits);
}

static json_t *drives_json(const struct config *c, bool *ok)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < c->num_drives; i++) {
		json_t *object = json_object();

		put_drive(object, &c->drive[i], ok);
		if (json_array_append_new(list, object) < 0)
			*ok = false;
	}
	return list;
}

static void put_limit(json_t *object, const char *key, const struct ratelimit_params *p, bool *ok)
{
	char text[72];

	if (p->size == 0)
		return;
	snprintf(text, sizeof(text), "%" PRIu64 "+%" PRIu64 "/%" PRIu64, p->size, p->one_time_burst, p->refill_ms);
	put_text(object, key, text, ok);
}

static json_t *forwards_json(const struct config_net *n, bool udp, bool *ok)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < n->num_forwards; i++) {
		if (n->forward[i].udp == udp && json_array_append_new(list, json_string(n->forward[i].ports)) < 0)
			*ok = false;
	}
	return list;
}

static json_t *net_json(const struct config_net *n, bool *ok)
{
	json_t *object = json_object();
	const uint8_t *m = n->mac;

	put_text(object, "id", n->id, ok);
	switch (n->kind) {
	case CONFIG_NET_TAP:
		put_text(object, "tap", n->tap, ok);
		break;
	case CONFIG_NET_FD:
		put_value(object, "fd", json_integer(n->fd), ok);
		break;
	case CONFIG_NET_USER:
		put_value(object, "user", json_true(), ok);
		put_value(object, "tcp", forwards_json(n, false, ok), ok);
		put_value(object, "udp", forwards_json(n, true, ok), ok);
		break;
	case CONFIG_NET_UNSET:
		break;
	}
	if (n->has_mac)
		put_value(object, "mac",
			  json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]), ok);
	if (n->mtu)
		put_value(object, "mtu", json_integer(n->mtu), ok);
	put_text(object, "ip", n->ip, ok);
	put_text(object, "gw", n->gateway, ok);
	put_text(object, "dns", n->dns, ok);
	put_limit(object, "rx_bandwidth", &n->limit[NET_RX].bytes, ok);
	put_limit(object, "rx_ops", &n->limit[NET_RX].ops, ok);
	put_limit(object, "tx_bandwidth", &n->limit[NET_TX].bytes, ok);
	put_limit(object, "tx_ops", &n->limit[NET_TX].ops, ok);
	return object;
}

static json_t *nets_json(const struct config *c, bool *ok)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < c->num_nets; i++) {
		if (json_array_append_new(list, net_json(&c->net[i], ok)) < 0)
			*ok = false;
	}
	return list;
}

static json_t *vsock_json(const struct config *c, bool *ok)
{
	json_t *object = json_object();

	put_text(object, "path", c->vsock.path, ok);
	put_value(object, "cid", json_integer(c->vsock.cid), ok);
	return object;
}

static json_t *list_json(const struct config_list *l, bool *ok)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < l->num; i++) {
		if (json_array_append_new(list, json_string(l->text[i])) < 0)
			*ok = false;
	}
	return list;
}

static json_t *artifacts_json(const struct config *c, bool *ok)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < c->num_artifacts; i++) {
		const struct config_artifact *a = &c->artifact[i];

		if (json_array_append_new(list, json_sprintf("%s=%s", a->guest, a->host)) < 0)
			*ok = false;
	}
	return list;
}

/* The command, and what concerns the running of it. */
static void put_command(json_t *root, const struct config *c, bool *ok)
{
	const struct config_command *cmd = &c->command;

	if (cmd->args.num)
		put_value(root, "command", list_json(&cmd->args, ok), ok);
	if (cmd->env.num)
		put_value(root, "env", list_json(&cmd->env, ok), ok);
	put_text(root, "workdir", cmd->workdir, ok);
	put_text(root, "user", cmd->user, ok);
	if (cmd->tty != CONFIG_TTY_AUTO)
		put_value(root, "tty", json_boolean(cmd->tty == CONFIG_TTY_ON), ok);
	if (c->num_artifacts)
		put_value(root, "artifacts", artifacts_json(c, ok), ok);
	if (c->timeout_ms)
		put_value(root, "timeout", json_sprintf("%llums", (unsigned long long)c->timeout_ms), ok);
	put_text(root, "name", c->name, ok);
	put_text(root, "control", c->control, ok);
	if (c->console)
		put_value(root, "console", json_true(), ok);
}

static void put_ids(json_t *object, const char *key, const struct config_ids *ids, bool *ok)
{
	if (ids->num == 1)
		put_value(object, key, json_integer(ids->first), ok);
	else if (ids->num)
		put_value(object, key,
			  json_sprintf("%" PRIu32 "-%llu", ids->first, (unsigned long long)(ids->first + ids->num - 1)),
			  ok);
}

static json_t *jail_json(const struct config_jail *j, bool *ok)
{
	json_t *object = json_object(), *list = json_array();

	put_value(object, "strict", json_boolean(j->strict), ok);
	put_text(object, "id", j->id, ok);
	put_ids(object, "uid", &j->uid, ok);
	put_ids(object, "gid", &j->gid, ok);
	put_text(object, "cpu_max", j->cpu_max, ok);
	put_text(object, "memory_max", j->memory_max, ok);
	if (j->pids_max)
		put_value(object, "pids_max", json_integer(strtoll(j->pids_max, NULL, 10)), ok);
	for (unsigned i = 0; i < j->num_io_max; i++)
		if (json_array_append_new(list, json_string(j->io_max[i])) < 0)
			*ok = false;
	put_value(object, "io_max", list, ok);
	if (j->nofile)
		put_value(object, "nofile", json_integer((json_int_t)j->nofile), ok);
	if (j->fsize)
		put_value(object, "fsize", json_integer((json_int_t)j->fsize), ok);
	return object;
}

/* The configuration as an object; NULL when memory is short or a string is not UTF-8, which JSON cannot hold. */
static json_t *config_json(const struct config *c)
{
	json_t *root = json_object();
	char mem[PARSE_SIZE_TEXT_MAX];
	bool ok = true;

	parse_format_size(c->mem, mem);
	put_text(root, "kernel", c->kernel, &ok);
	put_text(root, "initrd", c->initrd, &ok);
	put_text(root, "append", c->append, &ok);
	put_text(root, "cmdline", c->cmdline, &ok);
	put_text(root, "entry", config_entry_name(c->entry), &ok);
	put_value(root, "cpus", json_integer(c->cpus), &ok);
	put_text(root, "mem", mem, &ok);
	put_value(root, "drives", drives_json(c, &ok), &ok);
	put_value(root, "nets", nets_json(c, &ok), &ok);
	if (c->vsock.path)
		put_value(root, "vsock", vsock_json(c, &ok), &ok);
	put_command(root, c, &ok);
	put_text(root, "io_engine", config_io_engine_name(c->io_engine), &ok);
	put_text(root, "seccomp", config_seccomp_name(c), &ok);
	if (c->jail.on)
		put_value(root, "jail", jail_json(&c->jail, &ok), &ok);
	put_text(root, "log_level", log_level_name(c->log_level), &ok);
	put_text(root, "log_file", c->log_file, &ok);
	put_value(root, "time", json_boolean(c->time), &ok);
	put_text(root, "timeline", c->timeline_file, &ok);
	if (!ok) {
		json_decref(root);
		return NULL;
	}
	return root;
}

int config_print(const struct config *c, FILE *out, struct err *e)
{
	json_t *root = config_json(c);
	bool failed;

	if (!root)
		return err_set(e, -EILSEQ, "print the configuration: a path or text in it is not UTF-8");
	errno = 0;
	failed = json_dumpf(root, out, JSON_INDENT(2)) < 0 || putc('\n', out) == EOF || fflush(out) == EOF;
	json_decref(root);
	if (failed)
		return errno ? err_sys(e, "print the configuration") : err_set(e, -EIO, "print the configuration");
	return 0;
}
