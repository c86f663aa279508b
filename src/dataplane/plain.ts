import { BackendCounter, BackendFlag, Counter, CounterBlock, ServiceCounter } from '../shared/layout.js';
import { Egress, FlagsWord, HeaderWord, OuterKind, OuterWord } from './balance/egress.js';
import { FlowField, FlowState, Lodgers } from './balance/flow_entry.js';
import type { FlowTable } from './balance/flow_table.js';
import type { FlowHash } from './balance/hash.js';
import type { FlowOffers } from './flow_offers.js';
import { LITTLE_ENDIAN } from './packet/encap.js';
import type { FilterChain } from './filter/chain.js';
import type { RuleIndex } from './filter/rule_index.js';
import { IpProtocol } from './packet/wire.js';
import { Heading, PlainHeaders } from './plain_headers.js';
import { PlainOuter } from './plain_outer.js';
import { PlainRing } from './plain_ring.js';
import { JUDGED, PlainSets } from './plain_sets.js';
import type { Burst } from './port.js';
import type { Snapshot } from './snapshot.js';
import { DropReason, Verdict } from './verdict.js';

/** A burst of this many packets of which none was plain says what the next ones will be. */
const TELLING_BURST = 16;

/** Bursts that then go through the steps untried: so a flood of new flows does not cost both ways. */
const UNTRIED_BURSTS = 15;

/**
 * The short way of the packets that nearly all packets are: plain ones (see PlainHeaders), of a flow that the flow table knows in
 * its first window or of a service that remembers none, to a backend that is well and gets nothing unusual in front (see
 * OuterKind). For these, and only these, it does in one go what the steps of `Path` do, with the same result: same bytes, same
 * verdict, same counters. Whatever is not like that it leaves to the steps, untouched. test/unit/plain.test.ts holds the two equal.
 *
 * Why it exists: a step hands its findings to the next in a Packet, and to write and read those fields costs more than
 * half of what a packet costs. Here they stay in registers. Three loops: headers and hash; one read of each flow's slot, so
 * that a burst's cache misses overlap; the rest.
 */
export class PlainPath {
  /** Positions in the burst that were left to the steps, in order; `run` returns how many. */
  readonly rest: Int32Array;
  private readonly headers: PlainHeaders;
  private readonly outer: PlainOuter;
  private readonly ring: PlainRing;
  private readonly view: DataView;
  private readonly memoryWords: Int32Array;
  private readonly memoryHalves: Int16Array;
  private egress: Int32Array;
  private untried = 0;
  /** Packets that a rule may match take the steps; null: there are no rules. */
  private ruleIndex: RuleIndex | null = null;
  private sets: PlainSets | null = null;
  /** Who is told of flows that it sends; null: nobody. */
  offers: FlowOffers | null = null;
  protected prefetched = 0;

  constructor(
    memory: ArrayBuffer,
    private readonly chunkSize: number,
    private readonly flows: FlowTable,
    hash: FlowHash,
    private readonly counters: Float64Array,
    snapshot: Snapshot,
    slots: number,
  ) {
    this.rest = new Int32Array(slots);
    this.view = new DataView(memory);
    this.headers = new PlainHeaders(this.view, hash, (flows.words.length - 1) | 0, snapshot.ringHash, slots);
    this.outer = new PlainOuter(memory, snapshot.egress);
    this.ring = new PlainRing(this.view, snapshot);
    this.memoryWords = new Int32Array(memory, 0, memory.byteLength >> 2);
    this.memoryHalves = new Int16Array(memory, 0, memory.byteLength >> 1);
    this.egress = snapshot.egress;
    this.adopt(snapshot);
  }

  adopt(snapshot: Snapshot): void {
    this.egress = snapshot.egress;
    this.outer.adopt(snapshot.egress);
    this.ring.adopt(snapshot);
    this.headers.adopt(snapshot.ringHash, this.ring.isThere || hasGue(snapshot.egress));
    this.untried = 0;
  }

