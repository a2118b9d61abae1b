/*
 * The walls of a user network; see net_filter.h.
 *
 * Theory of operation. A frame is parsed as passt parses it: the addresses are those of the IP
 * header, the ports those behind it. What passt might read in another way is dropped: fragments,
 * extension headers of IPv6, lengths beyond the frame, tags of VLANs.
 *
 * TCP: the rules decide about the SYN only. passt opens a connection for a SYN without ACK, and
 * for nothing else. All other segments belong to a connection that the rules have allowed, or to
 * a published port, whose peer may have any address.
 *
 * UDP has no SYN: the rules decide about each datagram. If ports are published, the guest must
 * answer peers whose addresses the rules may deny. So the senders of such datagrams are kept in a
 * table, by a hash of address and ports; a new one replaces the one in its slot.
 *
 * ARP and neighbour discovery pass: passt answers them itself and forwards nothing. The same
 * holds for DHCP and DHCPv6, for which the caller has rules. Of ICMP, passt forwards echo
 * requests; these have no port and match rules for all ports.
 *
 * NAT64 (64:ff9b::/96, RFC 6052) is another way to an IPv4 address, so both forms must be allowed.
 */
#include "virtio/net_filter.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define IPV4_LEN 20U
#define IPV4_FRAGMENT 0x3fffU /* more fragments, or an offset */
#define IPV6_LEN 40U
#define TCP_LEN 20U
#define TCP_FLAGS 13U /* their byte in the header */
#define TCP_SYN 0x02U
#define TCP_ACK 0x10U
#define UDP_LEN 8U
#define ICMP_LEN 8U
#define PEERS 256U

enum kind { KIND_PASS, KIND_TCP, KIND_UDP, KIND_PING };

/* Reasons to drop a frame, in the order of the texts. */
enum drop { DROP_NOT, DROP_ETHERTYPE, DROP_HEADER, DROP_FRAGMENT, DROP_PROTOCOL, DROP_MAPPED, DROP_NUM };

static const char *const drop_text[DROP_NUM] = {
	[DROP_ETHERTYPE] = "neither IP nor ARP",
	[DROP_HEADER] = "whose headers are malformed",
	[DROP_FRAGMENT] = "that is a fragment",
	[DROP_PROTOCOL] = "of a protocol, or with an extension header, that passt does not forward",
	[DROP_MAPPED] = "to an IPv4 address as IPv6",
};

struct packet {
	enum kind kind;
	struct in6_addr from, to;
	uint16_t from_port, to_port;
};

struct rule {
	uint64_t net[2], mask[2]; /* in memory's order */
	uint16_t first, last;
	uint8_t prefix, protocols;
	bool allow, logged;
};

/* The guest may send UDP from its port to there. */
struct peer {
	struct in6_addr address;
	uint16_t port, guest_port;
};

struct net_filter {
	const char *id;
	struct rule *rules; /* sorted: the first that matches decides */
	unsigned num_rules;
	struct in6_addr *own; /* sorted */
	unsigned num_own;
	bool own_logged, drop_logged[DROP_NUM];
	struct peer *peers; /* PEERS of them, or NULL */
};

