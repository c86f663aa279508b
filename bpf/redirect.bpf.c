/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Decides what user space gets to see, and nothing else: packets to a service's address go to the AF_XDP socket of their
 * queue, all others to the host's stack as if no program were there. Everything that can be decided in TypeScript is
 * decided there; a frame that cannot be read goes to the host, which knows what to do with it.
 *
 * Multi-buffer frames (section "xdp.frags") are left out on purpose: without them the kernel refuses the program on
 * a native interface whose MTU does not fit one page (veth: 3506 bytes), which is also the largest frame that one
 * 4096-byte UMEM chunk can take. Accepting frags means sockets bound with XDP_USE_SG and packets of several
 * descriptors on the data path; until that is there, a clear refusal at attach beats frames lost one by one.
 */
#define REDIRECT_MAPS
#include "maps.h"
#include "parse.h"

#include <linux/icmpv6.h>

/* Settings, written before the program is loaded. The verifier sees constants and removes what they rule out. */

/* enum match_all: which packets go to user space. */
const volatile __u32 match_all = MATCH_VIPS;
/* XDP_PASS (fail open) or XDP_DROP (fail closed) for a packet whose queue has no socket; anything else is XDP_PASS. */
const volatile __u32 fallback_action = XDP_PASS;

/* The counters are indexed with the action itself. */
_Static_assert(REDIRECT_STAT_ABORTED == XDP_ABORTED && REDIRECT_STAT_DROP == XDP_DROP, "order of enum xdp_action");
_Static_assert(REDIRECT_STAT_PASS == XDP_PASS && REDIRECT_STAT_TX == XDP_TX, "order of enum xdp_action");
_Static_assert(REDIRECT_STAT_REDIRECT == XDP_REDIRECT, "order of enum xdp_action");

/* DecisionWord.BYTES of src/shared/kernel_decisions.ts. */
#define DECISION_BYTES 8

/* Neighbour discovery travels with this hop limit, so that it cannot come through a router (RFC 4861 §6.1). */
#define ND_HOP_LIMIT 255
#define ND_FIRST 133 /* router solicitation */
#define ND_LAST 137 /* redirect */

/* Frames that keep the host on its link: they stay with it unless user space takes everything. */
static __always_inline int is_housekeeping(__be16 proto)
{
	/* Below 1536 the field is a length (IEEE 802.3): spanning tree, IS-IS. */
	if (bpf_ntohs(proto) < ETH_P_802_3_MIN)
		return 1;
	return proto == bpf_htons(ETH_P_ARP) || proto == bpf_htons(ETH_P_LLDP) || proto == bpf_htons(ETH_P_SLOW) ||
	       proto == bpf_htons(ETH_P_PAE) || proto == bpf_htons(ETH_P_1588);
}

/* A neighbour probes a VIP's hardware address with a packet to the VIP itself: the host has to answer that. */
static __always_inline int is_neighbour_discovery(const struct ipv6hdr *ip, void *end)
{
	const struct icmp6hdr *icmp = (const void *)(ip + 1);

	if (ip->nexthdr != IPPROTO_ICMPV6 || ip->hop_limit != ND_HOP_LIMIT)
		return 0;
	if ((void *)(icmp + 1) > end)
		return 0;
	return icmp->icmp6_type >= ND_FIRST && icmp->icmp6_type <= ND_LAST;
}

static __always_inline int fallback(void)
{
	return fallback_action == XDP_DROP ? XDP_DROP : XDP_PASS;
}

/* XDP_REDIRECT with the socket chosen, or the fallback action. */
static __always_inline int to_user_space(struct xdp_md *ctx, struct redirect_stats *count)
{
	if (bpf_redirect_map(&xsks_map, ctx->rx_queue_index, fallback()) == XDP_REDIRECT)
		return XDP_REDIRECT;
	count->packets[REDIRECT_STAT_NO_SOCKET]++;
	return fallback();
}

/* User space that takes all traffic gets to see these too; otherwise nobody can tell whose they are. */
static __always_inline int malformed(struct redirect_stats *count)
{
	count->packets[REDIRECT_STAT_MALFORMED]++;
	return match_all == MATCH_TRAFFIC ? CONTINUE : XDP_PASS;
}

