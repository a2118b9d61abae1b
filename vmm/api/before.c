/*
 * The endpoints that configure a VM before it starts. Each request is checked as far as it
 * can be by itself; a request of the same kind, or id, replaces the earlier one.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/api/state.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config_field.h"

#define BOOT_ARGS_MAX 2047 /* bytes, as in Firecracker */

/* Moves a struct with its strings: from is then empty. */
#define TAKE(object, to, from)                                                                                         \
	do {                                                                                                           \
		api_done(&(object), (to));                                                                             \
		*(to) = *(from);                                                                                       \
		memset((from), 0, sizeof(*(from)));                                                                    \
	} while (0)

static int check_machine(const struct api_machine *m, struct api_answer *answer)
{
	if (m->vcpu_count < 1 || m->vcpu_count > CONFIG_CPUS_MAX ||
	    (m->smt && m->vcpu_count > 1 && m->vcpu_count % 2)) {
		api_answer_fault(answer,
				 "Machine config error: The number of vCPUs must be greater than 0, less than 32 "
				 "and must be 1 or an even number if SMT is enabled.");
		return -EINVAL;
	}
	if (!m->mem_size_mib || (m->huge_pages != API_HUGE_NONE && m->mem_size_mib % 2)) {
		api_answer_fault(answer,
				 "Machine config error: The memory size (MiB) is either 0, or not a multiple of "
				 "the configured page size.");
		return -EINVAL;
	}
	return 0;
}

/* A template stays until another one is given; "None" is none. */
static void keep_machine(struct api *a, const struct api_machine *m)
{
	a->machine = *m;
	api_set_given(&api_machine, &a->machine, "cpu_template", m->cpu_template);
}

void api_put_machine(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	struct api_machine *m = body;

	(void)id;
	if (check_machine(m, answer) < 0)
		return;
	if (!api_has(&api_machine, m, "cpu_template"))
		m->cpu_template = a->machine.cpu_template;
	keep_machine(a, m);
	api_answer_done(answer);
}

void api_patch_machine(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	struct api_machine changed = a->machine, *m = body;

	(void)id;
	if (api_has(&api_machine, m, "vcpu_count"))
		changed.vcpu_count = m->vcpu_count;
	if (api_has(&api_machine, m, "mem_size_mib"))
		changed.mem_size_mib = m->mem_size_mib;
	if (api_has(&api_machine, m, "smt"))
		changed.smt = m->smt;
	if (api_has(&api_machine, m, "cpu_template"))
		changed.cpu_template = m->cpu_template;
	if (api_has(&api_machine, m, "track_dirty_pages"))
		changed.track_dirty_pages = m->track_dirty_pages;
	if (api_has(&api_machine, m, "huge_pages"))
		changed.huge_pages = m->huge_pages;
	changed.given.bits |= m->given.bits;
	if (check_machine(&changed, answer) < 0)
		return;
	keep_machine(a, &changed);
	api_answer_done(answer);
}

/* Whether a file can be opened that way. Whether it is of use is found out at the start. Returns 0 or -errno. */
static int try_file(const char *path, int flags)
{
	MF_CLOSE int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd < 0 ? -errno : 0;
}

void api_put_boot_source(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	struct api_boot_source *b = body;
	int r = try_file(b->kernel_image_path, O_RDONLY);

	(void)id;
	if (r < 0) {
		api_answer_fault(answer, "Boot source error: The kernel file cannot be opened: %s (os error %d)",
				 strerror(-r), -r);
		return;
	}
	r = b->initrd_path ? try_file(b->initrd_path, O_RDONLY) : 0;
	if (r < 0) {
		api_answer_fault(answer,
				 "Boot source error: The initrd file cannot be opened due to invalid path or invalid "
				 "permissions. %s (os error %d)",
				 strerror(-r), -r);
		return;
	}
	if (b->boot_args && strlen(b->boot_args) > BOOT_ARGS_MAX) {
		api_answer_fault(answer,
				 "Boot source error: The kernel command line is invalid: Invalid cmdline capacity "
				 "provided: it has more than %d bytes.",
				 BOOT_ARGS_MAX);
		return;
	}
	TAKE(api_boot_source, &a->boot_source, b);
	api_answer_done(answer);
}

struct api_drive *api_find_drive(struct api *a, const char *id)
{
	for (unsigned i = 0; i < a->num_drives; i++)
		if (!strcmp(a->drive[i].drive_id, id))
			return &a->drive[i];
	return NULL;
}