static uint16_t be16_at(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static struct in6_addr from_ipv4(const uint8_t address[4])
{
	struct in6_addr a = { .s6_addr = { [10] = 0xff, [11] = 0xff } };

	memcpy(a.s6_addr + 12, address, 4);
	return a;
}

/* The transport header, of len bytes. */
static enum drop parse_transport(struct packet *p, bool v6, uint8_t protocol, const uint8_t *h, uint32_t len)
{
	if (protocol == IPPROTO_TCP) {
		if (len < TCP_LEN)
			return DROP_HEADER;
		p->kind = (h[TCP_FLAGS] & (TCP_SYN | TCP_ACK)) == TCP_SYN ? KIND_TCP : KIND_PASS;
	} else if (protocol == IPPROTO_UDP) {
		if (len < UDP_LEN)
			return DROP_HEADER;
		p->kind = KIND_UDP;
	} else if (protocol == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) {
		if (len < ICMP_LEN)
			return DROP_HEADER;
		p->kind = KIND_PING;
		if (v6 && h[0] >= ND_ROUTER_SOLICIT && h[0] <= ND_NEIGHBOR_ADVERT)
			p->kind = KIND_PASS;
		else if (h[0] != (v6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO))
			return DROP_PROTOCOL;
		return DROP_NOT;
	} else {
		return DROP_PROTOCOL;
	}
	p->from_port = be16_at(h);
	p->to_port = be16_at(h + 2);
	return DROP_NOT;
}

/* ip has len bytes in the frame, of which at least NET_FILTER_HEAD - ETH_HLEN can be read. */
static enum drop parse_ipv4(struct packet *p, const uint8_t *ip, uint32_t len)
{
	uint32_t header_len, total;

	if (len < IPV4_LEN)
		return DROP_HEADER;
	header_len = (ip[0] & 15U) * 4U;
	total = be16_at(ip + 2);
	if (ip[0] >> 4 != 4 || header_len < IPV4_LEN || total < header_len || total > len)
		return DROP_HEADER;
	if (be16_at(ip + 6) & IPV4_FRAGMENT)
		return DROP_FRAGMENT;
	p->from = from_ipv4(ip + 12);
	p->to = from_ipv4(ip + 16);
	return parse_transport(p, false, ip[9], ip + header_len, total - header_len);
}

static enum drop parse_ipv6(struct packet *p, const uint8_t *ip, uint32_t len)
{
	if (len < IPV6_LEN || ip[0] >> 4 != 6 || be16_at(ip + 4) > len - IPV6_LEN)
		return DROP_HEADER;
	memcpy(&p->from, ip + 8, sizeof(p->from));
	memcpy(&p->to, ip + 24, sizeof(p->to));
	if (ip[6] == IPPROTO_FRAGMENT)
		return DROP_FRAGMENT;
	if (IN6_IS_ADDR_V4MAPPED(&p->to))
		return DROP_MAPPED;
	return parse_transport(p, true, ip[6], ip + IPV6_LEN, be16_at(ip + 4));
}

static enum drop parse(struct packet *p, const uint8_t *head, uint32_t len)
{
	uint16_t type;

	*p = (struct packet){ .kind = KIND_PASS };
	if (len < ETH_HLEN)
		return DROP_HEADER;
	type = be16_at(head + 12);
	if (type == ETH_P_IP)
		return parse_ipv4(p, head + ETH_HLEN, len - ETH_HLEN);
	if (type == ETH_P_IPV6)
		return parse_ipv6(p, head + ETH_HLEN, len - ETH_HLEN);
	return type == ETH_P_ARP ? DROP_NOT : DROP_ETHERTYPE;
}

/* Rules. */

static bool rule_matches(const struct rule *r, const uint64_t address[2], uint8_t protocol, uint16_t port)
{
	return !(((address[0] & r->mask[0]) ^ r->net[0]) | ((address[1] & r->mask[1]) ^ r->net[1])) &&
	       r->protocols & protocol && port >= r->first && port <= r->last;
}

static int compare_addresses(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct in6_addr));
}

/* Whether address and port are open. If not, *ret_logged is where it is noted that the log has it. */
static bool is_open(struct net_filter *f, const struct in6_addr *to, uint8_t protocol, uint16_t port, bool **ret_logged)
{
	struct rule *r = f->rules, *end = f->rules + f->num_rules;
	uint64_t address[2];

	memcpy(address, to, sizeof(address));
	while (r < end && !rule_matches(r, address, protocol, port))
		r++;
	if ((r == end || r->prefix < 128) && bsearch(to, f->own, f->num_own, sizeof(*f->own), compare_addresses)) {
		*ret_logged = &f->own_logged;
		return false;
	}
	if (r == end || r->allow)
		return true;
	*ret_logged = &r->logged;
	return false;
}

static bool is_nat64(const struct in6_addr *a)
{
	static const uint8_t prefix[12] = { 0, 0x64, 0xff, 0x9b };

	return !memcmp(a, prefix, sizeof(prefix));
}

static bool is_allowed(struct net_filter *f, const struct in6_addr *to, uint8_t protocol, uint16_t port,
		       bool **ret_logged)
{
	struct in6_addr inner;

	if (!is_open(f, to, protocol, port, ret_logged))
		return false;
	if (!is_nat64(to))
		return true;
	inner = from_ipv4(to->s6_addr + 12);
	return is_open(f, &inner, protocol, port, ret_logged);
}

/* Answers. */

static struct peer *peer_slot(const struct net_filter *f, const struct in6_addr *address, uint16_t port,
			      uint16_t guest_port)
{
	uint64_t part[2], hash;

	memcpy(part, address, sizeof(part));
	hash = (part[0] ^ part[1] ^ (uint64_t)port << 16 ^ guest_port) * 0x9e3779b97f4a7c15ULL;
	return &f->peers[hash >> 32 & (PEERS - 1)];
}

static bool is_answer(const struct net_filter *f, const struct packet *p)
{
	const struct peer *peer;

	if (!f->peers || p->kind != KIND_UDP || !p->to_port)
		return false; /* a slot that was never filled has port 0 */
	peer = peer_slot(f, &p->to, p->to_port, p->from_port);
	return peer->port == p->to_port && peer->guest_port == p->from_port &&
	       !memcmp(&peer->address, &p->to, sizeof(p->to));
}

