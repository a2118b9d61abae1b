/*
 * The answer to a frame that was refused; see net_filter.h. Programs in the guest see at once
 * that the way is closed (EHOSTUNREACH; EACCES for IPv6), for TCP, UDP and ping alike. It comes
 * from the address that the guest wanted, and quotes the headers, so that Linux finds the socket.
 */
#include <linux/if_ether.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <string.h>

#include "virtio/net_filter.h"

#define IPV4_LEN 20U
#define IPV6_LEN 40U
#define ICMP_LEN 8U
#define QUOTED 8U /* bytes behind the IP header: the ports, and the sequence number of TCP */
#define TTL 64U

static uint32_t sum_up(uint32_t sum, const uint8_t *p, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	return sum;
}

static void put_be16(uint8_t *p, uint32_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static void put_checksum(uint8_t *p, uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum += sum >> 16;
	put_be16(p, ~sum & 0xffff);
}

static uint32_t answer_ipv4(uint8_t *ip, const uint8_t *asked)
{
	const uint32_t quoted = (asked[0] & 15U) * 4U + QUOTED, len = ICMP_LEN + quoted;
	uint8_t *icmp = ip + IPV4_LEN;

	if (asked[16] >= 224 || asked[12] >= 224)
		return 0; /* multicast or broadcast */
	ip[0] = 0x45;
	put_be16(ip + 2, IPV4_LEN + len);
	ip[8] = TTL;
	ip[9] = IPPROTO_ICMP;
	memcpy(ip + 12, asked + 16, 4);
	memcpy(ip + 16, asked + 12, 4);
	put_checksum(ip + 10, sum_up(0, ip, IPV4_LEN));
	icmp[0] = ICMP_DEST_UNREACH;
	icmp[1] = ICMP_PKT_FILTERED;
	memcpy(icmp + ICMP_LEN, asked, quoted);
	put_checksum(icmp + 2, sum_up(0, icmp, len));
	return IPV4_LEN + len;
}

static uint32_t answer_ipv6(uint8_t *ip, const uint8_t *asked)
{
	const uint32_t quoted = IPV6_LEN + QUOTED, len = ICMP_LEN + quoted;
	uint8_t *icmp = ip + IPV6_LEN;

	if (asked[24] == 0xff || asked[8] == 0xff)
		return 0; /* multicast */
	ip[0] = 0x60;
	put_be16(ip + 4, len);
	ip[6] = IPPROTO_ICMPV6;
	ip[7] = TTL;
	memcpy(ip + 8, asked + 24, 16);
	memcpy(ip + 24, asked + 8, 16);
	icmp[0] = ICMP6_DST_UNREACH;
	icmp[1] = ICMP6_DST_UNREACH_ADMIN;
	memcpy(icmp + ICMP_LEN, asked, quoted);
	/* RFC 8200 §8.1: with the addresses, the length and the protocol. */
	put_checksum(icmp + 2, sum_up(sum_up(len + IPPROTO_ICMPV6, ip + 8, 32), icmp, len));
	return IPV6_LEN + len;
}

uint32_t net_filter_answer(uint8_t to[NET_FILTER_ANSWER], const uint8_t *head)
{
	const bool v6 = head[12] == ETH_P_IPV6 >> 8;
	uint32_t len;

	if (head[0] & 1)
		return 0; /* to more than one station */
	memset(to, 0, NET_FILTER_ANSWER);
	len = v6 ? answer_ipv6(to + ETH_HLEN, head + ETH_HLEN) : answer_ipv4(to + ETH_HLEN, head + ETH_HLEN);
	memcpy(to, head + ETH_ALEN, ETH_ALEN);
	memcpy(to + ETH_ALEN, head, ETH_ALEN);
	memcpy(to + 2 * ETH_ALEN, head + 2 * ETH_ALEN, 2);
	return len ? ETH_HLEN + len : 0;
}
