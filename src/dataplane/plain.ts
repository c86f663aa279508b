import { Counter, CounterBlock, MAX_BACKENDS } from '../shared/layout.js';
import { Egress, OuterKind, OuterWord } from './balance/egress.js';
import type { FlowTable } from './balance/flow_table.js';
import type { FlowHash } from './balance/hash.js';
import type { FilterChain } from './filter/chain.js';
import type { FlowOffers } from './flow_offers.js';
import { LITTLE_ENDIAN } from './packet/encap.js';
import { PlainEnter } from './plain_enter.js';
import { PlainFlows } from './plain_flows.js';
import { PlainFresh } from './plain_fresh.js';
import { PlainHeaders } from './plain_headers.js';
import { makeJudge, type Judge } from './plain_judge.js';
import { PlainOuter } from './plain_outer.js';
import { PlainRing } from './plain_ring.js';
import { PlainRules } from './plain_rules.js';
import { PlainSets } from './plain_sets.js';
import type { Burst } from './port.js';
import type { Snapshot } from './snapshot.js';
import { DropReason } from './verdict.js';

/** A burst of this many packets of which none was plain says what the next ones will be. */
const TELLING_BURST = 16;

/** Bursts that then go through the steps untried: so a flood of first SYNs does not cost both ways. */
const UNTRIED_BURSTS = 15;

/**
 * The short way of the packets that nearly all packets are: plain ones (see PlainHeaders), of a flow that the flow table knows, or
 * that a ring alone gives a backend (see PlainRing), to a backend that is well and gets nothing unusual in front (see
 * OuterKind). For these, and only these, it does in one go what the steps of `Path` do, with the same result: same bytes, same
 * verdict, same counters. Whatever is not like that it leaves to the steps, untouched. test/unit/plain.test.ts holds the two equal.
 *
 * Why it exists: a step hands its findings to the next in a Packet, and to write and read those fields costs more than
 * half of what a packet costs. Here a few words of each packet lie in arrays between the loops: headers and hash; one read of each flow's slot, so
 * that a burst's cache misses overlap; flows; backends and counters; outer headers; new flows entering the table. The loops are short and call nothing, for
 * V8's sake: docs/performance-notes.md has what that is worth.
 */
export class PlainPath {
  /** Positions in the burst that were left to the steps, in order; `run` returns how many. */
  readonly rest: Int32Array;
  private readonly headers: PlainHeaders;
  private readonly found: PlainFlows;
  private readonly outer: PlainOuter;
  private readonly fresh: PlainFresh;
  private readonly ring: PlainRing;
  private readonly entering: PlainEnter;
  private readonly view: DataView;
  /** Snapshot.egress of the tables in force, and room for the largest there may be. */
  private readonly egress = new Int32Array(MAX_BACKENDS << Egress.SHIFT);
  private egressEnd = 0;
  /** By position in the burst: record in `egress` of the backend that the packet is sent to; −1: not sent. */
  private readonly records: Int32Array;
  private readonly judged = new Int32Array(2);
  private readonly judge: Judge;
  private untried = 0;
  /** Bytes of all packets of the last burst as they came, where `run` has looked at them; else −1. */
  rxBytes = -1;
  /** These two are made with the first rules, and the first sets. */
  private rules: PlainRules | null = null;
  private hasRules = false;
  private sets: PlainSets | null = null;
  private hasSets = false;
  /** Who is told of flows that it sends; null: nobody. */
  offers: FlowOffers | null = null;

  constructor(
    memory: ArrayBuffer,
    chunkSize: number,
    flows: FlowTable,
    hash: FlowHash,
    private readonly counters: Float64Array,
    snapshot: Snapshot,
    slots: number,
  ) {
    this.rest = new Int32Array(slots);
    this.records = new Int32Array(slots);
    this.view = new DataView(memory);
    this.headers = new PlainHeaders(this.view, hash, (flows.words.length - 1) | 0, snapshot.ringHash, slots);
    this.found = new PlainFlows(flows.words, this.headers, slots);
    const { place } = this.found;
    this.fresh = new PlainFresh(flows, hash, snapshot.ringHash, this.headers, place, slots);
    this.ring = new PlainRing(this.headers, this.fresh.positions, place, snapshot);
    this.entering = new PlainEnter(flows, hash, this.headers, counters, this.egress, this.records, slots);
    this.judge = makeJudge(flows, chunkSize, counters, this.egress, this.headers, {
      place,
      rest: this.rest,
      records: this.records,
      entrants: this.entering.entrants,
      found: this.judged,
    });
    this.outer = new PlainOuter(memory, this.headers, this.egress, this.records);
    this.adopt(snapshot);
  }

