/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * For backends: takes the outer IP header off packets that a balancer sent here, and gives the inner packet to the
 * host's stack, which owns the VIP (on lo) and answers the client directly. No tunnel device is needed.
 *
 * Only packets that are IP in IP, addressed to an address in decap_dst, are touched; of those, only what comes from a
 * source in decap_src and is well-formed is let in. VLAN tags stay. Bytes after the outer packet (Ethernet padding) stay
 * too: the stack trims to the inner length, which is checked against the outer one here.
 */
#define DECAP_MAPS
#include "maps.h"
#include "parse.h"

/* ECN field of TOS or traffic class (RFC 3168 §5). */
#define ECN_MASK 3
#define ECN_NOT_ECT 0
#define ECN_ECT_1 1
#define ECN_ECT_0 2
#define ECN_CE 3

/* IPv6 extension headers that could stand between an outer header and the inner packet. */
#define EXT_HOPOPTS 0
#define EXT_ROUTING 43
#define EXT_FRAGMENT 44
#define EXT_DSTOPTS 60

/* What the outer header said. */
struct outer {
	/* Bytes of the outer header: 20 or 40. */
	__u32 size;
	/* Bytes that the outer header says follow it. */
	__u32 payload;
	/* IPPROTO_IPIP or IPPROTO_IPV6. */
	__u8 protocol;
	__u8 ecn;
};

/* First two bytes of every extension header. */
struct ext_hdr {
	__u8 nexthdr;
	__u8 len;
};

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

