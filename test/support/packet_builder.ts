/**
 * Packets for tests, header by header, from the outside in.
 *
 * ```ts
 * new PacketBuilder()
 *   .ethernet()
 *   .vlan(7)
 *   .ipv4({ src: '10.0.0.1', dst: '10.0.0.2' })
 *   .tcp({ sport: 1024, dport: 80, flags: TCP.SYN })
 *   .payload('hello')
 *   .build(); // Uint8Array
 * ```
 *
 * - Next-header fields (EtherType, protocol, next header), lengths and checksums follow from what is added later, unless
 *   an option says otherwise: every one of them can be overridden to make a packet that lies.
 * - IP in IP is one header after the other: `.ipv4(outer).ipv6(inner)`; `.ipip(outer)` reads better and does the same.
 * - Checksums of TCP, UDP and ICMPv6 use the addresses of the nearest IP header outside of them. `checksum: 'pseudo'`
 *   leaves only the folded pseudo-header sum, as a sender with checksum offload does (the veth trap, kernel-facts.md).
 * - Without `ethernet()` the result starts at the first header added: a layer-3 packet.
 */
import ipaddr from 'ipaddr.js';

/** TCP flag bits (RFC 9293 §3.1). */
export const TCP = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16, URG: 32, ECE: 64, CWR: 128 } as const;

/** IP protocol numbers (IANA), as far as the builder knows them. */
export const PROTO = {
  HOPOPTS: 0,
  ICMP: 1,
  IPIP: 4,
  TCP: 6,
  UDP: 17,
  IPV6: 41,
  ROUTING: 43,
  FRAGMENT: 44,
  ICMPV6: 58,
  NONE: 59,
  DSTOPTS: 60,
} as const;

/** EtherTypes. */
export const ETHERTYPE = { IPV4: 0x0800, ARP: 0x0806, VLAN: 0x8100, IPV6: 0x86dd, QINQ: 0x88a8, LLDP: 0x88cc } as const;

/** A number to write as it is; 'pseudo': the pseudo-header sum alone. Default: the correct checksum. */
export type Checksum = number | 'pseudo';

export interface EthernetOptions {
  /** "02:00:00:00:00:01" */
  src?: string;
  dst?: string;
  type?: number;
}

export interface VlanOptions {
  /** 0x8100 (default) or 0x88a8 */
  tpid?: number;
  priority?: number;
  type?: number;
}

export interface Ipv4Options {
  src?: string;
  dst?: string;
  ttl?: number;
  /** DSCP and ECN together. */
  tos?: number;
  id?: number;
  dontFragment?: boolean;
  moreFragments?: boolean;
  /** In units of 8 bytes, as on the wire. */
  fragmentOffset?: number;
  /** Padded with zeros (end of options) to a multiple of 4, at most 40 bytes. */
  options?: Uint8Array | readonly number[];
  protocol?: number;
  version?: number;
  /** Header length as the header claims it, in words. */
  ihl?: number;
  totalLength?: number;
  checksum?: number;
}

export interface Ipv6Options {
  src?: string;
  dst?: string;
  hopLimit?: number;
  trafficClass?: number;
  flowLabel?: number;
  nextHeader?: number;
  version?: number;
  payloadLength?: number;
}

export interface TcpOptions {
  sport?: number;
  dport?: number;
  seq?: number;
  ack?: number;
  /** Sum of `TCP` bits; default ACK. */
  flags?: number;
  window?: number;
  urgent?: number;
  /** Padded with zeros to a multiple of 4. */
  options?: Uint8Array | readonly number[];
  /** Header length as the header claims it, in words. */
  dataOffset?: number;
  checksum?: Checksum;
}

export interface UdpOptions {
  sport?: number;
  dport?: number;
  length?: number;
  /** 0: no checksum (allowed over IPv4). */
  checksum?: Checksum;
}

export interface IcmpOptions {
  /** Default: echo request of the family. */
  type?: number;
  code?: number;
  /** The four bytes after the checksum: identifier and sequence number, or MTU, or unused. */
  rest?: number;
  checksum?: Checksum;
}

type Kind = 'ethernet' | 'ipv4' | 'ipv6' | 'extension' | 'other';

