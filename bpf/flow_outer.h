/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Outer headers of flow_cache.bpf.c: the very bytes that src/dataplane/packet/encap.ts and encap_special.ts write, for untagged
 * packets. test/bpf/flow_cache.test.ts holds the two equal.
 */
#ifndef SLUICE_BPF_FLOW_OUTER_H
#define SLUICE_BPF_FLOW_OUTER_H

#include "parse.h"

/* Outer.TTL of src/dataplane/balance/egress.ts. */
#define OUTER_TTL 64
/* A frame without its checksum has at least 60 bytes (IEEE 802.3 §3.2.8). */
#define MIN_FRAME 60

#define UDP_BYTES 8
/* Header of GUE variant 0 without extensions. */
#define GUE0_BYTES 4
#define OUTER_IPV4_BYTES 20
#define OUTER_IPV6_BYTES 40

/* The packet inside: what its outer header depends on. */
struct inner {
	/* IPPROTO_IPIP or IPPROTO_IPV6. */
	__u8 protocol;
	/* TOS or traffic class. */
	__u8 tos;
	/* From the IP header on. */
	__u16 length;
	/* Of the frame as it came. */
	__u32 frame;
};

/* What of an outer header is the flow's own, and its backend: a copy of what the flow's entry has. */
struct flow_value {
	__u32 generation;
	/* Index into flow_backends. */
	__u32 backend;
	/* When it was seen, ms. */
	__u32 seen_ms;
	/* Host bits of the outer source's last word. */
	__u32 host;
	/* IPv6 flow label, 20 bits. */
	__u32 label;
	/* UDP source port. */
	__u16 sport;
};

/* As struct ethhdr and the like: everything is on a boundary of two bytes. */
struct outer_ipv4 {
	__u8 version_ihl;
	__u8 tos;
	__be16 total_length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__sum16 checksum;
	__be16 addresses[4];
};

struct outer_ipv6 {
	__be16 first[2];
	__be16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	__be16 addresses[16];
};

struct outer_udp {
	__be16 sport;
	__be16 dport;
	__be16 length;
	__be16 checksum;
	/* GUE variant 0. */
	__u8 gue_first;
	__u8 gue_protocol;
	__be16 gue_flags;
};

_Static_assert(sizeof(struct outer_ipv4) == OUTER_IPV4_BYTES, "outer_ipv4 is a wire format");
_Static_assert(sizeof(struct outer_ipv6) == OUTER_IPV6_BYTES, "outer_ipv6 is a wire format");
_Static_assert(sizeof(struct outer_udp) == UDP_BYTES + GUE0_BYTES, "outer_udp is a wire format");

/* Bytes between Ethernet header and packet. */
static __always_inline __u32 outer_bytes(const struct flow_backend *backend)
{
	__u32 ip = backend->flags & FLOW_BACKEND_IPV6 ? OUTER_IPV6_BYTES : OUTER_IPV4_BYTES;

	if (backend->encap == FLOW_ENCAP_IPIP)
		return ip;
	return backend->encap == FLOW_ENCAP_GUE1 ? ip + UDP_BYTES : ip + UDP_BYTES + GUE0_BYTES;
}

/* A word anywhere. */
typedef __u32 __attribute__((__may_alias__)) any_word;

/*
 * Frames are on boundaries of two bytes, and these stores are of four: half as many. On machines that cannot do that the verifier refuses the program, and flows
 * stay in user space.
 */
static __always_inline void write_words(void *to, const void *from, int count)
{
	const any_word *words = from;
	any_word *out = to;

	for (int i = 0; i < count; i++)
		out[i] = words[i];
}

static __always_inline void write_eth(struct eth_hdr *eth, const struct flow_backend *backend)
{
	write_words(eth->dst, backend->eth, 3);
}

