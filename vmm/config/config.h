/*
 * The user's configuration: one struct, filled from the command line and from a JSON
 * file, checked in one place. The config owns all strings. config_field.h describes its
 * keys.
 */
#ifndef MF_CONFIG_CONFIG_H
#define MF_CONFIG_CONFIG_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "jailer/seccomp.h"
#include "virtio/net.h"
#include "virtio/ratelimit.h"
#include "vmm/base/log.h"
#include "vmm/core/loop.h"

struct chain;
struct err;

#define CONFIG_CPUS_MAX 32
#define CONFIG_DRIVES_MAX 16
#define CONFIG_NETS_MAX 8
#define CONFIG_DEVICES_MAX (CONFIG_DRIVES_MAX + CONFIG_NETS_MAX + 1) /* and a vsock */
#define CONFIG_FORWARDS_MAX 32					     /* ports of one network interface */
#define CONFIG_CMDLINE_MAX 2047 /* bytes; Linux on x86 takes COMMAND_LINE_SIZE - 1 */
#define CONFIG_PATH_MAX 4095	/* bytes: PATH_MAX without the NUL */
#define CONFIG_ID_MAX 63	/* bytes */
#define CONFIG_ARTIFACTS_MAX 16
#define CONFIG_TEXTS_MAX 64   /* of each list of names, addresses or ports */
#define CONFIG_DOMAIN_MAX 253 /* bytes of a name in DNS */
#define CONFIG_TMPFS_MAX 16
#define CONFIG_DISK_ID "disk" /* of the drive that --disk makes */
#define CONFIG_DISK_MIN (16ULL << 20)
#define CONFIG_DISK_MAX (4ULL << 40)
#define CONFIG_LIVE_MAX 16
#define CONFIG_SECRETS_MAX 16
#define CONFIG_SECRETS_BYTES_MAX (512 * KIB)		 /* of all together */
#define CONFIG_OWN_MAX 16				 /* volumes that are only in the guest */
#define CONFIG_IO_MAX_MAX 8				 /* devices with limits of a jail */
#define CONFIG_USER_MAX 127				 /* bytes */
#define CONFIG_UNTIL_MAX 128				 /* bytes */
#define CONFIG_CONTROL_MAX 107				 /* bytes: sun_path without the NUL */
#define CONFIG_TIMEOUT_MAX_MS (24ULL * 24 * 3600 * 1000) /* the largest timeout of poll(2) */
#define CONFIG_NO_LIMIT UINT64_MAX			 /* a time that the user has set to "none" */
#define CONFIG_BOOT_TIMEOUT_MS 30000U			 /* unless it is set, by an option or by */
#define CONFIG_BOOT_TIMEOUT_ENV "MAYFLY_BOOT_TIMEOUT"
#define CONFIG_BOOT_ENV "MAYFLY_BOOT"
#define CONFIG_SERIAL_MAX 20 /* bytes: VIRTIO_BLK_ID_BYTES */
#define CONFIG_MEM_MIN (16ULL << 20)
#define CONFIG_MEM_MAX (1ULL << 40)
#define CONFIG_LOG_MIN (128ULL << 10)
#define CONFIG_MEM_DEFAULT (128ULL << 20)
#define CONFIG_CID_DEFAULT 3
#define CONFIG_FILE_MAX (1ULL << 20) /* bytes of JSON */

enum config_entry { CONFIG_ENTRY_AUTO, CONFIG_ENTRY_LINUX64, CONFIG_ENTRY_PVH };

enum config_pull { CONFIG_PULL_MISSING, CONFIG_PULL_ALWAYS, CONFIG_PULL_NEVER };
/* The guest's clock after a restore: AUTO: it catches up, unless an init of ours sets it. */
enum config_clock { CONFIG_CLOCK_AUTO, CONFIG_CLOCK_STANDS, CONFIG_CLOCK_CATCHES_UP };

enum config_boot { CONFIG_BOOT_AUTO, CONFIG_BOOT_COLD, CONFIG_BOOT_TEMPLATE };

enum config_cache { CONFIG_CACHE_WRITEBACK, CONFIG_CACHE_UNSAFE };

