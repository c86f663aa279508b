import { BackendField } from '../../shared/layout.js';

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
  mtu = 4,
  /** Folded sum of the outer IPv4 header without total length and TOS. */
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
}

const ETHERNET_AND_IPV4 = 36;

/**
 * What a worker needs of each backend to send it a packet, made from the published records when a generation is adopted. A copy
 * because it is laid out for the path: one line a backend, and header words that only have to be stored.
 */
export function buildEgress(backends: Int32Array): Int32Array {
  const count = Math.floor(backends.length / BackendField.STRIDE);
  const egress = new Int32Array(count << Egress.SHIFT);
  const bytes = new DataView(new ArrayBuffer(ETHERNET_AND_IPV4));
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
    egress[to + Egress.mtu] = backends[from + BackendField.mtu];
    egress[to + Egress.headerSum] = backends[from + BackendField.headerSum];
    writeTemplate(bytes, backends, from);
    egress.set(words.subarray(0, 3), to + Egress.word0);
    egress.set(words.subarray(6, 8), to + Egress.word6);
    egress[to + Egress.half16] = halves[16];
  }
  return egress;
}

function writeTemplate(bytes: DataView, backends: Int32Array, from: number): void {
  bytes.setInt32(0, backends[from + BackendField.eth0]);
  bytes.setInt32(4, backends[from + BackendField.eth1]);
  bytes.setInt32(8, backends[from + BackendField.eth2]);
  bytes.setInt32(24, 0);
  bytes.setInt32(26, backends[from + BackendField.source0]);
  bytes.setInt32(30, backends[from + BackendField.addr0]);
}
