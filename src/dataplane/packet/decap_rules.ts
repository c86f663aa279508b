import type { DecapSettings } from '../../shared/layout.js';
import { PacketFlag, type Packet } from './packet.js';
import { IpProtocol, Wire } from './wire.js';

const WORDS = 4;

/** Which encapsulated packets are ours to open: to one of our addresses, and from somebody who may send there. */
export class DecapRules {
  /** False when nothing is to be taken off: there is no need to ask. */
  readonly active: boolean;
  /** By family: address words, four each. */
  private readonly addresses4: Int32Array;
  private readonly addresses6: Int32Array;
  /** By family: words of a prefix, then of its mask. */
  private readonly sources4: Int32Array;
  private readonly sources6: Int32Array;
  private readonly guePorts: Int32Array;

  constructor({ addresses, sources, guePorts }: DecapSettings) {
    const ofFamily = (family: 4 | 6) => Int32Array.from(addresses.flatMap((a) => (a.family === family ? a.words : [])));
    const prefixes = (family: 4 | 6) =>
      Int32Array.from(sources.flatMap((s) => (s.family === family ? [...s.words, ...mask(s.length)] : [])));
    this.addresses4 = ofFamily(4);
    this.addresses6 = ofFamily(6);
    this.sources4 = prefixes(4);
    this.sources6 = prefixes(6);
    this.guePorts = Int32Array.from(guePorts);
    this.active = addresses.length > 0;
  }

  /**
   * Whether the parsed packet is IP in IP, or GUE, to one of our addresses. UDP counts only when its header is right behind the
   * fixed IP header: with options or extension headers it is some other protocol's, and a later fragment shows no port.
   */
  isOurs(packet: Packet): boolean {
    const protocol = packet.protocol;
    if (protocol === IpProtocol.udp) {
      const l4 = (packet.l3 + (packet.family === 4 ? Wire.ipv4Bytes : Wire.ipv6Bytes)) | 0;
      if ((packet.flags & PacketFlag.hasPorts) === 0 || packet.l4 !== l4) return false;
      if (!contains(this.guePorts, packet.ports & 0xffff)) return false;
    } else if (protocol !== IpProtocol.ipip && protocol !== IpProtocol.ipv6) {
      return false;
    }
    return this.isAddress(packet);
  }

  private isAddress({ family, dst0, dst1, dst2, dst3 }: Packet): boolean {
    const words = family === 4 ? this.addresses4 : this.addresses6;
    for (let at = 0; at < words.length; at += WORDS) {
      const same = words[at] === dst0 && words[at + 1] === dst1 && words[at + 2] === dst2 && words[at + 3] === dst3;
      if (same) return true;
    }
    return false;
  }

  /** Whether the outer source is one of those allowed. */
  admits({ family, src0, src1, src2, src3 }: Packet): boolean {
    const words = family === 4 ? this.sources4 : this.sources6;
    for (let at = 0; at < words.length; at += 2 * WORDS) {
      const difference =
        ((src0 ^ words[at]) & words[at + 4]) |
        ((src1 ^ words[at + 1]) & words[at + 5]) |
        ((src2 ^ words[at + 2]) & words[at + 6]) |
        ((src3 ^ words[at + 3]) & words[at + 7]);
      if (difference === 0) return true;
    }
    return false;
  }
}

function contains(list: Int32Array, value: number): boolean {
  for (let i = 0; i < list.length; i++) if (list[i] === value) return true;
  return false;
}

function mask(length: number): number[] {
  return [0, 1, 2, 3].map((word) => {
    const bits = Math.min(32, Math.max(0, length - 32 * word));
    return bits === 0 ? 0 : -1 << (32 - bits);
  });
}