interface Layer {
  kind: Kind;
  /** What the header before this one says of it: protocol numbers and EtherTypes have their own name spaces. */
  ethertype?: number;
  protocol?: number;
  /** IP headers only: what a pseudo-header needs. */
  src?: Uint8Array;
  dst?: Uint8Array;
  /** Header bytes in front of `inner`; `next` is the layer that follows, `ip` the nearest IP layer outside. */
  encode(inner: Uint8Array, next: Layer | undefined, ip: Layer | undefined): Uint8Array;
}

const none = new Uint8Array(0);

export class PacketBuilder {
  private readonly layers: Layer[] = [];
  private tail: Uint8Array = none;
  private minimum = 0;

  /** Ethernet II header. */
  ethernet({ src = '02:00:00:00:00:01', dst = '02:00:00:00:00:02', type }: EthernetOptions = {}): this {
    const encode: Layer['encode'] = (inner, next) =>
      join(macBytes(dst), macBytes(src), be16(type ?? next?.ethertype ?? 0xffff), inner);
    return this.add({ kind: 'ethernet', encode });
  }

  /** One 802.1Q (or 802.1ad) tag; call twice for two. */
  vlan(id: number, { tpid = ETHERTYPE.VLAN, priority = 0, type }: VlanOptions = {}): this {
    const encode: Layer['encode'] = (inner, next) =>
      join(be16((priority << 13) | id), be16(type ?? next?.ethertype ?? 0xffff), inner);
    return this.add({ kind: 'other', ethertype: tpid, encode });
  }

  /** IPv4 header (RFC 791) with options. */
  ipv4(o: Ipv4Options = {}): this {
    const src = addressBytes(o.src ?? '192.0.2.1', 4);
    const dst = addressBytes(o.dst ?? '192.0.2.2', 4);
    const options = padTo4(o.options ?? none);
    const encode: Layer['encode'] = (inner, next) => {
      const size = 20 + options.length;
      const header = new Uint8Array(size);
      const view = new DataView(header.buffer);
      const flags = (o.dontFragment ? 0x4000 : 0) | (o.moreFragments ? 0x2000 : 0) | (o.fragmentOffset ?? 0);
      header[0] = ((o.version ?? 4) << 4) | (o.ihl ?? size >> 2);
      header[1] = o.tos ?? 0;
      view.setUint16(2, o.totalLength ?? size + inner.length);
      view.setUint16(4, o.id ?? 0);
      view.setUint16(6, flags);
      header[8] = o.ttl ?? 64;
      header[9] = o.protocol ?? next?.protocol ?? 253;
      header.set(src, 12);
      header.set(dst, 16);
      header.set(options, 20);
      view.setUint16(10, o.checksum ?? internetChecksum(header));
      return join(header, inner);
    };
    return this.add({ kind: 'ipv4', ethertype: ETHERTYPE.IPV4, protocol: PROTO.IPIP, src, dst, encode });
  }

  /** IPv6 header (RFC 8200). */
  ipv6(o: Ipv6Options = {}): this {
    const src = addressBytes(o.src ?? '2001:db8::1', 6);
    const dst = addressBytes(o.dst ?? '2001:db8::2', 6);
    const encode: Layer['encode'] = (inner, next) => {
      const header = new Uint8Array(40);
      const view = new DataView(header.buffer);
      view.setUint32(0, (((o.version ?? 6) << 28) | ((o.trafficClass ?? 0) << 20) | (o.flowLabel ?? 0)) >>> 0);
      view.setUint16(4, o.payloadLength ?? inner.length);
      header[6] = o.nextHeader ?? next?.protocol ?? PROTO.NONE;
      header[7] = o.hopLimit ?? 64;
      header.set(src, 8);
      header.set(dst, 24);
      return join(header, inner);
    };
    return this.add({ kind: 'ipv6', ethertype: ETHERTYPE.IPV6, protocol: PROTO.IPV6, src, dst, encode });
  }

  /** An outer IP header around what is added next; the family follows from the addresses. */
  ipip(outer: { src: string; dst: string; tos?: number; ttl?: number }): this {
    const { src, dst, tos, ttl } = outer;
    return src.includes(':')
      ? this.ipv6({ src, dst, trafficClass: tos, hopLimit: ttl })
      : this.ipv4({ src, dst, tos, ttl });
  }

