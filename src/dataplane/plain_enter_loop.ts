/** The loop that enters new flows; see PlainEnter. */
import { BackendCounter, CounterBlock } from '../shared/layout.js';
import { Egress } from './balance/egress.js';
import { FlowField, FlowState, Lodgers, Weight } from './balance/flow_entry.js';
import type { FlowTable } from './balance/flow_table.js';
import { IpProtocol } from './packet/wire.js';
import { Heading } from './plain_heading.js';
import type { PlainHeaders } from './plain_headers.js';

/** What the loop says beside where it stopped: how many took an empty slot, and how many that of a flow which was alive. */
export interface Entered {
  taken: number;
  evicted: number;
}

/** What it goes by. */
export interface Entering {
  /** Positions in the burst. */
  entrants: Int32Array;
  /** By position: hash of the flow, and the backend's record in `egress`. */
  hashes: Int32Array;
  records: Int32Array;
  egress: Int32Array;
  /** By hash: number of the burst in which a flow entered last. A power of two. */
  marks: Int32Array;
}

/** Enters flows from `first` on. Returns the number of one that is not done in one of the common ways, which is untouched; or `count`. */
export type Enter = (first: number, count: number, burst: number, nowMs: number, entered: Entered) => number;

/**
 * The common ways: the home window has an empty slot; or it is full of flows that are all alive, in a table too full to move any, and one of them is
 * unproven. As FlowTable.insert does these.
 *
 * A round of the loop looks at four slots, which divide a window, or, when a window is done, enters one flow: a loop within the loop would cost more; see
 * PlainHeaders. Who gives way is found as FlowTable.survey finds it.
 */
