import { BackendField, BackendFlag, EncapKind, ServiceField, ServiceFlag } from '../../shared/layout.js';

/** Where the port and the service lie in a record's first word. */
export const enum FlagsWord {
  PORT_SHIFT = 8,
  PORT_MASK = 15,
  SERVICE_SHIFT = 12,
}

/** Words of a record: one cache line, of which the path reads all for a packet that it sends. */
export const enum Egress {
  SHIFT = 4,
  /** BackendFlag bits, port number << FlagsWord.PORT_SHIFT, service number << FlagsWord.SERVICE_SHIFT: one read for all three. */
  flags = 0,
  incarnation = 1,
  /** OuterKind, and the GUE port as it lies in memory << OuterWord.PORT_SHIFT. */
  outer = 2,
  mtu = 4,
  /** Folded sum of the outer IPv4 header without total length and TOS; of IPv4 in IPv4 where it is IP in IP. */
  headerSum = 5,
  /**
   * Those of the 34 bytes of Ethernet and IPv4 header that are this backend's, as they lie in memory, read as words of this
   * machine: addresses of both layers. Word 6 has room for the checksum.
   */
  word0 = 6,
  word1 = 7,
  word2 = 8,
  word6 = 9,
  word7 = 10,
  half16 = 11,
}

/** The same of a backend that is reached over IPv6: of 54 bytes, from the source address on. Word 5 has room for next header and hop limit. */
export const enum Egress6 {
  word12 = 3,
  half26 = 5,
  word5 = 9,
  word6 = 10,
  word7 = 11,
  word8 = 12,
  word9 = 13,
  word10 = 14,
  word11 = 15,
}

/**
 * What the short way puts between Ethernet header and packet; the number is its bytes. None: nothing can be sent to the backend now, or something
 * here depends on more than flow and backend; the steps have to do it.
 */
export const enum OuterKind {
  none = 0,
  ipv4 = 20,
  ipv4Gue1 = 28,
  ipv4Gue0 = 32,
  ipv6 = 40,
  ipv6Gue1 = 48,
  ipv6Gue0 = 52,
}

export const enum OuterWord {
  KIND_MASK = 0xff,
  PORT_SHIFT = 16,
}

/** Time to live of the outer header: the internal network's own, not the client's (RFC 2003 §3.1). */
export const enum Outer {
  TTL = 64,
}

/**
 * The rest of the header as words of a little-endian machine: EtherType, version and header length (TOS goes to the top byte); flags
 * with DF and TTL (the protocol goes to the top byte). Word 4 is the total length alone: the id is 0.
 */
export const enum HeaderWord {
  word3 = 0x00450008,
  word5 = 0x00400040,
  /** Lower half of word 3 with IPv6, and the hop limit in word 5. */
  etherTypeIpv6 = 0xdd86,
  hopLimit = 0x4000,
}

/** Ethernet and IPv6 header, up to a whole word. */
const TEMPLATE_BYTES = 56;

/**
 * What a worker needs of each backend to send it a packet, made from the published records when a generation is adopted. A copy
 * because it is laid out for the path: one line a backend, and header words that only have to be stored.
 */
export function buildEgress(backends: Int32Array, services: Int32Array): Int32Array {
  const count = Math.floor(backends.length / BackendField.STRIDE);
  const egress = new Int32Array(count << Egress.SHIFT);
  const bytes = new DataView(new ArrayBuffer(TEMPLATE_BYTES));
  const words = new Int32Array(bytes.buffer);
  const halves = new Int16Array(bytes.buffer);
  for (let backend = 0; backend < count; backend++) {
    const from = backend * BackendField.STRIDE;
    const to = backend << Egress.SHIFT;
    egress[to + Egress.flags] =
      backends[from + BackendField.flags] |
      (backends[from + BackendField.port] << FlagsWord.PORT_SHIFT) |
      (backends[from + BackendField.service] << FlagsWord.SERVICE_SHIFT);
    egress[to + Egress.incarnation] = backends[from + BackendField.incarnation];
    egress[to + Egress.outer] = outerKind(backends, from, services) | guePort(backends[from + BackendField.guePort]);
    egress[to + Egress.mtu] = backends[from + BackendField.mtu];
    const isIpv6 = (backends[from + BackendField.flags] & BackendFlag.ipv6) !== 0;
    writeTemplate(bytes, backends, from, isIpv6);
    egress.set(words.subarray(0, 3), to + Egress.word0);
    if (isIpv6) {
      egress.set(words.subarray(5, 12), to + Egress6.word5);
      egress[to + Egress6.word12] = words[12];
      egress[to + Egress6.half26] = halves[26];
    } else {
      egress[to + Egress.headerSum] = backends[from + BackendField.headerSum];
      egress.set(words.subarray(6, 8), to + Egress.word6);
      egress[to + Egress.half16] = halves[16];
    }
  }
  return egress;
}

function writeTemplate(bytes: DataView, backends: Int32Array, from: number, isIpv6: boolean): void {
  bytes.setInt32(0, backends[from + BackendField.eth0]);
  bytes.setInt32(4, backends[from + BackendField.eth1]);
  bytes.setInt32(8, backends[from + BackendField.eth2]);
  bytes.setInt32(20, 0);
  bytes.setInt32(24, 0);
  const addresses = isIpv6 ? 22 : 26;
  const words = isIpv6 ? 4 : 1;
  for (let word = 0; word < words; word++) {
    bytes.setInt32(addresses + 4 * word, backends[from + BackendField.source0 + word]);
    bytes.setInt32(addresses + 4 * (words + word), backends[from + BackendField.addr0 + word]);
  }
}

/** A port as it lies in memory, read as a little-endian half word, in its place in Egress.outer. */
function guePort(port: number): number {
  return (((port & 0xff) << 8) | (port >>> 8)) << OuterWord.PORT_SHIFT;
}

/** What packets to this backend get in front, where that is the same for each but for TOS, length and the GUE port of its flow. */
function outerKind(backends: Int32Array, from: number, services: Int32Array): OuterKind {
  const flags = backends[from + BackendField.flags];
  const record = backends[from + BackendField.service] * ServiceField.STRIDE;
  const serviceFlags = services[record + ServiceField.flags];
  const leaves = (flags & BackendFlag.draining) !== 0 && (serviceFlags & ServiceFlag.udpMoves) !== 0;
  const entropy = backends.subarray(from + BackendField.entropy0, from + BackendField.entropy3 + 1);
  if (
    (flags & BackendFlag.resolved) === 0 ||
    (flags & (BackendFlag.active | BackendFlag.draining)) === 0 ||
    leaves ||
    (flags & BackendFlag.steered) !== 0 ||
    backends[from + BackendField.encapFlags] !== 0 ||
    entropy.some((mask) => mask !== 0)
  )
    return OuterKind.none;
  const isIpv6 = (flags & BackendFlag.ipv6) !== 0;
  const kind = backends[from + BackendField.encap];
  if (kind === EncapKind.ipip) {
    if ((flags & BackendFlag.special) !== 0) return OuterKind.none;
    return isIpv6 ? OuterKind.ipv6 : OuterKind.ipv4;
  }
  // The source port is of another hash.
  if ((serviceFlags & ServiceFlag.glbHash) !== 0) return OuterKind.none;
  if (kind === EncapKind.gueVariant1) return isIpv6 ? OuterKind.ipv6Gue1 : OuterKind.ipv4Gue1;
  if (kind !== EncapKind.gueVariant0 || services[record + ServiceField.hops] !== 1) return OuterKind.none;
  return isIpv6 ? OuterKind.ipv6Gue0 : OuterKind.ipv4Gue0;
}
