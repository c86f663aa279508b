import type { MitigationTables } from '../../shared/layout.js';
import { NO_MATCH, lookupLpm4, lookupLpm6 } from '../../shared/lpm.js';
import type { Mitigation } from '../filter/mitigation.js';
import type { PlainPrefixes } from '../filter/plain_stages.js';
import type { Packet } from '../packet/packet.js';

/** Sources that no stage of mitigation touches. */
export class AllowList implements NonNullable<Mitigation['allow']>, PlainPrefixes {
  readonly counts = false;
  readonly prefixes = this;
  private readonly ipv4: Int32Array | null;
  private readonly ipv6: Int32Array | null;

  constructor({ ipv4, ipv6 }: NonNullable<MitigationTables['allow']>) {
    this.ipv4 = ipv4 && new Int32Array(ipv4);
    this.ipv6 = ipv6 && new Int32Array(ipv6);
  }

  has4(src: number): boolean {
    return this.ipv4 !== null && lookupLpm4(this.ipv4, src) !== NO_MATCH;
  }

  has6(view: DataView, at: number): boolean {
    if (this.ipv6 === null) return false;
    const src0 = view.getInt32(at);
    const src1 = view.getInt32(at + 4);
    return lookupLpm6(this.ipv6, src0, src1, view.getInt32(at + 8), view.getInt32(at + 12)) !== NO_MATCH;
  }

  has(packet: Packet): boolean {
    if (packet.family === 4) return this.has4(packet.src0);
    if (packet.family !== 6 || this.ipv6 === null) return false;
    return lookupLpm6(this.ipv6, packet.src0, packet.src1, packet.src2, packet.src3) !== NO_MATCH;
  }
}
