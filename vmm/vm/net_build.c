/* From an interface in the configuration to its device; see net_build.h. */
#include "vmm/vm/net_build.h"

#include <endian.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "virtio/net.h"
#include "virtio/net_backend.h"
#include "virtio/net_filter.h"
#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_walls.h"

static uint64_t net_build_hash(uint64_t hash, const char *text)
{
	/* FNV-1a, with the NUL. */
	do
		hash = (hash ^ (uint8_t)*text) * 0x100000001b3ULL;
	while (*text++);
	return hash;
}

/*
 * A hash of the interface's id and the tap's name. The name keeps two VMs on one bridge apart whose interfaces have the same id.
 */
void net_build_mac(uint8_t mac[NET_MAC_LEN], const struct config_net *n)
{
	struct ifreq req = { .ifr_flags = 0 };
	uint64_t hash = net_build_hash(0xcbf29ce484222325ULL, n->id);

	if (n->kind == CONFIG_NET_TAP)
		hash = net_build_hash(hash, n->tap);
	else if (n->kind == CONFIG_NET_FD && ioctl(n->fd, TUNGETIFF, &req) == 0)
		hash = net_build_hash(hash, req.ifr_name);
	for (unsigned i = 0; i < NET_MAC_LEN; i++)
		mac[i] = (uint8_t)(hash >> 8 * i);
	mac[0] = (mac[0] & 0xfcU) | 2U;
}

/* A backend on the passt of a user network, with the walls of its guest. */
static int net_build_user(struct net_backend **ret, const struct net_build *b, struct err *e)
{
	MF_FREE struct config_walls *walls = calloc(1, sizeof(*walls));
	struct net_filter_params params = { .id = b->net->id, .own = b->own, .num_own = b->num_own };
	struct net_filter *filter;

	if (!walls) {
		close(b->passt_fd);
		return err_set(e, -ENOMEM, "out of memory");
	}
	config_walls_collect(walls, b->config, b->net);
	params.rules = walls->rule;
	params.num_rules = walls->num;
	for (unsigned i = 0; i < b->net->num_forwards; i++)
		params.answers |= b->net->forward[i].udp;
	if (net_filter_new(&filter, &params, e) < 0) {
		close(b->passt_fd);
		return e->code;
	}
	return net_passt_open(ret, b->passt_fd, filter, b->loop, e);
}

static int net_build_backend(struct net_backend **ret, const struct net_build *b, struct err *e)
{
	switch (b->net->kind) {
	case CONFIG_NET_TAP:
		return net_tap_open(ret, b->net->tap, b->loop, e);
	case CONFIG_NET_FD:
		return net_fd_open(ret, b->net->fd, b->loop, e);
	case CONFIG_NET_USER:
		return net_build_user(ret, b, e);
	case CONFIG_NET_NOTHING:
		return net_nothing_open(ret, b->offered, e);
	case CONFIG_NET_UNSET:
		break;
	}
	return err_set(e, -EINVAL, "it has no kind");
}

/*
 * passt learns the guest's MAC from its first frame; until then it cannot deliver connections to forwarded ports. A guest
 * that only listens sends none, so we send one in its name, of the EtherType for local experiments, to which passt does not reply.
 * The socket is new: the write neither blocks nor lands inside another frame.
 */
static int net_build_introduce(int passt_fd, const uint8_t mac[NET_MAC_LEN], struct err *e)
{
	struct {
		uint32_t len;
		struct ethhdr eth;
		uint8_t zero[ETH_ZLEN - sizeof(struct ethhdr)];
	} __attribute__((packed)) frame = {
		.len = htobe32(ETH_ZLEN),
		.eth = { .h_dest = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, .h_proto = htobe16(ETH_P_802_EX1) },
	};
	int r;

	memcpy(frame.eth.h_source, mac, sizeof(frame.eth.h_source));
	r = fdio_write_all(passt_fd, &frame, sizeof(frame));
	/* A passt that has exited is reported with what it wrote to stderr. */
	return r == 0 || r == -EPIPE || r == -ECONNRESET ? 0 : err_neg(e, r, "write to passt");
}

int net_build(struct virtio_dev **ret, const struct net_build *b, struct err *e)
{
	const struct config_net *n = b->net;
	struct net_params params = { .id = n->id, .mtu = (uint16_t)n->mtu, .own_mac = b->config->template.used };
	struct net_backend *backend;

	if (n->has_mac)
		memcpy(params.mac, n->mac, sizeof(params.mac));
	else
		net_build_mac(params.mac, n);
	memcpy(params.limit, n->limit, sizeof(params.limit));
	if (n->kind == CONFIG_NET_USER && net_build_introduce(b->passt_fd, params.mac, e) < 0) {
		close(b->passt_fd);
		return err_wrap(e, "net '%s'", n->id);
	}
	if (net_build_backend(&backend, b, e) < 0)
		return err_wrap(e, "net '%s'", n->id);
	return net_new(ret, &params, backend, b->loop, b->mem, e);
}
