/*
 * The network of the boot text. Addresses are set by ioctl. For names, files of the root
 * are replaced: resolv.conf, if a name server was requested, and hosts, whose own lines
 * stay behind ours.
 */
#include "loader/init/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loader/init/fd.h"
#include "loader/init/root.h"

#define HOSTS_MAX 65536 /* of the root; a larger one stays as it is */

/* linux/ipv6.h, whose other names are also those of netinet/in.h. */
struct in6_ifreq {
	struct in6_addr ifr6_addr;
	uint32_t ifr6_prefixlen;
	int ifr6_ifindex;
};

static int net_control(int fd, unsigned long request, void *arg)
{
	/* The type of a request is not the same everywhere. */
	return ioctl(fd, (int)request, arg) < 0 ? -errno : 0;
}

static struct ifreq net_request(const char *name)
{
	struct ifreq request = { 0 };

	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	return request;
}

static void net_put(struct sockaddr *ret, struct in_addr address)
{
	const struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr = address };

	memcpy(ret, &in, sizeof(in));
}

static int net_up(int fd, const char *name)
{
	struct ifreq request = net_request(name);
	int ret = net_control(fd, SIOCGIFFLAGS, &request);

	request.ifr_flags |= IFF_UP | IFF_RUNNING;
	return ret < 0 ? ret : net_control(fd, SIOCSIFFLAGS, &request);
}

/* Returns the text after an address of four numbers, or NULL. */
static const char *net_parse(const char *s, struct in_addr *ret)
{
	uint32_t address = 0;

	for (unsigned i = 0; i < 4 && s != NULL; i++) {
		unsigned long number = 0;

		if (i > 0 && *s++ != '.')
			return NULL;
		s = text_digits(s, 255, &number);
		address = address << 8 | (uint32_t)number;
	}
	ret->s_addr = htonl(address);
	return s;
}

static int net_set_address(int fd, const char *name, const char *text)
{
	struct ifreq request = net_request(name);
	struct in_addr address, mask;
	const char *slash = net_parse(text, &address);
	unsigned long prefix;
	int ret;

	if (slash == NULL || *slash != '/' || !text_number(slash + 1, 32, &prefix))
		return -EINVAL;
	mask.s_addr = htonl(prefix == 0 ? 0 : ~0U << (32 - prefix));
	net_put(&request.ifr_addr, address);
	ret = net_control(fd, SIOCSIFADDR, &request);
	if (ret < 0)
		return ret;
	net_put(&request.ifr_netmask, mask);
	ret = net_control(fd, SIOCSIFNETMASK, &request);
	return ret < 0 ? ret : net_up(fd, name);
}

static int net_set_gateway(int fd, char *name, const char *text)
{
	const struct in_addr any = { 0 }, one = { 0xffffffff };
	struct rtentry way = { .rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = name };
	struct in_addr address;
	const char *end = net_parse(text, &address);
	int ret;

	if (end == NULL || *end != '\0')
		return -EINVAL;
	net_put(&way.rt_dst, any);
	net_put(&way.rt_genmask, any);
	net_put(&way.rt_gateway, address);
	ret = net_control(fd, SIOCADDRT, &way);
	if (ret == -ENETUNREACH || ret == -EHOSTUNREACH) {
		/* One outside of the network of the address: first the way to it. */
		struct rtentry there = { .rt_flags = RTF_UP | RTF_HOST, .rt_dev = name };

		net_put(&there.rt_dst, address);
		net_put(&there.rt_genmask, one);
		ret = net_control(fd, SIOCADDRT, &there);
		if (ret == 0)
			ret = net_control(fd, SIOCADDRT, &way);
	}
	return ret;
}

