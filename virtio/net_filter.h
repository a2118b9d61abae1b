/*
 * The walls of a user network: which frames of the guest may reach passt, by address and port.
 *
 * Addresses have 16 bytes; an IPv4 address is ::ffff:a.b.c.d. The most specific rule that
 * matches decides: the one with the longest prefix, then the one with the fewest ports, then the
 * first in the caller's order. Without a rule, a frame passes.
 *
 * All calls but net_filter_new and net_filter_free are on the loop's thread.
 */
#ifndef MF_VIRTIO_NET_FILTER_H
#define MF_VIRTIO_NET_FILTER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct err;
struct net_filter;

#define NET_FILTER_HEAD 96U    /* bytes: Ethernet, IPv4 with all options, TCP */
#define NET_FILTER_ANSWER 128U /* bytes of an answer, at most */

#define NET_RULE_TCP 1U
#define NET_RULE_UDP 2U
#define NET_RULE_PING 4U
#define NET_RULE_ALL 7U

struct net_rule {
	struct in6_addr net;  /* the bits behind prefix are 0 */
	uint8_t prefix;	      /* bits, of 128 */
	uint8_t protocols;    /* NET_RULE_* */
	bool allow;	      /* or deny */
	uint16_t first, last; /* ports, of TCP and UDP */
};

struct net_filter_params {
	const char *id; /* of the interface, for the log; kept */
	const struct net_rule *rules;
	unsigned num_rules;
	const struct in6_addr *own; /* of the host: denied, unless a rule for the one address allows it */
	unsigned num_own;
	bool answers; /* UDP to a denied address passes if it answers one from there: ports are published */
};

/* Copies what params points to, but for id. Returns 0, or -ENOMEM with e set. */
int net_filter_new(struct net_filter **ret, const struct net_filter_params *params, struct err *e);

/* Accepts NULL. */
void net_filter_free(struct net_filter *f);

enum net_verdict {
	NET_PASS,
	NET_DROP,   /* malformed, or of a kind that passt does not forward */
	NET_REFUSE, /* denied: net_filter_answer says so to the guest */
};

/*
 * Decides about a frame of the guest. head is a copy of its first bytes, NET_FILTER_HEAD of them
 * or all: the guest cannot change it later. len is that of the frame. Logs the first frame that
 * each rule denies, and the first of each kind that is dropped.
 */
enum net_verdict net_filter_check(struct net_filter *f, const uint8_t *head, uint32_t len);

/* Whether net_filter_note must see the frames for the guest. */
bool net_filter_notes(const struct net_filter *f);

/* Remembers the sender of a datagram for the guest. head is a copy, as above. */
void net_filter_note(struct net_filter *f, const uint8_t *head, uint32_t len);

/*
 * Writes the frame that tells the guest that the frame of head was refused: an ICMP error,
 * "administratively prohibited". Returns its length; 0: it has no answer. (net_answer.c)
 */
uint32_t net_filter_answer(uint8_t to[NET_FILTER_ANSWER], const uint8_t *head);

#endif