  adopt(snapshot: Snapshot): void {
    // In place: the loops are compiled for this array.
    this.egress.set(snapshot.egress);
    this.egress.fill(0, snapshot.egress.length, this.egressEnd);
    this.egressEnd = snapshot.egress.length;
    this.ring.adopt(snapshot);
    this.fresh.adopt(snapshot.ringHash);
    this.headers.adopt(snapshot.ringHash, this.ring.isThere || hasGue(snapshot.egress));
    this.untried = 0;
  }

  /** Stages of the chain in force. */
  adoptFilters({ rules, plainStages, mitigation }: FilterChain, snapshot: Snapshot): void {
    // What is to be opened meets them when it is open; and who is on the allow list, never.
    const dropsAtOnce = !snapshot.decap.active && mitigation.allow === null;
    const index = rules?.index ?? null;
    this.hasRules = rules !== null && index !== null;
    if (rules !== null && index !== null) {
      this.rules ??= new PlainRules(this.view, this.headers, this.counters, this.rest.length);
      this.rules.adopt(rules, index, dropsAtOnce);
    }
    this.hasSets = plainStages !== null;
    if (plainStages !== null) {
      this.sets ??= new PlainSets(this.view, this.headers, this.rest.length);
      this.sets.adopt(plainStages, !snapshot.decap.active);
    }
  }

  /** Judges what it can of the burst; the rest stays as it is. `port`: number of the port that the burst came from. */
  run(burst: Burst, count: number, port: number, nowMs: number): number {
    if (!LITTLE_ENDIAN) return this.leaveAll(count);
    if (this.untried > 0) {
      this.untried--;
      return this.leaveAll(count);
    }
    if (this.hasSets || this.hasRules) this.filter(burst, count);
    else this.headers.locate(burst, count);
    this.rxBytes = this.headers.bytes[0];
    this.found.find(count);
    if (this.found.missed[0] > 0 && (this.ring.remembers || this.ring.isThere))
      this.ring.choose(this.fresh.gather(count));
    const left = this.judge(burst, count, port, nowMs);
    this.outer.store(count, this.judged[0]);
    if (this.offers !== null) this.note(count, port, this.offers);
    // Last: it moves flows.
    if (this.judged[1] > 0) this.entering.enter(this.judged[1], port, nowMs, this.offers);
    if (left === count && count >= TELLING_BURST) this.untried = UNTRIED_BURSTS;
    return left;
  }

  /** Leaves all to the steps: they are to see every packet (a user's filter, rules, checksum repair). */
  leaveAll(count: number): number {
    this.rxBytes = -1;
    for (let i = 0; i < count; i++) this.rest[i] = i;
    return count;
  }

  /** Locates what sets and rules let go on. */
  private filter(burst: Burst, count: number): void {
    this.headers.read(burst, count);
    if (this.hasSets && this.sets !== null) this.dropBySets(burst, count, this.sets);
    if (this.hasRules && this.rules !== null) this.dropByRules(burst, count, this.rules);
    this.headers.place(count);
  }

  private dropBySets(burst: Burst, count: number, sets: PlainSets): void {
    const dropped = sets.judge(burst, count);
    this.counters[Counter.drop] += dropped;
    this.counters[CounterBlock.reasons + DropReason.set] += dropped;
  }

  /** A loop of its own: where there are no rules, nothing is spent on them. */
  private dropByRules(burst: Burst, count: number, rules: PlainRules): void {
    const dropped = rules.judge(burst, count);
    this.counters[Counter.drop] += dropped;
    this.counters[CounterBlock.reasons + DropReason.rule] += dropped;
  }

  /** Tells whoever asked of the flows that were sent. */
  private note(count: number, port: number, offers: FlowOffers): void {
    const { place } = this.found;
    const { ringHashes } = this.headers;
    const { records, egress } = this;
    for (let i = 0; i < count; i++) {
      const at = records[i];
      if (at >= 0 && place[i] >= 0) offers.note(place[i], egress[at + Egress.outer], ringHashes[i], port);
    }
  }
}

function hasGue(egress: Int32Array): boolean {
  for (let at = Egress.outer; at < egress.length; at += 1 << Egress.SHIFT) {
    const kind = egress[at] & OuterWord.KIND_MASK;
    if (kind !== OuterKind.none && kind !== OuterKind.ipv4 && kind !== OuterKind.ipv6) return true;
  }
  return false;
}
