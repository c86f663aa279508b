/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Which packets are plain: those that no check of user space could object to. See flow_cache.bpf.c. */
#ifndef SLUICE_BPF_FLOW_PLAIN_H
#define SLUICE_BPF_FLOW_PLAIN_H

#include "parse.h"

/* Byte 13 of the TCP header. */
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_URG 0x20

/* A TCP header, of which the first 20 bytes are there. */
struct tcp_bytes {
	__be16 sport;
	__be16 dport;
	__be32 seq;
	__be32 ack;
	__u8 offset;
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

struct udp_bytes {
	__be16 sport;
	__be16 dport;
	__be16 length;
	__be16 checksum;
};

_Static_assert(sizeof(struct tcp_bytes) == 20 && sizeof(struct udp_bytes) == 8, "wire formats");

enum plainness {
	/* Not for this program. */
	PLAIN_NOT = 0,
	PLAIN = 1,
	/* The flow ends, or begins anew. */
	PLAIN_ENDS = 2,
};

/* What the header behind IP says. `length`: bytes from it to the end of the IP packet, which are in the frame. */
static __always_inline enum plainness plain_l4(void *l4, void *end, __u8 protocol, __u32 length)
{
	if (protocol == IPPROTO_TCP) {
		struct tcp_bytes *tcp = l4;
		__u32 header;

		if (length < sizeof(*tcp) || (void *)(tcp + 1) > end)
			return PLAIN_NOT;
		header = (tcp->offset >> 4) * 4;
		if (tcp->flags & (TCP_SYN | TCP_FIN | TCP_RST))
			return PLAIN_ENDS;
		if (header < sizeof(*tcp) || header > length)
			return PLAIN_NOT;
		return (tcp->flags & (TCP_ACK | TCP_URG)) == TCP_ACK ? PLAIN : PLAIN_NOT;
	}
	if (protocol == IPPROTO_UDP) {
		struct udp_bytes *udp = l4;
		__u32 udp_length;

		if (length < sizeof(*udp) || (void *)(udp + 1) > end)
			return PLAIN_NOT;
		udp_length = bpf_ntohs(udp->length);
		return udp_length >= sizeof(*udp) && udp_length <= length ? PLAIN : PLAIN_NOT;
	}
	return PLAIN_NOT;
}

static __always_inline int checksum_is_right(const struct iphdr *ip)
{
	const __u32 *words = (const void *)ip;
	__u64 sum = (__u64)words[0] + words[1] + words[2] + words[3] + words[4];

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

#endif