  /**
   * An IPv6 extension header of type `protocol` with `body` after its first two bytes, padded with zeros (Pad1) to a
   * multiple of 8. `lengthField` overrides the header's own idea of its length (units of 8 bytes, not counting the first).
   */
  extension(protocol: number, body: Uint8Array | readonly number[] = [1, 4, 0, 0, 0, 0], lengthField?: number): this {
    const encode: Layer['encode'] = (inner, next) => {
      const header = new Uint8Array(Math.ceil((2 + body.length) / 8) * 8);
      header[0] = next?.protocol ?? PROTO.NONE;
      header[1] = lengthField ?? header.length / 8 - 1;
      header.set(body, 2);
      return join(header, inner);
    };
    return this.add({ kind: 'extension', protocol, encode });
  }

  /** IPv6 fragment header (RFC 8200 §4.5); the defaults make an atomic fragment (RFC 6946). `offset` in units of 8 bytes. */
  fragment({ offset = 0, more = false, id = 1 }: { offset?: number; more?: boolean; id?: number } = {}): this {
    const encode: Layer['encode'] = (inner, next) => {
      const header = new Uint8Array(8);
      const view = new DataView(header.buffer);
      header[0] = next?.protocol ?? PROTO.NONE;
      view.setUint16(2, (offset << 3) | (more ? 1 : 0));
      view.setUint32(4, id >>> 0);
      return join(header, inner);
    };
    return this.add({ kind: 'extension', protocol: PROTO.FRAGMENT, encode });
  }

  /** TCP header (RFC 9293). */
  tcp(o: TcpOptions = {}): this {
    const options = padTo4(o.options ?? none);
    const encode: Layer['encode'] = (inner, _next, ip) => {
      const size = 20 + options.length;
      const header = new Uint8Array(size);
      const view = new DataView(header.buffer);
      view.setUint16(0, o.sport ?? 1024);
      view.setUint16(2, o.dport ?? 80);
      view.setUint32(4, (o.seq ?? 0) >>> 0);
      view.setUint32(8, (o.ack ?? 0) >>> 0);
      header[12] = (o.dataOffset ?? size >> 2) << 4;
      header[13] = o.flags ?? TCP.ACK;
      view.setUint16(14, o.window ?? 65535);
      view.setUint16(18, o.urgent ?? 0);
      header.set(options, 20);
      return withChecksum(join(header, inner), 16, o.checksum, PROTO.TCP, ip);
    };
    return this.add({ kind: 'other', protocol: PROTO.TCP, encode });
  }

  /** UDP header (RFC 768). A computed checksum of zero is sent as 0xffff. */
  udp(o: UdpOptions = {}): this {
    const encode: Layer['encode'] = (inner, _next, ip) => {
      const length = o.length ?? 8 + inner.length;
      const header = join(be16(o.sport ?? 1024), be16(o.dport ?? 53), be16(length), be16(0));
      const whole = withChecksum(join(header, inner), 6, o.checksum, PROTO.UDP, ip);
      if (o.checksum === undefined && whole[6] === 0 && whole[7] === 0) whole.fill(0xff, 6, 8);
      return whole;
    };
    return this.add({ kind: 'other', protocol: PROTO.UDP, encode });
  }

  /** ICMP header (RFC 792). For an error, add the packet that it quotes: `.icmp({type: 3}).quote(bytes)`. */
  icmp({ type = 8, code = 0, rest = 0, checksum }: IcmpOptions = {}): this {
    const encode: Layer['encode'] = (inner) =>
      withChecksum(join([type, code, 0, 0], be32(rest), inner), 2, checksum, PROTO.ICMP, undefined);
    return this.add({ kind: 'other', protocol: PROTO.ICMP, encode });
  }

  /** ICMPv6 header (RFC 4443), with the pseudo-header in its checksum. */
  icmp6({ type = 128, code = 0, rest = 0, checksum }: IcmpOptions = {}): this {
    const encode: Layer['encode'] = (inner, _next, ip) =>
      withChecksum(join([type, code, 0, 0], be32(rest), inner), 2, checksum, PROTO.ICMPV6, ip);
    return this.add({ kind: 'other', protocol: PROTO.ICMPV6, encode });
  }