static bool check_drive(struct api *a, const struct api_drive *d, struct api_answer *answer)
{
	int r;

	if (!d->path_on_host || d->socket) {
		api_answer_fault(answer, "Drive config error: Unable to create the virtio block device: %s",
				 d->socket ? "mayfly has no vhost-user devices." : "Invalid block config.");
		return false;
	}
	if (d->is_root_device && a->num_drives && a->drive[0].is_root_device &&
	    strcmp(a->drive[0].drive_id, d->drive_id) != 0) {
		api_answer_fault(answer, "Drive config error: A root block device already exists!");
		return false;
	}
	r = try_file(d->path_on_host, d->is_read_only ? O_RDONLY : O_RDWR);
	if (r < 0)
		api_answer_fault(answer,
				 "Drive config error: Unable to create the virtio block device: Virtio backend error: "
				 "Error manipulating the backing file: %s (os error %d) %s",
				 strerror(-r), -r, d->path_on_host);
	return r == 0;
}

/* Puts the drive into the list: in the place of that with the same id, and a root first. */
static void place_drive(struct api *a, struct api_drive *d)
{
	struct api_drive *old = api_find_drive(a, d->drive_id);
	unsigned i = old ? (unsigned)(old - a->drive) : a->num_drives++;

	TAKE(api_drive, &a->drive[i], d);
	if (i > 0 && a->drive[i].is_root_device) {
		struct api_drive root = a->drive[i];

		memmove(&a->drive[1], &a->drive[0], i * sizeof(root));
		a->drive[0] = root;
	}
}

void api_put_drive(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	struct api_drive *d = body;

	if (!check_drive(a, d, answer))
		return;
	if (!api_find_drive(a, id) && a->num_drives == CONFIG_DRIVES_MAX) {
		api_answer_fault(answer, "Drive config error: there can be at most %d drives", CONFIG_DRIVES_MAX);
		return;
	}
	api_trim_limiter(&api_drive, d, "rate_limiter", &d->rate_limiter);
	place_drive(a, d);
	api_answer_done(answer);
}

struct api_net *api_find_net(struct api *a, const char *id)
{
	for (unsigned i = 0; i < a->num_nets; i++)
		if (!strcmp(a->net[i].iface_id, id))
			return &a->net[i];
	return NULL;
}

static bool check_net(const struct api *a, const struct api_net *n, struct api_answer *answer)
{
	for (unsigned i = 0; i < a->num_nets; i++) {
		const struct api_net *other = &a->net[i];

		if (n->guest_mac && other->guest_mac && strcmp(other->iface_id, n->iface_id) != 0 &&
		    !strcasecmp(other->guest_mac, n->guest_mac)) {
			api_answer_fault(answer, "Network config error: The MAC address is already in use: %s",
					 n->guest_mac);
			return false;
		}
		if (strcmp(other->iface_id, n->iface_id) != 0 && !strcmp(other->host_dev_name, n->host_dev_name)) {
			api_answer_fault(answer,
					 "Network config error: Could not create the network device: Open tap "
					 "device failed: %s is the device of another interface: Device or "
					 "resource busy (os error 16)",
					 n->host_dev_name);
			return false;
		}
	}
	if (!api_is_tap(n->host_dev_name)) {
		api_answer_fault(answer,
				 "Network config error: Could not create the network device: Open tap device failed: "
				 "Invalid interface name");
		return false;
	}
	if (api_has(&api_net, n, "mtu") && n->mtu < NET_MTU_MIN) {
		api_answer_fault(answer,
				 "Network config error: Could not create the network device: MTU %llu is out of range "
				 "[%u, %u]",
				 (unsigned long long)n->mtu, NET_MTU_MIN, NET_MTU_MAX);
		return false;
	}
	return true;
}

void api_put_net(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	struct api_net *n = body, *old;

	if (!check_net(a, n, answer))
		return;
	old = api_find_net(a, id);
	if (!old && a->num_nets == CONFIG_NETS_MAX) {
		api_answer_fault(answer, "Network config error: there can be at most %d interfaces", CONFIG_NETS_MAX);
		return;
	}
	for (char *c = n->guest_mac; c && *c; c++)
		*c = (char)tolower((unsigned char)*c);
	api_trim_limiter(&api_net, n, "rx_rate_limiter", &n->rx_rate_limiter);
	api_trim_limiter(&api_net, n, "tx_rate_limiter", &n->tx_rate_limiter);
	/* As in Firecracker, one that is replaced becomes the last: the guest's order changes. */
	if (old) {
		api_done(&api_net, old);
		memmove(old, old + 1, (size_t)(&a->net[--a->num_nets] - old) * sizeof(*old));
	}
	a->net[a->num_nets++] = *n;
	memset(n, 0, sizeof(*n));
	api_answer_done(answer);
}