struct config_drive {
	char *path;
	bool directory; /* path is a directory: the guest gets an image of it (image_pack.h); */
	bool tar;	/* or it is a tar archive, and the same; */
	bool file;	/* or a file, which is mounted as a file; */
	bool awaited;	/* restoring: a client brings it, when it claims the VM; no key */
	bool replaced;	/* restoring: it is not the snapshot's, so its identity is not checked; no key */
	char *image;	/* restoring: that of the snapshot, of which the drive gets a copy; or NULL; no key */
	char *base;	/* restoring: the layer of the snapshot, under the new one; or NULL; no key */
	uint64_t empty; /* or there is none: the guest gets an empty ext4 of so many bytes for its layers */
	char *id;	/* "drive0", ... when not given */
	char *serial;	/* or NULL */
	bool read_only;
	bool direct;
	enum config_cache cache;
	bool overlay;
	uint64_t overlay_size; /* bytes; 0: as large as the image */
	char *overlay_dir;     /* or NULL: in memory */
	char *mount;	       /* or NULL: where mayfly's init mounts it in the guest, */
	bool mount_read_only;  /* and whether it feels writable there */
	struct ratelimit_params bandwidth, ops;
};

/* Whether the guest gets an image that mayfly makes. */
static inline bool config_drive_is_made(const struct config_drive *d)
{
	return d->directory || d->tar || d->file || d->empty;
}

struct config_vsock {
	char *path;   /* or NULL: none */
	bool awaited; /* of a pool's member: its client brings the path */
	uint32_t cid;
};

struct config_list {
	char **text;
	unsigned num;
};

/* CONFIG_NET_NOTHING: of a VM that becomes a template. */
enum config_net_kind { CONFIG_NET_UNSET, CONFIG_NET_TAP, CONFIG_NET_FD, CONFIG_NET_USER, CONFIG_NET_NOTHING };

/*
 * What mayfly's init and passt give the guest of a user network. The IPv4 addresses are
 * QEMU's, which users know. The prefix of the IPv6 ones is a unique local one (RFC 4193).
 */
#define CONFIG_USER_IP "10.0.2.15/24"
#define CONFIG_USER_IP_OTHER "10.0.2.16/24" /* on a host that has the first itself */
#define CONFIG_USER_GATEWAY "10.0.2.2"
#define CONFIG_USER_DNS "10.0.2.3" /* passt forwards it to the host's resolver, as the next one */
#define CONFIG_USER_IP6 "fd6d:6179:666c::15/64"
#define CONFIG_USER_GATEWAY6 "fd6d:6179:666c::2"
#define CONFIG_USER_DNS6 "fd6d:6179:666c::3"

/* Consecutive ports of the host that passt forwards to as many of the guest. */
struct config_forward {
	char *text;			/* as the user wrote it */
	bool udp, published;		/* published: by --publish, not by the interface's SPEC */
	char address[INET6_ADDRSTRLEN]; /* of the host; "": all */
	unsigned host, guest, num;	/* host 0: helper/publish.h picks one */
};

struct config_net {
	enum config_net_kind kind;
	char *id;  /* "net0", ... when not given */
	char *tap; /* its name */
	int fd;
	bool awaited; /* of a pool's member: its client brings it */
	bool has_mac;
	uint8_t mac[NET_MAC_LEN];
	unsigned mtu;	      /* 0: not given */
	char *ip;	      /* or NULL: ADDRESS/PREFIX, IPv4, which mayfly's init gives the guest's interface; */
	char *gateway, *dns;  /* and these, or NULL; */
	char *ip6, *gateway6; /* the same for IPv6 */
	bool no_ra;	      /* derived: init sets ip6, and passt must not advertise a second address */
	struct config_forward forward[CONFIG_FORWARDS_MAX];
	unsigned num_forwards;
	struct config_list host;   /* of a user network: ports of the host's loopback that are open to the guest */
	struct net_limit limit[2]; /* by enum net_queue */
};

/* A path in the guest that is copied to a directory of the host at the end. */
struct config_artifact {
	char *guest, *host;
	uint64_t max_bytes; /* maximum size of its archive; 0: ARTIFACT_BYTES_DEFAULT */
	/*
	 * Of `mayfly cp` only: the name that it gets in host, or NULL for that of guest; existing directories are merged
	 * with those that arrive.
	 */
	const char *as;
	bool merge;
};

/* A directory of the host that the guest has as it is, by a server (vmm/helper/live.h). */
struct config_live {
	char *host;
	char *guest; /* path in the guest */
	bool read_only;
};

