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

/* Settings, written before the program is loaded: idle time after which a flow is user space's to judge, ms. */
const volatile __u32 tcp_idle_ms = 300000;
const volatile __u32 udp_idle_ms = 30000;

/* A flow's time is written at most so often: a store for each packet would take its cache line away from other CPUs. */
#define FLOW_SEEN_NS 1000000000LL
#define NS_PER_MS 1000000LL

/* Byte 13 of the TCP header. */
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_URG 0x20

/* A TCP header, of which the first 20 bytes are there. */
struct tcp_bytes {
	__be16 sport;
	__be16 dport;
	__be32 seq;
	__be32 ack;
	__u8 offset;
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

struct udp_bytes {
	__be16 sport;
	__be16 dport;
	__be16 length;
	__be16 checksum;
};

_Static_assert(sizeof(struct tcp_bytes) == 20 && sizeof(struct udp_bytes) == 8, "wire formats");

enum plainness {
	/* Not for this program. */
	PLAIN_NOT = 0,
	PLAIN = 1,
	/* The flow ends, or begins anew. */
	PLAIN_ENDS = 2,
};

/* What the header behind IP says. `length`: bytes from it to the end of the IP packet, which are in the frame. */
static __always_inline enum plainness plain_l4(void *l4, void *end, __u8 protocol, __u32 length)
{
	if (protocol == IPPROTO_TCP) {
		struct tcp_bytes *tcp = l4;
		__u32 header;

		if (length < sizeof(*tcp) || (void *)(tcp + 1) > end)
			return PLAIN_NOT;
		header = (tcp->offset >> 4) * 4;
		if (tcp->flags & (TCP_SYN | TCP_FIN | TCP_RST))
			return PLAIN_ENDS;
		if (header < sizeof(*tcp) || header > length)
			return PLAIN_NOT;
		return (tcp->flags & (TCP_ACK | TCP_URG)) == TCP_ACK ? PLAIN : PLAIN_NOT;
	}
	if (protocol == IPPROTO_UDP) {
		struct udp_bytes *udp = l4;
		__u32 udp_length;

		if (length < sizeof(*udp) || (void *)(udp + 1) > end)
			return PLAIN_NOT;
		udp_length = bpf_ntohs(udp->length);
		return udp_length >= sizeof(*udp) && udp_length <= length ? PLAIN : PLAIN_NOT;
	}
	return PLAIN_NOT;
}

static __always_inline int checksum_is_right(const struct iphdr *ip)
{
	const __u32 *words = (const void *)ip;
	__u64 sum = (__u64)words[0] + words[1] + words[2] + words[3] + words[4];

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

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
 * CLOCK_MONOTONIC, coarse, ns: it moves when jiffies do, which are read without a call. At a tick the two are not written at once, so what is kept may be of the tick before.
 */
static __always_inline __s64 coarse_ns(void)
{
	struct flow_cpu *cpu = this_cpu();
	__u64 jiffies = bpf_jiffies64();

	if (!cpu)
		return 0;
	if (cpu->jiffies != jiffies) {
		cpu->jiffies = jiffies;
		cpu->now_ns = bpf_ktime_get_coarse_ns();
	}
	return (__s64)cpu->now_ns;
}

/* Each looks for the CPU's entry anew: a pointer that waits on the stack may not give way to a number there without CAP_PERFMON. */
static __always_inline int last_missed(void)
{
	struct flow_cpu *cpu = this_cpu();

	return cpu && cpu->missed;
}

static __always_inline void note_missed(__u64 missed)
{
	struct flow_cpu *cpu = this_cpu();

	if (cpu)
		cpu->missed = missed;
}

/*
 * Whether the tables may have a flow. `a` and `b`: from source and destination; `ports`: both, as in the packet. flowFilterHash() of
 * src/control/ebpf/flow_layout.ts is the same.
 */
static __always_inline int filter_has(__u32 family_words, __u32 a, __u32 b, __u32 ports)
{
	__u32 hash = (a * 0x9e3779b1u) ^ (ports * 0x85ebca6bu) ^ b;
	__u32 at;
	__u64 *word;

	hash = (hash ^ hash >> 15) * 0xc2b2ae35u;
	at = family_words + (hash >> 18);
	word = bpf_map_lookup_elem(&flow_filter, &at);
	return !word || !(*word >> (hash >> 12 & 63) & 1);
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

/* A plain packet of a flow that is in the cache. */
static __always_inline int serve(struct xdp_md *ctx, struct flow_value *flow, const struct inner *inner, __u32 idle_ms)
{
	struct flow_stats *stats = stats_of();
	struct flow_backend *backend;
	struct flow_count *count;
	__u32 number, overhead, sent;
	__s64 now, idle;

	/* Cannot be: an array's entries exist. The verifier wants the check. */
	if (!stats)
		return hand_on(ctx);
	number = flow->backend;
	backend = bpf_map_lookup_elem(&flow_backends, &number);
	if (!backend)
		return hand_on(ctx);
	if (!flow->generation || flow->generation != backend->generation)
		return count_and_hand_on(ctx, &stats->counts[FLOW_STAT_STALE]);

	/* Another CPU, or user space with a finer clock, may have written a later time. */
	now = coarse_ns();
	idle = now - (__s64)flow->seen_ns;
	if (idle > (__s64)idle_ms * NS_PER_MS)
		return count_and_hand_on(ctx, &stats->counts[FLOW_STAT_IDLE]);

	overhead = backend->encap == FLOW_ENCAP_L2 ? 0 : outer_bytes(backend);
	if (overhead + inner->length > backend->mtu)
		return count_and_hand_on(ctx, &stats->counts[FLOW_STAT_TOO_BIG]);
	sent = backend->encap == FLOW_ENCAP_L2 ? rewrite(ctx, backend, inner) : wrap(ctx, backend, flow, inner, overhead);
	if (!sent)
		return count_and_hand_on(ctx, &stats->counts[FLOW_STAT_TOO_BIG]);

	if (idle > FLOW_SEEN_NS)
		flow->seen_ns = (__u64)now;
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

/* What follows is user space's to judge, which may give the flow to another backend; so the decision in the cache is void. */
static __always_inline int ended(struct xdp_md *ctx)
{
	struct flow_stats *stats = stats_of();

	return count_and_hand_on(ctx, stats ? &stats->counts[FLOW_STAT_ENDED] : 0);
}

static __always_inline int ipv4(struct xdp_md *ctx, struct cursor *c)
{
	struct iphdr *ip = c->pos;
	struct flow_key4 key = {};
	struct inner inner = { .protocol = IPPROTO_IPIP };
	struct flow_value *flow;
	enum plainness plain;
	__be16 *ports;

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

	ports = (void *)(ip + 1);
	key.src = ip->saddr;
	key.dst = ip->daddr;
	key.sport = ports[0];
	key.dport = ports[1];
	key.protocol = ip->protocol;
	/* Where flows are known, each packet's look-up finds one, and there is nothing to be saved. */
	if ((plain == PLAIN_ENDS || last_missed()) && !filter_has(0, key.src, key.dst, *(any_word *)ports))
		return hand_on(ctx);
	if (plain == PLAIN_ENDS)
		return bpf_map_delete_elem(&flows4, &key) ? hand_on(ctx) : ended(ctx);
	flow = bpf_map_lookup_elem(&flows4, &key);
	if (!flow) {
		note_missed(1);
		return hand_on(ctx);
	}
	note_missed(0);
	return serve(ctx, flow, &inner, key.protocol == IPPROTO_TCP ? tcp_idle_ms : udp_idle_ms);
}

static __always_inline int ipv6(struct xdp_md *ctx, struct cursor *c)
{
	struct ipv6hdr *ip = c->pos;
	struct flow_key6 key = {};
	struct inner inner = { .protocol = IPPROTO_IPV6 };
	struct flow_value *flow;
	enum plainness plain;
	__be16 *ports;
	__u32 payload;

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
	ports = (void *)(ip + 1);
	__builtin_memcpy(key.src, &ip->saddr, sizeof(key.src));
	__builtin_memcpy(key.dst, &ip->daddr, sizeof(key.dst));
	key.sport = ports[0];
	key.dport = ports[1];
	key.protocol = ip->nexthdr;
	if ((plain == PLAIN_ENDS || last_missed()) &&
	    !filter_has(FLOW_FILTER_WORDS, key.src[0] ^ key.src[1] ^ key.src[2] ^ key.src[3], key.dst[3], *(any_word *)ports))
		return hand_on(ctx);
	if (plain == PLAIN_ENDS)
		return bpf_map_delete_elem(&flows6, &key) ? hand_on(ctx) : ended(ctx);
	flow = bpf_map_lookup_elem(&flows6, &key);
	if (!flow) {
		note_missed(1);
		return hand_on(ctx);
	}
	note_missed(0);
	return serve(ctx, flow, &inner, key.protocol == IPPROTO_TCP ? tcp_idle_ms : udp_idle_ms);
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
