/* What the host has of a network; see host_net.h. */
#include "vmm/base/host_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/util.h"

#define BLANKS " \t\r\n"

static void read_search(char *rest, struct host_net_resolver *r)
{
	size_t len = 0;

	r->search[0] = '\0';
	for (const char *word; (word = strtok_r(NULL, BLANKS, &rest));) {
		size_t more = strlen(word) + (len ? 1 : 0);

		if (more >= sizeof(r->search) - len)
			return;
		snprintf(r->search + len, sizeof(r->search) - len, "%s%s", len ? " " : "", word);
		len += more;
	}
}

static void read_server(char *address, struct host_net_resolver *r)
{
	struct in6_addr addr;
	bool ipv4;

	address[strcspn(address, "%")] = '\0'; /* the interface of a link-local one */
	if (!host_net_parse(&addr, address))
		return;
	ipv4 = !strchr(address, ':');
	r->ipv4 |= ipv4;
	r->ipv6 |= !ipv4;
	if (r->num_servers < HOST_NET_SERVERS_MAX)
		r->server[r->num_servers++] = addr;
}

void host_net_read_resolver(const char *path, struct host_net_resolver *ret)
{
	FILE *f = fopen(path, "re");
	MF_FREE char *line = NULL;
	size_t size = 0;

	*ret = (struct host_net_resolver){ .ipv4 = false };
	if (!f)
		return;
	while (getline(&line, &size, f) > 0) {
		char *rest, *key = strtok_r(line, BLANKS, &rest);

		if (!key)
			continue;
		if (!strcmp(key, "search") || !strcmp(key, "domain"))
			read_search(rest, ret);
		else if (!strcmp(key, "nameserver") && (key = strtok_r(NULL, BLANKS, &rest)))
			read_server(key, ret);
	}
	(void)fclose(f); /* it was only read */
}

bool host_net_has_ipv6(const char *path)
{
	FILE *f = fopen(path, "re");
	MF_FREE char *line = NULL;
	bool found = false;
	size_t size = 0;

	if (!f)
		return false;
	while (!found && getline(&line, &size, f) > 0) {
		char to[33], device[32];
		unsigned prefix, flags;

		/* An "unreachable default" on lo, which many hosts have, is rejected by its flag. */
		found = sscanf(line, "%32s %2x %*s %*s %*s %*s %*s %*s %8x %31s", to, &prefix, &flags, device) == 4 &&
			prefix == 0 && strspn(to, "0") == 32 && !(flags & RTF_REJECT) && strcmp(device, "lo") != 0;
	}
	(void)fclose(f); /* it was only read */
	return found;
}

bool host_net_parse(struct in6_addr *ret, const char *address)
{
	struct in6_addr a = { .s6_addr = { [10] = 0xff, [11] = 0xff } };

	if (inet_pton(AF_INET, address, a.s6_addr + 12) != 1 && inet_pton(AF_INET6, address, &a) != 1)
		return false;
	*ret = a;
	return true;
}

/* Returns false for one of another family. */
static bool take_address(struct in6_addr *ret, const struct sockaddr *sa)
{
	struct in6_addr a = { .s6_addr = { [10] = 0xff, [11] = 0xff } };

	if (sa && sa->sa_family == AF_INET)
		memcpy(a.s6_addr + 12, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
	else if (sa && sa->sa_family == AF_INET6)
		a = ((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
	else
		return false;
	*ret = a;
	return true;
}

int host_net_own(struct in6_addr **ret, unsigned *ret_num)
{
	struct in6_addr *own;
	struct ifaddrs *list;
	unsigned num = 0;

	if (getifaddrs(&list) < 0)
		return -errno;
	for (const struct ifaddrs *i = list; i; i = i->ifa_next)
		num++;
	own = calloc(num + 1, sizeof(*own));
	num = 0;
	for (const struct ifaddrs *i = list; own && i; i = i->ifa_next)
		num += take_address(&own[num], i->ifa_addr);
	freeifaddrs(list);
	if (!own)
		return -ENOMEM;
	*ret = own;
	*ret_num = num;
	return 0;
}

bool host_net_is_own(const char *address)
{
	MF_FREE struct in6_addr *own = NULL;
	struct in6_addr addr;
	unsigned num = 0;

	if (!host_net_parse(&addr, address) || host_net_own(&own, &num) < 0)
		return false;
	while (num > 0 && memcmp(&own[num - 1], &addr, sizeof(addr)) != 0)
		num--;
	return num > 0;
}
