import {
  CaptureCounter,
  CaptureRecord,
  CaptureRingWriter,
  RecordKind,
  captureCounter,
} from '../../shared/capture_ring.js';
import type { CaptureCommand } from '../../shared/capture_spec.js';
import { MAX_RULES } from '../../shared/layout.js';
import { Chooser } from '../balance/choose.js';
import { Egress, FlagsWord } from '../balance/egress.js';
import { ProgramShelf } from '../filter/programs.js';
import type { Packet } from '../packet/packet.js';
import { BurstHeader, type Burst } from '../port.js';
import type { Snapshot } from '../snapshot.js';
import { DropReason, Verdict } from '../verdict.js';
import { ActiveCapture } from './active_capture.js';
import { copyFrame, copyWords } from './copy_frame.js';
import { WallClock } from './wall_clock.js';

/** Packets in the largest burst. */
const MAX_BURST = 1024;

/**
 * Captures packets of one worker for those who watch: their bytes as they came in, as they leave, and what became of them.
 *
 * The path changes a frame in place, and what becomes of it is known last. So `begin` keeps a copy of each frame that a capture may want, and `judge`,
 * with the verdict, writes it to the ring or forgets it. What can be said at the beginning (port, expression) is asked there, and saves the copy.
 *
 * Positions are those of the path's packet objects: `Packet.position`.
 */
export class CaptureTap {
  /** Bit by port: some capture wants what comes in there. All that is looked at while no capture runs, once a burst. */
  ports = 0;
  private captures: ActiveCapture[] = [];
  private ring: CaptureRingWriter | null = null;
  readonly programs = new ProgramShelf();
  private readonly clock = new WallClock();
  private readonly view: DataView;
  private readonly memory: Int32Array;
  private chooser: Chooser;
  /** Copies of frames, `stride` words each. */
  private staged = new Int32Array(0);
  private stride = 0;
  /** Most bytes of a frame that any capture wants. */
  private snaplen = 0;
  // By position:
  /** Bits of the captures that may want it. */
  private readonly wanted = new Int32Array(MAX_BURST);
  /** 1: there is a copy of it. */
  private readonly copied = new Uint8Array(MAX_BURST);
  private readonly length = new Int32Array(MAX_BURST);
  /** Bits of the captures whose rule it has met. */
  private readonly hits = new Int32Array(MAX_BURST);
  private readonly rule = new Int32Array(MAX_BURST);
  private readonly sampled = new Int32Array(MAX_BURST);
  /** By rule: bits of the captures that are after it. */
  private readonly byRule = new Int32Array(MAX_RULES);
  private port = 0;
  private nowMs = 0;
  /** Number of the packet that was captured last. */
  private packets = 0;

  constructor(
    memory: ArrayBuffer,
    private readonly chunkSize: number,
    private snapshot: Snapshot,
  ) {
    this.view = new DataView(memory);
    this.memory = new Int32Array(memory, 0, memory.byteLength >> 2);
    this.chooser = new Chooser(snapshot, new Float64Array(0));
  }

  adopt(snapshot: Snapshot): void {
    this.snapshot = snapshot;
    this.chooser.adopt(snapshot);
  }

  /** The captures that run from now on. One that ran before keeps what it has counted. */
  configure({ version, ring, captures: specs }: CaptureCommand): void {
    // The same memory comes as another object with every message; the ring's state is in it.
    this.ring = new CaptureRingWriter(ring);
    const matches = this.programs.load(specs.flatMap(({ program }) => program ?? []));
    let next = 0;
    this.captures = specs.map((spec) => {
      const match = spec.program === null ? null : matches[next++].match;
      const before = this.captures.find((capture) => capture.spec.serial === spec.serial);
      if (before) return before;
      this.ring!.begin(spec.capture, spec.serial);
      return new ActiveCapture(spec, match, (Math.random() * 4294967296) | 0);
    });
    this.snaplen = Math.min(this.chunkSize, Math.max(0, ...specs.map(({ snaplen }) => snaplen)));
    this.stride = (this.snaplen + 3) >> 2;
    // Nothing is in hand: commands come between two bursts.
    this.staged = new Int32Array(specs.length === 0 ? 0 : this.stride * MAX_BURST);
    this.byRule.fill(0);
    for (const { spec, bit } of this.captures) for (const rule of spec.rules ?? []) this.byRule[rule] |= bit;
    this.ports = specs.reduce((ports, spec) => ports | spec.ports, 0);
    this.ring.carriedOut(version);
    if (specs.length === 0) this.ring = null;
  }

  /** Copies what a capture may want of a burst, before anything is done to it. `count`: packets, all of the burst. */
  begin(burst: Burst, count: number, port: number, nowMs: number): void {
    this.port = port;
    this.nowMs = nowMs;
    this.clock.read();
    this.wanted.fill(0, 0, count);
    this.copied.fill(0, 0, count);
    this.hits.fill(0, 0, count);
    this.rule.fill(-1, 0, count);
    this.sampled.fill(0, 0, count);
    for (let c = 0; c < this.captures.length; c++) {
      const capture = this.captures[c];
      if ((capture.spec.ports & (1 << port)) !== 0) this.ask(capture, burst, count);
    }
    const { offset, length } = burst;
    for (let i = 0; i < count; i++) {
      this.length[i] = length[i];
      if (this.copied[i] === 0) continue;
      copyFrame(this.view, this.memory, offset[i], this.kept(length[i]), this.staged, Math.imul(i, this.stride));
    }
  }

