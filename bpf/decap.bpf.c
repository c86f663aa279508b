/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * For backends: takes the outer headers off packets that a balancer sent here (IP in IP, GUE), and gives the inner packet to
 * the host's stack, which owns the VIP (on lo) and answers the client directly. No tunnel device is needed. A packet of a
 * connection that another backend has goes on to that one, when its chain names it (second_hop.h).
 *
 * Only tunnel packets addressed to an address in decap_dst are touched; of those, only what comes from a source in decap_src
 * and is well-formed is let in. VLAN tags stay. Bytes after the outer packet (Ethernet padding) stay too: the stack trims
 * to the inner length, which is checked against the outer one here.
 */
#include "decap.h"
#include "outer.h"
#include "inner.h"
#include "second_hop.h"
#include "forward.h"

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

static __always_inline enum decap_stat kind_of(const struct outer *outer)
{
	int inner4 = outer->protocol == IPPROTO_IPIP;

	if (outer->tunnel == TUNNEL_GUE0)
		return DECAP_STAT_DECAP_GUE0;
	if (outer->tunnel == TUNNEL_GUE1)
		return DECAP_STAT_DECAP_GUE1;
	if (outer->version == 4)
		return inner4 ? DECAP_STAT_DECAP_4IN4 : DECAP_STAT_DECAP_6IN4;
	return inner4 ? DECAP_STAT_DECAP_4IN6 : DECAP_STAT_DECAP_6IN6;
}

static __always_inline int decapsulate(struct xdp_md *ctx, struct decap_stats *count)
{
	struct cursor c = cursor_of(ctx);
	struct outer outer = {};
	enum decap_stat kind;
	int action, tags;
	__be16 proto;

	if (parse_ethernet(&c, &proto, &tags))
		return pass_other(count);
	if (proto == bpf_htons(ETH_P_IP))
		action = parse_outer_ipv4(ctx, &c, count, &outer);
	else if (proto == bpf_htons(ETH_P_IPV6))
		action = parse_outer_ipv6(ctx, &c, count, &outer);
	else
		action = pass_other(count);
	if (action != CONTINUE)
		return action;
	action = check_inner(&c, count, &outer);
	if (action != CONTINUE)
		return action;

	if (second_hop && outer.hop_count) {
		int place = choose_place(ctx, &c, &outer);

		if (place == SEND_ON)
			return send_on(ctx, count, &outer, tags);
		if (place > 0 && place < DECAP_STAT_SIZE)
			count->packets[place]++;
	}

	action = merge_ecn(&c, count, &outer);
	if (action != CONTINUE)
		return action;
	kind = kind_of(&outer);
	proto = outer.protocol == IPPROTO_IPIP ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	if (take_off(ctx, outer.size, tags, proto))
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
