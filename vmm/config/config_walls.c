/* The walls of user networks; see config_walls.h. */
#include "vmm/config/config_walls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/host_net.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/config/config_field.h"
#include "vmm/config/config_parts.h"

#define PORT_DNS 53U
#define PORT_DHCP 67U
#define PORT_DHCP6 547U
#define IPV4_BITS 96U /* of the prefix of IPv4 addresses in rules */
#define PORTS_OF_IP (NET_RULE_TCP | NET_RULE_UDP)

/* RFC 1918, RFC 6598 (carriers' NAT) and RFC 4193. */
static const char *const private_nets[CONFIG_RULE_NETS_MAX] = { "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
								"100.64.0.0/10", "fc00::/7" };

/* Closed unless a rule opens it. */
static const char *const closed_nets[] = {
	/* the host itself, in all forms: Linux takes 0.0.0.0 and :: for the loopback */
	"0.0.0.0/8",
	"127.0.0.0/8",
	"::/96",
	/* link-local: metadata of clouds, and services that trust their link */
	"169.254.0.0/16",
	"fe80::/10",
	/* metadata of clouds elsewhere: AWS, Google, Alibaba, Azure, Oracle */
	"fd00:ec2::/32",
	"fd20:ce::254",
	"100.100.100.200",
	"168.63.129.16",
	"192.0.0.192",
	/* multicast and broadcast */
	"224.0.0.0/4",
	"240.0.0.0/4",
	"ff00::/8",
};

/* A prefix of a net; the address has no other bits. */
static bool parse_prefix(struct net_rule *r, const char *text, unsigned base)
{
	uint64_t prefix = 128 - base;

	if (text && (parse_u64(text, &prefix) < 0 || prefix > 128 - base))
		return false;
	r->prefix = (uint8_t)(prefix + base);
	for (unsigned bit = r->prefix; bit < 128; bit++) {
		if (r->net.s6_addr[bit / 8] >> (7 - bit % 8) & 1)
			return false;
	}
	return true;
}

/* ADDRESS or ADDRESS/PREFIX, which it cuts. */
static bool parse_net(struct net_rule *r, char *text)
{
	char *prefix = strchr(text, '/');

	if (prefix)
		*prefix++ = '\0';
	return host_net_parse(&r->net, text) && parse_prefix(r, prefix, strchr(text, ':') ? 0 : IPV4_BITS);
}

static bool cut_ports(struct net_rule *r, char *text)
{
	unsigned first, last;

	if (!config_cut_ports(text, &first, &last))
		return false;
	r->first = (uint16_t)first;
	r->last = (uint16_t)last;
	r->protocols = PORTS_OF_IP;
	return true;
}

/* Cuts off the ports, and the brackets of an IPv6 address. False: these are wrong. */
static bool split_ports(char **net, char **ret_ports)
{
	char *text = *net, *end = strchr(text, ']'), *colon = strchr(text, ':'), *ports = NULL;

	if (*text == '[') {
		if (!end || !colon || colon > end || (end[1] && !strchr("/:", end[1])))
			return false;
		ports = strchr(end, ':');
		memmove(end, end + 1, strlen(end)); /* [ADDRESS]/PREFIX or [ADDRESS/PREFIX] */
		ports -= ports != NULL;
		*net = text + 1;
	} else if (colon && !strchr(colon + 1, ':')) {
		ports = colon; /* two colons: IPv6, without ports */
	}
	if (ports)
		*ports++ = '\0';
	*ret_ports = ports;
	return true;
}

/* Whether the rule is about the host's loopback alone. */
static bool is_loopback(const struct net_rule *r)
{
	static const struct in6_addr none;

	if (IN6_IS_ADDR_V4MAPPED(&r->net))
		return r->prefix >= IPV4_BITS + 8 && (r->net.s6_addr[12] == 127 || r->net.s6_addr[12] == 0);
	return r->prefix >= IPV4_BITS && !memcmp(&r->net, &none, IPV4_BITS / 8);
}

