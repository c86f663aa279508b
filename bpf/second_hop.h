/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Whose connection is it? A packet with hops left in its chain stays here when it opens a connection, when a socket here
 * knows it, or when it is nothing that a socket could tell. All else is for the next hop: the backend that had this place in
 * the balancer's table before, and so has the connection.
 */
#ifndef SLUICE_BPF_SECOND_HOP_H
#define SLUICE_BPF_SECOND_HOP_H

#include <linux/tcp.h>

#include "decap.h"

/* What choose_place() returns besides a counter of packets that stay. */
#define SEND_ON (-1)

/* ICMP errors (RFC 792). ICMPv6 errors are all types below 128 (RFC 4443 §2.1). */
#define ICMP_DEST_UNREACH 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMP6_ERRORS_END 128

/* ICMP and ICMPv6 in front of what an error quotes; <linux/icmp.h> drags in libc's headers. */
struct icmp_hdr {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 rest;
};

/* The first bytes of a TCP header: all that an ICMP error has to quote of it. */
struct tcp_ports {
	__be16 source;
	__be16 dest;
};

/*
 * What this host's socket tables have of a connection. A listener alone has nothing of it, unless `tcp` brings back a SYN
 * cookie that it sent: the handshake is then in no table. `tcp` is null for an ICMP error. `network` is the inner IP header.
 */
static __always_inline int find_socket(struct xdp_md *ctx, struct bpf_sock_tuple *tuple, __u32 tuple_size,
				       void *network, __u32 network_size, struct tcphdr *tcp)
{
	struct bpf_sock *sk = bpf_skc_lookup_tcp(ctx, tuple, tuple_size, BPF_F_CURRENT_NETNS, 0);
	int place = SEND_ON;

	if (!sk)
		return SEND_ON;
	if (sk->state != BPF_TCP_LISTEN)
		place = DECAP_STAT_LOCAL_SOCKET;
	else if (tcp && tcp->ack && !tcp->rst &&
		 bpf_tcp_check_syncookie(sk, network, network_size, tcp, sizeof(*tcp)) == 0)
		place = DECAP_STAT_LOCAL_COOKIE;
	bpf_sk_release(sk);
	return place;
}

static __always_inline int is_opening(const struct tcphdr *tcp)
{
	return tcp->syn && !tcp->ack;
}

/* The socket of the connection that an ICMP error is about; `tuple` is reversed, the quoted packet being ours. */
static __always_inline int find_quoted(struct xdp_md *ctx, struct bpf_sock_tuple *tuple, __u32 tuple_size)
{
	int place = find_socket(ctx, tuple, tuple_size, 0, 0, 0);

	return place == SEND_ON ? SEND_ON : DECAP_STAT_LOCAL_ICMP;
}

static __always_inline int place_icmp4(struct xdp_md *ctx, const struct icmp_hdr *icmp, void *end)
{
	struct iphdr *quoted = (void *)(icmp + 1);
	struct bpf_sock_tuple tuple = {};
	struct tcp_ports *ports;

	if ((void *)(quoted + 1) > end)
		return DECAP_STAT_LOCAL_OTHER;
	if (icmp->type != ICMP_DEST_UNREACH && icmp->type != ICMP_TIME_EXCEEDED && icmp->type != ICMP_PARAMETERPROB)
		return DECAP_STAT_LOCAL_OTHER;
	if (quoted->version != 4 || quoted->ihl < 5 || quoted->protocol != IPPROTO_TCP ||
	    quoted->frag_off & bpf_htons(IPV4_OFFSET))
		return DECAP_STAT_LOCAL_OTHER;
	ports = (void *)quoted + quoted->ihl * 4;
	if ((void *)(ports + 1) > end)
		return DECAP_STAT_LOCAL_OTHER;

	tuple.ipv4.saddr = quoted->daddr;
	tuple.ipv4.daddr = quoted->saddr;
	tuple.ipv4.sport = ports->dest;
	tuple.ipv4.dport = ports->source;
	return find_quoted(ctx, &tuple, sizeof(tuple.ipv4));
}

