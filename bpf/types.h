/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the BPF programs and user space have in common: map keys and values, and the order of counters.
 * The TypeScript side is src/control/bpf_layout.ts; test/bpf/layout.test.ts holds the two equal.
 */
#ifndef SLUICE_BPF_TYPES_H
#define SLUICE_BPF_TYPES_H

#include <linux/types.h>

/* An IP address in network byte order. IPv4 a.b.c.d is ::ffff:a.b.c.d, so that one map serves both families. */
struct ip_addr {
	__u8 bytes[16];
};

/* Key of the longest-prefix-match tries (the kernel's struct bpf_lpm_trie_key_u8). prefixlen counts bits of the 16
 * bytes: an IPv4 prefix of length n is 96 + n. Look up with 128. */
struct lpm_key {
	__u32 prefixlen;
	struct ip_addr addr;
};

/* Value of vip_map. No flag is defined yet; user space writes 0. */
struct vip_value {
	__u32 flags;
};

/* Value of decap_dst and decap_src. No flag is defined yet; user space writes 0. */
struct decap_value {
	__u32 flags;
};

/*
 * Counters of redirect.bpf.c, in packets. The first five are by action and have the numbers of enum xdp_action:
 * seen = aborted + drop + pass + tx + redirect, always. Those after `seen` say more about packets counted in the first five.
 */
enum redirect_stat {
	REDIRECT_STAT_ABORTED = 0,
	REDIRECT_STAT_DROP = 1,
	REDIRECT_STAT_PASS = 2,
	REDIRECT_STAT_TX = 3,
	REDIRECT_STAT_REDIRECT = 4,
	REDIRECT_STAT_SEEN = 5,
	/* Was for user space, but the queue has no socket: took the fallback action (also in pass or drop). */
	REDIRECT_STAT_NO_SOCKET = 6,
	/* No IPv4 or IPv6 behind at most two VLAN tags. */
	REDIRECT_STAT_NOT_IP = 7,
	/* The frame ends inside a header, the IP header lies about its version or length, or an IPv6 destination is ::ffff:a.b.c.d. */
	REDIRECT_STAT_MALFORMED = 8,
	REDIRECT_STAT_SIZE = 9,
};

/* Only value of redirect's `stats` map. One structure rather than one map entry a counter: one look-up a packet. */
struct redirect_stats {
	__u64 packets[REDIRECT_STAT_SIZE];
};

/* Value of decap_hops, by next hop. Both counts only grow, until the entry is evicted. */
struct hop_value {
	/* Packets sent on to this hop. */
	__u64 forwarded;
	/* Packets dropped because its hardware address was not known. User space then has the kernel ask for it. */
	__u64 unresolved;
};

/*
 * Counters of decap.bpf.c, in packets. Each packet is counted in `seen` and in exactly one of those from `passed_other` to
 * `drop_hop_mtu`. Those after that say why a packet with a chain stayed here; it is counted in `decap_gue0` too (or was
 * dropped for its ECN field).
 */
