/** Loops of PlainRules over a burst; why they are closures, PlainHeaders says. */
import { ProtocolKey, RuleCounter, RuleIndexHeader } from '../shared/layout.js';
import { Lpm } from '../shared/lpm_lookup.js';
import { Touched } from './filter/rule_index.js';
import { PlainRule } from './plain_rule_words.js';
import { Heading, Home } from './plain_heading.js';
import type { PlainHeaders } from './plain_headers.js';
import { Verdict } from './verdict.js';

/** Most intervals of a run that the search here, of four steps, has room for. */
const RUN_MOST = 15;

/** What the index is to the loops: copies, which stay where they are when rules change. */
export interface IndexWords {
  /** As RuleIndexTables.words, and the same words by halves. */
  words: Int32Array;
  halves: Uint16Array;
  /** Prefixes of sources and destinations, IPv4; the first word of such a table is not 0, here 0 says that there is none. */
  src4: Int32Array;
  dst4: Int32Array;
}

/** By position in the burst. */
export interface RuleFinding {
  /** Record that may match; or a Touched. */
  found: Int32Array;
  /** Summary words of rows that are still to be looked at. */
  summaries: Int32Array;
  /** The five rows, word indexes: protocol, ports, addresses. */
  protocols: Int32Array;
  sports: Int32Array;
  dports: Int32Array;
  srcs: Int32Array;
  dsts: Int32Array;
  /** Positions of packets with words to look at. */
  open: Int32Array;
  /** Positions of packets that take the index's own way: IPv6, several records, a look-up of many steps. */
  others: Int32Array;
  /** How many there are of these two. */
  counts: Int32Array;
}

export const enum FindingCount {
  open = 0,
  others = 1,
  SIZE = 2,
}

/** Packets of a burst that were dropped, and their bytes. */
export type Drops = (count: number, burstLength: Int32Array, verdict: Int32Array) => number;

/** Sets rows and summaries. For indexes with one summary word: 1,024 entries. */
export function rowFinder(index: IndexWords, headers: PlainHeaders, finding: RuleFinding): (count: number) => void {
  const { words, halves, src4, dst4 } = index;
  const { home, heading, src0, dst0, ports } = headers;
  const { found, summaries, protocols, sports, dports, srcs, dsts, open, others, counts } = finding;
  return (count) => {
    const rowWords = words[RuleIndexHeader.rowWords];
    const protocolsAt = (words[RuleIndexHeader.protocols] + ProtocolKey.ipv4) | 0;
    const sportsAt = words[RuleIndexHeader.sourcePorts] << 1;
    const dportsAt = words[RuleIndexHeader.destinationPorts] << 1;
    const sportRows = words[RuleIndexHeader.sourcePortRows];
    const dportRows = words[RuleIndexHeader.destinationPortRows];
    const srcRows = words[RuleIndexHeader.src4Rows];
    const dstRows = words[RuleIndexHeader.dst4Rows];
    const hasSrc = src4[Lpm.width] !== 0;
    const hasDst = dst4[Lpm.width] !== 0;
    const srcShift = (32 - src4[Lpm.rootBits]) | 0;
    const dstShift = (32 - dst4[Lpm.rootBits]) | 0;
    const srcIntervals = src4[Lpm.intervals];
    const dstIntervals = dst4[Lpm.intervals];
    let opened = 0;
    let left = 0;
    for (let i = 0; i < count; i++) {
      if (home[i] < 0) continue;
      found[i] = Touched.none;
      const head = heading[i];
      if (head < 0) {
        others[left++] = i;
        continue;
      }
      let srcClass = 0;
      if (hasSrc) {
        const address = src0[i];
        const entry = src4[(Lpm.HEADER + (address >>> srcShift)) | 0];
        if (entry >= Lpm.VALUE_BIT) {
          srcClass = entry & Lpm.PAYLOAD_MASK;
        } else {
          const most = entry >>> Lpm.RUN_SHIFT;
          if (most > RUN_MOST) {
            others[left++] = i;
            continue;
          }
          const flipped = address ^ Lpm.SIGN;
          const at = (srcIntervals + ((entry & Lpm.RUN_START_MASK) << 1)) | 0;
          let k = 0;
          if (most >= 8 && src4[(at + 16) | 0] <= flipped) k = 8;
          if (((k + 4) | 0) <= most && src4[(at + (k << 1) + 8) | 0] <= flipped) k = (k + 4) | 0;
          if (((k + 2) | 0) <= most && src4[(at + (k << 1) + 4) | 0] <= flipped) k = (k + 2) | 0;
          if (((k + 1) | 0) <= most && src4[(at + (k << 1) + 2) | 0] <= flipped) k = (k + 1) | 0;
          srcClass = (src4[(at + (k << 1) + 1) | 0] + 1) | 0;
        }
      }
      let dstClass = 0;
      if (hasDst) {
        const address = dst0[i];
        const entry = dst4[(Lpm.HEADER + (address >>> dstShift)) | 0];
        if (entry >= Lpm.VALUE_BIT) {
          dstClass = entry & Lpm.PAYLOAD_MASK;
        } else {
          const most = entry >>> Lpm.RUN_SHIFT;
          if (most > RUN_MOST) {
            others[left++] = i;
            continue;
          }
          const flipped = address ^ Lpm.SIGN;
          const at = (dstIntervals + ((entry & Lpm.RUN_START_MASK) << 1)) | 0;
          let k = 0;
          if (most >= 8 && dst4[(at + 16) | 0] <= flipped) k = 8;
          if (((k + 4) | 0) <= most && dst4[(at + (k << 1) + 8) | 0] <= flipped) k = (k + 4) | 0;
          if (((k + 2) | 0) <= most && dst4[(at + (k << 1) + 4) | 0] <= flipped) k = (k + 2) | 0;
          if (((k + 1) | 0) <= most && dst4[(at + (k << 1) + 2) | 0] <= flipped) k = (k + 1) | 0;
          dstClass = (dst4[(at + (k << 1) + 1) | 0] + 1) | 0;
        }
      }
      const pair = ports[i];
      const r0 = words[(protocolsAt + (head >>> Heading.PROTOCOL_SHIFT)) | 0];
      let r1 = sportRows;
      if (sportsAt !== 0) r1 = (r1 + Math.imul(halves[(sportsAt + (pair >>> 16)) | 0], rowWords)) | 0;
      let r2 = dportRows;
      if (dportsAt !== 0) r2 = (r2 + Math.imul(halves[(dportsAt + (pair & 0xffff)) | 0], rowWords)) | 0;
      const r3 = (srcRows + Math.imul(srcClass, rowWords)) | 0;
      const r4 = (dstRows + Math.imul(dstClass, rowWords)) | 0;
      const summary = words[r0] & words[r1] & words[r2] & words[r3] & words[r4];
      if (summary === 0) continue;
      summaries[i] = summary;
      protocols[i] = r0;
      sports[i] = r1;
      dports[i] = r2;
      srcs[i] = r3;
      dsts[i] = r4;
      open[opened++] = i;
    }
    counts[FindingCount.open] = opened;
    counts[FindingCount.others] = left;
  };
}

