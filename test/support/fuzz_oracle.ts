/** What has to be true of every frame that leaves, whatever came in: judged from the configuration and the documentation. */
import { backendKey } from '../../src/control/registry.js';
import { parseAddress, prefixContains } from '../../src/shared/addr.js';
import type { BackendConfig, ServiceConfig } from '../../src/shared/config.js';
import { expectIcmp, readFrame, type Read } from './fuzz_reader.js';
import type { Lab } from './lab.js';
import { readEncapsulated, type Encapsulated } from './outer_reader.js';
import { onesComplementSum } from './packet_builder.js';

/** A frame to a backend, and what it says. */
export interface ToBackend {
  kind: 'backend';
  /** Address of the backend; of frames without outer header those that it may be. */
  backends: string[];
  inner: Uint8Array;
}

export type Sent = ToBackend | { kind: 'reply'; read: Read };

export class Oracle {
  constructor(private readonly lab: Lab) {}

  /** State with what operators and health checks say. */
  stateOf(service: ServiceConfig, backend: BackendConfig): string {
    const key = backendKey(service.name, backend.address.text);
    const wanted = this.lab.overrides.get(key)?.state ?? backend.state;
    return wanted === 'active' && this.lab.down.has(key) ? 'draining' : wanted;
  }

  weightOf(service: ServiceConfig, backend: BackendConfig): number {
    return this.lab.overrides.get(backendKey(service.name, backend.address.text))?.weight ?? backend.weight;
  }

  /** The service of a packet, by looking at each in the documented order. */
  serviceOf({ dst, family, protocol, ports, fragment }: Read): ServiceConfig | null {
    const address = parseAddress(dst);
    const here = this.lab.config.services.filter(({ vip }) => vip.family === family && prefixContains(vip, address));
    const best = (fits: (service: ServiceConfig) => number): ServiceConfig | null => {
      const ranked = here.filter((service) => fits(service) > 0);
      ranked.sort((a, b) => b.vip.length - a.vip.length || fits(b) - fits(a));
      return ranked[0] ?? null;
    };
    const takes = ({ protocols }: ServiceConfig): number =>
      protocols.includes(protocol) ? 3 : protocols.length === 0 ? 1 : 0;
    if (fragment === 'later') return null;
    const byPort = best((service) => {
      const port = ports?.dport ?? -1;
      const range = service.ports.find(({ first, last }) => first <= port && port <= last);
      return range && takes(service) > 0 ? takes(service) + (range.first === range.last ? 1 : 0) : 0;
    });
    return byPort ?? best((service) => (service.ports.length === 0 ? takes(service) : 0));
  }

  /** Throws unless the frame is right in itself. `port`: the one that it left by. */
  judge(frame: Uint8Array, port: number): Sent {
    const read = readFrame(frame);
    if (read === null) throw new Error('sent what is no packet');
    if (!read.dmac.startsWith('0200000001')) {
      const type = read.packet[read.transport]!;
      // An echo reply keeps what was wrong in its request.
      expectIcmp(read, type !== 0 && type !== 129);
      return { kind: 'reply', read };
    }
    const outer = this.encapsulated(frame);
    const faults: string[] = [];
    const found: ToBackend = { kind: 'backend', backends: [], inner: read.packet };
    for (const service of this.lab.config.services) {
      for (const backend of service.backends) {
        const fault = this.fault(service, backend, read, outer, port);
        if (fault !== '') faults.push(`${service.name}/${backend.address.text}: ${fault}`);
        else found.backends.push(backend.address.text);
        if (fault === '' && outer !== null && service.encapsulation.kind !== 'l2') found.inner = outer.inner;
      }
    }
    if (found.backends.length === 0) throw new Error(`no backend explains it:\n${faults.join('\n')}`);
    return found;
  }

  private encapsulated(frame: Uint8Array): Encapsulated | null {
    try {
      return readEncapsulated(frame);
    } catch {
      return null;
    }
  }