/* Returns the text after two hexadecimal digits for each of len bytes, or NULL. */
static const char *net_parse_hex(const char *s, uint8_t *ret, unsigned len)
{
	for (unsigned i = 0; i < 2 * len; i++, s++) {
		unsigned digit = (unsigned)*s - '0';

		if (digit > 9)
			digit = (unsigned)*s - 'a' + 10;
		if (digit > 15)
			return NULL;
		ret[i / 2] = (uint8_t)(ret[i / 2] << 4 | digit);
	}
	return s;
}

static const char *net_parse6(const char *s, struct in6_addr *ret)
{
	return net_parse_hex(s, ret->s6_addr, sizeof(ret->s6_addr));
}

/* Those of a template are not those of the machine. */
static void net_set_macs(int fd, const char *boot, size_t len)
{
	char name[] = "eth0";
	const char *s;
	size_t at = 0;

	while ((s = text_next(boot, len, &at)) != NULL) {
		struct ifreq request = net_request(name);

		if (*s != 'x')
			continue;
		request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
		(void)net_parse_hex(s + 1, (uint8_t *)request.ifr_hwaddr.sa_data, 6); /* the host has written it */
		/* A command that needs the network reports what is missing. */
		(void)net_control(fd, SIOCSIFHWADDR, &request);
		name[3]++;
	}
}

/*
 * Without duplicate address detection, which would take a second or two: until then
 * nothing can be bound to an address, and passt learns the link-local one only later.
 */
static int net_set_ipv6(int fd, int fd6, const char *name, const char *address, const char *gateway)
{
	struct ifreq request = net_request(name);
	struct in6_ifreq local = { 0 };
	struct in6_rtmsg way = { .rtmsg_flags = RTF_UP | RTF_GATEWAY, .rtmsg_metric = 1024 };
	const char *slash = net_parse6(address, &local.ifr6_addr);
	unsigned long prefix;
	int ret;

	if (slash == NULL || *slash != '/' || !text_number(slash + 1, 128, &prefix) ||
	    (gateway != NULL && net_parse6(gateway, &way.rtmsg_gateway) == NULL))
		return -EINVAL;
	(void)fd_write_file("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0");
	ret = net_up(fd, name);
	if (ret == 0)
		ret = net_control(fd, SIOCGIFINDEX, &request);
	local.ifr6_prefixlen = (uint32_t)prefix;
	local.ifr6_ifindex = way.rtmsg_ifindex = request.ifr_ifindex;
	if (ret == 0)
		ret = net_control(fd6, SIOCSIFADDR, &local);
	/* A router's advertisement may have come first, and brought the same. */
	if ((ret == 0 || ret == -EEXIST) && gateway != NULL)
		ret = net_control(fd6, SIOCADDRT, &way);
	return ret == -EEXIST ? 0 : ret;
}

/* Addresses of the interfaces behind eth0. */
static int net_set_others(int fd, const char *boot, size_t len, struct text *why)
{
	char name[] = "eth1";
	const char *s;
	size_t at = 0;
	int ret = 0;

	while (ret == 0 && (s = text_next(boot, len, &at)) != NULL) {
		if (*s != 'E')
			continue;
		if (s[1] != '\0')
			ret = fd < 0 ? -EAFNOSUPPORT : net_set_address(fd, name, s + 1);
		if (ret < 0)
			text_add(why, name, ": address ", s + 1, NULL);
		name[3]++;
	}
	return ret;
}

bool net_is_wanted(const char *boot, size_t len)
{
	return text_find(boot, len, 'n') != NULL || text_find(boot, len, 'N') != NULL;
}

