/*
 * Forwarded ports; see config_publish.h.
 *
 * passt has one bitmap of host ports for each protocol, whatever their addresses: the
 * same port on two addresses is refused here, because passt's own message does not name
 * the address that it has already.
 */
#include "vmm/config/config_publish.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/parse.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/config/config_field.h"
#include "vmm/config/config_parts.h"

#define LOOPBACK "127.0.0.1"

bool config_parse_port(const char *text, unsigned *ret)
{
	uint64_t port;

	if (parse_u64(text, &port) < 0 || port < 1 || port > UINT16_MAX)
		return false;
	*ret = (unsigned)port;
	return true;
}

bool config_cut_ports(char *text, unsigned *ret_first, unsigned *ret_last)
{
	char *dash = strchr(text, '-');

	if (dash)
		*dash++ = '\0';
	return config_parse_port(text, ret_first) && config_parse_port(dash ? dash : text, ret_last) &&
	       *ret_first <= *ret_last;
}

static bool cut_range(char *text, unsigned *ret_first, unsigned *ret_num)
{
	unsigned last;

	if (!config_cut_ports(text, ret_first, &last))
		return false;
	*ret_num = last - *ret_first + 1;
	return true;
}

/*
 * Cuts off the address in front, if there is one: 127.0.0.1: or [::1]: as docker has it,
 * or 127.0.0.1/ or ::1/ as passt has it. *ret_ports is what follows. Returns false if it
 * is no address.
 */
static bool cut_address(char *text, const char **ret_address, char **ret_ports)
{
	char *end = strchr(text, '/');

	*ret_address = NULL;
	*ret_ports = text;
	if (end) {
		*end = '\0';
		*ret_address = text;
		*ret_ports = end + 1;
		return config_is_address(AF_INET, text) || config_is_address(AF_INET6, text);
	}
	if (*text == '[') {
		end = strstr(text, "]:");
		if (!end || !strchr(end + 2, ':'))
			return false;
		*end = '\0';
		*ret_address = text + 1;
		*ret_ports = end + 2;
		return config_is_address(AF_INET6, text + 1);
	}
	end = strchr(text, ':');
	if (!end || !strchr(end + 1, ':'))
		return true;
	*end = '\0';
	*ret_address = text;
	*ret_ports = end + 1;
	return config_is_address(AF_INET, text);
}

/* HOST_PORT[:GUEST_PORT]. free_port: without a port of the host, or with 0, any is meant. */
static bool parse_ports(struct config_forward *f, char *ports, bool free_port)
{
	char *guest = strchr(ports, ':');
	unsigned num = 0;

	if (guest)
		*guest++ = '\0';
	if (free_port && guest && (!*ports || !strcmp(ports, "0"))) {
		f->num = 1;
		return config_parse_port(guest, &f->guest);
	}
	if (!cut_range(ports, &f->host, &f->num))
		return false;
	if (guest)
		return cut_range(guest, &f->guest, &num) && num == f->num;
	f->guest = f->host;
	return true;
}

/* pieces is a copy of text, which is cut. publish: a GUEST_PORT alone gets any port of the host. */
static bool parse_forward(struct config_forward *f, char *pieces, bool publish)
{
	const char *address;
	char *ports;

	if (!cut_address(pieces, &address, &ports))
		return false;
	if (address || !publish)
		snprintf(f->address, sizeof(f->address), "%s", address ? address : "");
	else
		snprintf(f->address, sizeof(f->address), LOOPBACK);
	if (publish && !address && !strchr(ports, ':')) {
		f->num = 1;
		return config_parse_port(ports, &f->guest);
	}
	return parse_ports(f, ports, publish);
}

int config_forward_parse(struct config_forward *ret, bool udp, const char *text, struct err *e)
{
	struct config_forward f = { .udp = udp };
	MF_FREE char *pieces = strdup(text);

	if (!pieces)
		return err_sys(e, "copy it");
	if (strlen(text) > CONFIG_FORWARD_TEXT_MAX || !parse_forward(&f, pieces, false))
		return err_set(e, -EINVAL,
			       "must be HOST_PORT:GUEST_PORT, each 1 to 65535, or two ranges of the same length such as "
			       "8000-8010:80-90; ADDRESS: may precede them, an IPv6 address in brackets");
	*ret = f;
	return 0;
}

