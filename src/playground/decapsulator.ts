/**
 * The backend's half of the tunnel: bpf/decap.bpf.c on an interface, let in only what the balancers sent to us.
 * The kernel detaches it when the process ends, however it ends.
 */
import { bpfObjectPath, native, type BpfLink, type BpfMap, type BpfObject } from '../native.js';
import { addressToBytes, parseAddress, parsePrefix } from '../shared/addr.js';
import type { Address } from '../shared/config.js';

export interface DecapOptions {
  interface: string;
  /** Outer destination addresses that are ours. */
  destinations: readonly string[];
  /** Outer sources that may send to us: addresses or prefixes. */
  sources: readonly string[];
}

/** Packets, in the order of enum decap_stat in bpf/types.h. */
const STATS = [
  'seen',
  'passedOther',
  'decap4in4',
  'decap6in4',
  'decap4in6',
  'decap6in6',
  'dropSource',
  'dropMalformed',
  'dropFragment',
  'dropEcn',
] as const;

export type DecapStats = Record<(typeof STATS)[number], number>;

/** struct ip_addr: IPv4 is mapped into IPv6 (::ffff:a.b.c.d). */
function ipAddress(address: Address): Uint8Array {
  const bytes = addressToBytes(address);
  if (bytes.length === 16) return bytes;
  const mapped = new Uint8Array(16);
  mapped.set([0xff, 0xff], 10);
  mapped.set(bytes, 12);
  return mapped;
}

/** struct lpm_key: bits of the 16 bytes as a host-order word, then the address. */
function prefixKey(text: string): Uint8Array {
  const prefix = parsePrefix(text);
  const key = new Uint8Array(20);
  new Uint32Array(key.buffer, 0, 1)[0] = prefix.length + (prefix.family === 4 ? 96 : 0);
  key.set(ipAddress(prefix), 4);
  return key;
}

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
      const noFlags = new Uint8Array(4);
      const destinations = this.object.map('decap_dst');
      for (const address of options.destinations) destinations.update(ipAddress(parseAddress(address)), noFlags);
      const sources = this.object.map('decap_src');
      for (const source of options.sources) sources.update(prefixKey(source), noFlags);
      this.counters = this.object.map('stats');
      // Attached last: from the first packet on it knows whom to let in.
      this.link = this.object.attachXdp('sluice_decap', addon.linkInfo(options.interface).ifindex, 'native');
    } catch (error) {
      this.object.close();
      throw error;
    }
  }

  /** Sums over all CPUs since it was attached. */
  stats(): DecapStats {
    const values = this.counters.lookup(new Uint8Array(4)) ?? new Uint8Array(0);
    const packets = new BigUint64Array(values.slice().buffer);
    const sum = STATS.map(() => 0);
    for (let i = 0; i < packets.length; i++) sum[i % STATS.length] += Number(packets[i]);
    return Object.fromEntries(STATS.map((name, i) => [name, sum[i]])) as DecapStats;
  }

  close(): void {
    this.link.close();
    this.object.close();
  }
}
