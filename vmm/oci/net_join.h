/*
 * The network of a container: the namespace that the engine has made, with an interface and its addresses.
 *
 * The guest takes that interface's place. A tap is made beside it, and all frames that come in at either are sent out at the
 * other (tc's mirred), before the host's own stack sees them. The guest has the interface's MAC and IP addresses, so whatever
 * leads to the container leads to the guest: published ports, names, other containers. IPv6 addresses are not handed over.
 */
#ifndef MF_OCI_NET_JOIN_H
#define MF_OCI_NET_JOIN_H

#include <netinet/in.h>
#include <stdint.h>

struct config;
struct err;

#define NET_JOIN_TAP "mayfly0"

/* The interface as it was found. */
struct net_join {
	char name[16];
	int index;
	uint8_t mac[6];
	unsigned mtu;
	char ip[INET_ADDRSTRLEN + 4], gateway[INET_ADDRSTRLEN]; /* "": none */
};

/* Moves this process to the namespace at path. Returns 0 or -errno with e set. */
int net_join_enter(const char *path, struct err *e);

/*
 * In the namespace: takes the first interface that is up and has an IPv4 address, and gives it to the guest of c. Without one
 * there is no network. Returns 0 or -errno with e set.
 */
int net_join_take(struct config *c, struct err *e);

/* The default gateway in the text of /proc/net/route, or "" for none. */
void net_join_gateway(char gateway[INET_ADDRSTRLEN], const char *routes, const char *interface);

#endif
