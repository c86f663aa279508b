import { DropReason } from '../verdict.js';
import { IcmpOffset, Icmp6Type, IcmpType, mayReport, Unreachable6Code, UnreachableCode } from './icmp.js';
import { isSourceOfQuote, quoteEnd, readQuote } from './icmp_quote.js';
import { MIN_MTU_4, MIN_MTU_6, writeIcmpError } from './icmp_write.js';
import { Packet } from './packet.js';
import { IpProtocol, Wire } from './wire.js';

/** A GUE header without private data. */
const GUE_BYTES = 4;

/** MTUs of links in use, for routers that name none (RFC 1191 §7). */
const PLATEAUS: readonly number[] = [32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, MIN_MTU_4];

/**
 * What an ICMP error about one of our own outer packets tells: which client's packet it was, and where it was going. Filled by
 * readEncapsulatedInner(); one object a worker.
 */
export class EncapsulatedQuote {
  /** The outer packet: from us to the backend, as it was sent. Only addresses, family and protocol. */
  readonly outer: Packet;
  /** The client's packet: the flow from client to service, for hash, flow table and service table, as readInner() leaves it. */
  readonly client: Packet;
  /** Offset of the client's packet, and behind its last byte that was quoted. */
  start = 0;
  end = 0;
  /** Bytes of outer headers. */
  overhead = 0;
  /** Largest client's packet that would have fitted; 0 when the error is not about size. */
  mtu = 0;
  /** ICMP type of the client's packet, −1 when it is none. */
  icmpType = -1;
  /** Whether the client can do something about it: size, or that nobody can be reached. */
  isForClient = false;

  constructor(view: DataView, chunkSize: number) {
    this.outer = new Packet(view, chunkSize);
    this.client = new Packet(view, chunkSize);
  }
}

/**
 * Looks into an ICMP error that a router between us and a backend sent to the outer source: outer header (IP in IP, GUE of both variants, any UDP
 * port), then the client's packet. `icmpInner` when it is about no such packet, or quotes too little: routers quote at least 8 bytes
 * behind the outer IP header (RFC 792), which does not reach the client's; most quote up to 576 (RFC 1812 §4.3.2.3).
 *
 * Who may forge such messages? Everyone who reaches the outer source. So believe one only when the flow table knows the flow
 * and its backend is where the outer packet was going (`outer.dst0`…). The packet must have been parsed, and isIcmpError().
 */
export function readEncapsulatedInner(packet: Packet, quote: EncapsulatedQuote): DropReason {
  const { outer, client } = quote;
  const at = (packet.l4 + IcmpOffset.quote) | 0;
  const end = quoteEnd(packet);
  const l4 = readQuote(packet, outer, at, end, packet.family);
  if (l4 === 0 || !isSourceOfQuote(packet, outer)) return DropReason.icmpInner;
  const start = innerOffset(outer, l4, end);
  if (start === 0 || end - start < Wire.ipv4Bytes) return DropReason.icmpInner;
  const family = innerFamily(outer, start);
  if (family === 0) return DropReason.icmpInner;
  const clientL4 = readQuote(packet, client, start, end, family);
  if (clientL4 === 0) return DropReason.icmpInner;
  const isIcmp = client.protocol === IpProtocol.icmp || client.protocol === IpProtocol.icmpv6;
  // Without its type it might be an error, which must not be answered.
  quote.icmpType = isIcmp && clientL4 < end ? packet.view.getUint8(clientL4) : -1;
  quote.start = start;
  quote.end = end;
  quote.overhead = (start - at) | 0;
  readMeaning(packet, at, quote);
  return DropReason.none;
}

/** Offset of the packet behind the outer header whose payload starts at `l4`, 0: it is none of ours. */
function innerOffset(outer: Packet, l4: number, end: number): number {
  if (outer.protocol === IpProtocol.ipip || outer.protocol === IpProtocol.ipv6) return l4;
  if (outer.protocol !== IpProtocol.udp) return 0;
  const payload = (l4 + Wire.udpBytes) | 0;
  if (end - payload < GUE_BYTES) return 0;
  const first = outer.view.getUint8(payload);
  if (first >>> 6 === 1) return payload;
  // Variant 0 with a data packet: C bit clear, an IP packet inside.
  if (first >>> 5 !== 0) return 0;
  const protocol = outer.view.getUint8(payload + 1);
  if (protocol !== IpProtocol.ipip && protocol !== IpProtocol.ipv6) return 0;
  return (payload + GUE_BYTES + ((first & 31) << 2)) | 0;
}