  /** Stages of the chain in force. */
  adoptFilters({ ruleIndex, plainStages }: Pick<FilterChain, 'ruleIndex' | 'plainStages'>, snapshot: Snapshot): void {
    this.ruleIndex = ruleIndex;
    this.sets = plainStages && new PlainSets(this.view, plainStages, !snapshot.decap.active);
  }

  /** Judges what it can of the burst; the rest stays as it is. `port`: number of the port that the burst came from. */
  run(burst: Burst, count: number, port: number, nowMs: number): number {
    if (!LITTLE_ENDIAN) return this.leaveAll(count);
    if (this.untried > 0) {
      this.untried--;
      return this.leaveAll(count);
    }
    this.headers.locate(burst, count);
    if (this.sets !== null) this.dropBySets(burst, count, this.sets);
    if (this.ruleIndex !== null) this.leaveRuled(burst, count, this.ruleIndex);
    this.prefetch(count);
    const left = this.forward(burst, count, port, nowMs);
    if (left === count && count >= TELLING_BURST) this.untried = UNTRIED_BURSTS;
    return left;
  }

  /** Leaves all to the steps: they are to see every packet (a user's filter, rules, checksum repair). */
  leaveAll(count: number): number {
    for (let i = 0; i < count; i++) this.rest[i] = i;
    return count;
  }

  private dropBySets(burst: Burst, count: number, sets: PlainSets): void {
    const dropped = sets.judge(burst, count, this.headers);
    this.counters[Counter.drop] += dropped;
    this.counters[CounterBlock.reasons + DropReason.set] += dropped;
  }

