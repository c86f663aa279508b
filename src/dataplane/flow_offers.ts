import { FlowRecord, FlowRing, FlowSaying, type FlowRings } from '../shared/flow_ring.js';
import { OuterKind, OuterWord } from './balance/egress.js';
import { FlowField, FlowState, isProven } from './balance/flow_entry.js';
import type { FlowTable } from './balance/flow_table.js';
import type { FlowHash } from './balance/hash.js';
import { hashOf } from './balance/slot.js';
import type { RuleSet } from './filter/rules.js';
import { FlowOuter } from './flow_outer.js';
import { FlowRules } from './flow_rules.js';
import { Packet, PacketFlag } from './packet/packet.js';
import { Wire } from './packet/wire.js';
import type { Snapshot } from './snapshot.js';

/** Packets after which a flow is offered. */
const OFFER_AFTER = 16;
/** From there on it is offered again so often, if its packets still come here: the table was full, or the offer was refused. */
const OFFER_AGAIN = 240;

/** A mark: upper bits of the flow's hash, by which a flow that came into the slot later is told, and a count of packets. */
const COUNT_MASK = 0xff;

/** Records that are heard at most while packets wait, some 5 µs, and when none do. */
export const HEAR_SOME = 32;
export const HEAR_MOST = 16384;

/**
 * A worker's side of flows in the kernel: counts the packets of a flow, offers it to the main thread, says when it may go elsewhere, and keeps flows
 * alive whose packets the kernel sends. Made when it is wanted; without it the path has a comparison with null a packet.
 */
export class FlowOffers {
  private readonly marks: Int32Array;
  private readonly out: FlowRing;
  private readonly in: FlowRing;
  /** A flow to be found. */
  private readonly sought = new Packet(new DataView(new ArrayBuffer(0)), 1);
  private readonly outer: FlowOuter;
  private rules: FlowRules | null = null;
  private ruleSet: RuleSet | null = null;

  /** `ruled`: flows that rules may match are offered too, since the kernel has all rules. */
  constructor(
    private readonly flows: FlowTable,
    private readonly hash: FlowHash,
    { fromWorker, toWorker }: FlowRings,
    snapshot: Snapshot,
    private readonly ruled: boolean,
  ) {
    this.marks = new Int32Array(flows.slots);
    flows.places.marks = this.marks;
    this.out = new FlowRing(fromWorker);
    this.in = new FlowRing(toWorker);
    this.outer = new FlowOuter(snapshot);
  }

  /** `rules`: those in force; null: there are none. */
  adopt(snapshot: Snapshot, rules: RuleSet | null): void {
    this.outer.adopt(snapshot);
    if (rules === this.ruleSet) return;
    this.ruleSet = rules;
    this.rules = rules && new FlowRules(rules);
  }

  /**
   * Counts a packet of the flow at `flow`, which goes to its backend the short way, and which no rule may match.
   *
   * @param outer Egress.outer of the backend
   * @param ringHash of the five-tuple, for backends with GUE
   * @param port number of the port that it came in by
   */
  note(flow: number, outer: number, ringHash: number, port: number): void {
    if (this.isDue(flow)) this.offer(flow, outer, ringHash, port);
  }

  /** The same of a packet that the steps send, for backends with any outer header. It has none yet. */
  noteStep(flow: number, packet: Packet): void {
    const words = this.flows.words;
    const state = words[flow + FlowField.state];
    if (state !== FlowState.udp && state !== FlowState.tcpEstablished) return;
    if (!this.isBare(packet) || !this.isDue(flow)) return;
    if (!this.ruled && this.rules !== null && this.rules.mayMatch(packet)) return;
    this.write(flow, FlowSaying.offer);
    this.writeBackend(flow);
    this.outer.write(this.out.record, packet, words[flow + FlowField.backend], packet.port);
    this.out.put();
  }

  /** Whether its headers are where those of plain packets are. */
  private isBare(packet: Packet): boolean {
    const l3Bytes = packet.family === 4 ? Wire.ipv4Bytes : Wire.ipv6Bytes;
    return packet.vlanTags === 0 && (packet.flags & PacketFlag.fragment) === 0 && packet.l4 - packet.l3 === l3Bytes;
  }

