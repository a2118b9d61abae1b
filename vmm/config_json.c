/*
 * The configuration as JSON; see config.h.
 *
 * Every key is one line of a table: its name, the types it may have, and the setter, which takes text: the command line
 * goes through the same setters, so that a value means the same and is refused with the same words in both places.
 * Numbers and booleans are therefore turned back into the text that they were. jansson does the syntax, with limits on
 * depth and number range of its own; it refuses keys that come twice, text that is not UTF-8 and strings with a NUL.
 * The other way is config_print.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/nearest.h"
#include "vmm/base/util.h"
#include "vmm/config.h"

#define STRING (1U << JSON_STRING)
#define INTEGER (1U << JSON_INTEGER)
#define BOOLEAN (1U << JSON_TRUE | 1U << JSON_FALSE)
#define ARRAY (1U << JSON_ARRAY)
#define OBJECT (1U << JSON_OBJECT)

#define KEY_TEXT_MAX 128 /* bytes of a key that are shown in a message */

struct key {
	const char *name;
	unsigned types;
	config_setter *set; /* of a value with text, or of each string of an array */
	int (*set_list)(struct config *c, json_t *list, struct err *e); /* of an object, or an array of them */
	int (*set_part)(struct config *c, json_t *part,
			struct err *e); /* the same, of one that leaves its name to the caller */
	const char *help;		/* for the manual; NULL: that of the option with the same setter */
};

static int read_drives(struct config *c, json_t *list, struct err *e);
static int read_drive_limits(struct config *c, json_t *object, struct err *e);
static int read_nets(struct config *c, json_t *list, struct err *e);
static int read_vsock(struct config *c, json_t *object, struct err *e);
static int read_jail(struct config *c, json_t *object, struct err *e);

static const struct key config_keys[] = {
	/* what it boots */
	{ "kernel", STRING, .set = config_set_kernel },
	{ "initrd", STRING, .set = config_set_initrd },
	{ "append", STRING, .set = config_set_append },
	{ "cmdline", STRING, .set = config_set_cmdline },
	{ "entry", STRING, .set = config_set_entry },
	/* the machine */
	{ "cpus", INTEGER, .set = config_set_cpus },
	{ "mem", STRING | INTEGER, .set = config_set_mem },
	{ "rootfs", STRING, .set = config_set_rootfs },
	{ "drives", ARRAY, .set_list = read_drives,
	  .help = "the drives, each an object; the first is the root, /dev/vda; those of the command line follow" },
	{ "nets", ARRAY, .set_list = read_nets,
	  .help = "the network interfaces, each an object; those of the command line follow" },
	{ "vsock", OBJECT, .set_list = read_vsock, .help = "sockets between guest and host, an object" },
	/* the command that is run in it: options of their own say what they mean */
	{ "command", ARRAY, .set = config_add_arg,
	  .help = "the program and its arguments, run in the guest by mayfly's init; a command line's command replaces it" },
	{ "env", ARRAY, .set = config_add_env },
	{ "workdir", STRING, .set = config_set_workdir },
	{ "user", STRING, .set = config_set_user },
	{ "tty", BOOLEAN, .set = config_set_tty },
	{ "artifacts", ARRAY, .set = config_add_artifact },
	{ "timeout", STRING | INTEGER, .set = config_set_timeout },
	{ "name", STRING, .set = config_set_name },
	{ "control", STRING, .set = config_set_control },
	{ "console", BOOLEAN, .set = config_set_console },
	/* mayfly itself */
	{ "io_engine", STRING, .set = config_set_io_engine },
	{ "seccomp", STRING, .set = config_set_seccomp },
	{ "jail", BOOLEAN | OBJECT, .set = config_set_jail, .set_list = read_jail,
	  .help = "whether the VM runs in a jail; an object: it does, with these limits" },
	{ "log_level", STRING, .set = config_set_log_level },
	{ "log_file", STRING, .set = config_set_log_file },
	{ "time", BOOLEAN, .set = config_set_time },
	{ "timeline", STRING, .set = config_set_timeline },
	{ .name = NULL },
};

