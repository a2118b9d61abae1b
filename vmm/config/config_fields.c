/* The tables of keys; see config_field.h. The order is that of mayfly(5) and of --dry-run. */
#include "vmm/config/config_field.h"

#include <string.h>

#include "virtio/net.h"
#include "virtio/vsock.h"
#include "vmm/config/config.h"

#define NOFILE_MIN 64U
#define NOFILE_MAX (1U << 20)

#define AT(type, member) .at = offsetof(type, member), .size = sizeof(((type *)0)->member)
#define TEXT(max_len, checker) .max = (max_len), .check = (checker)
#define PATH TEXT(CONFIG_PATH_MAX, config_check_not_empty)
#define ID TEXT(CONFIG_ID_MAX, config_check_id)
#define NAME TEXT(CONFIG_ID_MAX, config_check_name)
#define ROOT(member) AT(struct config, member)
#define DRIVE(member) AT(struct config_drive, member)
#define NET(member) AT(struct config_net, member)
#define VSOCK(member) AT(struct config_vsock, member)
#define JAIL(member) AT(struct config_jail, member)

static const char *const entry_words[] = { "auto", "linux64", "pvh", NULL };
static const char *const boot_words[] = { "auto", "cold", "template", NULL };
static const char *const io_engine_words[] = { "auto", "ring", "sync", NULL };
static const char *const seccomp_words[] = { "kill", "log", "off", NULL };
static const char *const log_level_words[] = { "error", "warn", "info", "debug", NULL };
static const char *const pull_words[] = { "missing", "always", "never", NULL };
static const char *const cache_words[] = { "writeback", "unsafe", NULL };