/* A file of the host that the guest finds as CONFIG_SECRETS_DIR/NAME, in memory. */
struct config_secret {
	char *name;
	char *path;    /* on the host */
	uint8_t *data; /* read by config_check */
	size_t len;
};

/* A tmpfs that is mounted in the guest. */
struct config_tmpfs {
	char *path;
	uint64_t size; /* bytes; 0: Linux's own limit, half of the guest's memory */
	unsigned mode; /* permissions */
};

enum config_tty { CONFIG_TTY_AUTO, CONFIG_TTY_ON, CONFIG_TTY_OFF };

/* The command that mayfly's init runs in the guest instead of the guest's own init. */
struct config_command {
	struct config_list args; /* none: no command */
	struct config_list env;	 /* NAME=VALUE */
	char *workdir;		 /* or NULL */
	char *user;		 /* or NULL: root; USER[:GROUP] */
	enum config_tty tty;	 /* AUTO: a terminal if mayfly has one */
	bool terminal;		 /* derived from tty; see config_complete_command */
	bool none;		 /* derived: args are a placeholder, for a snapshot of a guest that is ready */
	bool held;		 /* init waits until a client of the control socket says that it starts; no key */
	struct config_list groups, limits; /* numbers; N:SOFT:HARD, as loader/init/proto.h has them; no keys */
	unsigned umask_more;		   /* the umask and 1; 0: 022; no key */
	bool args_of_file;		   /* an argument on the command line replaces them all */
	size_t text_len;		   /* bytes of args and env in init_text_command */
};

/* Ids of users or groups; num 0: not given. */
struct config_ids {
	uint32_t first;
	uint64_t num;
};

struct config_jail {
	bool on;
	bool strict; /* a protection that is unavailable is an error */
	char *id;    /* or NULL: parent of the control group */
	struct config_ids uid, gid;
	char *cpu_max, *memory_max, *pids_max; /* or NULL; in the syntax of the control group's files */
	char *io_max[CONFIG_IO_MAX_MAX];
	unsigned num_io_max;
	uint64_t nofile, fsize; /* limits, or 0 */
};

/* What the process that runs the VM shares with the one that makes a template of its shape. */
struct config_template_link {
	atomic_bool started;			   /* the command runs */
	atomic_bool waits;			   /* init waits: a failure from here on is not the guest's */
	_Atomic uint64_t offered[CONFIG_NETS_MAX]; /* features of the network interfaces */
};

/* The template of a VM that runs a command (vmm/template/template.h). */
struct config_template {
	bool used; /* the VM is restored from one: restore_state and restore_memory are its files */
	bool made; /* the VM becomes one, in these files: */
	int state_fd, memory_fd;
	struct config_template_link *link; /* or NULL: no process of vmm/template works beside this VM */
	int record_fd;			   /* with link and used: closed when the command has started, or the VM ends */
	char *cold;			   /* why the VM boots, or NULL */
};

