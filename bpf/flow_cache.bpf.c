/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The rest of a flow whose first packets user space has decided: plain packets of flows that it has put into flows4 and flows6 go to their
 * backend from here, with the bytes that user space would have written. Everything else goes on to the redirect program, untouched.
 *
 * Plain is what src/dataplane/plain_headers.ts calls so, and the two must agree where it matters: a packet that any check of user space could
 * object to is not plain here. What depends on the five-tuple alone was checked when the flow was offered. The program decides nothing
 * about flows; it only forgets those that a SYN, FIN or RST may turn into another.
 */
#define FLOW_MAPS
#include "maps.h"
#include "parse.h"
#include "flow_outer.h"
#include "flow_plain.h"
#include "flow_sets.h"

/* Settings, written before the program is loaded: idle time after which a flow is user space's to judge, ms; ... */
const volatile __u32 tcp_idle_ms = 300000;
const volatile __u32 udp_idle_ms = 30000;
/* ... whether this machine may carry out a load before one that comes before it in the program: all but x86. */
const volatile __u32 loads_reorder = 1;

/* A flow's time is written at most so often: a store for each packet would take its cache line away from other CPUs. */
#define FLOW_SEEN_MS 1000
#define NS_PER_MS 1000000

static __always_inline int hand_on(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &flow_next, 0);
	/* Only if there were no program behind. */
	return XDP_PASS;
}

/* One constant index each: an index that varies is pointer arithmetic that takes CAP_PERFMON. */
static __always_inline int count_and_hand_on(struct xdp_md *ctx, __u64 *counter)
{
	if (counter)
		(*counter)++;
	return hand_on(ctx);
}

static __always_inline struct flow_cpu *this_cpu(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&flow_cpu, &zero);
}

/*
 * CLOCK_MONOTONIC, coarse, ms, wrapping: it moves when jiffies do, which are read without a call. At a tick the two are not written at once, so what is kept may be of the
 * tick before.
 */
static __always_inline __u32 coarse_ms(void)
{
	struct flow_cpu *cpu = this_cpu();
	__u64 jiffies = bpf_jiffies64();

	if (!cpu)
		return 0;
	if (cpu->jiffies != jiffies) {
		cpu->jiffies = jiffies;
		cpu->now_ms = bpf_ktime_get_coarse_ns() / NS_PER_MS;
	}
	return cpu->now_ms;
}

/* Has loads from before carried out before those behind. BPF has no instruction for that which all kernels know; an exchange is a full barrier. */
static __always_inline void order_loads(void)
{
	struct flow_cpu *cpu;

	if (!loads_reorder)
		return;
	cpu = this_cpu();
	if (cpu)
		__sync_lock_test_and_set(&cpu->fence, 1);
}

static __always_inline struct flow_stats *stats_of(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&flow_stats, &zero);
}

/* Takes padding and trailers off, so that `length` bytes are left of the `frame` bytes. Returns what is left. */
static __always_inline __u32 cut(struct xdp_md *ctx, __u32 frame, __u32 length)
{
	if (frame <= length)
		return frame;
	bpf_xdp_adjust_tail(ctx, -(int)(frame - length));
	return length;
}

/* The backend is on the link: other Ethernet addresses, nothing else. Returns the frame's length now, or 0 with the packet unchanged. */
static __always_inline __u32 rewrite(struct xdp_md *ctx, const struct flow_backend *backend, const struct inner *inner)
{
	struct cursor c = cursor_of(ctx);
	struct eth_hdr *eth = c.pos;
	__u32 length = sizeof(*eth) + inner->length;

	if ((void *)(eth + 1) > c.end)
		return 0;
	write_eth(eth, backend);
	return cut(ctx, inner->frame, length < MIN_FRAME ? MIN_FRAME : length);
}

/* Returns the frame's length now, or 0 with the packet unchanged. */
static __always_inline __u32 wrap(struct xdp_md *ctx, const struct flow_backend *backend, const struct flow_value *flow,
				const struct inner *inner, __u32 overhead)
{
	if (bpf_xdp_adjust_head(ctx, -(int)overhead))
		return 0;
	if (write_outer(ctx, backend, flow, inner, overhead + inner->length)) {
		bpf_xdp_adjust_head(ctx, (int)overhead);
		return 0;
	}
	return cut(ctx, inner->frame + overhead, sizeof(struct eth_hdr) + overhead + inner->length);
}

