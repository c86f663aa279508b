/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The maps, each defined where its program asks for it: define REDIRECT_MAPS, FLOW_MAPS or DECAP_MAPS before including this.
 * README.md says who writes and who reads each.
 */
#ifndef SLUICE_BPF_MAPS_H
#define SLUICE_BPF_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "types.h"

#ifdef REDIRECT_MAPS

/* RX queue → AF_XDP socket bound to it. 256 queues are more than any NIC of the supported drivers gives one function's
 * RSS; a queue beyond that takes the fallback action. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

/* Destination prefix → flags. What is not here stays with the host. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpm_key);
	__type(value, struct vip_value);
} vip_map SEC(".maps");

/* 0 → counters, by enum redirect_stat. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct redirect_stats);
} stats SEC(".maps");

#endif

#ifdef FLOW_MAPS

/* Backends that flows can be cached for: numbers below this. */
#define FLOW_BACKENDS 4096

/* Sets of flows, powers of two, of four places each: made for as many flows as there are sets. At most 2^22. bench/flow_cache.ts has more. */
#ifndef FLOW_SETS4
#define FLOW_SETS4 262144
#endif
#define FLOW_SETS6 65536

/* Sets that share a word of the filter, two bits a set's place; the filter's words; and those in front of them, which have a bit for each. */
#define FLOW_FILTER_SETS 8
#define FLOW_FILTER_WORDS(sets) (((sets) + FLOW_FILTER_SETS - 1) / FLOW_FILTER_SETS)
#define FLOW_FILTER_TOP(sets) ((FLOW_FILTER_WORDS(sets) + 63) / 64)

/*
 * Hash of addresses and ports → set of flows. User space has this memory mapped and puts flows in, without a system call; the program looks them up without a helper's call, since
 * the verifier writes the look-up in an array out. See docs/flow-offload.md for what both may write when.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOW_SETS4);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct flow_set4);
} flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOW_SETS6);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct flow_set6);
} flows6 SEC(".maps");

/*
 * What is to be looked at before a set is: a word for some sets, with two bits for each flow in them, and perhaps for some that have gone; in front of these words others that have a bit for each
 * that is not 0. A CPU's own caches hold that, and not the sets: 4 KiB and 256 KiB of IPv4. User space alone writes it, by memory.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOW_FILTER_TOP(FLOW_SETS4) + FLOW_FILTER_WORDS(FLOW_SETS4));
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} flow_filter4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOW_FILTER_TOP(FLOW_SETS6) + FLOW_FILTER_WORDS(FLOW_SETS6));
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} flow_filter6 SEC(".maps");

/* Number of a backend → way to it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOW_BACKENDS);
	__type(key, __u32);
	__type(value, struct flow_backend);
} flow_backends SEC(".maps");

/* Number of a backend → what it was sent. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FLOW_BACKENDS);
	__type(key, __u32);
	__type(value, struct flow_count);
} flow_counts SEC(".maps");

/* 0 → counters, by enum flow_stat. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_stats);
} flow_stats SEC(".maps");

/* What a CPU keeps from one packet to the next. */
struct flow_cpu {
	/* The time as it was last read, ms: a call a tick, not a packet. */
	__u64 jiffies;
	__u32 now_ms;
	/* Nothing: see order_loads(). */
	__u32 fence;
};

/* 0 → the CPU's own; nobody else reads it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_cpu);
} flow_cpu SEC(".maps");

/* 0 → the program that gets what is handed on: redirect. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} flow_next SEC(".maps");

#endif

#ifdef DECAP_MAPS

/* Outer destination address (ours) → flags. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct ip_addr);
	__type(value, struct decap_value);
} decap_dst SEC(".maps");

/* Outer source prefix (the balancers) → flags. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpm_key);
	__type(value, struct decap_value);
} decap_src SEC(".maps");

/* Next hop of chains → counts. Here user space finds the hops whose hardware addresses it has to keep known. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct ip_addr);
	__type(value, struct hop_value);
} decap_hops SEC(".maps");

/* 0 → counters, by enum decap_stat. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct decap_stats);
} stats SEC(".maps");

#endif

#endif
