import type { MitigationTables } from '../../shared/layout.js';
import { NO_MATCH, lookupLpm4, lookupLpm6 } from '../../shared/lpm.js';
import type { Packet } from '../packet/packet.js';

/** Sources that no stage of mitigation touches. */
export class AllowList {
  readonly counts = false;
  private readonly ipv4: Int32Array | null;
  private readonly ipv6: Int32Array | null;

  constructor({ ipv4, ipv6 }: NonNullable<MitigationTables['allow']>) {
    this.ipv4 = ipv4 && new Int32Array(ipv4);
    this.ipv6 = ipv6 && new Int32Array(ipv6);
  }

  has(packet: Packet): boolean {
    if (packet.family === 4) return this.ipv4 !== null && lookupLpm4(this.ipv4, packet.src0) !== NO_MATCH;
    if (packet.family !== 6 || this.ipv6 === null) return false;
    return lookupLpm6(this.ipv6, packet.src0, packet.src1, packet.src2, packet.src3) !== NO_MATCH;
  }
}
