/* From what the API's client has configured to mayfly's own configuration. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/api/state.h"
#include "vmm/base/err.h"
#include "vmm/config/config_field.h"

/* Firecracker's, if the client gives none. */
#define BOOT_ARGS_DEFAULT                                                                                              \
	"reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce"

/* As in Firecracker, a time that is too long to count in nanoseconds is no limit either. */
static bool limits(const struct api_bucket *b)
{
	return b->size && b->refill_time && b->refill_time <= UINT64_MAX / 1000000;
}

void api_trim_limiter(const struct api_object *object, void *of, const char *key, struct api_limiter *l)
{
	if (!limits(&l->bandwidth))
		api_set_given(&api_limiter, l, "bandwidth", false);
	if (!limits(&l->ops))
		api_set_given(&api_limiter, l, "ops", false);
	api_set_given(object, of, key, l->given.bits);
}

struct ratelimit_params api_limit_of(const struct api_bucket *b)
{
	if (!limits(b))
		return (struct ratelimit_params){ 0 };
	return (struct ratelimit_params){ .size = b->size,
					  .one_time_burst = b->one_time_burst,
					  .refill_ms = b->refill_time };
}

static int copy(char **to, const char *text, struct err *e)
{
	if (!text)
		return 0;
	free(*to);
	*to = strdup(text);
	return *to ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static int build_drive(struct config *config, const struct api_drive *from, struct err *e)
{
	struct config_drive *d = &config->drive[config->num_drives++];

	d->read_only = from->is_read_only;
	d->cache = from->cache_type == API_CACHE_WRITEBACK ? CONFIG_CACHE_WRITEBACK : CONFIG_CACHE_UNSAFE;
	d->bandwidth = api_limit_of(&from->rate_limiter.bandwidth);
	d->ops = api_limit_of(&from->rate_limiter.ops);
	return copy(&d->path, from->path_on_host, e) < 0 ? e->code : copy(&d->id, from->drive_id, e);
}

int api_build_tap(struct config_net *n, const struct api_net *from, struct err *e)
{
	if (!api_is_tap(from->host_dev_name))
		return err_set(e, -EINVAL, "net '%s': host_dev_name '%.40s' is no name of an interface", from->iface_id,
			       from->host_dev_name);
	n->kind = CONFIG_NET_TAP;
	return copy(&n->tap, from->host_dev_name, e);
}

static int build_net(struct config *config, const struct api_net *from, struct err *e)
{
	const struct config_field *mac = config_find_field(config_net_fields, "mac");
	struct config_net *n = &config->net[config->num_nets++];

	n->mtu = (unsigned)from->mtu;
	n->limit[NET_RX] = (struct net_limit){ .bytes = api_limit_of(&from->rx_rate_limiter.bandwidth),
					       .ops = api_limit_of(&from->rx_rate_limiter.ops) };
	n->limit[NET_TX] = (struct net_limit){ .bytes = api_limit_of(&from->tx_rate_limiter.bandwidth),
					       .ops = api_limit_of(&from->tx_rate_limiter.ops) };
	if (from->guest_mac && mac->type->set(n, mac, from->guest_mac, e) < 0)
		return e->code;
	return api_build_tap(n, from, e) < 0 ? e->code : copy(&n->id, from->iface_id, e);
}

/* The words of the client, and those that Firecracker adds. The devices are added where the guest boots. */
static int build_cmdline(const struct api *a, struct config *config, struct err *e)
{
	const char *words = a->boot_source.boot_args ? a->boot_source.boot_args : BOOT_ARGS_DEFAULT;
	const struct api_drive *root = a->num_drives && a->drive[0].is_root_device ? &a->drive[0] : NULL;
	char text[CONFIG_CMDLINE_MAX + 1], device[80] = "";
	const char *init = strstr(words, " -- "); /* what follows is for the guest's init */
	int len, own = (int)(init ? init - words : (ptrdiff_t)strlen(words));

	if (root && root->partuuid)
		snprintf(device, sizeof(device), " root=PARTUUID=%.40s %s", root->partuuid,
			 root->is_read_only ? "ro" : "rw");
	else if (root)
		snprintf(device, sizeof(device), " root=/dev/vda %s", root->is_read_only ? "ro" : "rw");
	len = snprintf(text, sizeof(text), "%.*s pci=off%s%s", own, words, device, init ? init : "");
	if (len < 0 || (size_t)len >= sizeof(text))
		return err_set(e, -E2BIG, "the kernel command line has more than %d bytes", CONFIG_CMDLINE_MAX);
	return copy(&config->cmdline, text, e);
}

int api_build_load(const struct api *a, struct config *config, struct err *e)
{
	const struct api_snapshot_load *l = &a->load.params;
	bool backend = api_has(&api_snapshot_load, l, "mem_backend");

	config->restore_clock = l->clock_realtime ? CONFIG_CLOCK_CATCHES_UP : CONFIG_CLOCK_STANDS;
	config->restore_merged = true; /* clients merge a Diff with what it belongs to before they load it */
	config->restore_served = backend && l->mem_backend.backend_type == API_BACKEND_UFFD;
	if (copy(&config->restore_state, l->snapshot_path, e) < 0)
		return e->code;
	return copy(&config->restore_memory, backend ? l->mem_backend.backend_path : l->mem_file_path, e);
}

static int build_boot(const struct api *a, struct config *config, struct err *e)
{
	if (!a->boot_source.kernel_image_path)
		return err_set(e, -EINVAL, "Cannot start microvm without kernel configuration.");
	if (a->machine.mem_size_mib > CONFIG_MEM_MAX >> 20)
		return err_set(e, -ENOMEM, "the guest can have %llu MiB of memory at most",
			       (unsigned long long)CONFIG_MEM_MAX >> 20);
	if (copy(&config->kernel, a->boot_source.kernel_image_path, e) < 0 ||
	    copy(&config->initrd, a->boot_source.initrd_path, e) < 0)
		return e->code;
	return build_cmdline(a, config, e);
}

int api_build_config(const struct api *a, struct config *config, struct err *e)
{
	int r = a->load.asked ? 0 : build_boot(a, config, e); /* a snapshot has the kernel in memory */

	if (a->own)
		return 0; /* api_load_config has done it */
	config->cpus = (unsigned)a->machine.vcpu_count;
	config->keyboard = true;
	config->cpu = &a->cpu;
	config->boot_timer = a->boot_timer;
	config->serial_limit = api_limit_of(&a->serial.rate_limiter);
	config->mem = a->machine.mem_size_mib << 20;
	if (!r)
		r = copy(&config->serial_out, a->serial.serial_out_path, e);
	for (unsigned i = 0; !r && i < a->num_drives; i++) {
		config->drive[config->num_drives].replaced = (a->missing | a->replaced) >> i & 1;
		r = build_drive(config, &a->drive[i], e);
	}
	for (unsigned i = 0; !r && i < a->num_nets; i++)
		r = build_net(config, &a->net[i], e);
	if (!r && a->vsock.uds_path) {
		config->vsock.cid = (uint32_t)a->vsock.guest_cid;
		r = copy(&config->vsock.path, a->vsock.uds_path, e);
	}
	return r;
}
