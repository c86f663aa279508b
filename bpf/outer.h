/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The outer IP header: is it a tunnel packet for us, from whom, and is it sound? The host's IP layer never sees that header,
 * so its checks are made here. A source that is not allowed is reported as that, however broken the rest may be.
 */
#ifndef SLUICE_BPF_OUTER_H
#define SLUICE_BPF_OUTER_H

#include "decap.h"
#include "gue.h"

/* IPv6 extension headers that could stand between an outer header and the inner packet. */
#define EXT_HOPOPTS 0
#define EXT_ROUTING 43
#define EXT_FRAGMENT 44
#define EXT_DSTOPTS 60

/* IPv4 fragment offset without flags. */
#define IPV4_OFFSET 0x1fff

/* First two bytes of every extension header. */
struct ext_hdr {
	__u8 nexthdr;
	__u8 len;
};

/* Is it for us, and from one of ours? CONTINUE when both. */
static __always_inline int check_addresses(struct decap_stats *count, const struct ip_addr *dst, struct lpm_key *src)
{
	if (!bpf_map_lookup_elem(&decap_dst, dst))
		return pass_other(count);
	src->prefixlen = 128;
	if (!bpf_map_lookup_elem(&decap_src, src))
		return drop(count, DECAP_STAT_DROP_SOURCE);
	return CONTINUE;
}

/*
 * Options and later fragments hide the port, so such UDP is left to the host: it reaches a socket there or none, but never
 * the inside of a tunnel.
 */
static __always_inline int is_gue_ipv4(const struct iphdr *ip, const void *end)
{
	return ip->protocol == IPPROTO_UDP && ip->ihl == 5 && !(ip->frag_off & bpf_htons(IPV4_OFFSET)) &&
	       is_gue(ip + 1, end);
}

static __always_inline int parse_outer_ipv4(struct xdp_md *ctx, struct cursor *c, struct decap_stats *count,
					    struct outer *outer)
{
	struct iphdr *ip = c->pos;
	struct ip_addr dst;
	struct lpm_key src;
	__u32 total;
	int action;

	if ((void *)(ip + 1) > c->end || ip->version != 4 || !(is_tunnel(ip->protocol) || is_gue_ipv4(ip, c->end)))
		return pass_other(count);

	addr_from_ipv4(&dst, &ip->daddr);
	addr_from_ipv4(&src.addr, &ip->saddr);
	action = check_addresses(count, &dst, &src);
	if (action != CONTINUE)
		return action;

	if (ip->ihl != 5 || fold(add_words(0, ip, sizeof(*ip))) != 0xffff)
		return drop(count, DECAP_STAT_DROP_MALFORMED);
	if (ip->frag_off & bpf_htons(IPV4_MF_OR_OFFSET))
		return drop(count, DECAP_STAT_DROP_FRAGMENT);
	total = bpf_ntohs(ip->tot_len);
	if (total < sizeof(*ip) || c->pos + total > c->end)
		return drop(count, DECAP_STAT_DROP_MALFORMED);

	outer->ip = ip;
	outer->version = 4;
	outer->size = sizeof(*ip);
	outer->payload = total - sizeof(*ip);
	outer->protocol = ip->protocol;
	outer->ecn = ip->tos & ECN_MASK;
	c->pos = ip + 1;
	if (ip->protocol != IPPROTO_UDP)
		return CONTINUE;
	return parse_gue(ctx, c, count, outer, add_words(0, &ip->saddr, 8));
}

/* The tunnel protocol behind one extension header, or the next header itself. */
static __always_inline __u8 protocol_behind(const struct ipv6hdr *ip, void *end)
{
	const struct ext_hdr *ext = (const void *)(ip + 1);
	__u8 next = ip->nexthdr;

	if (next != EXT_HOPOPTS && next != EXT_ROUTING && next != EXT_FRAGMENT && next != EXT_DSTOPTS)
		return next;
	if ((void *)(ext + 1) > end)
		return next;
	return ext->nexthdr;
}

/* A jumbogram (payload length 0) is refused: XDP never sees one. */
static __always_inline int parse_outer_ipv6(struct xdp_md *ctx, struct cursor *c, struct decap_stats *count,
					    struct outer *outer)
{
	struct ipv6hdr *ip = c->pos;
	struct ip_addr dst;
	struct lpm_key src;
	__u32 payload;
	int action;

	if ((void *)(ip + 1) > c->end || ip->version != 6 || is_v4_mapped(&ip->daddr))
		return pass_other(count);
	if (!is_tunnel(protocol_behind(ip, c->end)) && !(ip->nexthdr == IPPROTO_UDP && is_gue(ip + 1, c->end)))
		return pass_other(count);

	addr_from_ipv6(&dst, &ip->daddr);
	addr_from_ipv6(&src.addr, &ip->saddr);
	action = check_addresses(count, &dst, &src);
	if (action != CONTINUE)
		return action;

	if (is_v4_mapped(&ip->saddr))
		return drop(count, DECAP_STAT_DROP_SOURCE);
	if (ip->nexthdr == EXT_FRAGMENT)
		return drop(count, DECAP_STAT_DROP_FRAGMENT);
	if (!is_tunnel(ip->nexthdr) && ip->nexthdr != IPPROTO_UDP)
		return drop(count, DECAP_STAT_DROP_MALFORMED);
	payload = bpf_ntohs(ip->payload_len);
	if (c->pos + sizeof(*ip) + payload > c->end)
		return drop(count, DECAP_STAT_DROP_MALFORMED);

	outer->ip = ip;
	outer->version = 6;
	outer->size = sizeof(*ip);
	outer->payload = payload;
	outer->protocol = ip->nexthdr;
	/* Traffic class is the byte that straddles the first two: its ECN bits are the high half's low ones. */
	outer->ecn = (ip->flow_lbl[0] >> 4) & ECN_MASK;
	c->pos = ip + 1;
	if (ip->nexthdr != IPPROTO_UDP)
		return CONTINUE;
	return parse_gue(ctx, c, count, outer, add_words(0, &ip->saddr, 32));
}

#endif