static int parse_rule(struct net_rule ret[CONFIG_RULE_NETS_MAX], char *text, bool allow)
{
	struct net_rule r = { .allow = allow, .last = UINT16_MAX, .protocols = NET_RULE_ALL };
	char *ports;

	if (!split_ports(&text, &ports) || (ports && !cut_ports(&r, ports)))
		return -EINVAL;
	if (!strcmp(text, "private")) {
		for (unsigned i = 0; i < CONFIG_RULE_NETS_MAX; i++) {
			char net[INET6_ADDRSTRLEN];

			ret[i] = r;
			snprintf(net, sizeof(net), "%s", private_nets[i]);
			(void)parse_net(&ret[i], net); /* it is one */
		}
		return CONFIG_RULE_NETS_MAX;
	}
	if (strcmp(text, "all") != 0 && !parse_net(&r, text))
		return -EINVAL;
	ret[0] = r;
	return 1;
}

int config_rule_parse(struct net_rule ret[CONFIG_RULE_NETS_MAX], const char *text, bool allow, struct err *e)
{
	MF_FREE char *copy = strdup(text);
	int num;

	if (!copy)
		return err_sys(e, "copy it");
	num = parse_rule(ret, copy, allow);
	if (num < 0)
		return err_set(e, -EINVAL,
			       "must be a net such as 10.0.0.0/8 (no bits behind its prefix), an address, 'private' or 'all'; :PORT or "
			       ":FIRST-LAST may follow, such as 192.0.2.1:443 or [fd00::/8]:443");
	if (allow && is_loopback(ret))
		return err_set(e, -EINVAL,
			       "is the host's loopback; -n user,host=PORT opens a port of it at the guest's gateway");
	return num;
}

static int check_rule(const char *text, bool allow, struct err *e)
{
	struct net_rule r[CONFIG_RULE_NETS_MAX];
	int num = config_rule_parse(r, text, allow, e);

	return num < 0 ? num : 0;
}

int config_check_allow(const char *text, const struct config_field *f, struct err *e)
{
	(void)f; /* the parser has no longest text */
	return check_rule(text, true, e);
}

int config_check_deny(const char *text, const struct config_field *f, struct err *e)
{
	(void)f; /* the parser has no longest text */
	return check_rule(text, false, e);
}

/* Ports of the host. */

/* PORT, PORT/tcp or PORT/udp, as a rule without a net. */
static int parse_host_port(struct net_rule *ret, const char *text, struct err *e)
{
	struct net_rule r = { .allow = true, .prefix = 128, .protocols = NET_RULE_TCP };
	MF_FREE char *copy = strdup(text);
	char *protocol = copy ? strchr(copy, '/') : NULL;
	unsigned port;

	if (!copy)
		return err_sys(e, "copy it");
	if (protocol) {
		*protocol++ = '\0';
		r.protocols = !strcmp(protocol, "tcp") ? NET_RULE_TCP : !strcmp(protocol, "udp") ? NET_RULE_UDP : 0;
	}
	if (!r.protocols || !config_parse_port(copy, &port))
		return err_set(e, -EINVAL, "must be a port of the host, 1 to 65535, or PORT/udp");
	r.first = r.last = (uint16_t)port;
	*ret = r;
	return 0;
}

int config_check_host_port(const char *text, const struct config_field *f, struct err *e)
{
	struct net_rule r;

	(void)f; /* none is longer */
	return parse_host_port(&r, text, e);
}

/* Collecting. */

static void add(struct config_walls *w, const struct net_rule *r)
{
	w->rule[w->num++] = *r;
}

static void add_list(struct config_walls *w, const struct config_list *l, bool allow)
{
	struct err e;

	for (unsigned i = 0; i < l->num; i++) {
		int num = config_rule_parse(w->rule + w->num, l->text[i], allow, &e);

		w->num += num > 0 ? (unsigned)num : 0; /* it was checked */
	}
}

static void add_service(struct config_walls *w, const struct in6_addr *at, unsigned port, unsigned protocols)
{
	add(w, &(struct net_rule){ .net = *at,
				   .prefix = 128,
				   .protocols = (uint8_t)protocols,
				   .allow = true,
				   .first = (uint16_t)port,
				   .last = (uint16_t)port });
}

static void add_named(struct config_walls *w, const char *at, unsigned port, unsigned protocols)
{
	struct in6_addr address;

	if (at && host_net_parse(&address, at))
		add_service(w, &address, port, protocols);
}

