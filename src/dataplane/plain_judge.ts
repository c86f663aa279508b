import { BackendCounter, Counter, CounterBlock, ServiceCounter } from '../shared/layout.js';
import { Egress, FlagsWord, OuterKind, OuterWord } from './balance/egress.js';
import { FlowField, FlowState } from './balance/flow_entry.js';
import type { FlowTable } from './balance/flow_table.js';
import { IpProtocol } from './packet/wire.js';
import { Heading, Home } from './plain_heading.js';
import type { PlainHeaders } from './plain_headers.js';
import { Kinds } from './plain_outer.js';
import { CHOSEN, FRESH } from './plain_ring.js';
import type { Burst } from './port.js';
import { Verdict } from './verdict.js';

/** In a heading: protocol TCP, whatever the family. */
const PROTOCOL_BITS = Heading.PROTOCOL_MASK << Heading.PROTOCOL_SHIFT;
const TCP_BITS = IpProtocol.tcp << Heading.PROTOCOL_SHIFT;

/** What the loops over a burst leave for each other, by position in the burst. */
export interface Judging {
  /** PlainFlows.place. */
  place: Int32Array;
  /** Positions that are left to the steps, in order. */
  rest: Int32Array;
  /** Record in Egress of the backend that the packet is sent to; −1: not sent. */
  records: Int32Array;
  /** Positions of packets that are sent and whose flow is to enter the flow table, in order. */
  entrants: Int32Array;
  /** Two words: the kinds of outer headers that the burst needs, see Kinds; and how many entrants there are. */
  found: Int32Array;
}

/** Judges a burst; returns how many packets are left to the steps. `port`: number of the port that it came from. */
export type Judge = (burst: Burst, count: number, port: number, nowMs: number) => number;

/** Is the flow alive, its backend still who it was, does the packet fit? What passes is counted, has its verdict and the place that it leaves from. */
export function makeJudge(
  flows: FlowTable,
  chunkSize: number,
  counters: Float64Array,
  egress: Int32Array,
  { start, home, heading }: PlainHeaders,
  { place, rest, records, entrants, found }: Judging,
): Judge {
  const { words, timeoutMs } = flows;
  const chunkMask = -chunkSize | 0;
  return ({ offset, length, verdict, target }, count, port, nowMs) => {
    // As integers: else each iteration asks of these whether they are.
    const end = count | 0;
    const own = port | 0;
    const now = nowMs | 0;
    const udpMs = timeoutMs[FlowState.udp];
    const tcpMs = timeoutMs[FlowState.tcpEstablished];
    let left = 0;
    let sent = 0;
    let redirected = 0;
    let byRing = 0;
    let entering = 0;
    let txBytes = 0;
    let kinds = 0;
    // Packets in a row to one service are counted together.
    let runService = -1;
    let runPackets = 0;
    let runBytes = 0;
    for (let i = 0; i < end; i++) {
      records[i] = -1;
      const from = home[i];
      if (from < 0) {
        if (from !== Home.judged) rest[left++] = i;
        continue;
      }
      const head = heading[i];
      const flow = place[i];
      const isTcp = (head & PROTOCOL_BITS) === TCP_BITS;
      const proven = isTcp ? FlowState.tcpEstablished : FlowState.udp;
      let state: number = FlowState.free;
      let backend = -1;
      let incarnation = 0;
      if (flow >= 0) {
        state = words[(flow + FlowField.state) | 0];
        incarnation = words[(flow + FlowField.incarnation) | 0];
        if (
          (state === proven || state === (isTcp ? FlowState.tcpPickup : FlowState.udpSingle)) &&
          ((now - words[(flow + FlowField.lastSeen) | 0]) | 0) <= (isTcp ? tcpMs : udpMs)
        ) {
          backend = words[(flow + FlowField.backend) | 0];
        }
      } else {
        // A flow enters the table after those of packets in front of it; so not if one of these is still to be judged.
        backend = flow > FRESH ? (CHOSEN - flow) | 0 : left > 0 ? -1 : (FRESH - flow) | 0;
      }
      const at = (backend << Egress.SHIFT) | 0;
      if (backend < 0 || at >= egress.length) {
        rest[left++] = i;
        continue;
      }
      const data = start[i];
      const totalLength = head & 0xffff;
      const outer = egress[(at + Egress.outer) | 0] & OuterWord.KIND_MASK;
      const outerLength = (totalLength + outer) | 0;
      const l2 = (data - outer) | 0;
      if (
        outer === OuterKind.none ||
        l2 < (data & chunkMask) ||
        (flow >= 0 && egress[(at + Egress.incarnation) | 0] !== incarnation) ||
        outerLength > egress[(at + Egress.mtu) | 0]
      ) {
        rest[left++] = i;
        continue;
      }
      if (flow >= 0) {
        words[(flow + FlowField.lastSeen) | 0] = now;
        if (state !== proven) words[(flow + FlowField.state) | 0] = proven;
      } else {
        byRing++;
        if (flow <= FRESH) entrants[entering++] = i;
      }
      const bytes = (outerLength + 14) | 0;
      offset[i] = l2;
      length[i] = bytes;
      records[i] = at;
      kinds |= 1 << (outer >> Kinds.SHIFT);
      txBytes = (txBytes + bytes) | 0;

      const byBackend = (CounterBlock.backends + (backend << 2)) | 0;
      counters[(byBackend + BackendCounter.packets) | 0]++;
      counters[(byBackend + BackendCounter.bytes) | 0] += totalLength;
      const flags = egress[at];
      const service = flags >>> FlagsWord.SERVICE_SHIFT;
      if (service !== runService) {
        if (runService >= 0) {
          const byService = (CounterBlock.services + (runService << 1)) | 0;
          counters[(byService + ServiceCounter.packets) | 0] += runPackets;
          counters[(byService + ServiceCounter.bytes) | 0] += runBytes;
        }
        runService = service;
        runPackets = 0;
        runBytes = 0;
      }
      runPackets = (runPackets + 1) | 0;
      runBytes = (runBytes + totalLength) | 0;
      const out = (flags >>> FlagsWord.PORT_SHIFT) & FlagsWord.PORT_MASK;
      if (out === own) {
        verdict[i] = Verdict.Tx;
        sent++;
      } else {
        verdict[i] = Verdict.Redirect;
        target[i] = out;
        redirected++;
      }
    }
    if (runService >= 0) {
      const byService = (CounterBlock.services + (runService << 1)) | 0;
      counters[(byService + ServiceCounter.packets) | 0] += runPackets;
      counters[(byService + ServiceCounter.bytes) | 0] += runBytes;
    }
    counters[Counter.tx] += sent;
    counters[Counter.redirect] += redirected;
    counters[Counter.flowHit] += sent + redirected - byRing;
    counters[Counter.flowMiss] += byRing;
    counters[Counter.txBytes] += txBytes;
    found[0] = kinds;
    found[1] = entering;
    return left;
  };
}
