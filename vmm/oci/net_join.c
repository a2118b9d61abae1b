/* The network of a container; see net_join.h. */
#include "vmm/oci/net_join.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/route.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fdio.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/oci/tc.h"

#define ROUTES_MAX 65536

/* The network of the second tap, of the link alone: the namespace's address, and the guest's. */
#define LOCAL_HOST "169.254.213.1"
#define LOCAL_MASK "255.255.255.252"
#define LOCAL_GUEST "169.254.213.2/30"

int net_join_enter(const char *path, struct err *e)
{
	MF_CLOSE int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;

	if (!path)
		return unshare(CLONE_NEWNET) < 0 ? err_sys(e, "make a network namespace") : 0;
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		return err_sys(e, "network namespace '%s'", path);
	return 0;
}

void net_join_gateway(char gateway[INET_ADDRSTRLEN], const char *routes, const char *interface)
{
	char name[17];
	unsigned to, via, mask;

	*gateway = '\0';
	for (const char *line = routes; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (sscanf(line, "%16s %x %x %*x %*d %*d %*d %x", name, &to, &via, &mask) == 4 && !to && !mask && via &&
		    !strcmp(name, interface)) {
			(void)inet_ntop(AF_INET, &via, gateway, INET_ADDRSTRLEN); /* it is long enough */
			return;
		}
	}
}

void net_join_gateway6(char gateway[INET6_ADDRSTRLEN], const char *routes, const char *interface)
{
	char name[17], to[33], via[33];
	struct in6_addr addr;
	unsigned prefix, byte;

	*gateway = '\0';
	for (const char *line = routes; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (sscanf(line, "%32s %x %*s %*x %32s %*x %*x %*x %*x %16s", to, &prefix, via, name) != 4 || prefix ||
		    strlen(via) != 32 || strspn(via, "0") == 32 || strcmp(name, interface) != 0)
			continue;
		for (unsigned i = 0; i < sizeof(addr); i++) {
			byte = 0;
			(void)sscanf(via + 2 * i, "%2x", &byte); /* the kernel writes digits */
			addr.s6_addr[i] = (uint8_t)byte;
		}
		(void)inet_ntop(AF_INET6, &addr, gateway, INET6_ADDRSTRLEN); /* it is long enough */
		return;
	}
}

/* An address of this family that a guest may have. */
static bool is_wanted(const struct ifaddrs *a, int family)
{
	if (!a->ifa_addr || !a->ifa_netmask || a->ifa_addr->sa_family != family || !(a->ifa_flags & IFF_UP) ||
	    a->ifa_flags & IFF_LOOPBACK || !strcmp(a->ifa_name, NET_JOIN_TAP) ||
	    !strcmp(a->ifa_name, NET_JOIN_LOCAL_TAP))
		return false;
	return family == AF_INET ||
	       !IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)(const void *)a->ifa_addr)->sin6_addr);
}

static void take_ip(struct net_join *j, const struct ifaddrs *a)
{
	const struct sockaddr_in *in = (const void *)a->ifa_addr, *mask = (const void *)a->ifa_netmask;
	char text[INET_ADDRSTRLEN] = "";

	(void)inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text)); /* it is long enough */
	j->in = in->sin_addr;
	snprintf(j->ip, sizeof(j->ip), "%s/%d", text, __builtin_popcount(mask->sin_addr.s_addr));
}

static void take_ip6(struct net_join *j, const struct ifaddrs *a)
{
	const struct sockaddr_in6 *in = (const void *)a->ifa_addr, *mask = (const void *)a->ifa_netmask;
	char text[INET6_ADDRSTRLEN] = "";
	int prefix = 0;

	for (size_t i = 0; i < sizeof(mask->sin6_addr); i++)
		prefix += __builtin_popcount(mask->sin6_addr.s6_addr[i]);
	(void)inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof(text)); /* it is long enough */
	snprintf(j->ip6, sizeof(j->ip6), "%s/%d", text, prefix);
}

/* The first address of a family, of the interface if there is one already. */
static void take_first(struct net_join *j, const struct ifaddrs *list, int family)
{
	const struct ifaddrs *a = list;

	while (a && (!is_wanted(a, family) || (*j->name && strcmp(j->name, a->ifa_name) != 0)))
		a = a->ifa_next;
	if (!a)
		return;
	snprintf(j->name, sizeof(j->name), "%s", a->ifa_name);
	if (family == AF_INET)
		take_ip(j, a);
	else
		take_ip6(j, a);
}

/* Finds the interface. Returns 1, 0 if there is none, or -errno with e set. */
static int find(struct net_join *j, struct err *e)
{
	struct ifaddrs *list;

	if (getifaddrs(&list) < 0)
		return err_sys(e, "list the interfaces");
	take_first(j, list, AF_INET);
	take_first(j, list, AF_INET6);
	freeifaddrs(list);
	return *j->name != '\0';
}

static int read_routes(const char *path, char *text)
{
	MF_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : fdio_read(fd, text, ROUTES_MAX - 1);

	text[n > 0 ? n : 0] = '\0';
	return n < 0 ? -1 : 0;
}