static const struct key drive_keys[] = {
	/* what it is */
	{ "path", STRING, .set = config_drive_path,
	  .help = "the image file or block device; the only key that must be there" },
	{ "id", STRING, .set = config_drive_id, .help = "its name in messages; default: drive0, drive1, ..." },
	{ "serial", STRING, .set = config_drive_serial,
	  .help = "what the guest reads as serial number, up to 20 characters; default: the id" },
	{ "read_only", BOOLEAN, .set = config_drive_read_only,
	  .help = "whether the guest may only read it; default: false" },
	/* how it is done */
	{ "direct", BOOLEAN, .set = config_drive_direct,
	  .help = "whether the host's page cache is bypassed (O_DIRECT); not with an overlay; default: false" },
	{ "cache", STRING, .set = config_drive_cache,
	  .help = "writeback, or unsafe: nothing is ever synced; default: writeback" },
	{ "overlay", STRING | INTEGER | BOOLEAN, .set = config_drive_overlay,
	  .help = "whether what the guest writes goes to a layer that ends with it, or the "
		  "size of that layer; default: false" },
	{ "overlay_dir", STRING, .set = config_drive_overlay_dir,
	  .help = "the directory for the layer, which is an unlinked file there; default: it is in memory" },
	{ "rate_limiter", OBJECT, .set_part = read_drive_limits,
	  .help = "limits, an object of bandwidth (bytes) and ops (requests), each an object of size, "
		  "one_time_burst and refill_time (milliseconds)" },
	/* where it is in the guest */
	{ "mount", STRING, .set = config_drive_mount, .help = "where mayfly's init mounts it in the guest" },
	{ "mount_read_only", BOOLEAN, .set = config_drive_mount_read_only,
	  .help = "whether it cannot be written to there; else, if the drive is read-only, changes are lost; default: false" },
	{ .name = NULL },
};

static const struct key net_keys[] = {
	{ "id", STRING, .set = config_net_id, .help = "its name in messages; default: net0, net1, ..." },
	/* one of these */
	{ "tap", STRING, .set = config_net_tap, .help = "the name of a tap interface" },
	{ "fd", INTEGER, .set = config_net_fd,
	  .help = "the number of an open tap, or of a stream socket that speaks passt's protocol" },
	{ "user", BOOLEAN, .set = config_net_user, .help = "true: passt serves it, without privileges" },
	/* and any of these */
	{ "mac", STRING, .set = config_net_mac,
	  .help = "the guest's address; default: one made of the id and the tap's name" },
	{ "mtu", INTEGER, .set = config_net_mtu,
	  .help = "what the guest is told, 68 to 65535; default: nothing, or 65520 for user" },
	{ "ip", STRING, .set = config_net_ip,
	  .help = "the address that mayfly's init gives the guest, ADDRESS/PREFIX; default: none, or 10.0.2.15/24 for user" },
	{ "gw", STRING, .set = config_net_gateway, .help = "its default gateway" },
	{ "dns", STRING, .set = config_net_dns, .help = "its name server" },
	{ "tcp", ARRAY, .set = config_net_tcp,
	  .help = "forwarded ports of a user interface, each [ADDRESS/]HOST_PORT:GUEST_PORT" },
	{ "udp", ARRAY, .set = config_net_udp, .help = "the same for UDP" },
	{ "rx_bandwidth", STRING, .set = config_net_rx_bandwidth,
	  .help = "a limit for the bytes that the guest receives: SIZE[+BURST]/MILLISECONDS" },
	{ "rx_ops", STRING, .set = config_net_rx_ops, .help = "the same for frames" },
	{ "tx_bandwidth", STRING, .set = config_net_tx_bandwidth,
	  .help = "a limit for the bytes that the guest sends" },
	{ "tx_ops", STRING, .set = config_net_tx_ops, .help = "the same for frames" },
	{ .name = NULL },
};

static const struct key vsock_keys[] = {
	{ "path", STRING, .set = config_vsock_path, .help = "the Unix socket on the host" },
	{ "cid", INTEGER, .set = config_vsock_cid, .help = "the guest's address, 3 to 4294967294; default: 3" },
	{ .name = NULL },
};

static const struct key jail_keys[] = {
	{ "strict", BOOLEAN, .set = config_jail_strict,
	  .help = "whether what this host does not have is an error; default: false" },
	{ "id", STRING, .set = config_jail_id,
	  .help = "the name of its control group; default: one made of the process id" },
	{ "uid", STRING | INTEGER, .set = config_jail_uid,
	  .help = "the user that it runs as, or a range FIRST-LAST, of which each VM has another; for root only; "
		  "default: 65534" },
	{ "gid", STRING | INTEGER, .set = config_jail_gid, .help = "the same for the group" },
	/* limits */
	{ "cpu_max", STRING, .set = config_jail_cpu_max,
	  .help = "processor time, QUOTA or 'QUOTA PERIOD' in microseconds (cgroup v2's cpu.max)" },
	{ "memory_max", STRING | INTEGER, .set = config_jail_memory_max,
	  .help = "memory, the guest's and mayfly's together (memory.max)" },
	{ "pids_max", INTEGER, .set = config_jail_pids_max, .help = "threads (pids.max)" },
	{ "io_max", ARRAY, .set = config_jail_io_max,
	  .help = "disks, each 'MAJOR:MINOR KEY=N ...' with rbps, wbps, riops or wiops (io.max)" },
	{ "nofile", INTEGER, .set = config_jail_nofile, .help = "open files; default: 2048" },
	{ "fsize", STRING | INTEGER, .set = config_jail_fsize,
	  .help = "the size to which a file can be made to grow; default: none" },
	{ .name = NULL },
};

