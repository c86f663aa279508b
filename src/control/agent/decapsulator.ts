/**
 * The backend's half of the tunnel: bpf/decap.bpf.c on interfaces, letting in only what the balancers sent to us.
 * The kernel detaches it when the process ends, however it ends.
 */
import { isKernelError } from '../../errors.js';
import { bpfObjectPath, native, type BpfLink, type BpfMap, type BpfObject } from '../../native.js';
import { parseAddress, parsePrefix } from '../../shared/addr.js';
import type { Address } from '../../shared/config.js';
import {
  BPF_PROGRAMS,
  decodeIpAddr,
  DECAP_STATS,
  encodeIpAddr,
  encodeLpmKey,
  encodeU32,
  GUE_PORT_SETTINGS,
  sumPerCpu,
  type DecapStat,
} from '../bpf_layout.js';

/** UDP port of GUE where nothing else is said: IANA's. GLB's is 19523. */
export const DEFAULT_GUE_PORT = 6080;

export type XdpMode = 'auto' | 'native' | 'generic';

export interface DecapOptions {
  /** Attached to at once. `attach` adds more. */
  interfaces?: readonly string[];
  /** Outer destination addresses that are ours. */
  destinations: readonly string[];
  /** Outer sources that may send to us: addresses or prefixes. With second hop the other backends are among them. */
  sources: readonly string[];
  /** At most 4 UDP ports; default `DEFAULT_GUE_PORT`. */
  guePorts?: readonly number[];
  /** Send packets of unknown connections to the next hop of their chain; default true. Needs forwarding on lo. */
  secondHop?: boolean;
  /** An outer UDP checksum that is not 0 must be right; default true. */
  verifyUdpChecksum?: boolean;
  /** `auto`, the default, takes generic mode where the driver has no native one. */
  mode?: XdpMode;
}

/** Packets. */
export type DecapStats = Record<DecapStat, number>;

/** A backend that packets were sent on to, or would have been. Counts in packets. */
export interface HopCounts {
  address: Address;
  forwarded: number;
  /** Dropped because its hardware address was not known. */
  unresolved: number;
}

export interface Attachment {
  interface: string;
  ifindex: number;
  mode: 'native' | 'generic';
}

export class Decapsulator {
  private readonly object: BpfObject;
  private readonly counters: BpfMap;
  private readonly hopMap: BpfMap;
  private readonly mode: XdpMode;
  private readonly links = new Map<string, { attachment: Attachment; link: BpfLink }>();

  /**
   * Throws the kernel's error when the program does not load or an interface has another XDP program, RangeError for too many
   * ports. Nothing is left attached then.
   */
  constructor(options: DecapOptions) {
    const ports = options.guePorts ?? [DEFAULT_GUE_PORT];
    if (ports.length > GUE_PORT_SETTINGS.length) {
      throw new RangeError(`at most ${GUE_PORT_SETTINGS.length} GUE ports, not ${ports.length}`);
    }
    this.mode = options.mode ?? 'auto';
    this.object = new (native().BpfObject)(bpfObjectPath('decap'));
    try {
      this.object.setRodata({
        ...Object.fromEntries(GUE_PORT_SETTINGS.map((name, i) => [name, ports[i] ?? 0])),
        second_hop: (options.secondHop ?? true) ? 1 : 0,
        udp_checksum: (options.verifyUdpChecksum ?? true) ? 1 : 0,
      });
      this.object.load();
      this.counters = this.object.map('stats');
      this.hopMap = this.object.map('decap_hops');
      this.setDestinations(options.destinations.map(parseAddress));
      const sources = this.object.map('decap_src');
      for (const source of options.sources) sources.update(encodeLpmKey(parsePrefix(source)), encodeU32(0));
      // Attached last: from the first packet on it knows whom to let in.
      for (const name of options.interfaces ?? []) this.attach(name);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Outer destinations that are ours from now on, in place of those before. Those that stay are never without entry. */
  setDestinations(addresses: readonly Pick<Address, 'family' | 'words'>[]): void {
    const map = this.object.map('decap_dst');
    const wanted = addresses.map((address) => Buffer.from(encodeIpAddr(address as Address)));
    for (const key of wanted) map.update(key, encodeU32(0));
    for (const key of map.keys()) if (!wanted.some((other) => other.equals(key))) map.delete(key);
  }

  /** Attaches to one more interface. Throws the kernel's error; a program of somebody else is never replaced. */
  attach(name: string): Attachment {
    this.detach(name);
    const { ifindex } = native().linkInfo(name);
    const tryMode = (mode: 'native' | 'generic'): Attachment => {
      const link = this.object.attachXdp(BPF_PROGRAMS.decap, ifindex, mode);
      const attachment = { interface: name, ifindex, mode };
      this.links.set(name, { attachment, link });
      return attachment;
    };
    if (this.mode !== 'auto') return tryMode(this.mode);
    try {
      return tryMode('native');
    } catch (error) {
      if (!isKernelError(error) || error.code !== 'EOPNOTSUPP') throw error;
      return tryMode('generic');
    }
  }

  /** No error when it is not attached there. */
  detach(name: string): void {
    this.links.get(name)?.link.close();
    this.links.delete(name);
  }

  attachments(): Attachment[] {
    return [...this.links.values()].map(({ attachment }) => attachment);
  }

  /** Sums over all CPUs since it was loaded. */
  stats(): DecapStats {
    const value = this.counters.lookup(encodeU32(0));
    const sums = value ? sumPerCpu(value, DECAP_STATS.length) : [];
    return Object.fromEntries(DECAP_STATS.map((name, i) => [name, sums[i] ?? 0])) as DecapStats;
  }

  hops(): HopCounts[] {
    return this.hopMap.keys().flatMap((key) => {
      const value = this.hopMap.lookup(key);
      // Evicted in between.
      if (!value) return [];
      const [forwarded, unresolved] = sumPerCpu(value, 2);
      return [{ address: decodeIpAddr(key), forwarded, unresolved }];
    });
  }

  /** Detaches everywhere. Idempotent. */
  close(): void {
    for (const { link } of this.links.values()) link.close();
    this.links.clear();
    this.object.close();
  }
}
