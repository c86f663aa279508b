/**
 * The backend's half of the tunnel: bpf/decap.bpf.c on an interface, let in only what the balancers sent to us.
 * The kernel detaches it when the process ends, however it ends.
 */
import { BPF_PROGRAMS, DECAP_STATS, encodeIpAddr, encodeLpmKey, encodeU32, sumPerCpu } from '../control/bpf_layout.js';
import type { DecapStat } from '../control/bpf_layout.js';
import { bpfObjectPath, native, type BpfLink, type BpfMap, type BpfObject } from '../native.js';
import { parseAddress, parsePrefix } from '../shared/addr.js';

export interface DecapOptions {
  interface: string;
  /** Outer destination addresses that are ours. */
  destinations: readonly string[];
  /** Outer sources that may send to us: addresses or prefixes. */
  sources: readonly string[];
}

/** Packets. */
export type DecapStats = Record<DecapStat, number>;

export class Decapsulator {
  private readonly object: BpfObject;
  private readonly link: BpfLink;
  private readonly counters: BpfMap;

  /** Throws the kernel's error when the program does not load or the interface has another XDP program. */
  constructor(options: DecapOptions) {
    const addon = native();
    this.object = new addon.BpfObject(bpfObjectPath('decap'));
    try {
      this.object.load();
      const noFlags = encodeU32(0);
      const destinations = this.object.map('decap_dst');
      for (const address of options.destinations) destinations.update(encodeIpAddr(parseAddress(address)), noFlags);
      const sources = this.object.map('decap_src');
      for (const source of options.sources) sources.update(encodeLpmKey(parsePrefix(source)), noFlags);
      this.counters = this.object.map('stats');
      // Attached last: from the first packet on it knows whom to let in.
      this.link = this.object.attachXdp(BPF_PROGRAMS.decap, addon.linkInfo(options.interface).ifindex, 'native');
    } catch (error) {
      this.object.close();
      throw error;
    }
  }

  /** Sums over all CPUs since it was attached. */
  stats(): DecapStats {
    const value = this.counters.lookup(encodeU32(0));
    const sums = value ? sumPerCpu(value, DECAP_STATS.length) : [];
    return Object.fromEntries(DECAP_STATS.map((name, i) => [name, sums[i] ?? 0])) as DecapStats;
  }

  close(): void {
    this.link.close();
    this.object.close();
  }
}
