/* What the guest of a configuration resolves names with, and the addresses of a user network. See config_names.h. */
#include "vmm/config/config_names.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/host_net.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"
#include "vmm/config/config_parts.h"

#define MTU_USER 65520U /* passt's own default */
#define HOST_GATEWAY "host-gateway"

static bool is_domain(const char *text, size_t len)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";

	return len >= 1 && len <= CONFIG_DOMAIN_MAX && strspn(text, allowed) >= len && *text != '.' && *text != '-';
}

int config_check_domain(const char *text, const struct config_field *f, struct err *e)
{
	(void)f; /* its length is that of names in DNS */
	return !strcmp(text, ".") || is_domain(text, strlen(text)) ?
		       0 :
		       err_set(e, -EINVAL, "must be a domain such as example.com, or '.' for none");
}

int config_split_host(const char *text, size_t *ret_name, char address[INET6_ADDRSTRLEN], bool *ret_gateway)
{
	size_t name = strcspn(text, ":="), len;
	const char *to = text + name;
	struct in6_addr addr;

	if (!*to || !is_domain(text, name))
		return -EINVAL;
	to++;
	*ret_gateway = !strcmp(to, HOST_GATEWAY);
	len = strlen(to);
	if (*to == '[' && len > 2 && to[len - 1] == ']') {
		to++;
		len -= 2;
	}
	if (len >= INET6_ADDRSTRLEN)
		return -EINVAL;
	snprintf(address, INET6_ADDRSTRLEN, "%.*s", (int)len, to);
	if (!*ret_gateway && inet_pton(AF_INET6, address, &addr) != 1 &&
	    (to[-1] == '[' || inet_pton(AF_INET, address, &addr) != 1))
		return -EINVAL;
	*ret_name = name;
	return 0;
}

int config_check_add_host(const char *text, const struct config_field *f, struct err *e)
{
	char address[INET6_ADDRSTRLEN];
	bool gateway;
	size_t name;

	(void)f; /* both parts have their own limits */
	if (config_split_host(text, &name, address, &gateway) == 0)
		return 0;
	return err_set(e, -EINVAL, "must be NAME:ADDRESS or NAME=ADDRESS, or NAME:" HOST_GATEWAY);
}

const char *config_gateway(const struct config *c)
{
	for (unsigned i = 0; i < c->num_nets; i++) {
		if (c->net[i].gateway)
			return c->net[i].gateway;
	}
	return NULL;
}

static bool has_resolver(const struct config *c)
{
	for (unsigned i = 0; i < c->num_nets; i++) {
		if (c->net[i].dns)
			return true;
	}
	return c->dns.num > 0;
}

static bool has_own_resolver(const struct config *c)
{
	for (unsigned i = 0; i < c->num_nets; i++) {
		if (config_is_host_resolver(c->net[i].dns))
			return true;
	}
	return false;
}

/* The host's search domains, for a guest that has the host's resolver. */
static int take_search(struct config *c, struct err *e)
{
	struct host_net_resolver host;
	char *rest = host.search, *word;

	host_net_read_resolver(HOST_NET_RESOLV, &host);
	while ((word = strsep(&rest, " "))) {
		if (is_domain(word, strlen(word)) && config_texts_add(&c->dns_search, word, e) < 0)
			return e->code;
	}
	return 0;
}

int config_complete_names(struct config *c, struct err *e)
{
	if ((c->dns.num || c->dns_search.num || c->add_host.num) && !c->command.args.num)
		return err_set(e, -EINVAL, "dns, dns_search and add_host need a command: mayfly run ... -- COMMAND");
	if (c->dns_search.num && !has_resolver(c))
		return err_set(e, -EINVAL, "dns_search needs a name server: --dns ADDRESS, or -n user");
	if (!c->dns_search.num && has_own_resolver(c) && take_search(c, e) < 0)
		return e->code;
	for (unsigned i = 0; i < c->add_host.num && !config_gateway(c); i++) {
		const char *text = c->add_host.text[i];

		if (!strcmp(text + strcspn(text, ":=") + 1, HOST_GATEWAY))
			return err_set(e, -EINVAL,
				       "add_host '%s': there is no gateway; use -n user, or gw= of an interface", text);
	}
	return 0;
}

bool config_is_host_resolver(const char *dns)
{
	return dns && (!strcmp(dns, CONFIG_USER_DNS) || !strcmp(dns, CONFIG_USER_DNS6));
}

/* passt forwards queries to the first name server of each kind that the host has. */
static const char *user_dns(bool ipv6)
{
	struct host_net_resolver host;

	host_net_read_resolver(HOST_NET_RESOLV, &host);
	return ipv6 && host.ipv6 && !host.ipv4 ? CONFIG_USER_DNS6 : CONFIG_USER_DNS;
}

static int set_default(char **to, const char *value, struct err *e)
{
	return *to ? 0 : config_copy_text(to, value, CONFIG_ID_MAX, e);
}

/* The host is not reached by an address that the guest has itself. */
static int check_own(const char *ip, struct err *e)
{
	char address[INET6_ADDRSTRLEN];

	if (!ip)
		return 0;
	snprintf(address, sizeof(address), "%.*s", (int)strcspn(ip, "/"), ip);
	if (host_net_is_own(address))
		return err_set(e, -EADDRINUSE, "%s is an address of this host; the guest needs one of its own",
			       address);
	return 0;
}

int config_complete_user_net(struct config_net *n, const struct config *c, struct err *e)
{
	bool ipv6 = n->ip6 || host_net_has_ipv6(HOST_NET_ROUTES6);
	int r = 0;

	if (check_own(n->ip, e) < 0 || check_own(n->ip6, e) < 0)
		return e->code;
	if (!n->mtu)
		n->mtu = MTU_USER;
	if (!n->ip)
		r = set_default(&n->ip, host_net_is_own("10.0.2.15") ? CONFIG_USER_IP_OTHER : CONFIG_USER_IP, e);
	if (!r)
		r = set_default(&n->gateway, CONFIG_USER_GATEWAY, e);
	if (!r && ipv6)
		r = set_default(&n->ip6, CONFIG_USER_IP6, e);
	if (!r && ipv6)
		r = set_default(&n->gateway6, CONFIG_USER_GATEWAY6, e);
	/* passt sends to the address that it has seen last, so a guest with two loses connections. */
	n->no_ra = ipv6 && c->command.args.num && n == &c->net[0];
	/* Without a command, the guest asks by DHCP, and passt answers with the host's own. */
	if (!r && c->command.args.num)
		r = set_default(&n->dns, user_dns(ipv6), e);
	return r;
}