/* A plain packet of a flow that is in the cache; `entry` is of the generation that was read when its key was found. */
static __always_inline int serve(struct xdp_md *ctx, struct flow_entry *entry, __u32 generation, const struct inner *inner, __u32 idle_ms)
{
	struct flow_stats *stats = stats_of();
	struct flow_value flow = { .generation = generation };
	struct flow_backend *backend;
	struct flow_count *count;
	__u32 number, overhead, sent, what, outer, now;
	__s32 idle;

	/* Cannot be: an array's entries exist. The verifier wants the check. */
	if (!stats)
		return hand_on(ctx);
	what = READ_ONCE(entry->what);
	outer = READ_ONCE(entry->outer);
	flow.host = READ_ONCE(entry->host);
	flow.seen_ms = READ_ONCE(entry->seen_ms);
	flow.label = what >> 28 << 16 | outer >> 16;
	flow.sport = outer;
	number = what >> 16 & (FLOW_BACKENDS - 1);
	/* User space takes the generation away before it writes anything else: while it is there, all that was read is of one decision. */
	order_loads();
	if (READ_ONCE(entry->generation) != generation)
		return hand_on(ctx);
	backend = bpf_map_lookup_elem(&flow_backends, &number);
	if (!backend)
		return hand_on(ctx);
	if (generation != backend->generation)
		return count_and_hand_on(ctx, &stats->counts[FLOW_STAT_STALE]);

	/* Another CPU, or user space with a finer clock, may have written a later time. */
	now = coarse_ms();
	idle = (__s32)(now - flow.seen_ms);
	if (idle > (__s32)idle_ms)
		return count_and_hand_on(ctx, &stats->counts[FLOW_STAT_IDLE]);

	overhead = backend->encap == FLOW_ENCAP_L2 ? 0 : outer_bytes(backend);
	if (overhead + inner->length > backend->mtu)
		return count_and_hand_on(ctx, &stats->counts[FLOW_STAT_TOO_BIG]);
	sent = backend->encap == FLOW_ENCAP_L2 ? rewrite(ctx, backend, inner) : wrap(ctx, backend, &flow, inner, overhead);
	if (!sent)
		return count_and_hand_on(ctx, &stats->counts[FLOW_STAT_TOO_BIG]);

	/* Of another flow, should user space have given the place away by now: that one seems to have been seen, which it was just before. */
	if (idle > FLOW_SEEN_MS)
		WRITE_ONCE(entry->seen_ms, now);
	count = bpf_map_lookup_elem(&flow_counts, &number);
	if (count) {
		count->packets++;
		count->bytes += inner->length;
	}
	stats->counts[FLOW_STAT_RX_BYTES] += inner->frame;
	stats->counts[FLOW_STAT_TX_BYTES] += sent;
	if (!backend->ifindex) {
		stats->counts[FLOW_STAT_TX]++;
		return XDP_TX;
	}
	stats->counts[FLOW_STAT_REDIRECT]++;
	return bpf_redirect(backend->ifindex, 0);
}

/*
 * What follows is user space's to judge, which may give the flow to another backend; so the decision in the cache is void. A plain store: should user space put the
 * decision in force at this moment, its exchange fails, or comes before this.
 */
static __always_inline int ended(struct xdp_md *ctx, struct flow_entry *entry)
{
	struct flow_stats *stats = stats_of();

	WRITE_ONCE(entry->generation, FLOW_VOID);
	return count_and_hand_on(ctx, stats ? &stats->counts[FLOW_STAT_ENDED] : 0);
}

/* A packet of the flow that `entry` is of. */
static __always_inline int known(struct xdp_md *ctx, struct flow_entry *entry, __u32 generation, enum plainness plain, const struct inner *inner,
				 __u8 protocol)
{
	if (plain == PLAIN_ENDS)
		return ended(ctx, entry);
	return serve(ctx, entry, generation, inner, protocol == IPPROTO_TCP ? tcp_idle_ms : udp_idle_ms);
}