/* Its other properties. */
static int look(struct net_join *j, int sock, struct err *e)
{
	MF_FREE char *text = malloc(ROUTES_MAX);
	struct ifreq req = { .ifr_flags = 0 };

	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	strcpy(req.ifr_name, j->name);
	if (ioctl(sock, SIOCGIFINDEX, &req) < 0)
		return err_sys(e, "its index");
	j->index = req.ifr_ifindex;
	if (ioctl(sock, SIOCGIFHWADDR, &req) < 0)
		return err_sys(e, "its address");
	memcpy(j->mac, req.ifr_hwaddr.sa_data, sizeof(j->mac));
	if (ioctl(sock, SIOCGIFMTU, &req) < 0)
		return err_sys(e, "its MTU");
	j->mtu = (unsigned)req.ifr_mtu;
	if (read_routes("/proc/self/net/route", text) == 0)
		net_join_gateway(j->gateway, text, j->name);
	if (*j->ip6 && read_routes("/proc/self/net/ipv6_route", text) == 0)
		net_join_gateway6(j->gateway6, text, j->name);
	return 0;
}

/* Makes a tap, which is there until the namespace ends. Returns its index, or -errno with e set. */
static int make_tap(const char *name, unsigned mtu, int sock, struct err *e)
{
	struct ifreq req = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	MF_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	strcpy(req.ifr_name, name);
	if (fd < 0)
		return err_sys(e, "open /dev/net/tun");
	if (ioctl(fd, TUNSETIFF, &req) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0)
		return err_sys(e, "make the tap %s", name);
	req.ifr_mtu = (int)mtu;
	if (ioctl(sock, SIOCSIFMTU, &req) < 0)
		return err_sys(e, "set the MTU of %s", name);
	req.ifr_flags = IFF_UP;
	if (ioctl(sock, SIOCSIFFLAGS, &req) < 0)
		return err_sys(e, "start %s", name);
	return ioctl(sock, SIOCGIFINDEX, &req) < 0 ? err_sys(e, "find %s", name) : req.ifr_ifindex;
}

static bool is_tun(const struct net_join *j, int sock)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq req = { .ifr_data = (void *)&info };

	strcpy(req.ifr_name, j->name);
	return ioctl(sock, SIOCETHTOOL, &req) == 0 && !strcmp(info.driver, "tun");
}

static void put(struct sockaddr *addr, struct in_addr in)
{
	const struct sockaddr_in ip = { .sin_family = AF_INET, .sin_addr = in };

	memcpy(addr, &ip, sizeof(ip));
}

static int set_address(const char *name, unsigned long what, const char *text, int sock, struct err *e)
{
	struct in_addr in = { 0 };
	struct ifreq req = { 0 };

	strcpy(req.ifr_name, name);
	(void)inet_pton(AF_INET, text, &in); /* one of ours */
	put(&req.ifr_addr, in);
	return ioctl(sock, what, &req) < 0 ? err_sys(e, "set the address of %s", name) : 0;
}

/* The second tap, and the route. Its device's name is no const for the kernel's header. */
static int make_local(struct net_join *j, int sock, struct err *e)
{
	static char tap[] = NET_JOIN_LOCAL_TAP;
	struct rtentry route = { .rt_flags = RTF_UP | RTF_HOST, .rt_dev = tap };

	if (make_tap(tap, j->mtu, sock, e) < 0 || set_address(tap, SIOCSIFADDR, LOCAL_HOST, sock, e) < 0 ||
	    set_address(tap, SIOCSIFNETMASK, LOCAL_MASK, sock, e) < 0 ||
	    set_address(j->name, SIOCSIFADDR, "0.0.0.0", sock, e) < 0)
		return e->code;
	put(&route.rt_dst, j->in);
	if (ioctl(sock, SIOCADDRT, &route) < 0)
		return err_sys(e, "make a route to the guest");
	j->local = true;
	return 0;
}

static int join(struct net_join *j, struct err *e)
{
	MF_CLOSE int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int tap;

	if (sock < 0)
		return err_sys(e, "open a socket");
	if (look(j, sock, e) < 0)
		return e->code;
	tap = make_tap(NET_JOIN_TAP, j->mtu, sock, e);
	if (tap < 0 || (*j->ip && is_tun(j, sock) && make_local(j, sock, e) < 0))
		return e->code;
	return tc_redirect(j->index, tap, e) < 0 || tc_redirect(tap, j->index, e) < 0 ? e->code : 0;
}

static int tell(struct config *c, const struct net_join *j, struct err *e)
{
	const struct {
		const char *key, *value;
	} texts[] = { { "ip", j->ip }, { "gw", j->gateway }, { "ip6", j->ip6 }, { "gw6", j->gateway6 } };
	char spec[256];
	int len, r;

	len = snprintf(spec, sizeof(spec), "tap=" NET_JOIN_TAP ",mac=%02x:%02x:%02x:%02x:%02x:%02x,mtu=%u", j->mac[0],
		       j->mac[1], j->mac[2], j->mac[3], j->mac[4], j->mac[5], j->mtu);
	for (size_t i = 0; i < MF_ARRAY_SIZE(texts); i++)
		if (*texts[i].value)
			len += snprintf(spec + len, sizeof(spec) - (size_t)len, ",%s=%s", texts[i].key, texts[i].value);
	r = config_set(c, "nets", spec, e);
	if (r < 0 || !j->local)
		return r;
	snprintf(spec, sizeof(spec), "tap=" NET_JOIN_LOCAL_TAP ",ip=" LOCAL_GUEST ",mtu=%u", j->mtu);
	return config_set(c, "nets", spec, e);
}

int net_join_take(struct config *c, struct err *e)
{
	struct net_join j = { .index = 0 };
	int r = find(&j, e);

	if (r > 0)
		r = join(&j, e) < 0 ? e->code : tell(c, &j, e);
	return r < 0 ? err_wrap(e, "network%s%s", *j.name ? " interface " : "", j.name) : 0;
}