int config_publish_parse(struct config_forward *ret, const char *text, struct err *e)
{
	struct config_forward f = { .published = true };
	MF_FREE char *pieces = strdup(text);
	char *protocol;

	if (!pieces)
		return err_sys(e, "copy it");
	protocol = strrchr(pieces, '/');
	if (protocol && !strcasecmp(protocol, "/sctp"))
		return err_set(e, -EINVAL, "SCTP is not forwarded; use /tcp or /udp");
	f.udp = protocol && !strcasecmp(protocol, "/udp");
	if (protocol && (f.udp || !strcasecmp(protocol, "/tcp")))
		*protocol = '\0';
	if (strlen(text) > CONFIG_FORWARD_TEXT_MAX || !parse_forward(&f, pieces, true))
		return err_set(e, -EINVAL,
			       "must be [ADDRESS:]HOST_PORT:GUEST_PORT[/udp], each port 1 to 65535, such as 8080:80, "
			       "127.0.0.1:8080:80, [::1]:8080:80, 8000-8010:8000-8010 or 53:53/udp; or GUEST_PORT alone");
	*ret = f;
	return 0;
}

int config_check_publish(const char *text, const struct config_field *f, struct err *e)
{
	struct config_forward forward;

	(void)f; /* the parser has its own limit */
	return config_publish_parse(&forward, text, e);
}

int config_forward_add(struct config_net *n, const struct config_forward *f, const char *text, struct err *e)
{
	struct config_forward *new = &n->forward[n->num_forwards];

	if (n->num_forwards == CONFIG_FORWARDS_MAX)
		return err_set(e, -EINVAL, "there can be at most %d ports, or ranges of ports", CONFIG_FORWARDS_MAX);
	*new = *f;
	new->text = strdup(text);
	if (!new->text)
		return err_sys(e, "copy it");
	n->num_forwards++;
	return 0;
}

/* The forwards of an earlier check. */
static void drop_published(struct config_net *n)
{
	unsigned num = 0;

	for (unsigned i = 0; i < n->num_forwards; i++) {
		if (n->forward[i].published)
			free(n->forward[i].text);
		else
			n->forward[num++] = n->forward[i];
	}
	n->num_forwards = num;
}

static int publish_on(struct config_net *n, const char *text, struct err *e)
{
	struct config_forward f;

	if (config_publish_parse(&f, text, e) < 0)
		return e->code;
	return config_forward_add(n, &f, text, e);
}

static int check_twice(const struct config_net *n, struct err *e)
{
	for (unsigned i = 0; i < n->num_forwards; i++) {
		for (unsigned j = 0; j < i; j++) {
			const struct config_forward *a = &n->forward[j], *b = &n->forward[i];

			if (a->host && b->host && a->udp == b->udp && a->host < b->host + b->num &&
			    b->host < a->host + a->num)
				return err_set(e, -EINVAL,
					       "net '%s': '%s' and '%s' are the same %s port of the host, which passt "
					       "listens on once, for one address or for all",
					       n->id, a->text, b->text, a->udp ? "UDP" : "TCP");
		}
	}
	return 0;
}

static struct config_net *find_user(struct config *c)
{
	for (unsigned i = 0; i < c->num_nets; i++) {
		if (c->net[i].kind == CONFIG_NET_USER)
			return &c->net[i];
	}
	return NULL;
}

int config_complete_publish(struct config *c, struct err *e)
{
	struct config_net *user;

	if (c->publish.num && !c->num_nets && c->no_net)
		return err_set(e, -EINVAL, "publish needs a network, and 'none' leaves none: use -n user");
	if (c->publish.num && !c->num_nets && config_set(c, "nets", "user", e) < 0)
		return e->code;
	user = find_user(c);
	if (c->publish.num && !user)
		return err_set(e, -EINVAL,
			       "publish needs -n user: a guest on a tap has an address of its own; connect to that, or "
			       "forward the port on the host, such as with nftables");
	for (unsigned i = 0; i < c->num_nets; i++)
		drop_published(&c->net[i]);
	for (unsigned i = 0; i < c->publish.num; i++) {
		if (publish_on(user, c->publish.text[i], e) < 0)
			return err_wrap(e, "publish '%s'", c->publish.text[i]);
	}
	for (unsigned i = 0; i < c->num_nets; i++) {
		if (check_twice(&c->net[i], e) < 0)
			return e->code;
	}
	return 0;
}