/* clang-format off */
const struct config_field config_fields[] = {
	/* what it boots */
	{ "kernel", &config_type_text, ROOT(kernel), PATH },
	{ "initrd", &config_type_text, ROOT(initrd), PATH },
	{ "append", &config_type_text, ROOT(append), .max = CONFIG_CMDLINE_MAX },
	{ "cmdline", &config_type_text, ROOT(cmdline), .max = CONFIG_CMDLINE_MAX },
	{ "entry", &config_type_word, ROOT(entry), .words = entry_words },
	/* the machine */
	{ "cpus", &config_type_number, ROOT(cpus), .min = 1, .max = CONFIG_CPUS_MAX },
	{ "mem", &config_type_mem, ROOT(mem), .min = CONFIG_MEM_MIN, .max = CONFIG_MEM_MAX },
	{ "rootfs", &config_type_rootfs, ROOT(rootfs) },
	{ "image", &config_type_image, ROOT(image), PATH,
	  .help = "the name of a container's image, which becomes the root, for example alpine:3.20" },
	{ "pull", &config_type_word, ROOT(pull), .words = pull_words, .flags = CONFIG_NOT_JSON },
	{ "entrypoint", &config_type_text, ROOT(entrypoint), .max = CONFIG_PATH_MAX, .flags = CONFIG_NOT_JSON },
	{ "publish_all", &config_type_bool, ROOT(publish_all), .flags = CONFIG_NOT_JSON },
	{ "all_root", &config_type_bool, ROOT(all_root), .flags = CONFIG_SPARSE },
	{ "drives", &config_type_drives, ROOT(drive),
	  .help = "the drives, each an object; the first is the root, /dev/vda; those of the command line follow" },
	{ "volumes", &config_type_volume, .flags = CONFIG_SPARSE },
	{ "disk", &config_type_size, ROOT(disk), .flags = CONFIG_SPARSE },
	{ "nets", &config_type_nets, ROOT(net),
	  .help = "the network interfaces, each an object; those of the command line follow" },
	{ "publish", &config_type_texts, ROOT(publish), .check = config_check_publish },
	{ "allow", &config_type_texts, ROOT(allow), .check = config_check_allow },
	{ "deny", &config_type_texts, ROOT(deny), .check = config_check_deny },
	{ "vsock", &config_type_vsock, ROOT(vsock), .help = "sockets between guest and host, an object" },
	/* the command that is run in it: options of their own say what they mean */
	{ "command", &config_type_args, ROOT(command.args),
	  .help = "the program and its arguments, run in the guest by mayfly's init; a command line's command replaces it" },
	{ "env", &config_type_env, ROOT(command.env) },
	{ "workdir", &config_type_text, ROOT(command.workdir), TEXT(CONFIG_PATH_MAX, config_check_workdir) },
	{ "user", &config_type_text, ROOT(command.user), TEXT(CONFIG_USER_MAX, config_check_user) },
	{ "tty", &config_type_tty, ROOT(command.tty) },
	{ "stop_signal", &config_type_signal, ROOT(stop_signal) },
	{ "artifacts", &config_type_artifacts, ROOT(artifact) },
	{ "tmpfs", &config_type_tmpfs, ROOT(tmpfs) },
	{ "secrets", &config_type_secrets, ROOT(secret), .flags = CONFIG_SPARSE },
	{ "scratch", &config_type_size, ROOT(scratch), .flags = CONFIG_SPARSE },
	{ "artifact_max", &config_type_size, ROOT(artifact_max), .flags = CONFIG_SPARSE },
	{ "timeout", &config_type_duration, ROOT(timeout_ms), .max = CONFIG_TIMEOUT_MAX_MS },
	{ "boot_timeout", &config_type_duration, ROOT(boot_timeout_ms), .max = CONFIG_TIMEOUT_MAX_MS },
	{ "snapshot", &config_type_text, ROOT(snapshot), PATH, .flags = CONFIG_SPARSE },
	{ "until", &config_type_text, ROOT(until), TEXT(CONFIG_UNTIL_MAX, config_check_until), .flags = CONFIG_SPARSE },
	{ "name", &config_type_text, ROOT(name), NAME },
	{ "dns", &config_type_texts, ROOT(dns), .check = config_check_address },
	{ "dns_search", &config_type_texts, ROOT(dns_search), .check = config_check_domain },
	{ "add_host", &config_type_texts, ROOT(add_host), .check = config_check_add_host },
	{ "control", &config_type_text, ROOT(control), TEXT(CONFIG_CONTROL_MAX, config_check_control) },
	{ "console", &config_type_bool, ROOT(console), .flags = CONFIG_SPARSE },
	/* mayfly itself */
	{ "boot", &config_type_word, ROOT(boot), .words = boot_words, .flags = CONFIG_SPARSE },
	{ "forkable", &config_type_bool, ROOT(forkable), .flags = CONFIG_SPARSE },
	{ "io_engine", &config_type_word, ROOT(io_engine), .words = io_engine_words },
	{ "seccomp", &config_type_word, ROOT(seccomp), .words = seccomp_words },
	{ "jail", &config_type_jail, ROOT(jail),
	  .help = "whether the VM runs in a jail; an object: it does, with these limits" },
	{ "log_level", &config_type_word, ROOT(log_level), .words = log_level_words },
	{ "log_file", &config_type_text, ROOT(log_file), PATH },
	{ "time", &config_type_bool, ROOT(time) },
	{ "timeline", &config_type_text, ROOT(timeline_file), PATH },
	{ "detach", &config_type_bool, ROOT(detach), .flags = CONFIG_NOT_JSON },
	{ "rm", &config_type_bool, ROOT(remove), .flags = CONFIG_NOT_JSON },
	{ "log_max", &config_type_size, ROOT(log_max), .min = CONFIG_LOG_MIN, .flags = CONFIG_SPARSE },
	{ "result", &config_type_text, ROOT(result_file), PATH },
	{ "dry_run", &config_type_bool, ROOT(dry_run), .flags = CONFIG_NOT_JSON },
	{ .key = NULL },
};

