/*
 * The network of a container: the namespace that the engine has made, with an interface and its addresses.
 *
 * The guest takes that interface's place. A tap is made beside it, and all frames that come in at either are sent out at the
 * other (tc's mirred), before the host's own stack sees them. The guest has the interface's MAC and IP addresses, so whatever
 * leads to the container leads to the guest: published ports, names, other containers. Of each family, the guest gets the first
 * address that is not of the link alone.
 *
 * podman's handler of ports that a user publishes (rootlessport) connects to that IPv4 address inside of the namespace. As an
 * address of the interface it would be the namespace's own, where nothing listens. So an interface that is a tun device, the
 * end of slirp4netns or pasta, loses it, and the namespace has a way of its own to the guest: a second tap, with a network
 * of two addresses, and a route to the guest's address. Interfaces of networks with other members stay as they are.
 */
#ifndef MF_OCI_NET_JOIN_H
#define MF_OCI_NET_JOIN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct config;
struct err;

#define NET_JOIN_TAP "mayfly0"
#define NET_JOIN_LOCAL_TAP "mayfly1"

/* The interface as it was found. */
struct net_join {
	char name[16];
	int index;
	uint8_t mac[6];
	unsigned mtu;
	struct in_addr in;
	bool local; /* there is the second tap */
	/* "": none */
	char ip[INET_ADDRSTRLEN + 4], gateway[INET_ADDRSTRLEN];
	char ip6[INET6_ADDRSTRLEN + 5], gateway6[INET6_ADDRSTRLEN];
};

/* Moves this process to the namespace at path; NULL: to a new one, which is empty. Returns 0 or -errno with e set. */
int net_join_enter(const char *path, struct err *e);

/*
 * In the namespace: takes the first interface that is up and has an IPv4 address, or else an IPv6 address, and gives it to the guest of c. Without one
 * there is no network. Returns 0 or -errno with e set.
 */
int net_join_take(struct config *c, struct err *e);

/* The default gateway in the text of /proc/net/route, or "" for none. */
void net_join_gateway(char gateway[INET_ADDRSTRLEN], const char *routes, const char *interface);

/* The same for IPv6, in the text of /proc/net/ipv6_route. */
void net_join_gateway6(char gateway[INET6_ADDRSTRLEN], const char *routes, const char *interface);

#endif