static __always_inline __u16 outer_checksum(const struct flow_backend *backend, __u32 changing)
{
	__u32 sum = backend->header_sum + changing;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* `length`: of the outer packet. */
static __always_inline void write_ipv4(struct outer_ipv4 *ip, const struct flow_backend *backend, const struct flow_value *flow,
				       const struct inner *inner, __u32 length, __u8 protocol)
{
	__be32 source = backend->source[0] | bpf_htonl(flow->host);
	/* header_sum has the protocol of IPv4 inside. */
	__u32 inside = protocol == IPPROTO_IPV6 ? IPPROTO_IPV6 - IPPROTO_IPIP : 0;
	__u32 changing = inner->tos + length + inside + (flow->host >> 16) + (flow->host & 0xffff);

	ip->version_ihl = 0x45;
	ip->tos = inner->tos;
	ip->total_length = bpf_htons(length);
	ip->id = 0;
	ip->fragment = backend->flags & FLOW_BACKEND_NO_DF ? 0 : bpf_htons(0x4000);
	ip->ttl = OUTER_TTL;
	ip->protocol = protocol;
	ip->checksum = bpf_htons(outer_checksum(backend, changing));
	write_words(ip->addresses, &source, 1);
	write_words(ip->addresses + 2, backend->addr, 1);
}

static __always_inline void write_ipv6(struct outer_ipv6 *ip, const struct flow_backend *backend, const struct flow_value *flow,
				       const struct inner *inner, __u32 length, __u8 protocol)
{
	__be32 first = bpf_htonl(0x60000000 | (__u32)inner->tos << 20 | flow->label);
	__be32 last = backend->source[3] | bpf_htonl(flow->host);

	write_words(ip->first, &first, 1);
	ip->payload_length = bpf_htons(length - OUTER_IPV6_BYTES);
	ip->next_header = protocol;
	ip->hop_limit = OUTER_TTL;
	write_words(ip->addresses, backend->source, 3);
	write_words(ip->addresses + 6, &last, 1);
	write_words(ip->addresses + 8, backend->addr, 4);
}

/* `length`: of the datagram. No checksum: a backend that wants one is not offered flows. */
static __always_inline void write_gue(struct outer_udp *udp, const struct flow_backend *backend, const struct flow_value *flow,
				      const struct inner *inner, __u32 length)
{
	udp->sport = bpf_htons(flow->sport);
	udp->dport = backend->gue_port;
	udp->length = bpf_htons(length);
	udp->checksum = 0;
	if (backend->encap != FLOW_ENCAP_GUE0)
		return;
	udp->gue_first = 0;
	udp->gue_protocol = inner->protocol;
	udp->gue_flags = 0;
}

/*
 * Writes the outer headers into the room that bpf_xdp_adjust_head has made in front of the packet. `length`: of the outer packet. Returns -1
 * where the frame has no such room, which cannot be.
 */
static __always_inline int write_outer(struct xdp_md *ctx, const struct flow_backend *backend, const struct flow_value *flow,
				       const struct inner *inner, __u32 length)
{
	struct cursor c = cursor_of(ctx);
	struct eth_hdr *eth = c.pos;
	int gue = backend->encap != FLOW_ENCAP_IPIP;
	__u8 protocol = gue ? IPPROTO_UDP : inner->protocol;

	if (backend->flags & FLOW_BACKEND_IPV6) {
		struct outer_ipv6 *ip = (void *)(eth + 1);
		struct outer_udp *udp = (void *)(ip + 1);

		if ((void *)(udp + 1) > c.end)
			return -1;
		write_eth(eth, backend);
		eth->proto = bpf_htons(ETH_P_IPV6);
		write_ipv6(ip, backend, flow, inner, length, protocol);
		if (gue)
			write_gue(udp, backend, flow, inner, length - OUTER_IPV6_BYTES);
	} else {
		struct outer_ipv4 *ip = (void *)(eth + 1);
		struct outer_udp *udp = (void *)(ip + 1);

		if ((void *)(udp + 1) > c.end)
			return -1;
		write_eth(eth, backend);
		eth->proto = bpf_htons(ETH_P_IP);
		write_ipv4(ip, backend, flow, inner, length, protocol);
		if (gue)
			write_gue(udp, backend, flow, inner, length - OUTER_IPV4_BYTES);
	}
	return 0;
}

#endif