static __always_inline int ipv4(struct xdp_md *ctx, struct cursor *c)
{
	struct iphdr *ip = c->pos;
	struct inner inner = { .protocol = IPPROTO_IPIP };
	struct flow_set4 *set;
	enum plainness plain;
	__u32 src, dst, ports;
	__u8 protocol;

	if ((void *)(ip + 1) + sizeof(struct udp_bytes) > c->end)
		return hand_on(ctx);
	if (ip->version != 4 || ip->ihl != 5 || ip->frag_off & bpf_htons(IPV4_MF_OR_OFFSET))
		return hand_on(ctx);
	inner.length = bpf_ntohs(ip->tot_len);
	inner.tos = ip->tos;
	inner.frame = bpf_xdp_get_buff_len(ctx);
	if (inner.length < sizeof(*ip) || inner.length + sizeof(struct eth_hdr) > inner.frame)
		return hand_on(ctx);
	plain = plain_l4(ip + 1, c->end, ip->protocol, inner.length - sizeof(*ip));
	if (plain == PLAIN_NOT || !checksum_is_right(ip))
		return hand_on(ctx);

	src = ip->saddr;
	dst = ip->daddr;
	ports = *(any_word *)(ip + 1);
	protocol = ip->protocol;
	set = set4_of(hash4_of(src, dst, ports));
	if (!set)
		return hand_on(ctx);
#pragma unroll
	for (int way = 0; way < FLOW_WAYS; way++) {
		struct flow4 *flow = &set->ways[way];
		__u32 generation = READ_ONCE(flow->entry.generation);

		if (generation == FLOW_EMPTY)
			break;
		OPAQUE(flow);
		if (READ_ONCE(flow->src) == src && READ_ONCE(flow->dst) == dst && is_flow(&flow->entry, generation, ports, protocol))
			return known(ctx, &flow->entry, generation, plain, &inner, protocol);
	}
	return hand_on(ctx);
}

static __always_inline int ipv6(struct xdp_md *ctx, struct cursor *c)
{
	struct ipv6hdr *ip = c->pos;
	struct inner inner = { .protocol = IPPROTO_IPV6 };
	any_word src[4], dst[4];
	struct flow_set6 *set;
	enum plainness plain;
	__u32 payload, ports;
	__u8 protocol;

	if ((void *)(ip + 1) + sizeof(struct udp_bytes) > c->end)
		return hand_on(ctx);
	payload = bpf_ntohs(ip->payload_len);
	inner.frame = bpf_xdp_get_buff_len(ctx);
	if (ip->version != 6 || payload + sizeof(*ip) + sizeof(struct eth_hdr) > inner.frame)
		return hand_on(ctx);
	plain = plain_l4(ip + 1, c->end, ip->nexthdr, payload);
	if (plain == PLAIN_NOT)
		return hand_on(ctx);

	inner.length = payload + sizeof(*ip);
	inner.tos = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	write_words(src, &ip->saddr, 4);
	write_words(dst, &ip->daddr, 4);
	ports = *(any_word *)(ip + 1);
	protocol = ip->nexthdr;
	set = set6_of(hash6_of(src, dst, ports));
	if (!set)
		return hand_on(ctx);
#pragma unroll
	for (int way = 0; way < FLOW_WAYS; way++) {
		struct flow6 *flow = &set->ways[way];
		__u32 generation = READ_ONCE(flow->entry.generation);

		if (generation == FLOW_EMPTY)
			break;
		OPAQUE(flow);
		if (has_addresses(flow, src, dst) && is_flow(&flow->entry, generation, ports, protocol))
			return known(ctx, &flow->entry, generation, plain, &inner, protocol);
	}
	return hand_on(ctx);
}

SEC("xdp")
int sluice_flow(struct xdp_md *ctx)
{
	struct cursor c = cursor_of(ctx);
	struct eth_hdr *eth = c.pos;

	if ((void *)(eth + 1) > c.end)
		return hand_on(ctx);
	c.pos = eth + 1;
	if (eth->proto == bpf_htons(ETH_P_IP))
		return ipv4(ctx, &c);
	if (eth->proto == bpf_htons(ETH_P_IPV6))
		return ipv6(ctx, &c);
	return hand_on(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
