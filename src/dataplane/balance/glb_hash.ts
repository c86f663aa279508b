import { SipHash } from '../../shared/siphash.js';

/** Which fields of a packet GLB hashes (its `hash_fields`): bits. */
export const enum GlbField {
  sourceAddress = 1,
  destinationAddress = 2,
  sourcePort = 4,
  destinationPort = 8,
}

/**
 * GLB Director's packet hash (src/glb-hashing/packet_parsing.h `glb_compute_hash`): SipHash-2-4 with the table's `hash_key` of the
 * configured fields, in the order of the bits, as they lie in the packet. Each method returns the hash's low 32 bits, of which
 * `row` and `gueSourcePort` need no more; it allocates nothing.
 *
 * Addresses are words as a DataView reads them, `ports` is source << 16 | destination: those of the client's packet. For an
 * ICMP error about a flow, those of the packet in it turned round (GLB: IPv4 type 3, IPv6 packet too big); for other ICMP ports 0.
 */
export class GlbHash {
  private readonly hash: SipHash;

  /** `key`: 16 bytes. Throws RangeError for another number of bytes, and without fields: GLB has no hash of nothing. */
  constructor(
    key: Uint8Array,
    private readonly fields: number,
  ) {
    if ((fields & 15) === 0 || (fields & ~15) !== 0)
      throw new RangeError(`${fields} has no fields that GLB could hash`);
    this.hash = new SipHash(key);
  }

  ipv4(src: number, dst: number, ports: number): number {
    const { hash, fields } = this;
    hash.start();
    if ((fields & GlbField.sourceAddress) !== 0) hash.pushNetwork(src);
    if ((fields & GlbField.destinationAddress) !== 0) hash.pushNetwork(dst);
    return this.endWithPorts(ports);
  }

  ipv6(
    src0: number,
    src1: number,
    src2: number,
    src3: number,
    dst0: number,
    dst1: number,
    dst2: number,
    dst3: number,
    ports: number,
  ): number {
    const { hash, fields } = this;
    hash.start();
    if ((fields & GlbField.sourceAddress) !== 0) {
      hash.pushNetwork(src0);
      hash.pushNetwork(src1);
      hash.pushNetwork(src2);
      hash.pushNetwork(src3);
    }
    if ((fields & GlbField.destinationAddress) !== 0) {
      hash.pushNetwork(dst0);
      hash.pushNetwork(dst1);
      hash.pushNetwork(dst2);
      hash.pushNetwork(dst3);
    }
    return this.endWithPorts(ports);
  }

  private endWithPorts(ports: number): number {
    const { hash, fields } = this;
    const source = (fields & GlbField.sourcePort) !== 0;
    const destination = (fields & GlbField.destinationPort) !== 0;
    if (source && destination) {
      hash.pushNetwork(ports);
      hash.end(0, 0);
    } else if (source) {
      hash.end(swap16(ports >>> 16), 2);
    } else if (destination) {
      hash.end(swap16(ports), 2);
    } else {
      hash.end(0, 0);
    }
    return hash.lo;
  }
}

/** Row of GLB's table of 65536. */
export function glbRow(hash: number): number {
  return hash & 0xffff;
}

/**
 * Outer UDP source port: 0x8000 and 15 bits of the flow. `flowHint` is the client's port (also in ICMP errors about its flow), for
 * other ICMP over IPv4 the packet's identification, over IPv6 the low 16 bits of the flow label.
 */
export function glbGueSourcePort(hash: number, flowHint: number): number {
  return 0x8000 | ((hash ^ flowHint) & 0x7fff);
}

function swap16(half: number): number {
  return ((half & 0xff) << 8) | ((half >>> 8) & 0xff);
}