bool net_filter_notes(const struct net_filter *f)
{
	return f && f->peers;
}

void net_filter_note(struct net_filter *f, const uint8_t *head, uint32_t len)
{
	struct packet p;
	bool *logged;

	if (parse(&p, head, len) != DROP_NOT || p.kind != KIND_UDP || !p.from_port ||
	    is_allowed(f, &p.from, NET_RULE_UDP, p.from_port, &logged))
		return;
	*peer_slot(f, &p.from, p.from_port, p.to_port) = (struct peer){ p.from, p.from_port, p.to_port };
}

/* The verdict. */

static void log_refused(const struct net_filter *f, const struct packet *p)
{
	static const char *const name[] = { [KIND_TCP] = "TCP", [KIND_UDP] = "UDP", [KIND_PING] = "ping" };
	const bool v4 = IN6_IS_ADDR_V4MAPPED(&p->to);
	char text[INET6_ADDRSTRLEN] = "?";

	(void)inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? (const void *)(p->to.s6_addr + 12) : &p->to, text, sizeof(text));
	log_info("net '%s': refused the guest's %s to %s port %u; further ones by this rule are not logged", f->id,
		 name[p->kind], text, p->to_port);
}

enum net_verdict net_filter_check(struct net_filter *f, const uint8_t *head, uint32_t len)
{
	static const uint8_t protocol[] = {
		[KIND_TCP] = NET_RULE_TCP, [KIND_UDP] = NET_RULE_UDP, [KIND_PING] = NET_RULE_PING
	};
	struct packet p;
	enum drop drop = parse(&p, head, len);
	bool *logged;

	if (drop) {
		if (!f->drop_logged[drop])
			log_debug("net '%s': dropped a frame of the guest %s", f->id, drop_text[drop]);
		f->drop_logged[drop] = true;
		return NET_DROP;
	}
	if (p.kind == KIND_PASS || is_allowed(f, &p.to, protocol[p.kind], p.to_port, &logged) || is_answer(f, &p))
		return NET_PASS;
	if (!*logged)
		log_refused(f, &p);
	*logged = true;
	return NET_REFUSE;
}

/* Life. */

static struct rule rule_of(const struct net_rule *from)
{
	struct rule r = { .first = from->first,
			  .last = from->last,
			  .prefix = from->prefix,
			  .protocols = from->protocols,
			  .allow = from->allow };

	memcpy(r.net, &from->net, sizeof(r.net));
	for (unsigned i = 0; i < 2; i++) {
		unsigned bits = MF_MIN(from->prefix - MF_MIN(from->prefix, 64U * i), 64U);

		r.mask[i] = htobe64(bits ? UINT64_MAX << (64 - bits) : 0);
	}
	return r;
}

static bool is_more_specific(const struct rule *a, const struct rule *b)
{
	return a->prefix != b->prefix ? a->prefix > b->prefix : a->last - a->first < b->last - b->first;
}

/* Insertion: those that are equally specific stay in their order. */
static void sort_in(struct rule *rules, unsigned num, const struct rule *r)
{
	for (; num > 0 && is_more_specific(r, &rules[num - 1]); num--)
		rules[num] = rules[num - 1];
	rules[num] = *r;
}

int net_filter_new(struct net_filter **ret, const struct net_filter_params *params, struct err *e)
{
	struct net_filter *f = calloc(1, sizeof(*f));

	if (f) {
		f->rules = calloc(params->num_rules + 1, sizeof(*f->rules));
		f->own = calloc(params->num_own + 1, sizeof(*f->own));
		f->peers = params->answers ? calloc(PEERS, sizeof(*f->peers)) : NULL;
	}
	if (!f || !f->rules || !f->own || (params->answers && !f->peers)) {
		net_filter_free(f);
		return err_set(e, -ENOMEM, "out of memory");
	}
	f->id = params->id;
	for (f->num_rules = 0; f->num_rules < params->num_rules; f->num_rules++) {
		struct rule r = rule_of(&params->rules[f->num_rules]);

		sort_in(f->rules, f->num_rules, &r);
	}
	f->num_own = params->num_own;
	if (f->num_own)
		memcpy(f->own, params->own, f->num_own * sizeof(*f->own));
	qsort(f->own, f->num_own, sizeof(*f->own), compare_addresses);
	*ret = f;
	return 0;
}

void net_filter_free(struct net_filter *f)
{
	if (!f)
		return;
	free(f->rules);
	free(f->own);
	free(f->peers);
	free(f);
}
