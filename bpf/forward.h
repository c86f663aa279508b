/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Sends a packet on to the next hop of its chain: outer source ours, outer destination the hop, one hop less to try. The
 * inner packet is not touched. next_hop only grows, so a packet is sent on at most hop_count times; the TTL bounds what a
 * hostile chain could do.
 *
 * The way is the host's own, as for a packet that it made itself: the look-up enters by lo, so that only lo has to have
 * forwarding on and the host becomes no router. What cannot be sent now is dropped and never given to this host's TCP:
 * that would answer with a reset, where the sender's retransmission finds the way a moment later.
 */
#ifndef SLUICE_BPF_FORWARD_H
#define SLUICE_BPF_FORWARD_H

#include <linux/udp.h>

#include "decap.h"

#define AF_INET 2
#define AF_INET6 10

/* lo has this number in every network namespace. */
#define LOOPBACK_IFINDEX 1

/* Counts a packet for its hop; `resolved`: it can be sent. Says what else is to be done with it: CONTINUE, or a drop. */
static __always_inline int count_hop(struct decap_stats *count, const struct ip_addr *hop, int resolved)
{
	struct hop_value *value = bpf_map_lookup_elem(&decap_hops, hop);

	if (!value) {
		struct hop_value none = {};

		/* Fails when another CPU has just made it, which does as well. */
		bpf_map_update_elem(&decap_hops, hop, &none, BPF_NOEXIST);
		value = bpf_map_lookup_elem(&decap_hops, hop);
	}
	if (value)
		__sync_fetch_and_add(resolved ? &value->forwarded : &value->unresolved, 1);
	return resolved ? CONTINUE : drop(count, DECAP_STAT_DROP_HOP_NEIGHBOUR);
}

static __always_inline int find_way(struct xdp_md *ctx, struct decap_stats *count, struct bpf_fib_lookup *fib,
				    const struct ip_addr *hop)
{
	fib->l4_protocol = IPPROTO_UDP;
	fib->ifindex = LOOPBACK_IFINDEX;
	switch (bpf_fib_lookup(ctx, fib, sizeof(*fib), 0)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		return count_hop(count, hop, 1);
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		return count_hop(count, hop, 0);
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return drop(count, DECAP_STAT_DROP_HOP_MTU);
	default:
		return drop(count, DECAP_STAT_DROP_HOP_ROUTE);
	}
}

/*
 * The outer UDP checksum after `bytes` of source address were taken away, as many of the hop's were added, and next_hop was
 * counted up (RFC 1624). The old destination is the new source, and 0 stays none.
 */
static __always_inline void update_udp_checksum(struct udphdr *udp, const void *old_source, const void *hop, int bytes)
{
	__u32 sum = (__u16)~udp->check + bpf_htons(0x0100);

	if (!udp->check)
		return;
	sum = add_words(sum, hop, bytes);
	sum += 0xffff ^ fold(add_words(0, old_source, bytes));
	sum = (__u16)~fold(sum);
	udp->check = sum ? sum : 0xffff;
}

static __always_inline int forward_ipv4(struct xdp_md *ctx, struct decap_stats *count, const struct outer *outer,
					void *end, struct bpf_fib_lookup *fib)
{
	struct iphdr *ip = outer->ip;
	struct udphdr *udp = (void *)(ip + 1);
	struct chain_hdr *chain = (void *)(udp + 1) + sizeof(struct gue_hdr);
	__be32 *hop = (void *)(chain + 1) + 4 * outer->next_hop;
	struct ip_addr key;
	int action;

	if ((void *)(hop + 1) > end || (void *)(chain + 1) > end)
		return drop(count, DECAP_STAT_DROP_MALFORMED);
	if (ip->ttl <= 1)
		return drop(count, DECAP_STAT_DROP_HOP_TTL);
	addr_from_ipv4(&key, hop);
	fib->family = AF_INET;
	fib->tot_len = bpf_ntohs(ip->tot_len);
	fib->tos = ip->tos & ~ECN_MASK;
	fib->sport = udp->source;
	fib->dport = udp->dest;
	fib->ipv4_src = ip->daddr;
	fib->ipv4_dst = *hop;
	action = find_way(ctx, count, fib, &key);
	if (action != CONTINUE)
		return action;

	update_udp_checksum(udp, &ip->saddr, hop, 4);
	ip->saddr = ip->daddr;
	ip->daddr = *hop;
	ip->ttl--;
	ip->check = 0;
	ip->check = (__u16)~fold(add_words(0, ip, sizeof(*ip)));
	chain->next_hop++;
	return CONTINUE;
}

static __always_inline int forward_ipv6(struct xdp_md *ctx, struct decap_stats *count, const struct outer *outer,
					void *end, struct bpf_fib_lookup *fib)
{
	struct ipv6hdr *ip = outer->ip;
	struct udphdr *udp = (void *)(ip + 1);
	struct chain_hdr *chain = (void *)(udp + 1) + sizeof(struct gue_hdr);
	struct in6_addr *hop = (void *)(chain + 1) + 16 * outer->next_hop;
	struct ip_addr key;
	int action;

	if ((void *)(hop + 1) > end || (void *)(chain + 1) > end)
		return drop(count, DECAP_STAT_DROP_MALFORMED);
	if (ip->hop_limit <= 1)
		return drop(count, DECAP_STAT_DROP_HOP_TTL);
	if (is_v4_mapped(hop))
		return drop(count, DECAP_STAT_DROP_GUE_CHAIN);
	addr_from_ipv6(&key, hop);
	fib->family = AF_INET6;
	fib->tot_len = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	fib->flowinfo = *(__be32 *)ip & bpf_htonl(0x0fffffff);
	fib->sport = udp->source;
	fib->dport = udp->dest;
	__builtin_memcpy(fib->ipv6_src, &ip->daddr, sizeof(fib->ipv6_src));
	__builtin_memcpy(fib->ipv6_dst, hop, sizeof(fib->ipv6_dst));
	action = find_way(ctx, count, fib, &key);
	if (action != CONTINUE)
		return action;

	update_udp_checksum(udp, &ip->saddr, hop, 16);
	ip->saddr = ip->daddr;
	ip->daddr = *hop;
	ip->hop_limit--;
	chain->next_hop++;
	return CONTINUE;
}

/*
 * A tagged packet leaves by the interface that it came in on, with its tags: the program is on the device below the
 * VLANs, and a VLAN device cannot be redirected to.
 */
static __always_inline int send_on(struct xdp_md *ctx, struct decap_stats *count, const struct outer *outer, int tags)
{
	struct cursor c = cursor_of(ctx);
	struct eth_hdr *eth = c.pos;
	struct bpf_fib_lookup fib = {};
	int action;

	if ((void *)(eth + 1) > c.end)
		return drop(count, DECAP_STAT_DROP_MALFORMED);
	action = outer->version == 4 ? forward_ipv4(ctx, count, outer, c.end, &fib)
				     : forward_ipv6(ctx, count, outer, c.end, &fib);
	if (action != CONTINUE)
		return action;
	__builtin_memcpy(eth->dst, fib.dmac, sizeof(eth->dst));
	__builtin_memcpy(eth->src, fib.smac, sizeof(eth->src));
	count->packets[DECAP_STAT_HOP_FORWARDED]++;
	if (tags > 0 || fib.ifindex == ctx->ingress_ifindex)
		return XDP_TX;
	return bpf_redirect(fib.ifindex, 0);
}

#endif