export function makeEnter(
  flows: FlowTable,
  headers: PlainHeaders,
  counters: Float64Array,
  { entrants, hashes, records, egress, marks }: Entering,
): Enter {
  const { words } = flows;
  const { occupied } = flows.places;
  const { heading, src0, src1, src2, src3, dst0, dst1, dst2, dst3, ports } = headers;
  const mask = (words.length - 1) | 0;
  const occupiedMask = (occupied.length - 1) | 0;
  const markMask = (marks.length - 1) | 0;
  const crowded = flows.crowded | 0;
  return (first, count, burst, nowMs, entered) => {
    const least = flows.leastTimeoutMs | 0;
    const now = nowMs | 0;
    const room = (crowded - flows.count) | 0;
    let taken = 0;
    let evicted = 0;
    let entry = first | 0;
    let at = 0;
    let end = 0;
    let isScanned = false;
    let best = 0;
    let victim = 0;
    let margin = 0;
    for (;;) {
      if (at !== end) {
        const at1 = ((at + 1 * FlowField.STRIDE) | 0) & mask;
        const at2 = ((at + 2 * FlowField.STRIDE) | 0) & mask;
        const at3 = ((at + 3 * FlowField.STRIDE) | 0) & mask;
        const state0 = words[(at + FlowField.state) | 0];
        const idle0 = (now - words[(at + FlowField.lastSeen) | 0]) | 0;
        const state1 = words[(at1 + FlowField.state) | 0];
        const idle1 = (now - words[(at1 + FlowField.lastSeen) | 0]) | 0;
        const state2 = words[(at2 + FlowField.state) | 0];
        const idle2 = (now - words[(at2 + FlowField.lastSeen) | 0]) | 0;
        const state3 = words[(at3 + FlowField.state) | 0];
        const idle3 = (now - words[(at3 + FlowField.lastSeen) | 0]) | 0;
        margin |= (least - idle0) | 0;
        const weight0 = idle0 | (Weight.UNPROVEN & (((Weight.PROVEN >> state0) & 1) - 1));
        const isMore0 = ((best - weight0) | 0) >> 31;
        best ^= (best ^ weight0) & isMore0;
        victim ^= (victim ^ at) & isMore0;
        margin |= (least - idle1) | 0;
        const weight1 = idle1 | (Weight.UNPROVEN & (((Weight.PROVEN >> state1) & 1) - 1));
        const isMore1 = ((best - weight1) | 0) >> 31;
        best ^= (best ^ weight1) & isMore1;
        victim ^= (victim ^ at1) & isMore1;
        margin |= (least - idle2) | 0;
        const weight2 = idle2 | (Weight.UNPROVEN & (((Weight.PROVEN >> state2) & 1) - 1));
        const isMore2 = ((best - weight2) | 0) >> 31;
        best ^= (best ^ weight2) & isMore2;
        victim ^= (victim ^ at2) & isMore2;
        margin |= (least - idle3) | 0;
        const weight3 = idle3 | (Weight.UNPROVEN & (((Weight.PROVEN >> state3) & 1) - 1));
        const isMore3 = ((best - weight3) | 0) >> 31;
        best ^= (best ^ weight3) & isMore3;
        victim ^= (victim ^ at3) & isMore3;
        at = ((at + 4 * FlowField.STRIDE) | 0) & mask;
        continue;
      }
      if (entry >= count) break;
      const i = entrants[entry];
      const hash = hashes[i];
      const home = (hash << FlowField.STRIDE_SHIFT) & mask;
      if (!isScanned) {
        if (marks[hash & markMask] === burst) break;
        const slot = home >> FlowField.STRIDE_SHIFT;
        const word = slot >> 5;
        const bit = slot & 31;
        let free = (occupied[word] >>> bit) | 0;
        if (bit > 32 - Lodgers.WINDOW) free |= occupied[((word + 1) | 0) & occupiedMask] << (32 - bit);
        free = ~free & Lodgers.HERE;
        if (free === 0) {
          if (taken < room) break;
          // As FlowSlots.secondHome.
          const mixed = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
          const second = (mixed ^ (mixed >>> 13)) & (mask >> FlowField.STRIDE_SHIFT);
          const secondBit = second & 31;
          let away = (occupied[second >> 5] >>> secondBit) | 0;
          if (secondBit > 32 - Lodgers.WINDOW) away |= occupied[((second >> 5) + 1) & occupiedMask] << (32 - secondBit);
          if ((~away & Lodgers.HERE) !== 0) break;
          best = -1;
          margin = 0;
          victim = home;
          isScanned = true;
          // The whole window; it is shorter than the table.
          at = home;
          end = ((home + Lodgers.WINDOW * FlowField.STRIDE) | 0) & mask;
          continue;
        }
        victim = ((home + ((31 - Math.clz32(free & -free)) << FlowField.STRIDE_SHIFT)) | 0) & mask;
        const victimSlot = victim >> FlowField.STRIDE_SHIFT;
        occupied[victimSlot >> 5] ^= 1 << (victimSlot & 31);
        taken = (taken + 1) | 0;
      } else {
        isScanned = false;
        if (margin < 0 || best < Weight.UNPROVEN) break;
        // The flow that gives way is taken out of its home's words.
        const otherHash = words[(victim + FlowField.hash) | 0];
        const otherHome = (otherHash << FlowField.STRIDE_SHIFT) & mask;
        const distance = (((victim - otherHome) | 0) & mask) >> FlowField.STRIDE_SHIFT;
        const lodgers = words[(otherHome + FlowField.lodgers) | 0];
        if (distance >= Lodgers.WINDOW || ((lodgers >>> distance) & 1) === 0) break;
        words[(otherHome + FlowField.lodgers) | 0] = lodgers ^ (1 << distance);
        const loser = (CounterBlock.backends + (words[(victim + FlowField.backend) | 0] << 2)) | 0;
        counters[(loser + BackendCounter.flows) | 0]--;
        evicted = (evicted + 1) | 0;
      }
      marks[hash & markMask] = burst;
      const head = heading[i];
      const record = records[i];
      const protocol = (head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
      words[(home + FlowField.lodgers) | 0] |= 1 << ((((victim - home) | 0) & mask) >> FlowField.STRIDE_SHIFT);
      words[(victim + FlowField.hash) | 0] = hash;
      words[victim] = (head < 0 ? 0x10600 : 0x10400) | protocol;
      words[(victim + FlowField.src0) | 0] = src0[i];
      words[(victim + FlowField.dst0) | 0] = dst0[i];
      words[(victim + FlowField.ports) | 0] = ports[i];
      words[(victim + FlowField.backend) | 0] = record >> Egress.SHIFT;
      words[(victim + FlowField.incarnation) | 0] = egress[(record + Egress.incarnation) | 0];
      words[(victim + FlowField.state) | 0] = protocol === IpProtocol.tcp ? FlowState.tcpPickup : FlowState.udpSingle;
      words[(victim + FlowField.lastSeen) | 0] = now;
      if (head < 0) {
        words[(victim + FlowField.src1) | 0] = src1[i];
        words[(victim + FlowField.src2) | 0] = src2[i];
        words[(victim + FlowField.src3) | 0] = src3[i];
        words[(victim + FlowField.dst1) | 0] = dst1[i];
        words[(victim + FlowField.dst2) | 0] = dst2[i];
        words[(victim + FlowField.dst3) | 0] = dst3[i];
      }
      const gauge = (CounterBlock.backends + ((record >> Egress.SHIFT) << 2)) | 0;
      counters[(gauge + BackendCounter.flows) | 0]++;
      counters[(gauge + BackendCounter.newFlows) | 0]++;
      entry = (entry + 1) | 0;
    }
    entered.taken = taken;
    entered.evicted = evicted;
    return entry;
  };
}