  /** Payload: bytes, text as UTF-8, or that many bytes counting 0, 1, 2 … 255, 0 … */
  payload(content: Uint8Array | readonly number[] | string | number): this {
    const bytes =
      typeof content === 'number'
        ? Uint8Array.from({ length: content }, (_, i) => i)
        : typeof content === 'string'
          ? new TextEncoder().encode(content)
          : Uint8Array.from(content);
    return this.add({ kind: 'other', encode: (inner) => join(bytes, inner) });
  }

  /** The packet that an ICMP error quotes (a layer-3 packet), or any other bytes: another name for payload(). */
  quote(packet: Uint8Array): this {
    return this.payload(packet);
  }

  /** Bytes after the packet that no length field counts, such as Ethernet padding. */
  trailer(bytes: Uint8Array | readonly number[]): this {
    this.tail = Uint8Array.from(bytes);
    return this;
  }

  /** Pads the frame with zeros to at least `bytes`; Ethernet without FCS wants 60. */
  padTo(bytes: number): this {
    this.minimum = bytes;
    return this;
  }

  /** The frame. May be called more than once; each call makes a new array. */
  build(): Uint8Array {
    let packet: Uint8Array = new Uint8Array(0);
    for (let i = this.layers.length - 1; i >= 0; i--) {
      const ip = this.layers.slice(0, i).findLast((layer) => layer.kind === 'ipv4' || layer.kind === 'ipv6');
      packet = this.layers[i]!.encode(packet, this.layers[i + 1], ip);
    }
    return join(packet, this.tail, new Uint8Array(Math.max(0, this.minimum - packet.length - this.tail.length)));
  }

  private add(layer: Layer): this {
    this.layers.push(layer);
    return this;
  }
}

/** RFC 1071 sum of big-endian 16-bit words, folded, not complemented; an odd last byte counts as the high byte. */
export function onesComplementSum(bytes: Uint8Array, initial = 0): number {
  let sum = initial;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}

/** RFC 1071 checksum: what goes into the field when it was zero; 0 over bytes that carry a correct checksum. */
export function internetChecksum(bytes: Uint8Array, initial = 0): number {
  return ~onesComplementSum(bytes, initial) & 0xffff;
}

/** Folded sum of the pseudo-header of RFC 9293 §3.1 or RFC 8200 §8.1. */
export function pseudoHeaderSum(src: Uint8Array, dst: Uint8Array, protocol: number, lengthBytes: number): number {
  return onesComplementSum(join(src, dst, be32(lengthBytes), be32(protocol)));
}

/** Bytes of "02:00:00:00:00:01". */
export function macBytes(text: string): Uint8Array {
  const bytes = text.split(':').map((part) => Number.parseInt(part, 16));
  if (bytes.length !== 6 || bytes.some((byte) => !(byte >= 0 && byte <= 255))) throw new RangeError(`bad MAC ${text}`);
  return Uint8Array.from(bytes);
}

/** Bytes of an address in network order; throws when the text is of the other family. */
export function addressBytes(text: string, family: 4 | 6): Uint8Array {
  const address = ipaddr.parse(text);
  if ((address.kind() === 'ipv4' ? 4 : 6) !== family) throw new RangeError(`${text} is not an IPv${family} address`);
  return Uint8Array.from(address.toByteArray());
}

function withChecksum(
  bytes: Uint8Array,
  at: number,
  override: Checksum | undefined,
  protocol: number,
  ip: Layer | undefined,
): Uint8Array {
  const pseudo = ip ? pseudoHeaderSum(ip.src!, ip.dst!, protocol, bytes.length) : 0;
  const value =
    typeof override === 'number' ? override : override === 'pseudo' ? pseudo : internetChecksum(bytes, pseudo);
  bytes.set(be16(value), at);
  return bytes;
}

function join(...parts: (Uint8Array | readonly number[])[]): Uint8Array {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

function padTo4(bytes: Uint8Array | readonly number[]): Uint8Array {
  return join(bytes, new Uint8Array((4 - (bytes.length % 4)) % 4));
}

function be16(value: number): number[] {
  return [(value >> 8) & 0xff, value & 0xff];
}

function be32(value: number): number[] {
  return [(value >>> 24) & 0xff, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff];
}