const struct config_field config_drive_fields[] = {
	/* what it is */
	{ "path", &config_type_text, DRIVE(path), PATH, .flags = CONFIG_LIVE,
	  .help = "the image file or block device; required" },
	{ "id", &config_type_text, DRIVE(id), ID, .spec = "id",
	  .help = "its name in messages; default: drive0, drive1, ..." },
	{ "serial", &config_type_text, DRIVE(serial), TEXT(CONFIG_SERIAL_MAX, config_check_serial), .spec = "serial",
	  .help = "the serial number that the guest reads, up to 20 characters; default: the id" },
	{ "read_only", &config_type_bool, DRIVE(read_only), .spec = "ro", .spec_off = "rw",
	  .help = "whether the guest may only read it; default: false" },
	{ "tar", &config_type_bool, DRIVE(tar), .spec = "tar", .flags = CONFIG_SPARSE,
	  .help = "whether it is a tar archive, and the guest gets an image of its files; read-only; default: false" },
	{ "file", &config_type_bool, DRIVE(file), .flags = CONFIG_SPARSE,
	  .help = "whether it is mounted as that file, and not as a file system; read-only; default: false" },
	/* how it is done */
	{ "direct", &config_type_bool, DRIVE(direct), .spec = "direct",
	  .help = "whether the host's page cache is bypassed (O_DIRECT); not with an overlay; default: false" },
	{ "cache", &config_type_word, DRIVE(cache), .words = cache_words, .spec = "cache",
	  .help = "writeback, or unsafe: nothing is synced; default: writeback" },
	{ "overlay", &config_type_overlay, DRIVE(overlay), .spec = "overlay",
	  .help = "whether writes of the guest go to a layer that is deleted at the end, or the "
		  "size of that layer; default: false" },
	{ "overlay_dir", &config_type_text, DRIVE(overlay_dir), PATH, .spec = "overlay-dir",
	  .help = "the directory for the layer, an unlinked file; default: the layer is in memory" },
	/* where it is in the guest */
	{ "mount", &config_type_text, DRIVE(mount), TEXT(CONFIG_PATH_MAX, config_check_mount),
	  .help = "where mayfly's init mounts it in the guest" },
	{ "mount_read_only", &config_type_mount_read_only, DRIVE(mount_read_only),
	  .help = "whether it is mounted read-only; otherwise changes to a read-only drive are lost; default: false" },
	/* how much of it */
	{ "rate_limiter", &config_type_rate_limiter, .flags = CONFIG_LIVE,
	  .help = "limits, an object of bandwidth (bytes) and ops (requests), each an object of size, "
		  "one_time_burst and refill_time (milliseconds)" },
	{ "bandwidth", &config_type_limit_bytes, DRIVE(bandwidth), .spec = "bandwidth",
	  .flags = CONFIG_NOT_JSON | CONFIG_LIVE },
	{ "ops", &config_type_limit_ops, DRIVE(ops), .spec = "ops", .flags = CONFIG_NOT_JSON | CONFIG_LIVE },
	{ .key = NULL },
};

const struct config_field config_net_fields[] = {
	{ "id", &config_type_text, NET(id), ID, .spec = "id",
	  .help = "its name in messages; default: net0, net1, ..." },
	/* one of these */
	{ "tap", &config_type_tap, NET(tap), .spec = "tap", .help = "the name of a tap interface" },
	{ "fd", &config_type_fd, NET(fd), .spec = "fd",
	  .help = "the number of an open tap, or of a stream socket that speaks passt's protocol" },
	{ "user", &config_type_user_net, .spec = "user", .help = "true: passt serves it, without privileges" },
	/* and any of these */
	{ "tcp", &config_type_tcp, .spec = "tcp",
	  .help = "forwarded ports of a user interface, each [ADDRESS:]HOST_PORT:GUEST_PORT, on all addresses by default" },
	{ "udp", &config_type_udp, .spec = "udp", .help = "the same for UDP" },
	{ "host", &config_type_texts, NET(host), .check = config_check_host_port, .spec = "host",
	  .help = "ports of the host's 127.0.0.1 that the guest of a user interface reaches at its gateway, each PORT or PORT/udp" },
	{ "mac", &config_type_mac, NET(mac), .spec = "mac",
	  .help = "the guest's address; default: derived from the id and the tap's name" },
	{ "mtu", &config_type_number, NET(mtu), .min = NET_MTU_MIN, .max = NET_MTU_MAX, .spec = "mtu",
	  .flags = CONFIG_SPARSE, .help = "the MTU offered to the guest, 68 to 65535; default: none, or 65520 for user" },
	{ "ip", &config_type_text, NET(ip), TEXT(CONFIG_ID_MAX, config_check_ip), .spec = "ip",
	  .help = "the address that mayfly's init gives the guest, ADDRESS/PREFIX; default: none, or 10.0.2.15/24 for user" },
	{ "gw", &config_type_text, NET(gateway), TEXT(CONFIG_ID_MAX, config_check_ipv4), .spec = "gw", .help = "its default gateway" },
	{ "ip6", &config_type_text, NET(ip6), TEXT(CONFIG_ID_MAX, config_check_ip6), .spec = "ip6",
	  .help = "the same for IPv6; default: none, or " CONFIG_USER_IP6 " for user if the host has IPv6" },
	{ "gw6", &config_type_text, NET(gateway6), TEXT(CONFIG_ID_MAX, config_check_ipv6), .spec = "gw6",
	  .help = "its default gateway for IPv6" },
	{ "dns", &config_type_text, NET(dns), TEXT(CONFIG_ID_MAX, config_check_address), .spec = "dns",
	  .help = "its name server; default: none, or " CONFIG_USER_DNS " for user, the host's resolver" },
	{ "rx_bandwidth", &config_type_limit_bytes, NET(limit[NET_RX].bytes), .spec = "rx_bandwidth",
	  .flags = CONFIG_LIVE, .help = "a limit for the bytes that the guest receives: SIZE[+BURST]/MILLISECONDS" },
	{ "rx_ops", &config_type_limit_ops, NET(limit[NET_RX].ops), .spec = "rx_ops", .flags = CONFIG_LIVE,
	  .help = "the same for frames" },
	{ "tx_bandwidth", &config_type_limit_bytes, NET(limit[NET_TX].bytes), .spec = "tx_bandwidth",
	  .flags = CONFIG_LIVE, .help = "a limit for the bytes that the guest sends" },
	{ "tx_ops", &config_type_limit_ops, NET(limit[NET_TX].ops), .spec = "tx_ops", .flags = CONFIG_LIVE,
	  .help = "the same for frames" },
	{ .key = NULL },
};

