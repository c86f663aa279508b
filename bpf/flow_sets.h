/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Where a flow may be: the hash of its addresses and ports, the filter in front of the sets, and the sets. See flow_cache.bpf.c. */
#ifndef SLUICE_BPF_FLOW_SETS_H
#define SLUICE_BPF_FLOW_SETS_H

#include "maps.h"
#include "parse.h"

/* Keys of the hash below 2^53, written before the program is loaded, drawn by chance. What is here serves tests only. */
const volatile __u64 hash_key_0 = 0x9e3779b97f4a7;
const volatile __u64 hash_key_1 = 0x1f58476d1ce4e5;
const volatile __u64 hash_key_2 = 0x14d049bb133111;
const volatile __u64 hash_key_3 = 0x0b2ae3d27d4eb4;
const volatile __u64 hash_key_4 = 0x1165667b19e377;
const volatile __u64 hash_key_5 = 0x0ff51afd7ed558;
const volatile __u64 hash_key_6 = 0x1c4ceb9fe1a85e;
const volatile __u64 hash_key_7 = 0x13c6ef372fe94f;
const volatile __u64 hash_key_8 = 0x05851f42d4c957;

/* test/bpf/flow_sets.test.ts has one that takes its time. */
#ifndef READ_ONCE
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#endif
#define WRITE_ONCE(x, value) (*(volatile typeof(x) *)&(x) = (value))

/* Keeps the compiler from counting an address out of an index later: without CAP_PERFMON the verifier takes only sums of a pointer and a constant. */
#define OPAQUE(pointer) asm volatile("" : "+r"(pointer))

/*
 * What names a flow's set and its bits of the filter, of a sum of words times keys: a multilinear hash modulo 2^53, whose upper bits are strongly universal (Lemire and Kaser, Strongly universal string
 * hashing is fast, 2014). So whoever does not know the keys cannot name flows of one set more often than by chance. The step behind it is for flows that count up, as ports do: their sums go up by
 * equal steps, which for one key of twenty come around to the same sets. Without the protocol: that makes two flows. FlowHash of src/control/ebpf/flow_hash.ts is the same.
 */
static __always_inline __u32 hash_of(__u64 sum)
{
	__u32 hash = sum >> 21;

	return (hash ^ hash >> 15) * 0x2c1b3c6d;
}

static __always_inline __u32 hash4_of(__u32 src, __u32 dst, __u32 ports)
{
	return hash_of(hash_key_0 * src + hash_key_1 * dst + hash_key_2 * ports);
}

static __always_inline __u32 hash6_of(const any_word *src, const any_word *dst, __u32 ports)
{
	__u64 sum = hash_key_0 * src[0] + hash_key_1 * src[1] + hash_key_2 * src[2] + hash_key_3 * src[3];

	sum += hash_key_4 * dst[0] + hash_key_5 * dst[1] + hash_key_6 * dst[2] + hash_key_7 * dst[3] + hash_key_8 * ports;
	return hash_of(sum);
}

static __always_inline __u32 set_of(__u32 hash, __u32 sets)
{
	return hash >> 10 & (sets - 1);
}

/*
 * The filter: whether a flow of this hash may be in its set. `top`: the word of bits that say which words are not 0; `word`: that of the set and its neighbours.
 *
 * The bits of a flow that can be served, or voided, are there: user space sets them before it announces the flow, and takes away none that a flow of these sets needs. What is read too early, or between two stores, can
 * only miss a flow that is being announced at this very moment, as a generation that is read too early can; so nothing here asks for loads in their order.
 */
static __always_inline int is_any(const __u64 *top, __u32 word)
{
	return top && READ_ONCE(*top) >> (word & 63) & 1;
}

static __always_inline int may_be_in(const __u64 *word, __u32 hash)
{
	__u64 bits;

	if (!word)
		return 0;
	bits = READ_ONCE(*word);
	return bits >> (hash >> 1 & 63) & bits >> (hash >> 7 & 63) & 1;
}

/* The set of a flow; 0: it is in none. */
static __always_inline struct flow_set4 *set4_of(__u32 hash)
{
	__u32 set = set_of(hash, FLOW_SETS4);
	__u32 word = set / FLOW_FILTER_SETS;
	__u32 top = word / 64;

	if (!is_any(bpf_map_lookup_elem(&flow_filter4, &top), word))
		return 0;
	word += FLOW_FILTER_TOP(FLOW_SETS4);
	if (!may_be_in(bpf_map_lookup_elem(&flow_filter4, &word), hash))
		return 0;
	return bpf_map_lookup_elem(&flows4, &set);
}

static __always_inline struct flow_set6 *set6_of(__u32 hash)
{
	__u32 set = set_of(hash, FLOW_SETS6);
	__u32 word = set / FLOW_FILTER_SETS;
	__u32 top = word / 64;

	if (!is_any(bpf_map_lookup_elem(&flow_filter6, &top), word))
		return 0;
	word += FLOW_FILTER_TOP(FLOW_SETS6);
	if (!may_be_in(bpf_map_lookup_elem(&flow_filter6, &word), hash))
		return 0;
	return bpf_map_lookup_elem(&flows6, &set);
}

static __always_inline int has_addresses(const struct flow6 *flow, const any_word *src, const any_word *dst)
{
	return READ_ONCE(flow->src[0]) == src[0] && READ_ONCE(flow->src[1]) == src[1] && READ_ONCE(flow->src[2]) == src[2] &&
	       READ_ONCE(flow->src[3]) == src[3] && READ_ONCE(flow->dst[0]) == dst[0] && READ_ONCE(flow->dst[1]) == dst[1] &&
	       READ_ONCE(flow->dst[2]) == dst[2] && READ_ONCE(flow->dst[3]) == dst[3];
}

/* Of an entry with a generation that is not FLOW_EMPTY: whether it is this flow's. The addresses are the callers' to compare, before. */
static __always_inline int is_flow(const struct flow_entry *entry, __u32 generation, __u32 ports, __u8 protocol)
{
	return READ_ONCE(entry->ports) == ports && (READ_ONCE(entry->what) & 0xff) == protocol && generation != FLOW_VOID;
}

#endif