/** Looks at one more word of the rows of each open packet, the first `entries` in `open`; returns how many have still others. */
export function wordMeeter({ words }: IndexWords, finding: RuleFinding): (entries: number) => number {
  const { found, summaries, protocols, sports, dports, srcs, dsts, open, others, counts } = finding;
  return (entries) => {
    const recordsAt = words[RuleIndexHeader.records];
    let still = 0;
    let left = counts[FindingCount.others];
    for (let entry = 0; entry < entries; entry++) {
      const i = open[entry];
      const summary = summaries[i];
      const word = (31 - Math.clz32(summary & -summary)) | 0;
      const w = (word + 1) | 0;
      const bits =
        words[(protocols[i] + w) | 0] &
        words[(sports[i] + w) | 0] &
        words[(dports[i] + w) | 0] &
        words[(srcs[i] + w) | 0] &
        words[(dsts[i] + w) | 0];
      if (bits !== 0) {
        if ((bits & (bits - 1)) !== 0 || found[i] !== (Touched.none as number)) {
          others[left++] = i;
          continue;
        }
        found[i] = words[(recordsAt + (word << 5) + 31 - Math.clz32(bits)) | 0];
      }
      const rest = summary & (summary - 1);
      if (rest === 0) continue;
      summaries[i] = rest;
      open[still++] = i;
    }
    counts[FindingCount.others] = left;
    return still;
  };
}

/**
 * Drops and counts IPv4 packets that their one record matches, and leaves those to the steps that several may match, or one that does more than
 * drop. `rules`: records as PlainRule has them.
 */
