import { BackendCounter, BackendFlag, Counter, CounterBlock, ServiceCounter } from '../shared/layout.js';
import { Egress, FlagsWord, HeaderWord } from './balance/egress.js';
import { FlowField, FlowState, Lodgers } from './balance/flow_entry.js';
import type { FlowTable } from './balance/flow_table.js';
import type { FlowHash } from './balance/hash.js';
import { LITTLE_ENDIAN } from './packet/encap.js';
import { IpProtocol } from './packet/wire.js';
import type { Burst } from './port.js';
import type { Snapshot } from './snapshot.js';
import { Verdict } from './verdict.js';

/** First 24 bits behind the addresses of an untagged frame with IPv4 without options. */
const IPV4_PLAIN = 0x080045;

/** TCP flags of a packet in the middle of a connection: ACK, perhaps PSH, ECE, CWR; nothing else. */
const MIDDLE_MASK = 0x37;
const MIDDLE_FLAGS = 0x10;

/**
 * The short way of the packets that nearly all packets are: untagged IPv4 without options, no fragment, TCP in mid-connection or UDP,
 * nothing in it that any check could object to, of a flow that the flow table knows, to a backend that is well, over IPv4. For
 * these, and only these, it does in one go what the steps of `Path` do, with the same result: same bytes, same verdict, same
 * counters. Whatever is not like that it leaves to the steps, untouched. test/unit/plain.test.ts holds the two equal.
 *
 * Why it exists: a step hands its findings to the next in a Packet, and to write and read those fields costs more than
 * half of what a packet costs. Here they stay in registers. Three loops: headers and hash; one read of each flow's slot, so
 * that a burst's cache misses overlap; the rest.
 */
export class PlainPath {
  /** Positions in the burst that were left to the steps, in order; `run` returns how many. */
  readonly rest: Int32Array;
  /** By position in the burst: word index of the flow's home slot, −1: left to the steps. */
  private readonly home: Int32Array;
  /** By position in the burst: protocol << 24 | TOS << 16 | total length. */
  private readonly heading: Int32Array;
  private readonly view: DataView;
  private readonly memoryWords: Int32Array;
  private readonly memoryHalves: Int16Array;
  private egress: Int32Array;
  protected prefetched = 0;

  constructor(
    memory: ArrayBuffer,
    private readonly chunkSize: number,
    private readonly flows: FlowTable,
    private readonly hash: FlowHash,
    private readonly counters: Float64Array,
    snapshot: Snapshot,
    slots: number,
  ) {
    this.rest = new Int32Array(slots);
    this.home = new Int32Array(slots);
    this.heading = new Int32Array(slots);
    this.view = new DataView(memory);
    this.memoryWords = new Int32Array(memory, 0, memory.byteLength >> 2);
    this.memoryHalves = new Int16Array(memory, 0, memory.byteLength >> 1);
    this.egress = snapshot.egress;
  }

  adopt(snapshot: Snapshot): void {
    this.egress = snapshot.egress;
  }

  /** Judges what it can of the burst; the rest stays as it is. `port`: number of the port that the burst came from. */
  run(burst: Burst, count: number, port: number, nowMs: number): number {
    if (!LITTLE_ENDIAN) return this.leaveAll(count);
    this.locate(burst, count);
    this.prefetch(count);
    return this.forward(burst, count, port, nowMs);
  }

  /** Leaves all to the steps: they are to see every packet (a user's filter, rules, checksum repair). */
  leaveAll(count: number): number {
    for (let i = 0; i < count; i++) this.rest[i] = i;
    return count;
  }

