/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Does nothing. A veth end delivers what its peer sends with XDP_TX or XDP_REDIRECT only when it has an XDP program
 * itself, so tests and the demo attach this one to the far end.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int sluice_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