  /** Counts a packet of the flow; true: it is to be offered. */
  private isDue(flow: number): boolean {
    const slot = flow >> FlowField.STRIDE_SHIFT;
    const tag = this.flows.words[flow + FlowField.hash] & ~COUNT_MASK;
    const mark = this.marks[slot];
    const count = (mark & ~COUNT_MASK) === tag ? ((mark & COUNT_MASK) + 1) | 0 : 1;
    this.marks[slot] = tag | (count === OFFER_AFTER + OFFER_AGAIN - 1 ? OFFER_AFTER - 1 : count);
    return count === OFFER_AFTER;
  }

  private offer(flow: number, outer: number, ringHash: number, port: number): void {
    const { record } = this.out;
    this.write(flow, FlowSaying.offer);
    this.writeBackend(flow);
    const kind = outer & OuterWord.KIND_MASK;
    const isIpip = kind === OuterKind.ipv4 || kind === OuterKind.ipv6;
    record[FlowRecord.sportAndPort] = ((isIpip ? 0 : 0x8000 | (ringHash & 0x7fff)) << 16) | port;
    record[FlowRecord.label] = isIpip || kind < OuterKind.ipv6 ? 0 : ringHash >>> 12;
    record[FlowRecord.host] = 0;
    this.out.put();
  }

  private writeBackend(flow: number): void {
    const { record } = this.out;
    record[FlowRecord.backend] = this.flows.words[flow + FlowField.backend];
    record[FlowRecord.incarnation] = this.flows.words[flow + FlowField.incarnation];
  }

  /** The flow at `flow` ended, begins anew, or goes to another backend. */
  ended(flow: number): void {
    const slot = flow >> FlowField.STRIDE_SHIFT;
    const mark = this.marks[slot];
    const tag = this.flows.words[flow + FlowField.hash] & ~COUNT_MASK;
    this.marks[slot] = 0;
    // It was never offered. Of one without a mark nobody knows: it may have been offered by who was here before.
    if ((mark & ~COUNT_MASK) === tag && (mark & COUNT_MASK) < OFFER_AFTER - 1) return;
    this.write(flow, FlowSaying.ended);
    this.out.putOrSay();
  }

  private write(flow: number, saying: FlowSaying): void {
    const { record } = this.out;
    const words = this.flows.words;
    record[FlowRecord.what] = (saying << 16) | (words[flow + FlowField.kind] & 0xffff);
    record[FlowRecord.src0] = words[flow + FlowField.src0];
    record[FlowRecord.src1] = words[flow + FlowField.src1];
    record[FlowRecord.src2] = words[flow + FlowField.src2];
    record[FlowRecord.src3] = words[flow + FlowField.src3];
    record[FlowRecord.dst0] = words[flow + FlowField.dst0];
    record[FlowRecord.dst1] = words[flow + FlowField.dst1];
    record[FlowRecord.dst2] = words[flow + FlowField.dst2];
    record[FlowRecord.dst3] = words[flow + FlowField.dst3];
    record[FlowRecord.ports] = words[flow + FlowField.ports];
  }

  /** Takes over what the main thread says of flows whose packets the kernel sends, `most` records of it. */
  hear(most: number): void {
    const { record } = this.in;
    for (let i = 0; i < most && this.in.take(); i++) {
      const flow = this.find(record);
      if (flow < 0) continue;
      const words = this.flows.words;
      const seenMs = record[FlowRecord.seenMs];
      if (!isProven(words[flow + FlowField.state])) continue;
      if (((seenMs - words[flow + FlowField.lastSeen]) | 0) > 0) words[flow + FlowField.lastSeen] = seenMs;
    }
  }

  private find(record: Int32Array): number {
    const { sought, hash } = this;
    const family = (record[FlowRecord.what] >>> 8) & 0xff;
    sought.family = family as Packet['family'];
    sought.protocol = record[FlowRecord.what] & 0xff;
    sought.src0 = record[FlowRecord.src0];
    sought.src1 = record[FlowRecord.src1];
    sought.src2 = record[FlowRecord.src2];
    sought.src3 = record[FlowRecord.src3];
    sought.dst0 = record[FlowRecord.dst0];
    sought.dst1 = record[FlowRecord.dst1];
    sought.dst2 = record[FlowRecord.dst2];
    sought.dst3 = record[FlowRecord.dst3];
    sought.ports = record[FlowRecord.ports];
    sought.flowHash = hashOf(hash, sought);
    return this.flows.find(sought);
  }
}
