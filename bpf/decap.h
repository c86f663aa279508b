/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the parts of decap.bpf.c have in common: its settings, what it has learnt of a packet, how it counts. */
#ifndef SLUICE_BPF_DECAP_H
#define SLUICE_BPF_DECAP_H

#define DECAP_MAPS
#include "maps.h"
#include "parse.h"

/* UDP ports of GUE, in host byte order; 0: none. Constants and not a map: a backend's own UDP is compared, not looked up. */
const volatile __u16 gue_port_1 = 6080;
const volatile __u16 gue_port_2 = 0;
const volatile __u16 gue_port_3 = 0;
const volatile __u16 gue_port_4 = 0;

/* 1: send packets of connections that are not here to the next hop of their chain. 0: a chain is checked and ignored. */
const volatile __u8 second_hop = 1;

/* 1: an outer UDP checksum that is there must be right. 0: ignored, for outer packets made by a kernel over veth. */
const volatile __u8 udp_checksum = 1;

/* ECN field of TOS or traffic class (RFC 3168 §5). */
#define ECN_MASK 3

enum tunnel {
	TUNNEL_IPIP = 0,
	TUNNEL_GUE0 = 1,
	TUNNEL_GUE1 = 2,
};

/* What the headers around the inner packet said. */
struct outer {
	/* The outer IP header; valid until the packet's head moves. */
	void *ip;
	/* Bytes from there to the inner packet. */
	__u32 size;
	/* Bytes that the outer headers say the inner packet may have. */
	__u32 payload;
	/* IPPROTO_IPIP or IPPROTO_IPV6: what the inner packet is. IPPROTO_UDP until GUE has told. */
	__u8 protocol;
	__u8 ecn;
	/* enum tunnel */
	__u8 tunnel;
	/* 4 or 6: the outer header's version. */
	__u8 version;
	/* Of the chain: hops already tried, hops in all. Both 0 without one. */
	__u8 next_hop;
	__u8 hop_count;
};

/* Private data of GUE variant 0 that makes it a chain; hop_count addresses follow (GLB Director, gue-header.md). */
struct chain_hdr {
	__be16 type;
	/* First hop not tried yet. */
	__u8 next_hop;
	__u8 hop_count;
};

/* struct chain_hdr's type: what the addresses are. 1 is sluice's, same layout. */
#define CHAIN_IPV4 0
#define CHAIN_IPV6 1

/* GUE variant 0 (draft-ietf-intarea-gue-09 §3.1). */
struct gue_hdr {
	/* Variant (2 bits), C bit, header length in words without this first one (5 bits). */
	__u8 first;
	/* IP protocol number of what follows. */
	__u8 protocol;
	__be16 flags;
};

_Static_assert(sizeof(struct chain_hdr) == 4, "chain_hdr is a wire format");
_Static_assert(sizeof(struct gue_hdr) == 4, "gue_hdr is a wire format");

static __always_inline int is_tunnel(__u8 protocol)
{
	return protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6;
}

static __always_inline int drop(struct decap_stats *count, enum decap_stat why)
{
	count->packets[why]++;
	return XDP_DROP;
}

static __always_inline int pass_other(struct decap_stats *count)
{
	count->packets[DECAP_STAT_PASSED_OTHER]++;
	return XDP_PASS;
}

/* Adds 16-bit words in network byte order to a ones' complement sum. `bytes` is even and a constant. */
static __always_inline __u32 add_words(__u32 sum, const void *from, int bytes)
{
	const __u16 *words = from;

#pragma unroll
	for (int i = 0; i < bytes / 2; i++)
		sum += words[i];
	return sum;
}

/* Folds a ones' complement sum into 16 bits. */
static __always_inline __u32 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

#endif