/* The socket listens from here on, and so does the VM's: clients connect before the guest runs. */
void api_put_vsock(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	struct api_vsock *v = body;
	struct err e;

	(void)id;
	unix_socket_done(&a->vsock_socket);
	a->vsock_socket = UNIXNAME_INIT;
	api_done(&api_vsock, &a->vsock);
	if (unix_socket_listen(&a->vsock_socket, v->uds_path, SOCK_STREAM, &e) < 0) {
		api_answer_fault(answer, "Vsock config error: Cannot create backend for vsock device: %s", e.text);
		unix_socket_done(&a->vsock_socket); /* what it has of the body goes with that */
		a->vsock_socket = UNIXNAME_INIT;
		return;
	}
	TAKE(api_vsock, &a->vsock, v); /* the socket keeps its path */
	api_answer_done(answer);
}

/* The file is opened when the VM starts, as in Firecracker. */
void api_put_serial(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	struct api_serial *s = body;

	(void)id;
	TAKE(api_serial, &a->serial, s);
	api_answer_done(answer);
}

/* A log, or metrics: a FIFO that nobody reads is not waited for. Returns the descriptor or -errno. */
static int open_output(const char *path)
{
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);

	return fd < 0 ? -errno : fd;
}

static bool find_level(const char *text, enum log_level *ret)
{
	static const struct {
		const char *name;
		enum log_level level;
	} levels[] = {
		{ "Off", LOG_LEVEL_ERROR },    { "Error", LOG_LEVEL_ERROR }, { "Warn", LOG_LEVEL_WARN },
		{ "Warning", LOG_LEVEL_WARN }, { "Info", LOG_LEVEL_INFO },   { "Debug", LOG_LEVEL_DEBUG },
		{ "Trace", LOG_LEVEL_DEBUG },
	};

	for (size_t i = 0; i < MF_ARRAY_SIZE(levels); i++) {
		if (!strcasecmp(levels[i].name, text)) {
			*ret = levels[i].level;
			return true;
		}
	}
	return false;
}

bool api_is_level(const char *text)
{
	enum log_level level;

	return find_level(text, &level);
}

void api_put_logger(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	struct api_logger *l = body;
	enum log_level level = LOG_LEVEL_INFO;
	int fd = -1;

	(void)id;
	if (l->level)
		(void)find_level(l->level, &level); /* it is one, or it had not been read */
	if (l->log_path)
		fd = open_output(l->log_path);
	if (l->log_path && fd < 0) {
		api_answer_fault(answer, "Logger error: Failed to open target file: %s (os error %d)", strerror(-fd),
				 -fd);
		return;
	}
	log_setup(level, fd);
	if (api_has(&api_logger, l, "show_level"))
		a->show_level = l->show_level;
	if (api_has(&api_logger, l, "show_log_origin"))
		a->show_origin = l->show_log_origin;
	log_use_id(a->id, a->show_level, a->show_origin);
	if (fd >= 0) {
		if (a->log_fd >= 0)
			close(a->log_fd);
		a->log_fd = fd;
	}
	api_answer_done(answer);
}

void api_put_metrics(struct api *a, const char *id, void *body, struct api_answer *answer)
{
	static const char prefix[] = "Metrics error: Cannot initialize the metrics system due to bad user input";
	struct api_metrics *m = body;
	int fd;

	(void)id;
	if (a->metrics_fd >= 0) {
		api_answer_fault(answer, "%s: Reinitialization of metrics not allowed.", prefix);
		return;
	}
	fd = open_output(m->metrics_path);
	if (fd < 0) {
		api_answer_fault(answer, "%s: %s (os error %d)", prefix, strerror(-fd), -fd);
		return;
	}
	a->metrics_fd = fd;
	a->emit_id = m->emit_id;
	a->properties = m->properties;
	m->properties = NULL;
	if (a->http)
		http_set_tick(a->http, API_METRICS_EVERY_MS);
	api_answer_done(answer);
}