  /** Notes which packets of the burst the capture may want. */
  private ask(capture: ActiveCapture, { offset, length, header }: Burst, count: number): void {
    const { match, bit, picksEarly, wantsIn } = capture;
    const { wanted, copied } = this;
    const seen = captureCounter(capture.spec.capture, this.port, CaptureCounter.seen);
    // What was held came in before.
    this.ring!.counters[seen] += count - header[BurstHeader.resumed];
    for (let i = 0; i < count; i++) {
      if (match !== null && match(this.view, offset[i], length[i], length[i]) === 0) continue;
      if (picksEarly && !capture.picks(0, this.nowMs)) continue;
      wanted[i] |= bit;
      if (wantsIn) copied[i] = 1;
    }
  }

  /** A rule has matched the packet. Rules that sample say `take` instead, and only of what they sample. */
  matched(packet: Packet, rule: number): void {
    this.rule[packet.position] = rule;
    this.hits[packet.position] |= this.byRule[rule];
  }

  /** A rule has sampled the packet, and keeps `snaplen` bytes of it. */
  take(packet: Packet, rule: number, snaplen: number): void {
    this.sampled[packet.position] = snaplen;
    this.matched(packet, rule);
  }

  /**
   * What became of a packet of the burst: `packet` is where it is now. `reason`: why it was dropped. `backend`: −1 for none. A packet that is held comes
   * again.
   */
  judge(packet: Packet, verdict: Verdict, reason: DropReason, backend: number): void {
    const wanted = this.wanted[packet.position];
    if (wanted === 0 || verdict === Verdict.Hold) return;
    const captures = this.captures;
    const ruleHits = this.hits[packet.position];
    const service = this.serviceOf(packet, backend);
    let takers = 0;
    for (let c = 0; c < captures.length; c++) {
      const capture = captures[c];
      if ((wanted & capture.bit) === 0 || !capture.accepts(verdict, reason, ruleHits, service)) continue;
      if (!capture.picksEarly && !capture.picks(packet.flowHash, this.nowMs)) continue;
      if (capture.withinRate(this.nowMs)) takers |= capture.bit;
      else this.ring!.counters[captureCounter(capture.spec.capture, this.port, CaptureCounter.limited)]++;
    }
    if (takers !== 0) this.record(packet, verdict, reason, service, backend, takers);
  }

  /** Lets the control plane see what was captured of the burst. */
  end(): void {
    this.ring!.publish();
  }

  private record(
    packet: Packet,
    verdict: Verdict,
    reason: DropReason,
    service: number,
    backend: number,
    takers: number,
  ): void {
    const i = packet.position;
    let before = 0;
    let after = 0;
    for (let c = 0; c < this.captures.length; c++) {
      const capture = this.captures[c];
      if (capture.wantsIn) before |= takers & capture.bit;
      if (capture.wantsOut) after |= takers & capture.bit;
    }
    this.packets = (this.packets + 1) | 0;
    if (before !== 0) {
      const at = this.write(before, RecordKind.in, this.port, i, this.length[i]);
      if (at >= 0) {
        this.describe(at, verdict, reason, service, backend);
        copyWords(
          this.staged,
          Math.imul(i, this.stride),
          this.ring!.words,
          at + CaptureRecord.SIZE,
          this.kept(this.length[i]),
        );
      }
    }
    if (after !== 0 && (verdict === Verdict.Tx || verdict === Verdict.Redirect)) {
      const port = verdict === Verdict.Tx ? this.port : packet.target;
      const length = (packet.dataEnd - packet.data) | 0;
      const at = this.write(after, RecordKind.out, port, i, length);
      if (at >= 0) {
        this.describe(at, verdict, reason, service, backend);
        copyFrame(this.view, this.memory, packet.data, this.kept(length), this.ring!.words, at + CaptureRecord.SIZE);
      }
    }
  }

  /** Room in the ring for a frame of `length` bytes, and what is known of the frame itself; −1: it is lost. */
  private write(takers: number, kind: RecordKind, port: number, position: number, length: number): number {
    const ring = this.ring!;
    const kept = this.kept(length);
    const at = ring.reserve(kept);
    for (let c = 0; c < this.captures.length; c++) {
      const { bit, spec } = this.captures[c];
      if ((takers & bit) === 0) continue;
      ring.counters[captureCounter(spec.capture, port, CaptureCounter.accepted)]++;
      if (at < 0) ring.counters[captureCounter(spec.capture, port, CaptureCounter.lost)]++;
    }
    if (at < 0) return -1;
    const words = ring.words;
    words[at + CaptureRecord.kind] = kind;
    words[at + CaptureRecord.captures] = takers;
    words[at + CaptureRecord.port] = port;
    words[at + CaptureRecord.wireLength] = length;
    words[at + CaptureRecord.length] = kept;
    words[at + CaptureRecord.rule] = this.rule[position];
    words[at + CaptureRecord.sampled] = this.sampled[position];
    words[at + CaptureRecord.packet] = this.packets;
    words[at + CaptureRecord.seconds] = this.clock.seconds;
    words[at + CaptureRecord.nanoseconds] = this.clock.nanoseconds;
    return at;
  }

  private describe(at: number, verdict: Verdict, reason: DropReason, service: number, backend: number): void {
    const words = this.ring!.words;
    words[at + CaptureRecord.verdict] = verdict;
    words[at + CaptureRecord.reason] = reason;
    words[at + CaptureRecord.service] = service;
    words[at + CaptureRecord.backend] = backend;
  }

  /** Bytes that are kept of a frame. */
  private kept(length: number): number {
    return length < this.snaplen ? length : this.snaplen;
  }

  /** Service of the packet's backend, else of its destination; −1 for none. */
  private serviceOf(packet: Packet, backend: number): number {
    if (backend >= 0) return this.snapshot.egress[(backend << Egress.SHIFT) + Egress.flags] >>> FlagsWord.SERVICE_SHIFT;
    return packet.malformed !== DropReason.none || packet.family === 0 ? -1 : this.chooser.serviceOf(packet);
  }
}