static const char *type_name(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a number with a fraction or exponent";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		return "null";
	}
	return "something else";
}

static const char *types_name(unsigned types)
{
	switch (types) {
	case STRING:
		return "a string";
	case INTEGER:
		return "an integer";
	case STRING | INTEGER:
		return "a string or an integer";
	case STRING | INTEGER | BOOLEAN:
		return "a string, an integer or a boolean";
	case BOOLEAN:
		return "a boolean";
	case ARRAY:
		return "an array";
	case OBJECT:
		return "an object";
	case BOOLEAN | OBJECT:
		return "a boolean or an object";
	default:
		return "something else";
	}
}

bool config_key(unsigned i, struct config_key *ret)
{
	static const struct {
		const char *object;
		const struct key *keys;
	} tables[] = { { "", config_keys },
		       { "drives", drive_keys },
		       { "nets", net_keys },
		       { "vsock", vsock_keys },
		       { "jail", jail_keys } };

	for (size_t t = 0; t < MF_ARRAY_SIZE(tables); t++) {
		for (const struct key *k = tables[t].keys; k->name; k++) {
			if (i-- > 0)
				continue;
			*ret = (struct config_key){ tables[t].object, k->name, types_name(k->types), k->help, k->set };
			return true;
		}
	}
	return false;
}

static int set_strings(config_setter *set, struct config *c, json_t *list, struct err *e)
{
	json_t *value;
	size_t i;

	json_array_foreach(list, i, value) {
		if (!json_is_string(value))
			return err_set(e, -EINVAL, "must hold strings, not %s", type_name(value));
		if (set(c, json_string_value(value), e) < 0)
			return e->code;
	}
	return 0;
}

static int set_value(const struct key *key, struct config *c, json_t *value, struct err *e)
{
	char number[24];

	if (!(1U << json_typeof(value) & key->types))
		return err_set(e, -EINVAL, "must be %s, not %s", types_name(key->types), type_name(value));
	switch (json_typeof(value)) {
	case JSON_STRING:
		return key->set(c, json_string_value(value), e);
	case JSON_INTEGER:
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		return key->set(c, number, e);
	case JSON_TRUE:
	case JSON_FALSE:
		return key->set(c, json_is_true(value) ? "true" : "false", e);
	default:
		if (key->set_part)
			return key->set_part(c, value, e);
		return key->set_list ? key->set_list(c, value, e) : set_strings(key->set, c, value, e);
	}
}

static int unknown_key(const struct key *keys, const char *prefix, const char *name, struct err *e)
{
	struct nearest n = { .word = name, .len = strlen(name) };

	for (; keys->name; keys++)
		nearest_try(&n, keys->name);
	if (n.best)
		return err_set(e, -EINVAL, "unknown key '%s%s'; did you mean '%s'?", prefix, name, n.best);
	return err_set(e, -EINVAL, "unknown key '%s%.*s'", prefix, KEY_TEXT_MAX, name);
}

/* prefix stands in front of the key in messages: "" or "drives[1].". */
static int read_object(const struct key *keys, struct config *c, json_t *object, const char *prefix, struct err *e)
{
	const char *name;
	json_t *value;

	json_object_foreach(object, name, value) {
		const struct key *key = keys;

		while (key->name && strcmp(key->name, name) != 0)
			key++;
		if (!key->name)
			return unknown_key(keys, prefix, name, e);
		if (set_value(key, c, value, e) == 0)
			continue;
		/* What is wrong inside a list has been named there. */
		if (!key->set_list || !(1U << json_typeof(value) & key->types))
			err_wrap(e, "key '%s%s'", prefix, name);
		return e->code;
	}
	return 0;
}

