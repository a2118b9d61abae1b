/* What the host has of a network; see host_net.h. */
#include "vmm/base/host_net.h"

#include <arpa/inet.h>
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

	address[strcspn(address, "%")] = '\0'; /* the interface of a link-local one */
	r->ipv4 |= inet_pton(AF_INET, address, &addr) == 1;
	r->ipv6 |= inet_pton(AF_INET6, address, &addr) == 1;
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

bool host_net_is_own(const char *address)
{
	struct ifaddrs *list, *i;
	struct in6_addr addr;
	bool found = false;
	int family = inet_pton(AF_INET, address, &addr) == 1 ? AF_INET : AF_INET6;

	if ((family == AF_INET6 && inet_pton(AF_INET6, address, &addr) != 1) || getifaddrs(&list) < 0)
		return false;
	for (i = list; i && !found; i = i->ifa_next) {
		const struct sockaddr *sa = i->ifa_addr;

		if (!sa || sa->sa_family != family)
			continue;
		if (family == AF_INET)
			found = !memcmp(&((const struct sockaddr_in *)(const void *)sa)->sin_addr, &addr,
					sizeof(struct in_addr));
		else
			found = !memcmp(&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, &addr,
					sizeof(addr));
	}
	freeifaddrs(list);
	return found;
}