  /** First loop: is it plain, and where would its flow be? */
  private locate({ offset, length }: Burst, count: number): void {
    const view = this.view;
    const home = this.home;
    const heading = this.heading;
    const hash = this.hash;
    const mask = (this.flows.words.length - 1) | 0;
    for (let i = 0; i < count; i++) {
      const data = offset[i];
      const available = (length[i] - 14) | 0;
      home[i] = -1;
      if (available < 28) continue;
      const typeAndTos = view.getInt32(data + 12);
      const lengthAndId = view.getInt32(data + 16);
      const fragmentAndProtocol = view.getInt32(data + 20);
      const checksum = view.getUint16(data + 24);
      const src = view.getInt32(data + 26);
      const dst = view.getInt32(data + 30);
      const ports = view.getInt32(data + 34);
      const totalLength = lengthAndId >>> 16;
      const protocol = fragmentAndProtocol & 0xff;
      if (typeAndTos >>> 8 !== IPV4_PLAIN || (fragmentAndProtocol & 0x3fff0000) !== 0 || totalLength > available)
        continue;
      if (protocol === IpProtocol.udp) {
        const udpLength = view.getUint16(data + 38);
        if (totalLength < 28 || udpLength < 8 || udpLength > ((totalLength - 20) | 0)) continue;
      } else if (protocol === IpProtocol.tcp) {
        if (totalLength < 40) continue;
        const offsetAndFlags = view.getUint16(data + 46);
        const headerBytes = (offsetAndFlags >>> 10) & 0x3c;
        if (headerBytes < 20 || headerBytes > ((totalLength - 20) | 0)) continue;
        if ((offsetAndFlags & MIDDLE_MASK) !== MIDDLE_FLAGS) continue;
      } else {
        continue;
      }
      let sum = ((typeAndTos & 0xffff) + totalLength + (lengthAndId & 0xffff) + checksum) | 0;
      sum = (sum + (fragmentAndProtocol >>> 16) + (fragmentAndProtocol & 0xffff)) | 0;
      sum = (sum + (src >>> 16) + (src & 0xffff) + (dst >>> 16) + (dst & 0xffff)) | 0;
      sum = ((sum & 0xffff) + (sum >>> 16)) | 0;
      const first = src >>> 24;
      if (
        (((sum & 0xffff) + (sum >>> 16)) | 0) !== 0xffff ||
        first === 0 ||
        first === 127 ||
        first >= 224 ||
        src === dst ||
        (ports & 0xffff) === 0 ||
        ports >>> 16 === 0
      ) {
        continue;
      }
      heading[i] = (protocol << 24) | ((typeAndTos & 0xff) << 16) | totalLength;
      home[i] = (hash.ipv4(src, dst, ports, protocol) << FlowField.STRIDE_SHIFT) & mask;
    }
  }

  /** Second loop: so short that the processor has all slots under way at once. */
  private prefetch(count: number): void {
    const home = this.home;
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
    const home = this.home;
    const heading = this.heading;
    const rest = this.rest;
    const words = this.flows.words;
    const udpMs = this.flows.timeoutMs[FlowState.udp];
    const tcpMs = this.flows.timeoutMs[FlowState.tcpEstablished];
    const egress = this.egress;
    const memoryWords = this.memoryWords;
    const memoryHalves = this.memoryHalves;
    const counters = this.counters;
    const mask = (words.length - 1) | 0;
    const chunkMask = -this.chunkSize | 0;
    let left = 0;
    let sent = 0;
    let redirected = 0;
    let txBytes = 0;
    // Packets in a row to one service are counted together.
    let runService = -1;
    let runPackets = 0;
    let runBytes = 0;
    for (let i = 0; i < count; i++) {
      const data = offset[i];
      let flow = home[i];
      const l2 = (data - 20) | 0;
      if (flow < 0 || (l2 & 3) !== 0 || l2 < (data & chunkMask)) {
        rest[left++] = i;
        continue;
      }
      // The flow: in its first window, alive, with a backend that still is who it was.
      const head = heading[i];
      const protocol = head >>> 24;
      const isTcp = protocol === IpProtocol.tcp;
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
      if (flow < 0) {
        rest[left++] = i;
        continue;
      }
      const state = words[(flow + FlowField.state) | 0];
      const proven = isTcp ? FlowState.tcpEstablished : FlowState.udp;
      const backend = words[(flow + FlowField.backend) | 0];
      const at = (backend << Egress.SHIFT) | 0;
      if (
        (state !== proven && state !== (isTcp ? FlowState.tcpPickup : FlowState.udpSingle)) ||
        ((nowMs - words[(flow + FlowField.lastSeen) | 0]) | 0) > (isTcp ? tcpMs : udpMs) ||
        at >= egress.length
      ) {
        rest[left++] = i;
        continue;
      }
      const flags = egress[at];
      const totalLength = head & 0xffff;
      const outerLength = (totalLength + 20) | 0;
      if (
        (flags & (BackendFlag.resolved | BackendFlag.ipv6 | BackendFlag.special)) !== BackendFlag.resolved ||
        (flags & (BackendFlag.active | BackendFlag.draining)) === 0 ||
        egress[(at + Egress.incarnation) | 0] !== words[(flow + FlowField.incarnation) | 0] ||
        outerLength > egress[(at + Egress.mtu) | 0]
      ) {
        rest[left++] = i;
        continue;
      }
      words[(flow + FlowField.lastSeen) | 0] = nowMs;
      if (state !== proven) words[(flow + FlowField.state) | 0] = proven;

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
    counters[Counter.flowHit] += sent + redirected;
    counters[Counter.txBytes] += txBytes;
    return left;
  }

  private countService(service: number, packets: number, bytes: number): void {
    if (service < 0) return;
    const at = (CounterBlock.services + (service << 1)) | 0;
    this.counters[at + ServiceCounter.packets] += packets;
    this.counters[at + ServiceCounter.bytes] += bytes;
  }
}
