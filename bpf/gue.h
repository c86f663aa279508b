/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Generic UDP encapsulation (draft-ietf-intarea-gue-09). Variant 1 is an IP packet right behind the UDP header, told by
 * its first nibble; variant 0 has a header of its own, whose private data is a chain of further backends, or nothing.
 *
 * The host's stack never sees the outer UDP header, so its checks are made here. A checksum of 0 is none: RFC 768 allows it
 * over IPv4, RFC 6935 and 6936 over IPv6 for tunnels whose inner packets have checksums of their own. Any other must be
 * right, as RFC 768 and RFC 8200 §8.1 want it.
 */
#ifndef SLUICE_BPF_GUE_H
#define SLUICE_BPF_GUE_H

#include <linux/udp.h>

#include "decap.h"

#define GUE_CONTROL 0x20
#define GUE_HLEN_MASK 0x1f

/* bpf_csum_diff() takes at most 512 bytes on kernels before 6.13. 64 times that is more than any MTU that XDP takes. */
#define SUM_STEP 512
#define SUM_STEPS 64

/* Ethernet, two tags, IPv6. */
#define MAX_UDP_OFFSET 62

static __always_inline int is_gue_port(__be16 port)
{
	__u16 number = bpf_ntohs(port);

	return number != 0 &&
	       (number == gue_port_1 || number == gue_port_2 || number == gue_port_3 || number == gue_port_4);
}

/* Is there a whole UDP header at `at`, to one of our ports? */
static __always_inline int is_gue(const void *at, const void *end)
{
	const struct udphdr *udp = at;

	return (const void *)(udp + 1) <= end && is_gue_port(udp->dest);
}

/* Length field of the UDP header at `offset` of the frame, and its first byte; null when that is not in the frame. */
static __always_inline void *udp_at(struct xdp_md *ctx, __u32 offset, __u32 *length)
{
	struct cursor c = cursor_of(ctx);
	struct udphdr *udp;

	if (offset > MAX_UDP_OFFSET)
		return 0;
	udp = c.pos + offset;
	if ((void *)(udp + 1) > c.end)
		return 0;
	*length = bpf_ntohs(*(volatile __be16 *)&udp->len);
	return udp;
}

/*
 * The ones' complement sum of the UDP datagram at `offset` of the frame, on top of `sum`, folded: 0xffff when its checksum is
 * right. 0 when the frame ends first, or for a datagram of more than 33,279 bytes. A global function: the verifier goes through it once and forgets the paths.
 */
__attribute__((noinline)) int sum_udp(struct xdp_md *ctx, __u32 offset, __u32 sum)
{
	void *end = cursor_of(ctx).end;
	__u32 length, left;
	void *at = udp_at(ctx, offset, &length);

	if (!at)
		return 0;
	for (int i = 0; i < SUM_STEPS && (i + 1) * SUM_STEP <= length; i++) {
		if (at + SUM_STEP > end)
			return 0;
		sum = bpf_csum_diff(0, 0, at, SUM_STEP, sum);
		at += SUM_STEP;
	}
	/* Read anew: what the verifier knows of the length is otherwise another thing after each number of rounds. */
	at = udp_at(ctx, offset, &length);
	if (!at || length >= (SUM_STEPS + 1) * SUM_STEP)
		return 0;
	at += length & ~(SUM_STEP - 1);
	left = length & (SUM_STEP - 1);
#pragma unroll
	for (int step = SUM_STEP / 2; step >= 4; step /= 2) {
		if (!(left & step))
			continue;
		if (at + step > end)
			return 0;
		sum = bpf_csum_diff(0, 0, at, step, sum);
		at += step;
	}
	sum = fold(sum);
	if (left & 2) {
		if (at + 2 > end)
			return 0;
		sum += *(__u16 *)at;
		at += 2;
	}
	if (left & 1) {
		if (at + 1 > end)
			return 0;
		sum += bpf_htons((__u16)*(__u8 *)at << 8);
	}
	return fold(sum);
}

