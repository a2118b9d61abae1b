/* Network interfaces in the configuration: their setters and checks. See config.h. */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/config.h"
#include "vmm/config_parts.h"

#define PORTS_TEXT_MAX 63U

void config_net_done(struct config_net *n)
{
	for (unsigned i = 0; i < n->num_forwards; i++)
		free(n->forward[i].ports);
	free(n->id);
	free(n->tap);
	free(n->ip);
	free(n->gateway);
	free(n->dns);
	*n = (struct config_net){ .fd = -1 };
}

int config_begin_net(struct config *c, struct err *e)
{
	if (c->num_nets == CONFIG_NETS_MAX)
		return err_set(e, -EINVAL, "there can be at most %d network interfaces", CONFIG_NETS_MAX);
	config_net_done(&c->net[c->num_nets]);
	return 0;
}

static struct config_net *begun_net(struct config *c)
{
	assert(c->num_nets < CONFIG_NETS_MAX);
	return &c->net[c->num_nets];
}

static int set_kind(struct config_net *n, enum config_net_kind kind, struct err *e)
{
	if (n->kind != CONFIG_NET_UNSET)
		return err_set(e, -EINVAL, "an interface is one of tap, fd and user");
	n->kind = kind;
	return 0;
}

int config_net_id(struct config *c, const char *text, struct err *e)
{
	return config_copy_id(&begun_net(c)->id, text, e);
}

int config_net_tap(struct config *c, const char *text, struct err *e)
{
	size_t len = strlen(text);

	/* What Linux takes for a name, without '%', which it would replace by a number. */
	if (len < 1 || len >= IFNAMSIZ || strpbrk(text, "/: \t\n%") || !strcmp(text, ".") || !strcmp(text, ".."))
		return err_set(e, -EINVAL, "must be the name of a tap, 1 to %d characters", IFNAMSIZ - 1);
	if (set_kind(begun_net(c), CONFIG_NET_TAP, e) < 0)
		return e->code;
	return config_copy_text(&begun_net(c)->tap, text, IFNAMSIZ - 1, e);
}

int config_net_fd(struct config *c, const char *text, struct err *e)
{
	uint64_t fd;

	if (parse_u64(text, &fd) < 0 || fd <= STDERR_FILENO || fd > INT_MAX)
		return err_set(e, -EINVAL, "must be the number of an inherited file descriptor, 3 or more");
	begun_net(c)->fd = (int)fd;
	return set_kind(begun_net(c), CONFIG_NET_FD, e);
}

int config_net_user(struct config *c, const char *text, struct err *e)
{
	bool user = false;

	if (config_copy_bool(&user, text, e) < 0)
		return e->code;
	return user ? set_kind(begun_net(c), CONFIG_NET_USER, e) : 0;
}

int config_net_mac(struct config *c, const char *text, struct err *e)
{
	struct config_net *n = begun_net(c);
	static const uint8_t zero[NET_MAC_LEN];
	uint8_t mac[NET_MAC_LEN];
	int end = 0;

	if (strlen(text) != 17 || strspn(text, "0123456789abcdefABCDEF:") != 17 ||
	    sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5],
		   &end) != NET_MAC_LEN ||
	    end != 17)
		return err_set(e, -EINVAL, "must be six bytes such as 02:00:00:00:00:01");
	if (mac[0] & 1 || !memcmp(mac, zero, sizeof(mac)))
		return err_set(e, -EINVAL, "must be the address of one station: not a multicast address, not zero");
	memcpy(n->mac, mac, sizeof(mac));
	n->has_mac = true;
	return 0;
}

int config_net_mtu(struct config *c, const char *text, struct err *e)
{
	uint64_t mtu;

	if (parse_u64(text, &mtu) < 0 || mtu < NET_MTU_MIN || mtu > NET_MTU_MAX)
		return err_set(e, -EINVAL, "must be %u to %u", NET_MTU_MIN, NET_MTU_MAX);
	begun_net(c)->mtu = (unsigned)mtu;
	return 0;
}

static bool is_port(const char *text)
{
	uint64_t port;

	return parse_u64(text, &port) == 0 && port >= 1 && port <= UINT16_MAX;
}

