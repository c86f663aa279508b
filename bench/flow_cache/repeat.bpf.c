/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * bpf/flow_cache.bpf.c for BPF_PROG_TEST_RUN with `repeat`, which does not put the packet back: each run makes the next packet of the next flow out of
 * what the one before left. `sluice_bare` makes it and nothing else; the difference is what the cache costs, and one bpf_xdp_adjust_head that
 * takes the outer header off again.
 */
#include "../../bpf/flow_cache.bpf.c"

/* Flows, a power of two less one. */
const volatile __u32 flow_mask = 63;

__u32 runs;

/* Source 10.0.0.0 and on, in an order that no prefetcher follows; the checksum with it. Returns 0 when the frame is too short. */
static __always_inline int next_packet(struct xdp_md *ctx)
{
	struct cursor c = cursor_of(ctx);
	struct eth_hdr *eth = c.pos;
	struct iphdr *ip = (void *)(eth + 1);
	__u32 flow = (runs++ * 0x9e3779b1u) >> 8 & flow_mask;
	__u32 source = 0x0a000000 + flow;
	__u32 sum;

	if ((void *)(ip + 1) > c.end)
		return 0;
	eth->proto = bpf_htons(ETH_P_IP);
	ip->saddr = bpf_htonl(source);
	ip->check = 0;
	sum = 0x4500 + bpf_ntohs(ip->tot_len) + bpf_ntohs(ip->id) + bpf_ntohs(ip->frag_off) + (ip->ttl << 8 | ip->protocol);
	sum += (source >> 16) + (source & 0xffff) + bpf_ntohs(ip->daddr & 0xffff) + bpf_ntohs(ip->daddr >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = bpf_htons(~sum & 0xffff);
	return 1;
}

SEC("xdp")
int sluice_repeat(struct xdp_md *ctx)
{
	struct cursor c = cursor_of(ctx);
	struct eth_hdr *eth = c.pos;
	int action;

	if (!next_packet(ctx) || (void *)(eth + 1) > c.end)
		return XDP_ABORTED;
	c.pos = eth + 1;
	action = ipv4(ctx, &c);
	if (action == XDP_TX)
		bpf_xdp_adjust_head(ctx, OUTER_IPV4_BYTES);
	return action;
}

SEC("xdp")
int sluice_bare(struct xdp_md *ctx)
{
	if (!next_packet(ctx))
		return XDP_ABORTED;
	return XDP_TX;
}