export function dropper4(
  rules: Int32Array,
  { found }: RuleFinding,
  { home, heading, src0, dst0, ports }: PlainHeaders,
  counters: Float64Array,
): Drops {
  return (count, burstLength, verdict) => {
    let dropped = 0;
    let run = -1;
    let runPackets = 0;
    let runBytes = 0;
    for (let i = 0; i < count; i++) {
      const head = heading[i];
      if (home[i] < 0 || head < 0) continue;
      const record = found[i];
      if (record === (Touched.none as number)) continue;
      const at = Math.imul(record, PlainRule.STRIDE);
      if (record < 0 || rules[(at + PlainRule.drops) | 0] === 0) {
        home[i] = -1;
        continue;
      }
      const pair = ports[i];
      const sport = pair >>> 16;
      const dport = pair & 0xffff;
      if (
        ((head ^ rules[(at + PlainRule.head) | 0]) & rules[(at + PlainRule.headMask) | 0]) !== 0 ||
        dport < rules[(at + PlainRule.dportFirst) | 0] ||
        dport > rules[(at + PlainRule.dportLast) | 0] ||
        sport < rules[(at + PlainRule.sportFirst) | 0] ||
        sport > rules[(at + PlainRule.sportLast) | 0] ||
        ((src0[i] ^ rules[(at + PlainRule.src) | 0]) & rules[(at + PlainRule.srcMask) | 0]) !== 0 ||
        ((dst0[i] ^ rules[(at + PlainRule.dst) | 0]) & rules[(at + PlainRule.dstMask) | 0]) !== 0
      ) {
        continue;
      }
      home[i] = Home.judged;
      verdict[i] = Verdict.Drop;
      dropped++;
      if (record !== run) {
        if (run >= 0) {
          const counter = rules[(Math.imul(run, PlainRule.STRIDE) + PlainRule.counter) | 0];
          counters[(counter + RuleCounter.packets) | 0] += runPackets;
          counters[(counter + RuleCounter.bytes) | 0] += runBytes;
          counters[(counter + RuleCounter.acted) | 0] += runPackets;
          counters[(counter + RuleCounter.actedBytes) | 0] += runBytes;
        }
        run = record;
        runPackets = 0;
        runBytes = 0;
      }
      runPackets = (runPackets + 1) | 0;
      runBytes = (runBytes + burstLength[i]) | 0;
    }
    if (run >= 0) {
      const counter = rules[(Math.imul(run, PlainRule.STRIDE) + PlainRule.counter) | 0];
      counters[(counter + RuleCounter.packets) | 0] += runPackets;
      counters[(counter + RuleCounter.bytes) | 0] += runBytes;
      counters[(counter + RuleCounter.acted) | 0] += runPackets;
      counters[(counter + RuleCounter.actedBytes) | 0] += runBytes;
    }
    return dropped;
  };
}

/** Compares every IPv4 packet with one record, which starts at this word of `rules`; drops and counts what matches. */
export function comparer4(
  rules: Int32Array,
  { home, heading, src0, dst0, ports }: PlainHeaders,
  counters: Float64Array,
): (at: number, count: number, burstLength: Int32Array, verdict: Int32Array) => number {
  return (at, count, burstLength, verdict) => {
    const wanted = rules[(at + PlainRule.head) | 0];
    const headMask = rules[(at + PlainRule.headMask) | 0];
    const dportFirst = rules[(at + PlainRule.dportFirst) | 0];
    const dportLast = rules[(at + PlainRule.dportLast) | 0];
    const sportFirst = rules[(at + PlainRule.sportFirst) | 0];
    const sportLast = rules[(at + PlainRule.sportLast) | 0];
    const src = rules[(at + PlainRule.src) | 0];
    const srcMask = rules[(at + PlainRule.srcMask) | 0];
    const dst = rules[(at + PlainRule.dst) | 0];
    const dstMask = rules[(at + PlainRule.dstMask) | 0];
    let packets = 0;
    let bytes = 0;
    for (let i = 0; i < count; i++) {
      const head = heading[i];
      if (home[i] < 0 || head < 0) continue;
      const pair = ports[i];
      const sport = pair >>> 16;
      const dport = pair & 0xffff;
      if (
        (((head ^ wanted) & headMask) | ((src0[i] ^ src) & srcMask) | ((dst0[i] ^ dst) & dstMask)) !== 0 ||
        dport < dportFirst ||
        dport > dportLast ||
        sport < sportFirst ||
        sport > sportLast
      ) {
        continue;
      }
      home[i] = Home.judged;
      verdict[i] = Verdict.Drop;
      packets = (packets + 1) | 0;
      bytes = (bytes + burstLength[i]) | 0;
    }
    const counter = rules[(at + PlainRule.counter) | 0];
    counters[(counter + RuleCounter.packets) | 0] += packets;
    counters[(counter + RuleCounter.bytes) | 0] += bytes;
    counters[(counter + RuleCounter.acted) | 0] += packets;
    counters[(counter + RuleCounter.actedBytes) | 0] += bytes;
    return packets;
  };
}