  /** Why the frame is not one to this backend of this service; '' when it is. */
  private fault(
    service: ServiceConfig,
    backend: BackendConfig,
    read: Read,
    outer: Encapsulated | null,
    port: number,
  ): string {
    const { address } = backend;
    const last = Number(/(\d+)$/.exec(address.text)![1]);
    const second = address.text.startsWith('10.2.') || address.text.startsWith('fd02:');
    if (read.dmac !== `0200000001${last.toString(16).padStart(2, '0')}`) return `hardware address ${read.dmac}`;
    if (read.smac !== '0200000000aa' || port !== (second ? 1 : 0)) return `port ${port}`;
    if (this.stateOf(service, backend) === 'inactive') return 'inactive';
    if (read.packet.length > 1500) return `${read.packet.length} bytes`;
    const { kind, gue } = service.encapsulation;
    const isOuter = this.lab.config.services.some((each) => each.backends.some((one) => one.address.text === read.dst));
    if (kind === 'l2') return isOuter ? 'outer header' : '';
    if (outer === null) return 'no sound outer header';
    if (outer.dst !== address.text) return `to ${outer.dst}`;
    const katran = service.hash.startsWith('katran');
    const sourceFault = this.sourceFault(service, backend, outer.src, katran);
    if (sourceFault !== '') return sourceFault;
    const family = outer.inner[0]! >> 4;
    const tos = family === 4 ? outer.inner[1]! : ((outer.inner[0]! & 15) << 4) | (outer.inner[1]! >> 4);
    if (outer.ttl !== 64 || outer.tos !== tos) return `TTL ${outer.ttl}, TOS ${outer.tos}`;
    if (address.family === 4 && (outer.id !== 0 || outer.fragment !== (katran ? 0 : 0x4000))) return 'id or DF';
    const protocol = family === 4 ? 4 : 41;
    if (kind === 'ipip') return outer.protocol === protocol ? '' : `protocol ${outer.protocol}`;
    if (outer.udp === null || outer.gue === null) return 'no GUE';
    if (outer.udp.dport !== gue.port || outer.gue.variant !== gue.variant) return 'another GUE';
    if (gue.checksum === 'computed' ? !outer.udp.checksumRight : outer.udp.checksum !== 0) return 'UDP checksum';
    if (outer.gue.variant === 0 && outer.gue.protocol !== protocol) return 'protocol of GUE';
    return this.chainFault(service, address.text, outer.gue.chain?.hops ?? []);
  }

  private sourceFault(service: ServiceConfig, backend: BackendConfig, source: string, katran: boolean): string {
    const { family, text } = backend.address;
    const prefix = family === 4 ? service.encapsulation.source4 : service.encapsulation.source6;
    if (source === text) return 'from itself';
    if (prefix) return prefixContains(prefix, parseAddress(source)) ? '' : `from ${source}`;
    if (katran && service.encapsulation.kind === 'ipip')
      return /^(172\.16\.|100:)/.test(source) ? '' : `from ${source}`;
    return source === (family === 4 ? '10.0.0.2' : 'fd00::2') || katran ? '' : `from ${source}`;
  }

  private chainFault(service: ServiceConfig, first: string, hops: string[]): string {
    if (hops.length > service.hops - 1) return `${hops.length} hops`;
    if (new Set([first, ...hops]).size !== hops.length + 1) return 'a hop twice';
    const alive = service.backends.filter((backend) => this.stateOf(service, backend) !== 'inactive');
    return hops.every((hop) => alive.some(({ address }) => address.text === hop)) ? '' : `hops ${hops.join(' ')}`;
  }
}

/** Throws unless the packet inside is the one that came, but for a lowered MSS and its checksum. */
export function expectInner(came: Uint8Array, sent: Uint8Array, read: Read, clamps: boolean): void {
  if (Buffer.compare(came, sent) === 0) return;
  const isSyn = read.protocol === 6 && (read.tcpFlags & 2) !== 0;
  if (!clamps || !isSyn || came.length !== sent.length) throw new Error('the packet inside was changed');
  const differing = [...came.keys()].filter((i) => came[i] !== sent[i]);
  const checksum = [read.transport + 16, read.transport + 17];
  const options = read.transport + 20;
  const others = differing.filter((i) => !checksum.includes(i));
  if (others.length > 2 || others.some((i) => i < options)) throw new Error('more than MSS and checksum was changed');
  // Right stays right and wrong stays wrong: the sum over the segment is the same, 0 and 0xffff being one number.
  const sum = (packet: Uint8Array): number => onesComplementSum(packet.subarray(read.transport)) % 0xffff;
  if (read.fragment === 'none' && sum(came) !== sum(sent)) throw new Error('TCP checksum after the MSS was lowered');
}

/** The packet in a tunnel as it goes on from here: one off its TTL, ECN merged by RFC 6040; null for what is not to be opened. */
export function opened(frame: Uint8Array): Uint8Array | null {
  const read = readFrame(frame)!;
  const etherType = read.family === 4 ? [0x08, 0x00] : [0x86, 0xdd];
  let tunnel: Encapsulated;
  try {
    tunnel = readEncapsulated(Uint8Array.of(...new Uint8Array(12), ...etherType, ...read.packet));
  } catch {
    return null;
  }
  const inner = tunnel.inner.slice();
  const isIpv4 = inner[0]! >> 4 === 4;
  const shift = isIpv4 ? 0 : 4;
  const ecn = (inner[1]! >> shift) & 3;
  const merged = ecn === 0 ? 0 : (tunnel.tos & 3) === 3 ? 3 : ecn === 2 && (tunnel.tos & 3) === 1 ? 1 : ecn;
  const length = isIpv4 ? (inner[2]! << 8) | inner[3]! : 40 + ((inner[4]! << 8) | inner[5]!);
  inner[1] = (inner[1]! & ~(3 << shift)) | (merged << shift);
  inner[isIpv4 ? 8 : 7]!--;
  if (isIpv4) {
    const whole = onesComplementSum(tunnel.inner.subarray(0, 20)) === 0xffff;
    if (!whole || inner[0] !== 0x45) return null;
    inner[10] = inner[11] = 0;
    const sum = 0xffff - onesComplementSum(inner.subarray(0, 20));
    inner[10] = sum >> 8;
    inner[11] = sum & 255;
  }
  return inner.subarray(0, length);
}
