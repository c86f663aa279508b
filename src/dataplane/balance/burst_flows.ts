/** Where a burst's flows are in the flow table, looked up before the first of its packets is balanced, and while others come and go. */
import { PacketFlag, type Packet } from '../packet/packet.js';
import type { Snapshot } from '../snapshot.js';
import { Decision } from '../verdict.js';
import { Ahead } from './ahead.js';
import type { FlowTable } from './flow_table.js';

/** Marks of flows that came into the table since the last look-up; a power of two. Two flows with one mark cost another look-up, no more. */
const MARKS = 256;

export class BurstFlows {
  /** FlowTable.changes at the last `lookUp`, and its number. */
  private changes = -1;
  private number = 0;
  /** By flow hash: number of the look-up after which a flow was inserted last. */
  private readonly inserted = new Int32Array(MARKS);
  private readonly ahead: Ahead;

  constructor(
    private readonly flows: FlowTable,
    snapshot: Snapshot,
  ) {
    this.ahead = new Ahead(snapshot);
  }

  adopt(snapshot: Snapshot): void {
    this.ahead.adopt(snapshot);
  }

  /** Sets `flow` of the undecided packets, and `chosen` where it is new. */
  lookUp(packets: readonly Packet[], verdict: Int32Array, count: number): void {
    const flows = this.flows;
    flows.prefetch(packets, count);
    for (let i = 0; i < count; i++) {
      if (verdict[i] !== Decision.undecided) continue;
      const packet = packets[i];
      packet.flow = (packet.flags & PacketFlag.hasPorts) === 0 ? -1 : flows.find(packet);
    }
    this.changes = flows.changes;
    this.number = (this.number + 1) | 0;
    this.ahead.choose(packets, verdict, count);
  }

  /** Where the packet's flow is now, −1: nowhere. Earlier packets of its burst may have changed that; what was nowhere is there only if it was inserted. */
  placeOf(packet: Packet): number {
    const { flow, flowHash } = packet;
    if (this.flows.changes === this.changes) return flow;
    if (flow < 0 && this.inserted[flowHash & (MARKS - 1)] !== this.number) return -1;
    return (packet.flags & PacketFlag.hasPorts) === 0 ? -1 : this.flows.find(packet);
  }

  /** To be told of each flow that is inserted. */
  noteInserted(flowHash: number): void {
    this.inserted[flowHash & (MARKS - 1)] = this.number;
  }
}
