import { BackendField } from '../../shared/layout.js';

/** Words of a record: one cache line, of which the path reads all for a packet that it sends. */
export const enum Egress {
  SHIFT = 4,
  /** BackendFlag bits. */
  flags = 0,
  incarnation = 1,
  service = 2,
  /** Number of the port that leads there. */
  port = 3,
  mtu = 4,
  /** Folded sum of the outer IPv4 header without total length and TOS. */
  headerSum = 5,
  /**
   * The 34 bytes of Ethernet and IPv4 header as they lie in memory, read as words of this machine, without TOS, total length and
   * checksum and protocol: words 0-3, 5-7 and the half word 16.
   */
  word0 = 6,
  word1 = 7,
  word2 = 8,
  word3 = 9,
  word5 = 10,
  word6 = 11,
  word7 = 12,
  half16 = 13,
}

/** Time to live of the outer header: the internal network's own, not the client's (RFC 2003 §3.1). */
export const OUTER_TTL = 64;

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
    egress[to + Egress.flags] = backends[from + BackendField.flags];
    egress[to + Egress.incarnation] = backends[from + BackendField.incarnation];
    egress[to + Egress.service] = backends[from + BackendField.service];
    egress[to + Egress.port] = backends[from + BackendField.port];
    egress[to + Egress.mtu] = backends[from + BackendField.mtu];
    egress[to + Egress.headerSum] = backends[from + BackendField.headerSum];
    writeTemplate(bytes, backends, from);
    egress.set(words.subarray(0, 4), to + Egress.word0);
    egress.set(words.subarray(5, 8), to + Egress.word5);
    egress[to + Egress.half16] = halves[16];
  }
  return egress;
}

/** The protocol is left out: it depends on the packet's family. */
function writeTemplate(bytes: DataView, backends: Int32Array, from: number): void {
  bytes.setInt32(0, backends[from + BackendField.eth0]);
  bytes.setInt32(4, backends[from + BackendField.eth1]);
  bytes.setInt32(8, backends[from + BackendField.eth2]);
  bytes.setInt32(12, 0x08004500);
  bytes.setInt32(16, 0);
  bytes.setInt32(20, 0x40000000 | (OUTER_TTL << 8));
  bytes.setInt32(24, 0);
  bytes.setInt32(26, backends[from + BackendField.source0]);
  bytes.setInt32(30, backends[from + BackendField.addr0]);
}
