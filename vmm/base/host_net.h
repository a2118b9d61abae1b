/* The network of the host, as far as a guest gets it too: its resolver, whether it has IPv6, its own addresses. */
#ifndef MF_BASE_HOST_NET_H
#define MF_BASE_HOST_NET_H

#include <netinet/in.h>
#include <stdbool.h>

#define HOST_NET_RESOLV "/etc/resolv.conf"
#define HOST_NET_ROUTES6 "/proc/net/ipv6_route"
#define HOST_NET_SEARCH_MAX 512 /* bytes, with the NUL; longer lists are cut at a domain */

#define HOST_NET_SERVERS_MAX 8 /* more than resolvers use */

/* Addresses of both families have 16 bytes here; an IPv4 address is ::ffff:a.b.c.d. */
struct host_net_resolver {
	struct in6_addr server[HOST_NET_SERVERS_MAX];
	unsigned num_servers;
	bool ipv4, ipv6;		  /* whether there is a name server with such an address */
	char search[HOST_NET_SEARCH_MAX]; /* the domains of the last "search" or "domain", separated by spaces */
};

/* Reads a resolv.conf. A file that cannot be read has nothing. */
void host_net_read_resolver(const char *path, struct host_net_resolver *ret);

/* Whether a list of routes in the form of /proc/net/ipv6_route has a default route. */
bool host_net_has_ipv6(const char *path);

/* Parses an address, IPv4 or IPv6. Returns false, and leaves *ret alone, if it is none. */
bool host_net_parse(struct in6_addr *ret, const char *address);

/* The addresses of the host's interfaces as they are now. Returns 0 and an array, which the caller frees, or -errno. */
int host_net_own(struct in6_addr **ret, unsigned *ret_num);

/* Whether an interface of this host has the address, IPv4 or IPv6. */
bool host_net_is_own(const char *address);

#endif