bool net_start(const char *boot, size_t len, struct text *why)
{
	const char *host = text_find(boot, len, 'h'), *address = text_find(boot, len, 'n');
	const char *gateway = text_find(boot, len, 'g'), *address6 = text_find(boot, len, 'N');
	char name[] = "eth0";
	int fd, fd6, ret = 0;

	if (host != NULL && sethostname(host, strlen(host)) < 0) {
		text_add(why, "host name '", host, "'", NULL);
		text_add_error(why, errno);
		return false;
	}
	/* Without a network in the kernel, only the boot text can require one. */
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	fd6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	net_set_macs(fd, boot, len);
	(void)net_up(fd, "lo");
	/* First, since it sets up what has to be before the interface is. */
	if (address6 != NULL && fd6 >= 0) {
		ret = net_set_ipv6(fd, fd6, name, address6, text_find(boot, len, 'G'));
		/* ipv6.disable_ipv6=1, or none on this interface. */
		if (ret == -EACCES)
			ret = 0;
		if (ret < 0)
			text_add(why, "eth0: address or gateway of IPv6", NULL);
	}
	if (ret == 0 && address != NULL) {
		ret = fd < 0 ? -EAFNOSUPPORT : net_set_address(fd, name, address);
		if (ret < 0)
			text_add(why, "eth0: address ", address, NULL);
	}
	if (ret == 0 && gateway != NULL) {
		ret = fd < 0 ? -EAFNOSUPPORT : net_set_gateway(fd, name, gateway);
		if (ret < 0)
			text_add(why, "eth0: gateway ", gateway, NULL);
	}
	if (ret == 0)
		ret = net_set_others(fd, boot, len, why);
	fd_close(&fd);
	fd_close(&fd6);
	if (ret < 0)
		text_add_error(why, -ret);
	return ret == 0;
}

static int net_write_new(const char *path, const char *s, const char *more, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int ret = fd < 0 ? -errno : fd_write(fd, s, strlen(s));

	if (ret == 0)
		ret = fd_write(fd, more, len);
	fd_close(&fd);
	return ret;
}

/* Where a link at path leads, if that is into /run, where nothing stays; "../run" is the usual way to write it. */
static const char *net_link_to_run(const char *path, char *to, size_t size)
{
	ssize_t len = readlink(path, to, size - 1);

	if (len <= 0)
		return NULL;
	to[len] = '\0';
	if (strncmp(to, "..", 2) == 0)
		to += 2;
	return strncmp(to, "/run/", 5) == 0 ? to : NULL;
}

/*
 * Replaces the root's file at path, below /etc, by s and len bytes more. A root that ends with the machine gets a
 * new file. In a root that stays, no file is changed: a link into /run leads to a new
 * file there, and over a file ours is mounted. Only if there is none at all is an empty
 * file made for the mount.
 */
static void net_put_file(const char *path, const char *ours, bool root_is_ephemeral, const char *s, const char *more,
			 size_t len)
{
	char to[256];
	const char *in_run = net_link_to_run(path, to, sizeof(to));

	/*
	 * If this fails, names are not resolved, and programs that need them report it:
	 * no reason not to run the command.
	 */
	if (in_run != NULL) {
		char *slash = strrchr(to, '/');

		*slash = '\0';
		(void)root_make_path(in_run);
		*slash = '/';
		(void)net_write_new(in_run, s, more, len);
	} else if (root_is_ephemeral) {
		(void)mkdir("/etc", 0755);
		(void)unlink(path);
		(void)net_write_new(path, s, more, len);
	} else if (net_write_new(ours, s, more, len) == 0) {
		int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

		fd_close(&fd);
		(void)mount(ours, path, NULL, MS_BIND, NULL);
	}
}

void net_set_names(const char *boot, size_t len, bool root_is_ephemeral)
{
	static char old[HOSTS_MAX];
	const char *resolver = text_find(boot, len, 'd'), *hosts = text_find(boot, len, 'k');
	long own = fd_read_file("/etc/hosts", old, sizeof(old));

	if (resolver != NULL)
		net_put_file("/etc/resolv.conf", "/run/mayfly-resolv.conf", root_is_ephemeral, resolver, NULL, 0);
	if (hosts != NULL && (own >= 0 || own == -ENOENT))
		net_put_file("/etc/hosts", "/run/mayfly-hosts", root_is_ephemeral, hosts, old,
			     own > 0 ? (size_t)own : 0);
}