enum decap_stat {
	DECAP_STAT_SEEN = 0,
	/* Not a tunnel packet for one of our addresses: given to the host untouched. */
	DECAP_STAT_PASSED_OTHER = 1,
	/* IP in IP. Inner in outer: 6in4 is IPv6 carried by IPv4. */
	DECAP_STAT_DECAP_4IN4 = 2,
	DECAP_STAT_DECAP_6IN4 = 3,
	DECAP_STAT_DECAP_4IN6 = 4,
	DECAP_STAT_DECAP_6IN6 = 5,
	/* GUE variant 0 (with a header) and 1 (IP directly in UDP), all families. */
	DECAP_STAT_DECAP_GUE0 = 6,
	DECAP_STAT_DECAP_GUE1 = 7,
	/* Sent on to the next hop of its chain. */
	DECAP_STAT_HOP_FORWARDED = 8,
	/* Outer source is not in decap_src. */
	DECAP_STAT_DROP_SOURCE = 9,
	/* Outer options, a wrong outer checksum, lengths that contradict each other, or not the inner version announced. */
	DECAP_STAT_DROP_MALFORMED = 10,
	/* The outer packet is a fragment: our balancers never send one. */
	DECAP_STAT_DROP_FRAGMENT = 11,
	/* Congestion was marked on the way, but the inner packet cannot carry the mark (RFC 6040 §4.2). */
	DECAP_STAT_DROP_ECN = 12,
	/* The outer UDP checksum is there and wrong. */
	DECAP_STAT_DROP_UDP_CHECKSUM = 13,
	/* GUE variant 2 or 3: nobody has defined them. */
	DECAP_STAT_DROP_GUE_VERSION = 14,
	/* The C bit is set: a control message, for which there is no receiver. */
	DECAP_STAT_DROP_GUE_CONTROL = 15,
	/* A flag is set: each stands for an extension field, or for private data, that we do not know. */
	DECAP_STAT_DROP_GUE_FLAGS = 16,
	/* GUE header longer than the packet, or a protocol that is neither IPv4 nor IPv6. */
	DECAP_STAT_DROP_GUE_HEADER = 17,
	/* Private data that is no chain, or a chain of the other family than the outer header. */
	DECAP_STAT_DROP_GUE_CHAIN = 18,
	/* Was to go to the next hop, but the outer TTL is used up: a loop. */
	DECAP_STAT_DROP_HOP_TTL = 19,
	/* The host has no route to the next hop, or second hop is on without forwarding on lo. */
	DECAP_STAT_DROP_HOP_ROUTE = 20,
	/* The hardware address of the next hop is not known (yet). */
	DECAP_STAT_DROP_HOP_NEIGHBOUR = 21,
	/* The packet is larger than the MTU of the route to the next hop. */
	DECAP_STAT_DROP_HOP_MTU = 22,
	/* SYN without ACK: whoever gets it first owns the connection. */
	DECAP_STAT_LOCAL_SYN = 23,
	/* A socket of that connection is here: established, half open or in TIME_WAIT. */
	DECAP_STAT_LOCAL_SOCKET = 24,
	/* A listener is here, and the ACK brings back a SYN cookie of it. */
	DECAP_STAT_LOCAL_COOKIE = 25,
	/* An ICMP error about a connection whose socket is here. */
	DECAP_STAT_LOCAL_ICMP = 26,
	/* Nobody's here, but no hop is left: the host's TCP answers with a reset. */
	DECAP_STAT_LOCAL_LAST = 27,
	/* Neither TCP nor an ICMP error about TCP, or a fragment, or a header too short to say. */
	DECAP_STAT_LOCAL_OTHER = 28,
	DECAP_STAT_SIZE = 29,
};

/* Only value of decap's `stats` map. */
struct decap_stats {
	__u64 packets[DECAP_STAT_SIZE];
};

/*
 * What flow_cache.bpf.c has of a flow and of a backend. Addresses and ports are in network byte order, all other numbers in the machine's.
 * src/control/ebpf/flow_layout.ts is the TypeScript side.
 */

/* Values of flow_entry.generation that no backend has. Those of backends are counted up from 1. */
enum flow_generation {
	/* Neither this place nor those behind it in the set have a flow: a look-up ends here. */
	FLOW_EMPTY = 0,
	/* A flow that is on its way in: not served, and a SYN, FIN or RST turns it away. */
	FLOW_ANNOUNCED = 0xfffffffe,
	/* No flow, but there may be some behind it. */
	FLOW_VOID = 0xffffffff,
};

/*
 * The decision for a flow, and what of its outer header is its own. User space writes all of it, `generation` last; the program writes `seen_ms`,
 * and `generation` to void it.
 */
struct flow_entry {
	/* Served only while the backend has the same one. */
	__u32 generation;
	/* Both, as they are in the packet. */
	__be32 ports;
	/* Protocol | worker << 8 | number of the backend << 16 | upper four bits of the IPv6 flow label outside << 28. */
	__u32 what;
	/* CLOCK_MONOTONIC (coarse), ms, wrapping: of a packet of it, at most FLOW_SEEN_MS before that of the last one. */
	__u32 seen_ms;
	/* Host bits of the outer source's last word. */
	__u32 host;
	/* Outer UDP source port | lower 16 bits of the flow label << 16. */
	__u32 outer;
};

struct flow4 {
	struct flow_entry entry;
	__be32 src;
	__be32 dst;
};

struct flow6 {
	struct flow_entry entry;
	__be32 src[4];
	__be32 dst[4];
	__u32 reserved[2];
};

/* Places of a set: where a flow may be. */
#define FLOW_WAYS 4

/* Value of flows4: two cache lines, of which the first is all there is to look at in most sets. */
struct flow_set4 {
	struct flow4 ways[FLOW_WAYS];
};