struct config {
	char *kernel;
	char *initrd;  /* or NULL */
	char *append;  /* or NULL: added to the composed command line */
	char *cmdline; /* or NULL: replaces it */
	enum config_entry entry;
	unsigned cpus;
	uint64_t mem; /* bytes, a multiple of 4 KiB */
	struct config_drive drive[CONFIG_DRIVES_MAX];
	unsigned num_drives;
	struct config_drive rootfs; /* until config_check, which makes it the first drive; path NULL: no root */
	char *image;	       /* or NULL: the name of a container's image, which becomes the root (image/image.h) */
	enum config_pull pull; /* whether it is fetched */
	char *entrypoint;      /* or NULL: in place of the image's; "": none */
	int stop_signal;       /* what asks the guest's processes to end; 0: SIGTERM */
	bool publish_all;      /* the ports that it exposes */
	struct config_vsock vsock;
	struct config_net net[CONFIG_NETS_MAX];
	unsigned num_nets;
	bool no_net;		    /* "none" was the last that was said about them */
	struct config_list publish; /* ports, as config_forward_parse reads them */
	struct config_list dns, dns_search, add_host;
	struct config_list allow, deny; /* nets and ports, for all user networks; config_walls.h */
	struct config_command command;
	struct config_artifact artifact[CONFIG_ARTIFACTS_MAX];
	unsigned num_artifacts;
	struct config_secret secret[CONFIG_SECRETS_MAX];
	unsigned num_secrets;
	struct config_tmpfs tmpfs[CONFIG_TMPFS_MAX];
	unsigned num_tmpfs;
	struct config_list
		sysctl; /* of the guest's kernel, as loader/init/proto.h has them; no key, nor have the next two */
	uint64_t threads_max;	   /* that may run at once in the guest; 0: the kernel's limit */
	bool root_read_only;	   /* for commands, whatever the drive is */
	bool all_root;		   /* all files of packed directories and archives belong to root */
	char *own[CONFIG_OWN_MAX]; /* paths in the guest of volumes that are empty, and end with it */
	unsigned num_own;
	struct config_live live[CONFIG_LIVE_MAX];
	unsigned num_live;
	uint64_t disk;	       /* bytes of a drive for layers and /tmp; 0: they are in the guest's memory */
	uint64_t scratch;      /* bytes that all layers, /tmp, /run and /dev/shm may take in memory; 0: not given */
	uint64_t artifact_max; /* of each; bytes, or 0: not given */
	uint64_t timeout_ms;   /* or 0: none */
	/* From the guest's first instruction to the start of the command: 0: no command; or CONFIG_NO_LIMIT. */
	uint64_t boot_timeout_ms;
	char *snapshot; /* or NULL: the directory of the snapshot with which the run ends; */
	char *until;	/* and when it is taken, or NULL: at the command's end; see config_until */
	char *name;	/* or NULL: the guest's host name, and where `mayfly exec` finds it */
	char *hostname; /* or NULL: the name; no key */
	char *control;	/* or NULL: the path of that socket */
	bool console;	/* the guest's console goes to stderr while a command has stdin and stdout */
	enum loop_engine io_engine;
	enum seccomp_policy seccomp;
	enum log_level log_level;
	char *log_file; /* or NULL: stderr */
	bool time;
	char *timeline_file; /* or NULL: none */
	const char *pool;    /* or NULL: the VM waits for a client of that pool; not owned; no key */
	bool pool_runs;	     /* and its guest runs meanwhile; no key */
	int ready_fd;	     /* or 0: gets a NUL when the guest is ready, and the message at the end; no key */
	bool detach;	     /* runs in the background; */
	uint64_t log_max;    /* the log of that has so many bytes at most; 0: not given */
	bool remove;	     /* the record goes at the end */
	char *result_file;   /* or NULL: none */
	char *restore_state, *restore_memory; /* or NULL: the files of a snapshot, from which the VM is made; no keys */
	char *restore_parent;		      /* or NULL: the directory of that snapshot's parent, if it has one */
	bool restore_merged;		      /* that memory is complete, whatever the state says */
	struct chain *restore_chain;	      /* or NULL: all of its files, open (vmm/snapshot/chain.h); not owned */
	struct restore_host *restore_host; /* or NULL: what was asked of KVM for that (vmm/vm/vm_state.h); not owned */
	enum config_clock restore_clock;   /* no key */
	bool restore_served;		   /* restore_memory is the socket of a page server (page_server.h); no key */
	struct workingset *restore_workingset; /* or NULL: what it will need (vmm/snapshot/workingset.h); not owned */
	bool restore_command;		       /* the command is not that of the snapshot, which goes on beside it */
	bool api; /* of Firecracker's API: if its command has ended, a VM goes on, for further ones; no key */
	bool forkable; /* `mayfly clone NAME` shares its memory as it is then (vmm/vm/vm_fork.h); restored VMs have that, too */
	enum config_boot boot;
	struct config_template template; /* no key */
	bool dry_run;
	/* Of Firecracker's API; no keys. */
	bool keyboard;			      /* that types Ctrl+Alt+Del */
	bool boot_timer;		      /* its page of MMIO */
	char *serial_out;		      /* or NULL: the serial output's file is stdout */
	struct ratelimit_params serial_limit; /* what is beyond it is dropped */
	const struct config_cpu *cpu;	      /* or NULL: no CPU template; not owned */
	struct config_jail jail;
};

/* Defaults: 1 vCPU, 128 MiB, warnings to stderr, nothing else. */
void config_init(struct config *c);
void config_done(struct config *c);

/*
 * Sets a key of the configuration itself (config_fields.c) from text, as the option with
 * that key does; a list gets one more entry. "drives" takes a drive's SPEC. Returns 0, or
 * a negative errno with e set to the accepted values ("must be 1 to 32"); the caller puts
 * the name in front. The key must exist.
 */