static __always_inline int place_ipv4(struct xdp_md *ctx, struct iphdr *ip, void *end)
{
	struct bpf_sock_tuple tuple = {};
	struct tcphdr *tcp;

	if ((void *)(ip + 1) > end || ip->ihl < 5 || ip->frag_off & bpf_htons(IPV4_MF_OR_OFFSET))
		return DECAP_STAT_LOCAL_OTHER;
	tcp = (void *)ip + ip->ihl * 4;
	if (ip->protocol == IPPROTO_ICMP) {
		struct icmp_hdr *icmp = (void *)tcp;

		return (void *)(icmp + 1) > end ? DECAP_STAT_LOCAL_OTHER : place_icmp4(ctx, icmp, end);
	}
	if (ip->protocol != IPPROTO_TCP || (void *)(tcp + 1) > end)
		return DECAP_STAT_LOCAL_OTHER;
	if (is_opening(tcp))
		return DECAP_STAT_LOCAL_SYN;

	tuple.ipv4.saddr = ip->saddr;
	tuple.ipv4.daddr = ip->daddr;
	tuple.ipv4.sport = tcp->source;
	tuple.ipv4.dport = tcp->dest;
	return find_socket(ctx, &tuple, sizeof(tuple.ipv4), ip, sizeof(*ip), tcp);
}

static __always_inline int place_icmp6(struct xdp_md *ctx, const struct icmp_hdr *icmp, void *end)
{
	struct ipv6hdr *quoted = (void *)(icmp + 1);
	struct tcp_ports *ports = (void *)(quoted + 1);
	struct bpf_sock_tuple tuple = {};

	if ((void *)(ports + 1) > end || icmp->type >= ICMP6_ERRORS_END)
		return DECAP_STAT_LOCAL_OTHER;
	if (quoted->version != 6 || quoted->nexthdr != IPPROTO_TCP)
		return DECAP_STAT_LOCAL_OTHER;

	__builtin_memcpy(tuple.ipv6.saddr, &quoted->daddr, sizeof(tuple.ipv6.saddr));
	__builtin_memcpy(tuple.ipv6.daddr, &quoted->saddr, sizeof(tuple.ipv6.daddr));
	tuple.ipv6.sport = ports->dest;
	tuple.ipv6.dport = ports->source;
	return find_quoted(ctx, &tuple, sizeof(tuple.ipv6));
}

/* TCP behind extension headers stays here: who sends such through a balancer opens connections that cannot move. */
static __always_inline int place_ipv6(struct xdp_md *ctx, struct ipv6hdr *ip, void *end)
{
	struct bpf_sock_tuple tuple = {};
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((void *)tcp > end)
		return DECAP_STAT_LOCAL_OTHER;
	if (ip->nexthdr == IPPROTO_ICMPV6) {
		struct icmp_hdr *icmp = (void *)tcp;

		return (void *)(icmp + 1) > end ? DECAP_STAT_LOCAL_OTHER : place_icmp6(ctx, icmp, end);
	}
	if (ip->nexthdr != IPPROTO_TCP || (void *)(tcp + 1) > end)
		return DECAP_STAT_LOCAL_OTHER;
	if (is_opening(tcp))
		return DECAP_STAT_LOCAL_SYN;

	__builtin_memcpy(tuple.ipv6.saddr, &ip->saddr, sizeof(tuple.ipv6.saddr));
	__builtin_memcpy(tuple.ipv6.daddr, &ip->daddr, sizeof(tuple.ipv6.daddr));
	tuple.ipv6.sport = tcp->source;
	tuple.ipv6.dport = tcp->dest;
	return find_socket(ctx, &tuple, sizeof(tuple.ipv6), ip, sizeof(*ip), tcp);
}

/* The counter of a packet that stays, or SEND_ON. The cursor is at the inner packet. */
static __always_inline int choose_place(struct xdp_md *ctx, const struct cursor *c, const struct outer *outer)
{
	int place = outer->protocol == IPPROTO_IPIP ? place_ipv4(ctx, c->pos, c->end) : place_ipv6(ctx, c->pos, c->end);

	return place == SEND_ON && outer->next_hop >= outer->hop_count ? DECAP_STAT_LOCAL_LAST : place;
}

#endif