/* A token bucket as Firecracker has it; one of size or refill time 0 is no limit. */
static int read_limit(struct config *c, const char *name, json_t *bucket, config_setter *set, struct err *e)
{
	json_int_t size, refill_ms, burst = 0;
	json_error_t je;
	char text[72];

	if (!bucket)
		return 0;
	if (json_unpack_ex(bucket, &je, JSON_STRICT, "{s:I,s:I,s?I}", "size", &size, "refill_time", &refill_ms,
			   "one_time_burst", &burst) < 0)
		return err_set(e, -EINVAL, "%s: %s", name, je.text);
	if (size < 0 || refill_ms < 0 || burst < 0)
		return err_set(e, -EINVAL, "%s: must not be negative", name);
	if (size == 0 || refill_ms == 0)
		return 0;
	snprintf(text, sizeof(text), "%lld+%lld/%lld", (long long)size, (long long)burst, (long long)refill_ms);
	return set(c, text, e);
}

static int read_drive_limits(struct config *c, json_t *object, struct err *e)
{
	json_t *bandwidth = NULL, *ops = NULL;
	json_error_t je;

	if (json_unpack_ex(object, &je, JSON_STRICT, "{s?o,s?o}", "bandwidth", &bandwidth, "ops", &ops) < 0)
		return err_set(e, -EINVAL, "%s", je.text);
	if (read_limit(c, "bandwidth", bandwidth, config_drive_bandwidth, e) < 0)
		return e->code;
	return read_limit(c, "ops", ops, config_drive_ops, e);
}

/* A list of devices, name in the configuration, each of which begins, has keys, and ends. */
static int read_list(const char *name, const struct key *keys, int (*begin)(struct config *c, struct err *e),
		     int (*end)(struct config *c, struct err *e), struct config *c, json_t *list, struct err *e)
{
	char prefix[32];
	json_t *value;
	size_t i;

	json_array_foreach(list, i, value) {
		if (!json_is_object(value))
			return err_set(e, -EINVAL, "key '%s[%zu]': must be an object, not %s", name, i,
				       type_name(value));
		if (begin(c, e) < 0)
			return err_wrap(e, "key '%s[%zu]'", name, i);
		snprintf(prefix, sizeof(prefix), "%s[%zu].", name, i);
		if (read_object(keys, c, value, prefix, e) < 0)
			return e->code;
		if (end(c, e) < 0)
			return err_wrap(e, "key '%s[%zu]'", name, i);
	}
	return 0;
}

static int read_drives(struct config *c, json_t *list, struct err *e)
{
	return read_list("drives", drive_keys, config_begin_drive, config_end_drive, c, list, e);
}

static int read_nets(struct config *c, json_t *list, struct err *e)
{
	return read_list("nets", net_keys, config_begin_net, config_end_net, c, list, e);
}

static int read_vsock(struct config *c, json_t *object, struct err *e)
{
	return read_object(vsock_keys, c, object, "vsock.", e);
}

static int read_jail(struct config *c, json_t *object, struct err *e)
{
	c->jail.on = true;
	return read_object(jail_keys, c, object, "jail.", e);
}

int config_read_text(struct config *c, const char *text, size_t len, const char *name, struct err *e)
{
	json_error_t je;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);

	if (!root)
		return err_set(e, -EINVAL, "config '%s': line %d, column %d: %s", name, je.line, je.column,
			       json_error_code(&je) == json_error_null_character ? "a string must not hold \\u0000" :
										   je.text);
	if (json_is_object(root))
		e->code = read_object(config_keys, c, root, "", e);
	else
		err_set(e, -EINVAL, "must be an object, not %s", type_name(root));
	c->command.args_of_file = c->command.args.num > 0;
	json_decref(root);
	return e->code < 0 ? err_wrap(e, "config '%s'", name) : 0;
}

int config_read_file(struct config *c, const char *path, struct err *e)
{
	MF_CLOSE int fd = -1;
	MF_FREE char *text = NULL;
	uint64_t size = 0;
	ssize_t len;

	fd = fdio_open_file(path, O_RDONLY, false, &size, e);
	if (fd < 0)
		return err_wrap(e, "config");
	if (size > CONFIG_FILE_MAX)
		return err_set(e, -EFBIG, "config '%s': larger than %llu bytes", path, CONFIG_FILE_MAX);
	text = malloc(size + 1);
	if (!text)
		return err_sys(e, "config '%s'", path);
	len = fdio_pread(fd, text, size, 0);
	if (len < 0)
		return err_neg(e, (int)len, "config '%s'", path);
	return config_read_text(c, text, (size_t)len, path, e);
}