/** By the version, which must be the one that the outer protocol says. */
function innerFamily(outer: Packet, start: number): number {
  const version = outer.view.getUint8(start) >>> 4;
  if (outer.protocol === IpProtocol.ipip) return version === 4 ? 4 : 0;
  if (outer.protocol === IpProtocol.ipv6) return version === 6 ? 6 : 0;
  return version === 4 || version === 6 ? version : 0;
}

/** What the error says, for someone who knows nothing of tunnels (RFC 2003 §4, RFC 2473 §8). `at`: offset of the outer packet. */
function readMeaning(packet: Packet, at: number, quote: EncapsulatedQuote): void {
  const { view, l4 } = packet;
  const type = view.getUint8(l4);
  let mtu = -1;
  if (packet.family === 4) {
    if (type === IcmpType.unreachable && view.getUint8(l4 + 1) === UnreachableCode.fragmentationNeeded) {
      mtu = view.getUint16(l4 + IcmpOffset.mtu4);
      if (mtu === 0) mtu = plateauBelow(view.getUint16(at + 2));
    }
    quote.isForClient = type !== IcmpType.parameterProblem;
  } else {
    if (type === Icmp6Type.packetTooBig) mtu = view.getInt32(l4 + IcmpOffset.mtu6);
    quote.isForClient = type !== Icmp6Type.parameterProblem;
  }
  if (mtu < 0) {
    // Also an MTU of 2^31 and more.
    quote.mtu = 0;
    if (packet.family === 6 && type === Icmp6Type.packetTooBig) quote.isForClient = false;
    return;
  }
  const least = quote.client.family === 4 ? MIN_MTU_4 : MIN_MTU_6;
  const fits = (mtu - quote.overhead) | 0;
  quote.mtu = fits < least ? least : fits;
}

function plateauBelow(length: number): number {
  for (let i = 0; i < PLATEAUS.length; i++) if (PLATEAUS[i] < length) return PLATEAUS[i];
  return MIN_MTU_4;
}

/**
 * Turns the router's error into one from the service's address to the client, in place, which quotes the client's own packet: fragmentation needed
 * or packet too big with the MTU less our overhead; every other unreachable and time exceeded as host (address) unreachable, which is
 * what it comes to for a client (RFC 2003 §4.1, RFC 2473 §8.1). To be sent by Verdict.Tx: whoever forwarded the error reaches
 * clients, as the backends' answers go that way.
 *
 * False, and nothing changed, where the client must not or need not be told: see mayReport(); parameter problems, which are about our header;
 * sizes that the client's packet was within.
 */
export function relayToClient(packet: Packet, quote: EncapsulatedQuote): boolean {
  const { client, start, end, mtu } = quote;
  if (!quote.isForClient || !mayReport(client, quote.icmpType)) return false;
  const bytes = (end - start) | 0;
  if (mtu !== 0) {
    if (lengthOf(client) <= mtu) return false;
    return client.family === 4
      ? writeIcmpError(
          packet,
          client,
          start,
          bytes,
          IcmpType.unreachable,
          UnreachableCode.fragmentationNeeded,
          mtu & 0xffff,
        )
      : writeIcmpError(packet, client, start, bytes, Icmp6Type.packetTooBig, 0, mtu);
  }
  return client.family === 4
    ? writeIcmpError(packet, client, start, bytes, IcmpType.unreachable, UnreachableCode.host, 0)
    : writeIcmpError(packet, client, start, bytes, Icmp6Type.unreachable, Unreachable6Code.address, 0);
}

/** Bytes of a packet as its header says. */
function lengthOf(quoted: Packet): number {
  const { view, l3 } = quoted;
  return quoted.family === 4 ? view.getUint16(l3 + 2) : Wire.ipv6Bytes + view.getUint16(l3 + 4);
}
