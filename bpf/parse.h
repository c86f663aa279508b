/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Headers, read with a cursor that never passes data_end. UAPI headers only: nothing here depends on kernel internals,
 * so the objects need no CO-RE relocation and load on any kernel with the map types.
 */
#ifndef SLUICE_BPF_PARSE_H
#define SLUICE_BPF_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "types.h"

/* What a step of a program returns when it has not decided: any other number is an XDP action. */
#define CONTINUE (-1)

/* Tags that are looked behind: 802.1ad service tag and 802.1Q customer tag. */
#define MAX_VLAN_TAGS 2

/* IPv4 fragment field: anything set here is a fragment; DF and the reserved bit are not. */
#define IPV4_MF_OR_OFFSET 0x3fff

/* As struct ethhdr, which is packed: from that one clang reads byte by byte. */
struct eth_hdr {
	__be16 dst[3];
	__be16 src[3];
	__be16 proto;
};

struct vlan_hdr {
	__be16 tci;
	/* EtherType of what follows. */
	__be16 proto;
};

_Static_assert(sizeof(struct eth_hdr) == ETH_HLEN, "eth_hdr is a wire format");
_Static_assert(sizeof(struct vlan_hdr) == 4, "vlan_hdr is a wire format");

struct cursor {
	void *pos;
	void *end;
};

static __always_inline struct cursor cursor_of(struct xdp_md *ctx)
{
	return (struct cursor){ .pos = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end };
}

static __always_inline int is_vlan(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

/*
 * Moves the cursor behind the Ethernet header and up to two VLAN tags. Returns 0 with the EtherType of what follows
 * there and the number of tags, or -1 when the frame ends first. A third tag is left: its EtherType is not IP.
 */
static __always_inline int parse_ethernet(struct cursor *c, __be16 *proto, int *tags)
{
	struct eth_hdr *eth = c->pos;

	if ((void *)(eth + 1) > c->end)
		return -1;
	c->pos = eth + 1;
	*proto = eth->proto;
	*tags = 0;

#pragma unroll
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		struct vlan_hdr *tag = c->pos;

		if (!is_vlan(*proto))
			break;
		if ((void *)(tag + 1) > c->end)
			return -1;
		c->pos = tag + 1;
		*proto = tag->proto;
		*tags = i + 1;
	}
	return 0;
}

static __always_inline void addr_from_ipv4(struct ip_addr *addr, const __be32 *from)
{
	__u32 *words = (__u32 *)addr;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = *from;
}

static __always_inline void addr_from_ipv6(struct ip_addr *addr, const struct in6_addr *from)
{
	__builtin_memcpy(addr, from, sizeof(*addr));
}

/*
 * Is this IPv6 address ::ffff:a.b.c.d? It must never be on the wire (RFC 4942 §2.2); in our maps it would be taken for an
 * IPv4 address, so that an IPv6 packet could pass for one that ingress filters for IPv4 are meant to stop.
 */
static __always_inline int is_v4_mapped(const struct in6_addr *addr)
{
	return !addr->s6_addr32[0] && !addr->s6_addr32[1] && addr->s6_addr32[2] == bpf_htonl(0xffff);
}

#endif
