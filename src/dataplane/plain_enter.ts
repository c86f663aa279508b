/** New flows of the short way enter the flow table. */
import { BackendCounter, Counter, CounterBlock } from '../shared/layout.js';
import { Egress } from './balance/egress.js';
import type { FlowTable } from './balance/flow_table.js';
import type { FlowHash } from './balance/hash.js';
import type { FlowOffers } from './flow_offers.js';
import { makeEnter, type Enter, type Entered } from './plain_enter_loop.js';
import { Heading } from './plain_heading.js';
import type { PlainHeaders } from './plain_headers.js';
import { fill, tuplePacket } from './plain_tuple.js';

/** Marks of hashes that entered with the burst in hand; a power of two. Two flows with one mark cost a look-up, no more. */
export const ENTER_MARKS = 1024;

type ListLoop = (count: number) => void;

/**
 * Enters the flows of packets that were judged, in the order of the burst, as Balancer.remember does: what is common in a loop (see makeEnter), what
 * is rare here. A second packet of a flow that entered with its burst is one of a known flow. Known flows of the burst have been seen before the first enters,
 * wherever in the burst their packets are.
 */
export class PlainEnter {
  /** Positions in the burst of packets that are sent and whose flow was not in the table; `enter` is told how many. */
  readonly entrants: Int32Array;
  private readonly hashes: Int32Array;
  private readonly marks = new Int32Array(ENTER_MARKS);
  private readonly entered: Entered = { taken: 0, evicted: 0 };
  private burst = 0;
  private readonly hash4: ListLoop;
  private readonly hash6: ListLoop;
  private readonly loop: Enter;
  /** A packet in hand, for the flow table. */
  private readonly packet = tuplePacket();

  /** `records`: by position, the backend's record in `egress`. */
  constructor(
    private readonly flows: FlowTable,
    hash: FlowHash,
    private readonly headers: PlainHeaders,
    private readonly counters: Float64Array,
    private readonly egress: Int32Array,
    private readonly records: Int32Array,
    slots: number,
  ) {
    this.entrants = new Int32Array(slots);
    this.hashes = new Int32Array(slots);
    this.hash4 = hasher4(hash, headers, this.entrants, this.hashes);
    this.hash6 = hasher6(hash, headers, this.entrants, this.hashes);
    const { entrants, hashes, marks } = this;
    this.loop = makeEnter(flows, headers, counters, { entrants, hashes, marks, records, egress });
  }

  enter(count: number, port: number, nowMs: number, offers: FlowOffers | null): void {
    const { flows, counters, entered } = this;
    this.hash4(count);
    if (this.headers.hasIpv6) this.hash6(count);
    const burst = (this.burst = (this.burst + 1) | 0);
    for (let next = 0; next < count; next++) {
      const from = next;
      next = this.loop(next, count, burst, nowMs, entered);
      const inserted = (next - from) | 0;
      flows.count += entered.taken;
      flows.changes += inserted;
      counters[Counter.flowInsert] += inserted;
      counters[Counter.flowEvict] += entered.evicted;
      if (next < count) this.enterOne(this.entrants[next], port, nowMs, offers);
    }
  }

  /** One that the loop left: it may be the second packet of its flow, or no slot of its home window is to be had for nothing. */
  private enterOne(i: number, port: number, nowMs: number, offers: FlowOffers | null): void {
    const { flows, counters, packet, headers, records, egress, marks } = this;
    fill(packet, headers, i);
    packet.flowHash = this.hashes[i];
    const mark = packet.flowHash & (ENTER_MARKS - 1);
    const at = records[i];
    const found = marks[mark] === this.burst ? flows.find(packet) : -1;
    if (found >= 0) {
      flows.touch(found, packet, nowMs);
      counters[Counter.flowHit]++;
      counters[Counter.flowMiss]--;
      offers?.note(found, egress[at + Egress.outer], headers.ringHashes[i], port);
      return;
    }
    marks[mark] = this.burst;
    const backend = at >> Egress.SHIFT;
    flows.insert(packet, backend, egress[at + Egress.incarnation], nowMs);
    counters[Counter.flowInsert]++;
    const gauge = CounterBlock.backends + (backend << 2);
    counters[gauge + BackendCounter.flows]++;
    counters[gauge + BackendCounter.newFlows]++;
    const evicted = flows.evictedBackend;
    if (evicted < 0) return;
    counters[CounterBlock.backends + (evicted << 2) + BackendCounter.flows]--;
    counters[flows.evictedAlive ? Counter.flowEvict : Counter.flowExpire]++;
  }
}

function hasher4(hash: FlowHash, headers: PlainHeaders, positions: Int32Array, hashes: Int32Array): ListLoop {
  const { heading, src0, dst0, ports } = headers;
  return (count) => {
    for (let entry = 0; entry < count; entry++) {
      const i = positions[entry];
      const head = heading[i];
      if (head >= 0) hashes[i] = hash.ipv4(src0[i], dst0[i], ports[i], head >>> Heading.PROTOCOL_SHIFT);
    }
  };
}

function hasher6(hash: FlowHash, headers: PlainHeaders, positions: Int32Array, hashes: Int32Array): ListLoop {
  const { heading, src0, src1, src2, src3, dst0, dst1, dst2, dst3, ports } = headers;
  return (count) => {
    for (let entry = 0; entry < count; entry++) {
      const i = positions[entry];
      const head = heading[i];
      if (head >= 0) continue;
      const protocol = (head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
      hashes[i] = hash.ipv6(src0[i], src1[i], src2[i], src3[i], dst0[i], dst1[i], dst2[i], dst3[i], ports[i], protocol);
    }
  };
}