const struct config_field config_vsock_fields[] = {
	{ "path", &config_type_text, VSOCK(path), TEXT(CONFIG_PATH_MAX, config_check_vsock_path), .help = "the Unix socket on the host" },
	{ "cid", &config_type_number, VSOCK(cid), .min = VSOCK_CID_MIN, .max = VSOCK_CID_MAX, .spec = "cid",
	  .help = "the guest's address, 3 to 4294967294; default: 3" },
	{ .key = NULL },
};

const struct config_field config_jail_fields[] = {
	{ "strict", &config_type_bool, JAIL(strict), .spec = "strict",
	  .help = "whether a protection that is unavailable is an error; default: false" },
	{ "id", &config_type_text, JAIL(id), NAME, .spec = "id",
	  .help = "the name of its control group; default: derived from the process id" },
	{ "uid", &config_type_ids, JAIL(uid), .spec = "uid",
	  .help = "the user that it runs as, or a range FIRST-LAST with one user for each VM; for root only; "
		  "default: 65534" },
	{ "gid", &config_type_ids, JAIL(gid), .spec = "gid", .help = "the same for the group" },
	/* limits */
	{ "cpu_max", &config_type_text, JAIL(cpu_max), TEXT(CONFIG_ID_MAX, config_check_cpu_max), .spec = "cpu-max",
	  .help = "processor time, QUOTA or 'QUOTA PERIOD' in microseconds (cgroup v2's cpu.max)" },
	{ "memory_max", &config_type_memory_max, JAIL(memory_max), .spec = "memory-max",
	  .help = "memory, the guest's and mayfly's together (memory.max)" },
	{ "pids_max", &config_type_pids_max, JAIL(pids_max), .spec = "pids-max", .help = "threads (pids.max)" },
	{ "io_max", &config_type_io_max, JAIL(io_max), .spec = "io-max",
	  .help = "disks, each 'MAJOR:MINOR KEY=N ...' with rbps, wbps, riops or wiops (io.max)" },
	{ "nofile", &config_type_number, JAIL(nofile), .min = NOFILE_MIN, .max = NOFILE_MAX, .spec = "nofile",
	  .flags = CONFIG_SPARSE, .help = "open files; default: 2048" },
	{ "fsize", &config_type_size, JAIL(fsize), .spec = "fsize", .flags = CONFIG_SPARSE,
	  .help = "the maximum size of a file that it writes; default: none" },
	{ .key = NULL },
};
/* clang-format on */

const struct config_object config_objects[] = {
	{ "", config_fields },		{ "drives", config_drive_fields },
	{ "nets", config_net_fields },	{ "vsock", config_vsock_fields },
	{ "jail", config_jail_fields }, { NULL, NULL },
};

const struct config_field *config_find_field(const struct config_field *fields, const char *key)
{
	while (fields->key && strcmp(fields->key, key) != 0)
		fields++;
	return fields->key ? fields : NULL;
}

void config_fields_done(const struct config_field *fields, void *object)
{
	for (; fields->key; fields++) {
		if (fields->type->done)
			fields->type->done(object, fields);
	}
}