  /** Leaves to the steps what a rule may match. A loop of its own: where there are no rules, nothing is spent on them. */
  private leaveRuled({ offset }: Burst, count: number, index: RuleIndex): void {
    const view = this.view;
    const { home, heading } = this.headers;
    for (let i = 0; i < count; i++) {
      if (home[i] < 0) continue;
      const data = offset[i];
      const head = heading[i];
      const protocol = (head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
      // The sign says IPv6.
      const touched =
        head < 0
          ? index.touches6(view, data + 14)
          : index.touches4(protocol, view.getInt32(data + 26), view.getInt32(data + 30), view.getInt32(data + 34));
      if (touched) home[i] = -1;
    }
  }

  /** Second loop: so short that the processor has all slots under way at once. */
  private prefetch(count: number): void {
    const home = this.headers.home;
    const words = this.flows.words;
    let seen = 0;
    for (let i = 0; i < count; i++) {
      const at = home[i];
      seen |= words[at < 0 ? 0 : at];
    }
    // Only so that the reads are not optimised away.
    this.prefetched = seen;
  }

  /** Third loop: flow, backend, outer header, counters. */
  private forward({ offset, length, verdict, target }: Burst, count: number, port: number, nowMs: number): number {
    const view = this.view;
    const home = this.headers.home;
    const heading = this.headers.heading;
    const ringHashes = this.headers.ringHashes;
    const choosesByRing = this.ring.isThere;
    const rest = this.rest;
    const words = this.flows.words;
    const udpMs = this.flows.timeoutMs[FlowState.udp];
    const tcpMs = this.flows.timeoutMs[FlowState.tcpEstablished];
    const egress = this.egress;
    const memoryWords = this.memoryWords;
    const memoryHalves = this.memoryHalves;
    const counters = this.counters;
    const offers = this.offers;
    const mask = (words.length - 1) | 0;
    const chunkMask = -this.chunkSize | 0;
    let left = 0;
    let sent = 0;
    let redirected = 0;
    let byRing = 0;
    let txBytes = 0;
    // Packets in a row to one service are counted together.
    let runService = -1;
    let runPackets = 0;
    let runBytes = 0;
    for (let i = 0; i < count; i++) {
      const data = offset[i];
      let flow = home[i];
      if (flow < 0 || (data & 3) !== 0) {
        if (flow !== JUDGED) rest[left++] = i;
        continue;
      }
      // The flow: in its first window, alive, with a backend that still is who it was.
      const head = heading[i];
      const protocol = (head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
      const isTcp = protocol === IpProtocol.tcp;
      if (head < 0) {
        flow = this.find6(flow, 0x10600 | protocol, data);
      } else {
        const kind = 0x10400 | protocol;
        const src = view.getInt32(data + 26);
        const dst = view.getInt32(data + 30);
        const ports = view.getInt32(data + 34);
        const start = flow;
        let lodgers = words[(flow + FlowField.lodgers) | 0] & (Lodgers.HERE - 1);
        while (
          words[flow] !== kind ||
          words[(flow + FlowField.src0) | 0] !== src ||
          words[(flow + FlowField.ports) | 0] !== ports ||
          words[(flow + FlowField.dst0) | 0] !== dst
        ) {
          // The next slot of the window with a flow of this home. One in its second window takes the steps.
          if (lodgers === 0) {
            flow = -1;
            break;
          }
          flow = (start + ((31 - Math.clz32(lodgers & -lodgers)) << FlowField.STRIDE_SHIFT)) & mask;
          lodgers &= lodgers - 1;
        }
      }
      const proven = isTcp ? FlowState.tcpEstablished : FlowState.udp;
      let state = 0;
      let backend = -1;
      if (flow >= 0) {
        state = words[(flow + FlowField.state) | 0];
        if (
          (state === proven || state === (isTcp ? FlowState.tcpPickup : FlowState.udpSingle)) &&
          ((nowMs - words[(flow + FlowField.lastSeen) | 0]) | 0) <= (isTcp ? tcpMs : udpMs)
        ) {
          backend = words[(flow + FlowField.backend) | 0];
        }
      } else if (choosesByRing && words[(home[i] + FlowField.lodgers) | 0] >>> Lodgers.AWAY_SHIFT === 0) {
        backend = this.ring.choose(head, data, ringHashes[i]);
      }
      const at = (backend << Egress.SHIFT) | 0;
      if (backend < 0 || at >= egress.length) {
        rest[left++] = i;
        continue;
      }
      const flags = egress[at];
      const totalLength = head & 0xffff;
      const outer = egress[(at + Egress.outer) | 0];
      const outerBytes = outer & OuterWord.KIND_MASK;
      const outerLength = (totalLength + outerBytes) | 0;
      const l2 = (data - outerBytes) | 0;
      if (
        outerBytes === OuterKind.none ||
        l2 < (data & chunkMask) ||
        (flags & BackendFlag.resolved) === 0 ||
        (flags & (BackendFlag.active | BackendFlag.draining)) === 0 ||
        (flow >= 0 && egress[(at + Egress.incarnation) | 0] !== words[(flow + FlowField.incarnation) | 0]) ||
        outerLength > egress[(at + Egress.mtu) | 0]
      ) {
        rest[left++] = i;
        continue;
      }
      if (flow >= 0) {
        words[(flow + FlowField.lastSeen) | 0] = nowMs;
        if (state !== proven) words[(flow + FlowField.state) | 0] = proven;
        if (offers !== null) offers.note(flow, outer, ringHashes[i], port);
      } else {
        byRing++;
      }

      if (outerBytes === OuterKind.ipv4 && head >= 0) {
        // The outer header; see storeIpv4 in packet/encap.ts.
        const tos = (head >>> 16) & 0xff;
        let sum = (egress[(at + Egress.headerSum) | 0] + tos + outerLength) | 0;
        sum = ((sum & 0xffff) + (sum >>> 16)) | 0;
        sum = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff;
        const word = l2 >> 2;
        memoryWords[word] = egress[(at + Egress.word0) | 0];
        memoryWords[(word + 1) | 0] = egress[(at + Egress.word1) | 0];
        memoryWords[(word + 2) | 0] = egress[(at + Egress.word2) | 0];
        memoryWords[(word + 3) | 0] = HeaderWord.word3 | (tos << 24);
        memoryWords[(word + 4) | 0] = ((outerLength & 0xff) << 8) | (outerLength >>> 8);
        memoryWords[(word + 5) | 0] = HeaderWord.word5 | (IpProtocol.ipip << 24);
        memoryWords[(word + 6) | 0] = egress[(at + Egress.word6) | 0] | ((sum & 0xff) << 8) | (sum >>> 8);
        memoryWords[(word + 7) | 0] = egress[(at + Egress.word7) | 0];
        memoryHalves[((l2 >> 1) + 16) | 0] = egress[(at + Egress.half16) | 0];
      } else {
        this.outer.store(outer, at, head, data, l2, outerLength, ringHashes[i]);
      }
      const bytes = (outerLength + 14) | 0;
      offset[i] = l2;
      length[i] = bytes;
      txBytes = (txBytes + bytes) | 0;

      const byBackend = (CounterBlock.backends + (backend << 2)) | 0;
      counters[(byBackend + BackendCounter.packets) | 0]++;
      counters[(byBackend + BackendCounter.bytes) | 0] += totalLength;
      const service = flags >>> FlagsWord.SERVICE_SHIFT;
      if (service !== runService) {
        this.countService(runService, runPackets, runBytes);
        runService = service;
        runPackets = 0;
        runBytes = 0;
      }
      runPackets++;
      runBytes = (runBytes + totalLength) | 0;
      const out = (flags >>> FlagsWord.PORT_SHIFT) & FlagsWord.PORT_MASK;
      if (out === port) {
        verdict[i] = Verdict.Tx;
        sent++;
      } else {
        verdict[i] = Verdict.Redirect;
        target[i] = out;
        redirected++;
      }
    }
    this.countService(runService, runPackets, runBytes);
    counters[Counter.tx] += sent;
    counters[Counter.redirect] += redirected;
    counters[Counter.flowHit] += sent + redirected - byRing;
    counters[Counter.flowMiss] += byRing;
    counters[Counter.txBytes] += txBytes;
    return left;
  }

  /** Place of an IPv6 packet's flow whose home is at `home`, when it is in its first window; else −1. `data`: offset of the packet. */
  private find6(home: number, kind: number, data: number): number {
    const view = this.view;
    const words = this.flows.words;
    const mask = (words.length - 1) | 0;
    const src0 = view.getInt32(data + 22);
    const src3 = view.getInt32(data + 34);
    const ports = view.getInt32(data + 54);
    let lodgers = words[(home + FlowField.lodgers) | 0] & (Lodgers.HERE - 1);
    let flow = home;
    for (;;) {
      if (
        words[flow] === kind &&
        words[(flow + FlowField.src0) | 0] === src0 &&
        words[(flow + FlowField.src3) | 0] === src3 &&
        words[(flow + FlowField.ports) | 0] === ports &&
        words[(flow + FlowField.src1) | 0] === view.getInt32(data + 26) &&
        words[(flow + FlowField.src2) | 0] === view.getInt32(data + 30) &&
        words[(flow + FlowField.dst0) | 0] === view.getInt32(data + 38) &&
        words[(flow + FlowField.dst1) | 0] === view.getInt32(data + 42) &&
        words[(flow + FlowField.dst2) | 0] === view.getInt32(data + 46) &&
        words[(flow + FlowField.dst3) | 0] === view.getInt32(data + 50)
      ) {
        return flow;
      }
      if (lodgers === 0) return -1;
      flow = (home + ((31 - Math.clz32(lodgers & -lodgers)) << FlowField.STRIDE_SHIFT)) & mask;
      lodgers &= lodgers - 1;
    }
  }

  private countService(service: number, packets: number, bytes: number): void {
    if (service < 0) return;
    const at = (CounterBlock.services + (service << 1)) | 0;
    this.counters[at + ServiceCounter.packets] += packets;
    this.counters[at + ServiceCounter.bytes] += bytes;
  }
}

function hasGue(egress: Int32Array): boolean {
  for (let at = Egress.outer; at < egress.length; at += 1 << Egress.SHIFT) {
    const kind = egress[at] & OuterWord.KIND_MASK;
    if (kind !== OuterKind.none && kind !== OuterKind.ipv4 && kind !== OuterKind.ipv6) return true;
  }
  return false;
}