/* Ones' complement sum over a header of 20 bytes, folded: 0xffff when its checksum is right. */
static __always_inline __u32 header_sum(const struct iphdr *ip)
{
	const __u16 *words = (const void *)ip;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/*
 * The host's IP layer never sees the outer header, so its checks are made here. A source that is not allowed is
 * reported as that, however broken the rest may be.
 */
static __always_inline int parse_outer_ipv4(struct cursor *c, struct decap_stats *count, struct outer *outer)
{
	struct iphdr *ip = c->pos;
	struct ip_addr dst;
	struct lpm_key src;
	__u32 total;
	int action;

	if ((void *)(ip + 1) > c->end || ip->version != 4 || !is_tunnel(ip->protocol))
		return pass_other(count);

	addr_from_ipv4(&dst, &ip->daddr);
	addr_from_ipv4(&src.addr, &ip->saddr);
	action = check_addresses(count, &dst, &src);
	if (action != CONTINUE)
		return action;

	if (ip->ihl != 5 || header_sum(ip) != 0xffff)
		return drop(count, DECAP_STAT_DROP_MALFORMED);
	if (ip->frag_off & bpf_htons(IPV4_MF_OR_OFFSET))
		return drop(count, DECAP_STAT_DROP_FRAGMENT);
	total = bpf_ntohs(ip->tot_len);
	if (total < sizeof(*ip) || c->pos + total > c->end)
		return drop(count, DECAP_STAT_DROP_MALFORMED);

	outer->size = sizeof(*ip);
	outer->payload = total - sizeof(*ip);
	outer->protocol = ip->protocol;
	outer->ecn = ip->tos & ECN_MASK;
	c->pos = ip + 1;
	return CONTINUE;
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
static __always_inline int parse_outer_ipv6(struct cursor *c, struct decap_stats *count, struct outer *outer)
{
	struct ipv6hdr *ip = c->pos;
	struct ip_addr dst;
	struct lpm_key src;
	__u32 payload;
	int action;

	if ((void *)(ip + 1) > c->end || ip->version != 6 || !is_tunnel(protocol_behind(ip, c->end)))
		return pass_other(count);
	if (is_v4_mapped(&ip->daddr))
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
	if (!is_tunnel(ip->nexthdr))
		return drop(count, DECAP_STAT_DROP_MALFORMED);
	payload = bpf_ntohs(ip->payload_len);
	if (c->pos + sizeof(*ip) + payload > c->end)
		return drop(count, DECAP_STAT_DROP_MALFORMED);

	outer->size = sizeof(*ip);
	outer->payload = payload;
	outer->protocol = ip->nexthdr;
	/* Traffic class is the byte that straddles the first two: its ECN bits are the high half's low ones. */
	outer->ecn = (ip->flow_lbl[0] >> 4) & ECN_MASK;
	c->pos = ip + 1;
	return CONTINUE;
}

/*
 * The ECN field that the inner packet leaves with (RFC 6040 §4.2, figure 4), or -1 for the one case that is a drop:
 * a congestion mark on a packet whose ends do not understand it.
 */
static __always_inline int merged_ecn(__u8 outer, __u8 inner)
{
	if (inner == ECN_NOT_ECT)
		return outer == ECN_CE ? -1 : ECN_NOT_ECT;
	if (outer == ECN_CE)
		return ECN_CE;
	if (inner == ECN_ECT_0 && outer == ECN_ECT_1)
		return ECN_ECT_1;
	return inner;
}

/* Changes the TOS byte and the checksum with it (RFC 1624, equation 3). */
static __always_inline void set_ipv4_ecn(struct iphdr *ip, __u8 ecn)
{
	__be16 *first = (__be16 *)ip;
	__u32 sum = (__u16)~ip->check + (__u16)~*first;

	ip->tos = (ip->tos & ~ECN_MASK) | ecn;
	sum += *first;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = (__u16)~sum;
}

static __always_inline int check_inner_ipv4(struct cursor *c, struct decap_stats *count, const struct outer *outer)
{
	struct iphdr *ip = c->pos;
	__u32 total;
	int ecn;

	if ((void *)(ip + 1) > c->end || ip->version != 4 || ip->ihl < 5)
		return drop(count, DECAP_STAT_DROP_MALFORMED);
	total = bpf_ntohs(ip->tot_len);
	if (total < ip->ihl * 4 || total > outer->payload)
		return drop(count, DECAP_STAT_DROP_MALFORMED);

	ecn = merged_ecn(outer->ecn, ip->tos & ECN_MASK);
	if (ecn < 0)
		return drop(count, DECAP_STAT_DROP_ECN);
	if (ecn != (ip->tos & ECN_MASK))
		set_ipv4_ecn(ip, ecn);
	return CONTINUE;
}

static __always_inline int check_inner_ipv6(struct cursor *c, struct decap_stats *count, const struct outer *outer)
{
	struct ipv6hdr *ip = c->pos;
	int ecn;
	__u8 old;

	if ((void *)(ip + 1) > c->end || ip->version != 6)
		return drop(count, DECAP_STAT_DROP_MALFORMED);
	if (sizeof(*ip) + bpf_ntohs(ip->payload_len) > outer->payload)
		return drop(count, DECAP_STAT_DROP_MALFORMED);

	old = (ip->flow_lbl[0] >> 4) & ECN_MASK;
	ecn = merged_ecn(outer->ecn, old);
	if (ecn < 0)
		return drop(count, DECAP_STAT_DROP_ECN);
	if (ecn != old)
		ip->flow_lbl[0] = (ip->flow_lbl[0] & ~(ECN_MASK << 4)) | (ecn << 4);
	return CONTINUE;
}

/*
 * Moves Ethernet header and tags up to the inner packet, with the inner EtherType in the last of them, and cuts what
 * was in front. Returns 0, or -1 when the frame is shorter than it was a moment ago, which cannot be.
 */
static __always_inline int take_off(struct xdp_md *ctx, __u32 size, int tags, __be16 proto)
{
	struct cursor c = cursor_of(ctx);
	struct eth_hdr *eth = c.pos;
	struct vlan_hdr *tag = (void *)(eth + 1);
	struct vlan_hdr saved_tags[MAX_VLAN_TAGS] = {};
	struct eth_hdr saved;

	if ((void *)(tag + MAX_VLAN_TAGS) > c.end)
		return -1;
	saved = *eth;
	saved_tags[0] = tag[0];
	saved_tags[1] = tag[1];
	if (tags == 0)
		saved.proto = proto;
	else if (tags == 1)
		saved_tags[0].proto = proto;
	else
		saved_tags[1].proto = proto;

	if (bpf_xdp_adjust_head(ctx, (int)size))
		return -1;

	c = cursor_of(ctx);
	eth = c.pos;
	tag = (void *)(eth + 1);
	if ((void *)(tag + MAX_VLAN_TAGS) > c.end)
		return -1;
	*eth = saved;
	if (tags > 0)
		tag[0] = saved_tags[0];
	if (tags > 1)
		tag[1] = saved_tags[1];
	return 0;
}

static __always_inline int decapsulate(struct xdp_md *ctx, struct decap_stats *count)
{
	struct cursor c = cursor_of(ctx);
	struct outer outer = {};
	enum decap_stat kind;
	int action, tags, inner4;
	__be16 proto;

	if (parse_ethernet(&c, &proto, &tags))
		return pass_other(count);
	if (proto == bpf_htons(ETH_P_IP))
		action = parse_outer_ipv4(&c, count, &outer);
	else if (proto == bpf_htons(ETH_P_IPV6))
		action = parse_outer_ipv6(&c, count, &outer);
	else
		action = pass_other(count);
	if (action != CONTINUE)
		return action;

	inner4 = outer.protocol == IPPROTO_IPIP;
	action = inner4 ? check_inner_ipv4(&c, count, &outer) : check_inner_ipv6(&c, count, &outer);
	if (action != CONTINUE)
		return action;

	if (proto == bpf_htons(ETH_P_IP))
		kind = inner4 ? DECAP_STAT_DECAP_4IN4 : DECAP_STAT_DECAP_6IN4;
	else
		kind = inner4 ? DECAP_STAT_DECAP_4IN6 : DECAP_STAT_DECAP_6IN6;
	if (take_off(ctx, outer.size, tags, inner4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6)))
		return drop(count, DECAP_STAT_DROP_MALFORMED);
	count->packets[kind]++;
	return XDP_PASS;
}

SEC("xdp")
int sluice_decap(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct decap_stats *count = bpf_map_lookup_elem(&stats, &zero);

	/* Cannot be: an array's first entry exists. The verifier wants the check. */
	if (!count)
		return XDP_PASS;

	count->packets[DECAP_STAT_SEEN]++;
	return decapsulate(ctx, count);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