int config_set(struct config *c, const char *key, const char *text, struct err *e);

/* A directory of the host becomes the root, live and writable, in place of rootfs. Returns 0 or -errno with e set. */
int config_set_live_root(struct config *c, const char *host, struct err *e);

/*
 * Sets cmd->terminal from tty. For CONFIG_TTY_AUTO, it depends on whether stdin and
 * stdout are terminals. Called by config_check, and by `mayfly exec`, which has a command
 * and no VM.
 */
void config_complete_command(struct config_command *cmd);

/* Takes the command's words and environment out of the configuration; config_texts_done frees them. */
void config_take_command(struct config *c, struct config_list *ret_args, struct config_list *ret_env);

/* When the snapshot of c->snapshot is taken. */
enum config_until {
	CONFIG_UNTIL_NONE,  /* not a valid c->until */
	CONFIG_UNTIL_READY, /* the command has ended with status 0; there is none: mayfly's init takes commands */
	CONFIG_UNTIL_TEXT,  /* *ret_text, which is a part of c->until, was printed */
	CONFIG_UNTIL_TIME,  /* *ret_ms after the guest's first instruction */
};

enum config_until config_until(const struct config *c, const char **ret_text, uint64_t *ret_ms);

/* The last component of the guest's path: "." for "/". Slashes may follow it. */
const char *config_artifact_name(const struct config_artifact *a);

/* How many virtio devices there are: drives, then network interfaces, then the vsock. */
unsigned config_num_devices(const struct config *c);

/*
 * Whether there is a vsock: requested by the user, or needed to talk to the init that
 * runs the command.
 */
bool config_has_vsock(const struct config *c);

/*
 * Reads a JSON file into c: its values replace those of c, and its drives and networks
 * are added. Returns 0 or -errno. e names file, line and column for a syntax error, and
 * file and key for an unknown key or a wrong type. c may then be partly set; config_done
 * accepts it.
 */
int config_read_file(struct config *c, const char *path, struct err *e);

/* Reads len bytes of text the same way; messages use name for the file. */
int config_read_text(struct config *c, const char *text, size_t len, const char *name, struct err *e);

/* The text of such a file, terminated, which the caller frees. Returns 0 or -errno with e set, which names the file. */
int config_load_text(char **ret, size_t *ret_len, const char *path, struct err *e);

/*
 * Checks the rules between the parts, before a VM is built from it. Fills in the default
 * kernel. Returns 0 or -errno.
 */
int config_check(struct config *c, struct err *e);

/* The same for what a client has added to a configuration that is checked: the name, and what is said of the command. */
int config_check_claim(struct config *c, struct err *e);

/*
 * Makes the kernel a file's path: that of "microvm" or "minimal", which are looked up as
 * config_find_file does. If there is none, it is $MAYFLY_KERNEL, which may be such a name,
 * or vmlinux, or microvm. Returns 0 or -errno.
 */
int config_find_kernel(struct config *c, struct err *e);

/*
 * Finds the file of that name beside mayfly, in ../share/mayfly from there, or in
 * /usr/share/mayfly. Returns a new string, or NULL.
 */
char *config_find_file(const char *name);

/* The resolved configuration as JSON, in the form config_read_file takes, flushed. Returns 0 or -errno with e set. */
int config_print(const struct config *c, FILE *out, struct err *e);

#define CONFIG_RUN_DIR "mayfly"		/* in /run or $XDG_RUNTIME_DIR */
#define CONFIG_OWN_DIR "/tmp/mayfly-%u" /* where neither exists: of this user */
#define CONFIG_OWN_DIR_MAX 32

/*
 * Finds the path of the control socket of name. For root it is in /run/mayfly. For other
 * users, and if root may not write there, it is in $XDG_RUNTIME_DIR/mayfly,
 * /run/user/UID/mayfly or /tmp/mayfly-UID: the first that can be made and is short enough
 * for a socket's name. Returns 0 and the path in *ret, which the caller frees, or -errno
 * with e set.
 */
int config_control_path(char **ret, const char *name, struct err *e);

/* The directory of such sockets; for one with a long name, it may be another. The caller frees it. */
int config_run_dir(char **ret, struct err *e);

/* Whether dir is one of these: only its owner may have rights there. */
bool config_is_control_dir(const char *dir);

#endif
