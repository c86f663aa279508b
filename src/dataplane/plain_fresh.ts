/** Packets of a burst whose flow is not in its first window, gathered so that the loops about them pass over these alone. */
import { FlowField, Lodgers } from './balance/flow_entry.js';
import type { FlowTable } from './balance/flow_table.js';
import type { FlowHash } from './balance/hash.js';
import { hashOf } from './balance/slot.js';
import { Heading } from './plain_heading.js';
import type { PlainHeaders } from './plain_headers.js';
import { fill, tuplePacket } from './plain_tuple.js';

/** Goes over the first `count` packets of a burst; returns how many it wrote down. */
type Gatherer = (count: number) => number;

/** Goes over the first `count` of `positions`. */
type ListLoop = (count: number) => void;

export class PlainFresh {
  /** Positions in the burst; `gather` returns how many. */
  readonly positions: Int32Array;
  /** Positions of packets of whose home some flows are in their second window: theirs may be there. */
  private readonly perhapsAway: Int32Array;
  /** One word: how many. */
  private readonly away = new Int32Array(1);
  private readonly gatherAll: Gatherer;
  private ring4: ListLoop;
  private ring6: ListLoop;
  private readonly packet = tuplePacket();

  /** `place`: PlainFlows.place. */
  constructor(
    private readonly flows: FlowTable,
    private readonly hash: FlowHash,
    private ringHash: FlowHash,
    private readonly headers: PlainHeaders,
    private readonly place: Int32Array,
    slots: number,
  ) {
    this.positions = new Int32Array(slots);
    this.perhapsAway = new Int32Array(slots);
    const { positions, perhapsAway, away } = this;
    this.gatherAll = gatherer(flows.words, headers.home, place, { positions, perhapsAway, away });
    this.ring4 = hasher4(ringHash, headers, this.positions);
    this.ring6 = hasher6(ringHash, headers, this.positions);
  }

  adopt(ringHash: FlowHash): void {
    if (ringHash.equals(this.ringHash)) return;
    this.ringHash = ringHash;
    this.ring4 = hasher4(ringHash, this.headers, this.positions);
    this.ring6 = hasher6(ringHash, this.headers, this.positions);
  }

  /** Gathers the packets of `place` −1 but for those whose flow is in its second window, whose place is then there. They have their ring hash. */
  gather(count: number): number {
    const { headers } = this;
    let fresh = this.gatherAll(count);
    if (this.away[0] > 0) fresh = this.findAway(this.away[0], fresh);
    if (fresh === 0 || headers.wantsRingHash) return fresh;
    this.ring4(fresh);
    if (headers.hasIpv6) this.ring6(fresh);
    return fresh;
  }

  private findAway(count: number, fresh: number): number {
    const { perhapsAway, positions, place, packet } = this;
    let found = fresh;
    for (let n = 0; n < count; n++) {
      const i = perhapsAway[n];
      fill(packet, this.headers, i);
      packet.flowHash = hashOf(this.hash, packet);
      const at = this.flows.find(packet);
      if (at >= 0) place[i] = at;
      else positions[found++] = i;
    }
    return found;
  }
}

function gatherer(
  words: Int32Array,
  home: Int32Array,
  place: Int32Array,
  { positions, perhapsAway, away }: { positions: Int32Array; perhapsAway: Int32Array; away: Int32Array },
): Gatherer {
  return (count) => {
    let fresh = 0;
    let gone = 0;
    for (let i = 0; i < count; i++) {
      const at = home[i];
      if (at < 0 || place[i] !== -1) continue;
      if (words[(at + FlowField.lodgers) | 0] >>> Lodgers.AWAY_SHIFT !== 0) perhapsAway[gone++] = i;
      else positions[fresh++] = i;
    }
    away[0] = gone;
    return fresh;
  };
}

function hasher4(hash: FlowHash, headers: PlainHeaders, positions: Int32Array): ListLoop {
  const { heading, src0, dst0, ports, ringHashes } = headers;
  return (count) => {
    for (let entry = 0; entry < count; entry++) {
      const i = positions[entry];
      const head = heading[i];
      if (head >= 0) ringHashes[i] = hash.ipv4(src0[i], dst0[i], ports[i], head >>> Heading.PROTOCOL_SHIFT);
    }
  };
}

function hasher6(hash: FlowHash, headers: PlainHeaders, positions: Int32Array): ListLoop {
  const { heading, src0, src1, src2, src3, dst0, dst1, dst2, dst3, ports, ringHashes } = headers;
  return (count) => {
    for (let entry = 0; entry < count; entry++) {
      const i = positions[entry];
      const head = heading[i];
      if (head >= 0) continue;
      const protocol = (head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
      ringHashes[i] = hash.ipv6(
        src0[i],
        src1[i],
        src2[i],
        src3[i],
        dst0[i],
        dst1[i],
        dst2[i],
        dst3[i],
        ports[i],
        protocol,
      );
    }
  };
}