static __always_inline int not_ip(struct redirect_stats *count, __be16 proto)
{
	count->packets[REDIRECT_STAT_NOT_IP]++;
	return match_all == MATCH_TRAFFIC && !is_housekeeping(proto) ? CONTINUE : XDP_PASS;
}

/* Reads the destination of an IPv4 packet; -1 when the header is malformed. Fragments, first or later, carry the address
 * like any other packet and go the same way. Whether options and total length fit the frame is for user
 * space to say: to check it here takes arithmetic on packet pointers that the verifier grants with CAP_PERFMON only. */
static __always_inline int ipv4_destination(struct cursor *c, struct ip_addr *dst)
{
	struct iphdr *ip = c->pos;

	if ((void *)(ip + 1) > c->end)
		return -1;
	if (ip->version != 4 || ip->ihl < 5)
		return -1;
	addr_from_ipv4(dst, &ip->daddr);
	return 0;
}

/* CONTINUE when the packet is for user space, XDP_PASS when it is not. */
static __always_inline int classify(struct xdp_md *ctx, struct redirect_stats *count)
{
	struct cursor c = cursor_of(ctx);
	struct lpm_key key;
	__be16 proto;
	int tags;

	if (match_all == MATCH_EVERYTHING)
		return CONTINUE;

	if (parse_ethernet(&c, &proto, &tags))
		return malformed(count);

	if (proto == bpf_htons(ETH_P_IP)) {
		if (ipv4_destination(&c, &key.addr))
			return malformed(count);
	} else if (proto == bpf_htons(ETH_P_IPV6)) {
		/* The address is in the base header: extension headers are user space's. */
		struct ipv6hdr *ip = c.pos;

		if ((void *)(ip + 1) > c.end || ip->version != 6 || is_v4_mapped(&ip->daddr))
			return malformed(count);
		if (is_neighbour_discovery(ip, c.end))
			return XDP_PASS;
		addr_from_ipv6(&key.addr, &ip->daddr);
	} else {
		return not_ip(count, proto);
	}

	key.prefixlen = 128;
	if (match_all == MATCH_TRAFFIC || bpf_map_lookup_elem(&vip_map, &key))
		return CONTINUE;
	return XDP_PASS;
}

/* Takes off what rules in front of this program have written for a worker (src/shared/kernel_decisions.ts). The host must not see it: the
 * stack joins only packets with the same metadata, and a program of somebody else's may read it. */
static __always_inline void take_words_off(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *words = (void *)(long)ctx->data_meta;

	if (words + DECISION_BYTES <= data)
		bpf_xdp_adjust_meta(ctx, DECISION_BYTES);
}

/* One constant index a branch: an index that varies is pointer arithmetic that takes CAP_PERFMON. The empty statements keep
 * clang from making one of it again. */
static __always_inline void count_action(struct redirect_stats *count, int action)
{
	if (action == XDP_REDIRECT) {
		count->packets[REDIRECT_STAT_REDIRECT]++;
		asm volatile("");
	} else if (action == XDP_PASS) {
		count->packets[REDIRECT_STAT_PASS]++;
		asm volatile("");
	} else if (action == XDP_DROP) {
		count->packets[REDIRECT_STAT_DROP]++;
		asm volatile("");
	} else if (action == XDP_TX) {
		count->packets[REDIRECT_STAT_TX]++;
		asm volatile("");
	} else {
		count->packets[REDIRECT_STAT_ABORTED]++;
		asm volatile("");
	}
}

SEC("xdp")
int sluice_redirect(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct redirect_stats *count = bpf_map_lookup_elem(&stats, &zero);
	int action;

	/* Cannot be: an array's first entry exists. The verifier wants the check. */
	if (!count)
		return XDP_PASS;

	action = classify(ctx, count);
	if (action == CONTINUE)
		action = to_user_space(ctx, count);

	if (action == XDP_PASS)
		take_words_off(ctx);
	count->packets[REDIRECT_STAT_SEEN]++;
	count_action(count, action);
	return action;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