/* Value of flows6: a cache line each. */
struct flow_set6 {
	struct flow6 ways[FLOW_WAYS];
};

/* EncapKind of src/shared/layout.ts. */
enum flow_encap {
	FLOW_ENCAP_IPIP = 0,
	FLOW_ENCAP_GUE1 = 1,
	FLOW_ENCAP_GUE0 = 2,
	FLOW_ENCAP_L2 = 3,
};

/* Bits of flow_backend.flags. */
enum flow_backend_flag {
	/* The outer header is IPv6. */
	FLOW_BACKEND_IPV6 = 1,
	/* DF is not set in an outer IPv4 header. */
	FLOW_BACKEND_NO_DF = 2,
};

/* Value of flow_backends, by the backend's number: one cache line. */
struct flow_backend {
	/* Of the flows that it serves; 0: none. */
	__u32 generation;
	/* Interface to leave by; 0: the one that the packet came in on. */
	__u32 ifindex;
	/* Largest outer packet, bytes. */
	__u16 mtu;
	__u8 encap;
	__u8 flags;
	__be16 gue_port;
	/* Folded sum of the outer IPv4 header without total length and TOS, as BackendField.headerSum. */
	__u16 header_sum;
	/* Destination and source hardware address. */
	__u8 eth[12];
	__be32 source[4];
	__be32 addr[4];
	__u32 reserved;
};

/* Value of flow_counts, by the backend's number: packets that were sent there, and their bytes from the inner IP header on. */
struct flow_count {
	__u64 packets;
	__u64 bytes;
};

/* Counters of flow_cache.bpf.c, in packets if not said otherwise. */
enum flow_stat {
	/* Sent out of the interface that they came in on, and out of another. */
	FLOW_STAT_TX = 0,
	FLOW_STAT_REDIRECT = 1,
	/* Bytes of these, as received and as sent. */
	FLOW_STAT_RX_BYTES = 2,
	FLOW_STAT_TX_BYTES = 3,
	/* Known flows that were handed on: a SYN, FIN or RST, after which the flow is forgotten here; ... */
	FLOW_STAT_ENDED = 4,
	/* ... not served yet, or no longer by this backend; ... */
	FLOW_STAT_STALE = 5,
	/* ... idle for so long that user space is to say whether it still is a flow; ... */
	FLOW_STAT_IDLE = 6,
	/* ... too big with its outer header, or no room for that in the frame. */
	FLOW_STAT_TOO_BIG = 7,
	FLOW_STAT_SIZE = 8,
};

/* Only value of flow_cache's `flow_stats` map. */
struct flow_stats {
	__u64 counts[FLOW_STAT_SIZE];
};

/* Values of the setting match_all of redirect.bpf.c. */
enum match_all {
	/* Packets to an address in vip_map. */
	MATCH_VIPS = 0,
	/* Everything but what the host needs to stay on its link; see is_housekeeping() and is_neighbour_discovery(). */
	MATCH_TRAFFIC = 1,
	/* Every frame, ARP included: user space answers for the host. */
	MATCH_EVERYTHING = 2,
};

_Static_assert(sizeof(struct ip_addr) == 16, "ip_addr is shared with user space");
_Static_assert(sizeof(struct lpm_key) == 20, "lpm_key is shared with user space");
_Static_assert(sizeof(struct vip_value) == 4, "vip_value is shared with user space");
_Static_assert(sizeof(struct decap_value) == 4, "decap_value is shared with user space");
_Static_assert(sizeof(struct hop_value) == 16, "hop_value is shared with user space");
_Static_assert(sizeof(struct redirect_stats) == 8 * REDIRECT_STAT_SIZE, "redirect_stats is shared with user space");
_Static_assert(sizeof(struct flow_entry) == 24, "flow_entry is shared with user space");
_Static_assert(sizeof(struct flow_set4) == 32 * FLOW_WAYS, "flow_set4 is shared with user space");
_Static_assert(sizeof(struct flow_set6) == 64 * FLOW_WAYS, "flow_set6 is shared with user space");
_Static_assert(sizeof(struct flow_backend) == 64, "flow_backend is shared with user space");
_Static_assert(sizeof(struct flow_count) == 16, "flow_count is shared with user space");
_Static_assert(sizeof(struct flow_stats) == 8 * FLOW_STAT_SIZE, "flow_stats is shared with user space");
_Static_assert(sizeof(struct decap_stats) == 8 * DECAP_STAT_SIZE, "decap_stats is shared with user space");

#endif