static bool is_address(const char *text)
{
	struct in6_addr addr;

	return inet_pton(AF_INET, text, &addr) == 1 || inet_pton(AF_INET6, text, &addr) == 1;
}

/* Checks [ADDRESS/]HOST_PORT[:GUEST_PORT], of which it makes pieces. */
static bool is_forward(char *text)
{
	char *slash = strchr(text, '/'), *host = slash ? slash + 1 : text, *guest = strchr(host, ':');

	if (slash)
		*slash = '\0';
	if (guest)
		*guest++ = '\0';
	return is_port(host) && (!guest || is_port(guest)) && (!slash || is_address(text));
}

static int add_forward(struct config *c, bool udp, const char *text, struct err *e)
{
	struct config_net *n = begun_net(c);
	MF_FREE char *pieces = strdup(text);
	char *ports = NULL;

	if (!pieces)
		return err_sys(e, "copy it");
	if (strlen(text) > PORTS_TEXT_MAX || !is_forward(pieces))
		return err_set(e, -EINVAL,
			       "must be HOST_PORT:GUEST_PORT, each 1 to 65535, or ADDRESS/HOST_PORT:GUEST_PORT");
	if (n->num_forwards == CONFIG_FORWARDS_MAX)
		return err_set(e, -EINVAL, "there can be at most %d ports", CONFIG_FORWARDS_MAX);
	if (config_copy_text(&ports, text, PORTS_TEXT_MAX, e) < 0)
		return e->code;
	n->forward[n->num_forwards++] = (struct config_forward){ .udp = udp, .ports = ports };
	return 0;
}

int config_net_tcp(struct config *c, const char *text, struct err *e)
{
	return add_forward(c, false, text, e);
}

int config_net_udp(struct config *c, const char *text, struct err *e)
{
	return add_forward(c, true, text, e);
}

int config_net_rx_bandwidth(struct config *c, const char *text, struct err *e)
{
	return config_copy_limit(&begun_net(c)->limit[NET_RX].bytes, text, true, e);
}

int config_net_rx_ops(struct config *c, const char *text, struct err *e)
{
	return config_copy_limit(&begun_net(c)->limit[NET_RX].ops, text, false, e);
}

int config_net_tx_bandwidth(struct config *c, const char *text, struct err *e)
{
	return config_copy_limit(&begun_net(c)->limit[NET_TX].bytes, text, true, e);
}

int config_net_tx_ops(struct config *c, const char *text, struct err *e)
{
	return config_copy_limit(&begun_net(c)->limit[NET_TX].ops, text, false, e);
}

static bool is_ipv4(const char *text)
{
	struct in_addr addr;

	return inet_pton(AF_INET, text, &addr) == 1;
}

int config_net_ip(struct config *c, const char *text, struct err *e)
{
	MF_FREE char *address = strdup(text);
	char *slash = address ? strchr(address, '/') : NULL;
	uint64_t prefix = 0;

	if (!address)
		return err_sys(e, "copy it");
	if (slash)
		*slash = '\0';
	if (!slash || !is_ipv4(address) || parse_u64(slash + 1, &prefix) < 0 || prefix < 1 || prefix > 32)
		return err_set(e, -EINVAL, "must be an IPv4 address with its prefix, such as 10.0.0.2/24");
	return config_copy_text(&begun_net(c)->ip, text, INET_ADDRSTRLEN + 3, e);
}

static int copy_ipv4(char **to, const char *text, struct err *e)
{
	if (!is_ipv4(text))
		return err_set(e, -EINVAL, "must be an IPv4 address, such as 10.0.0.1");
	return config_copy_text(to, text, INET_ADDRSTRLEN, e);
}

int config_net_gateway(struct config *c, const char *text, struct err *e)
{
	return copy_ipv4(&begun_net(c)->gateway, text, e);
}

int config_net_dns(struct config *c, const char *text, struct err *e)
{
	return copy_ipv4(&begun_net(c)->dns, text, e);
}

int config_end_net(struct config *c, struct err *e)
{
	struct config_net *n = begun_net(c);

	if (n->kind == CONFIG_NET_UNSET)
		return err_set(e, -EINVAL, "needs one of tap, fd and user");
	if (n->num_forwards && n->kind != CONFIG_NET_USER)
		return err_set(e, -EINVAL, "only user networks forward ports");
	if (!n->ip && (n->gateway || n->dns))
		return err_set(e, -EINVAL, "gw and dns need an ip");
	if (!n->id && asprintf(&n->id, "net%u", c->num_nets) < 0) {
		n->id = NULL; /* asprintf leaves it undefined */
		return err_set(e, -ENOMEM, "out of memory");
	}
	c->num_nets++;
	return 0;
}