/* The name servers that the guest is given, by mayfly's init or by passt's DHCP. */
static void add_resolver(struct config_walls *w, const struct config *c, const struct config_net *n)
{
	struct host_net_resolver host;

	add_named(w, n->dns, PORT_DNS, PORTS_OF_IP);
	for (unsigned i = 0; i < c->dns.num; i++)
		add_named(w, c->dns.text[i], PORT_DNS, PORTS_OF_IP);
	if (n->dns)
		return;
	add_named(w, n->gateway, PORT_DNS, PORTS_OF_IP);
	add_named(w, n->gateway6, PORT_DNS, PORTS_OF_IP);
	host_net_read_resolver(HOST_NET_RESOLV, &host);
	for (unsigned i = 0; i < host.num_servers; i++) {
		struct net_rule r = { .net = host.server[i], .prefix = 128 };

		if (!is_loopback(&r))
			add_service(w, &r.net, PORT_DNS, PORTS_OF_IP);
	}
}

static void add_closed(struct config_walls *w, const char *net)
{
	struct net_rule r = { .last = UINT16_MAX, .protocols = NET_RULE_ALL };
	char text[INET6_ADDRSTRLEN + 4];

	if (!net)
		return;
	snprintf(text, sizeof(text), "%s", net);
	(void)parse_net(&r, text); /* it is one */
	add(w, &r);
}

static void add_gateway(struct config_walls *w, const char *gateway, const struct config_list *ports)
{
	struct net_rule r;
	struct err e;

	for (unsigned i = 0; gateway && i < ports->num; i++) {
		if (parse_host_port(&r, ports->text[i], &e) == 0 && host_net_parse(&r.net, gateway))
			add(w, &r);
	}
	add_named(w, gateway, PORT_DHCP, NET_RULE_UDP);
	add_closed(w, gateway);
}

void config_walls_collect(struct config_walls *w, const struct config *c, const struct config_net *n)
{
	w->num = 0;
	/* Of two rules that are equally specific, the first decides. */
	add_list(w, &c->deny, false);
	add_list(w, &c->allow, true);
	add_resolver(w, c, n);
	add_gateway(w, n->gateway, &n->host);
	add_gateway(w, n->gateway6, &n->host);
	add_named(w, "255.255.255.255", PORT_DHCP, NET_RULE_UDP);
	add_named(w, "ff02::1:2", PORT_DHCP6, NET_RULE_UDP);
	for (size_t i = 0; i < MF_ARRAY_SIZE(closed_nets); i++)
		add_closed(w, closed_nets[i]);
}

static bool is_same(const char *a, const char *b)
{
	struct in6_addr addr, other;

	return a && b && host_net_parse(&addr, a) && host_net_parse(&other, b) && IN6_ARE_ADDR_EQUAL(&addr, &other);
}

bool config_walls_map_gateway(const struct config_net *n)
{
	for (unsigned i = 0; i < n->num_forwards; i++) {
		if (n->forward[i].udp)
			return true;
	}
	return n->host.num || !n->dns || is_same(n->dns, n->gateway) || is_same(n->dns, n->gateway6);
}

/* A gateway is the host's loopback: it is opened port by port. */
static int check_gateway(const struct config *c, const char *gateway, struct err *e)
{
	struct net_rule r[CONFIG_RULE_NETS_MAX];
	struct in6_addr address;

	for (unsigned i = 0; gateway && i < c->allow.num; i++) {
		if (config_rule_parse(r, c->allow.text[i], true, e) < 0)
			return e->code;
		if (host_net_parse(&address, gateway) && r->prefix == 128 && IN6_ARE_ADDR_EQUAL(&r->net, &address))
			return err_set(e, -EINVAL,
				       "allow '%s': the gateway leads to the host's loopback; -n user,host=PORT opens a "
				       "port of it",
				       c->allow.text[i]);
	}
	return 0;
}

int config_check_walls(const struct config *c, struct err *e)
{
	bool user = false;

	for (unsigned i = 0; i < c->num_nets; i++) {
		const struct config_net *n = &c->net[i];

		if (n->kind != CONFIG_NET_USER)
			continue;
		user = true;
		if (check_gateway(c, n->gateway, e) < 0 || check_gateway(c, n->gateway6, e) < 0)
			return e->code;
	}
	if (!user && (c->allow.num || c->deny.num))
		return err_set(e, -EINVAL, "%s needs -n user; what a tap carries is filtered on the host",
			       c->allow.num ? "allow" : "deny");
	return 0;
}
