/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The inner packet: is it what the outer headers say, and which ECN field does it leave with? */
#ifndef SLUICE_BPF_INNER_H
#define SLUICE_BPF_INNER_H

#include "decap.h"

#define ECN_NOT_ECT 0
#define ECN_ECT_1 1
#define ECN_ECT_0 2
#define ECN_CE 3

/* Is there a whole inner header at the cursor, and is the packet no longer than the outer one has room for? */
static __always_inline int check_inner(const struct cursor *c, struct decap_stats *count, const struct outer *outer)
{
	__u32 total;

	if (outer->protocol == IPPROTO_IPIP) {
		const struct iphdr *ip = c->pos;

		if ((void *)(ip + 1) > c->end || ip->version != 4 || ip->ihl < 5)
			return drop(count, DECAP_STAT_DROP_MALFORMED);
		total = bpf_ntohs(ip->tot_len);
		if (total < ip->ihl * 4)
			return drop(count, DECAP_STAT_DROP_MALFORMED);
	} else {
		const struct ipv6hdr *ip = c->pos;

		if ((void *)(ip + 1) > c->end || ip->version != 6)
			return drop(count, DECAP_STAT_DROP_MALFORMED);
		total = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	}
	return total > outer->payload ? drop(count, DECAP_STAT_DROP_MALFORMED) : CONTINUE;
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
	ip->check = (__u16)~fold(sum);
}

/* Copies a congestion mark of the outer header into the inner one, which check_inner() has found whole. */
static __always_inline int merge_ecn(const struct cursor *c, struct decap_stats *count, const struct outer *outer)
{
	int ecn, old;

	if (outer->protocol == IPPROTO_IPIP) {
		struct iphdr *ip = c->pos;

		if ((void *)(ip + 1) > c->end)
			return drop(count, DECAP_STAT_DROP_MALFORMED);
		old = ip->tos & ECN_MASK;
		ecn = merged_ecn(outer->ecn, old);
		if (ecn >= 0 && ecn != old)
			set_ipv4_ecn(ip, ecn);
	} else {
		struct ipv6hdr *ip = c->pos;

		if ((void *)(ip + 1) > c->end)
			return drop(count, DECAP_STAT_DROP_MALFORMED);
		old = (ip->flow_lbl[0] >> 4) & ECN_MASK;
		ecn = merged_ecn(outer->ecn, old);
		if (ecn >= 0 && ecn != old)
			ip->flow_lbl[0] = (ip->flow_lbl[0] & ~(ECN_MASK << 4)) | (ecn << 4);
	}
	return ecn < 0 ? drop(count, DECAP_STAT_DROP_ECN) : CONTINUE;
}

#endif