/* The parts of an interface on the command line. */
static const struct config_option net_options[] = {
	{ "tap", config_net_tap, CONFIG_ONCE },	      { "fd", config_net_fd, CONFIG_ONCE },
	{ "user", config_net_user, CONFIG_FLAG },     { "id", config_net_id, CONFIG_ONCE },
	{ "mac", config_net_mac, CONFIG_ONCE },	      { "mtu", config_net_mtu, CONFIG_ONCE },
	{ "ip", config_net_ip, CONFIG_ONCE },	      { "gw", config_net_gateway, CONFIG_ONCE },
	{ "dns", config_net_dns, CONFIG_ONCE },	      { "tcp", config_net_tcp, CONFIG_MANY },
	{ "udp", config_net_udp, CONFIG_MANY },	      { "rx_bandwidth", config_net_rx_bandwidth, CONFIG_ONCE },
	{ "rx_ops", config_net_rx_ops, CONFIG_ONCE }, { "tx_bandwidth", config_net_tx_bandwidth, CONFIG_ONCE },
	{ "tx_ops", config_net_tx_ops, CONFIG_ONCE },
};

const char *config_net_option(unsigned i)
{
	return i < MF_ARRAY_SIZE(net_options) ? net_options[i].name : NULL;
}

int config_add_net(struct config *c, const char *spec, struct err *e)
{
	if (!strcmp(spec, "none")) {
		c->num_nets = 0;
		return 0;
	}
	if (config_begin_net(c, e) < 0 ||
	    config_take_options(c, spec, net_options, MF_ARRAY_SIZE(net_options),
				"none, tap=NAME, fd=N, user, mac=, mtu=, ip=, gw=, dns=, tcp=, udp=, id=, rx_bandwidth=, "
				"rx_ops=, tx_bandwidth= and tx_ops=",
				e) < 0)
		return e->code;
	return config_end_net(c, e);
}

/* What a user network has if it is not told: passt and the guest get the same. As QEMU has it, which people know. */
static int set_user_addresses(struct config_net *n, struct err *e)
{
	if (n->kind != CONFIG_NET_USER || n->ip)
		return 0;
	if (config_copy_text(&n->ip, "10.0.2.15/24", CONFIG_ID_MAX, e) < 0 ||
	    config_copy_text(&n->gateway, "10.0.2.2", CONFIG_ID_MAX, e) < 0 ||
	    config_copy_text(&n->dns, "10.0.2.3", CONFIG_ID_MAX, e) < 0)
		return e->code;
	return 0;
}

int config_complete_nets(struct config *c, struct err *e)
{
	for (unsigned i = 0; i < c->num_nets; i++) {
		struct config_net *n = &c->net[i];

		if (n->ip && n->kind != CONFIG_NET_USER && !c->command.args.num)
			return err_set(e, -EINVAL,
				       "net '%s': its ip is for mayfly's init, which there is only with a command",
				       n->id);
		if (c->command.args.num && set_user_addresses(n, e) < 0)
			return e->code;
	}
	return 0;
}

int config_check_nets(const struct config *c, struct err *e)
{
	for (unsigned i = 0; i < c->num_nets; i++) {
		for (unsigned j = 0; j < i; j++) {
			const struct config_net *a = &c->net[j], *b = &c->net[i];

			if (!strcmp(a->id, b->id))
				return err_set(e, -EINVAL, "two network interfaces have the same id '%s'", a->id);
			if (a->kind == CONFIG_NET_FD && b->kind == CONFIG_NET_FD && a->fd == b->fd)
				return err_set(e, -EINVAL, "nets '%s' and '%s' have the same fd %d", a->id, b->id,
					       a->fd);
			if (a->has_mac && b->has_mac && !memcmp(a->mac, b->mac, sizeof(a->mac)))
				return err_set(e, -EINVAL, "nets '%s' and '%s' have the same mac", a->id, b->id);
		}
	}
	return 0;
}
