/* From an interface in the configuration to its device. */
#ifndef MF_VM_NET_BUILD_H
#define MF_VM_NET_BUILD_H

#include <netinet/in.h>
#include <stdint.h>

#include "virtio/net.h"

struct config;
struct config_net;
struct err;
struct loop;
struct mem;
struct virtio_dev;

struct net_build {
	const struct config *config;
	const struct config_net *net; /* one of config */
	int passt_fd;		      /* the socket of its passt, or -1 */
	const struct in6_addr *own;   /* addresses of the host, which a user network does not reach */
	unsigned num_own;
	uint64_t offered; /* of CONFIG_NET_NOTHING: the features */
	struct loop *loop;
	const struct mem *mem;
};

/*
 * Makes the device. Owns passt_fd from here on, even on failure. Returns 0 or -errno with e set. Before the loop runs.
 */
int net_build(struct virtio_dev **ret, const struct net_build *b, struct err *e);

/*
 * The address of an interface that was given none: locally administered, and the same in every
 * run.
 */
void net_build_mac(uint8_t mac[NET_MAC_LEN], const struct config_net *n);

#endif
