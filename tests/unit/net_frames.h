/* Ethernet frames for tests: TCP, UDP and echo requests, IPv4 or IPv6 as their addresses are, and ARP. */
#ifndef MF_TESTS_UNIT_NET_FRAMES_H
#define MF_TESTS_UNIT_NET_FRAMES_H

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

#define FRAME_SYN 0x02U
#define FRAME_ACK 0x10U

struct frame {
	uint32_t len;
	uint8_t bytes[160];
};

/* The sum of RFC 1071: 0xffff where a checksum is right. */
static inline uint32_t frame_sum(uint32_t sum, const uint8_t *p, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		sum += (uint32_t)p[i] << (i & 1 ? 0 : 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* A packet with a transport header of len zeros. Returns where that is. */
static inline uint8_t *frame_ip(struct frame *f, const char *from, const char *to, uint8_t protocol, uint8_t len)
{
	const uint8_t v6 = strchr(to, ':') != NULL;
	uint8_t *ip = f->bytes + 14;

	*f = (struct frame){ .len = 14U + (v6 ? 40U : 20U) + len };
	memcpy(f->bytes, "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02", 12);
	memcpy(f->bytes + 12, v6 ? "\x86\xdd" : "\x08\x00", 2);
	if (v6) {
		ip[0] = 0x60;
		ip[5] = len;
		ip[6] = protocol;
		ip[7] = 255;
		(void)inet_pton(AF_INET6, from, ip + 8);
		(void)inet_pton(AF_INET6, to, ip + 24);
		return ip + 40;
	}
	ip[0] = 0x45;
	ip[3] = (uint8_t)(20 + len);
	ip[8] = 64;
	ip[9] = protocol;
	(void)inet_pton(AF_INET, from, ip + 12);
	(void)inet_pton(AF_INET, to, ip + 16);
	return ip + 20;
}

static inline void frame_ports(uint8_t *h, unsigned from, unsigned to)
{
	h[0] = (uint8_t)(from >> 8);
	h[1] = (uint8_t)from;
	h[2] = (uint8_t)(to >> 8);
	h[3] = (uint8_t)to;
}

static inline struct frame frame_tcp(const char *from, const char *to, unsigned from_port, unsigned to_port,
				     uint8_t flags)
{
	struct frame f;
	uint8_t *h = frame_ip(&f, from, to, IPPROTO_TCP, 20);

	frame_ports(h, from_port, to_port);
	h[12] = 0x50;
	h[13] = flags;
	return f;
}

static inline struct frame frame_udp(const char *from, const char *to, unsigned from_port, unsigned to_port)
{
	struct frame f;
	uint8_t *h = frame_ip(&f, from, to, IPPROTO_UDP, 8);

	frame_ports(h, from_port, to_port);
	h[5] = 8;
	return f;
}

static inline struct frame frame_ping(const char *from, const char *to)
{
	const uint8_t v6 = strchr(to, ':') != NULL;
	struct frame f;

	*frame_ip(&f, from, to, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, 8) = v6 ? 128 : 8;
	return f;
}

static inline struct frame frame_arp(void)
{
	struct frame f = { .len = 42 };

	memcpy(f.bytes + 12, "\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01", 10);
	return f;
}

#endif