/* Is the chain behind `gue` one that we can follow? Fills in its hops. CONTINUE, or what to do with the packet. */
static __always_inline int parse_chain(struct decap_stats *count, struct outer *outer, const struct gue_hdr *gue,
				       void *end, __u32 words)
{
	const struct chain_hdr *chain = (const void *)(gue + 1);
	__u32 hop_words;

	if ((void *)(chain + 1) > end)
		return drop(count, DECAP_STAT_DROP_GUE_HEADER);
	if (chain->type == bpf_htons(CHAIN_IPV4) && outer->version == 4)
		hop_words = 1;
	else if (chain->type == bpf_htons(CHAIN_IPV6) && outer->version == 6)
		hop_words = 4;
	else
		return drop(count, DECAP_STAT_DROP_GUE_CHAIN);
	if (words != 1 + hop_words * chain->hop_count)
		return drop(count, DECAP_STAT_DROP_GUE_CHAIN);
	outer->next_hop = chain->next_hop;
	outer->hop_count = chain->hop_count;
	return CONTINUE;
}

static __always_inline int parse_gue0(struct cursor *c, struct decap_stats *count, struct outer *outer)
{
	struct gue_hdr *gue = c->pos;
	__u32 words, bytes;
	int action = CONTINUE;

	if (outer->payload < sizeof(*gue) || (void *)(gue + 1) > c->end)
		return drop(count, DECAP_STAT_DROP_GUE_HEADER);
	if (gue->first & GUE_CONTROL)
		return drop(count, DECAP_STAT_DROP_GUE_CONTROL);
	if (gue->flags)
		return drop(count, DECAP_STAT_DROP_GUE_FLAGS);
	words = gue->first & GUE_HLEN_MASK;
	bytes = sizeof(*gue) + 4 * words;
	if (bytes > outer->payload || c->pos + bytes > c->end || !is_tunnel(gue->protocol))
		return drop(count, DECAP_STAT_DROP_GUE_HEADER);
	if (words)
		action = parse_chain(count, outer, gue, c->end, words);

	outer->tunnel = TUNNEL_GUE0;
	outer->protocol = gue->protocol;
	outer->size += bytes;
	outer->payload -= bytes;
	c->pos += bytes;
	return action;
}

/* The cursor is at the UDP header; afterwards at the inner packet. `pseudo` is the sum of the outer addresses' words. */
static __always_inline int parse_gue(struct xdp_md *ctx, struct cursor *c, struct decap_stats *count,
				     struct outer *outer, __u32 pseudo)
{
	struct udphdr *udp = c->pos;
	__u32 length;
	__u8 *first = (void *)(udp + 1);

	if ((void *)(udp + 1) > c->end)
		return drop(count, DECAP_STAT_DROP_MALFORMED);
	length = bpf_ntohs(udp->len);
	if (length < sizeof(*udp) || length > outer->payload)
		return drop(count, DECAP_STAT_DROP_MALFORMED);
	if (udp->check && udp_checksum) {
		__u32 sum = pseudo + udp->len + bpf_htons(IPPROTO_UDP);

		if (sum_udp(ctx, c->pos - (void *)(long)ctx->data, sum) != 0xffff)
			return drop(count, DECAP_STAT_DROP_UDP_CHECKSUM);
	}
	outer->size += sizeof(*udp);
	outer->payload = length - sizeof(*udp);
	c->pos = udp + 1;
	if (outer->payload < 1 || (void *)(first + 1) > c->end)
		return drop(count, DECAP_STAT_DROP_GUE_HEADER);

	switch (*first >> 6) {
	case 0:
		return parse_gue0(c, count, outer);
	case 1:
		/* The first nibble is the version of the inner header; 5 and 7 are refused with that header. */
		outer->tunnel = TUNNEL_GUE1;
		outer->protocol = *first >> 4 == 6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
		return CONTINUE;
	default:
		return drop(count, DECAP_STAT_DROP_GUE_VERSION);
	}
}

#endif
