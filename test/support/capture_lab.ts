/** Captures on a lab: the ring's records as objects. */
import { CaptureRecord, CaptureRingReader, makeCaptureRing, RecordKind } from '../../src/shared/capture_ring.js';
import { CapturePoint, type CaptureSpec } from '../../src/shared/capture_spec.js';
import { DROP_REASONS, VERDICTS } from '../../src/dataplane/verdict.js';
import type { Lab } from './lab.js';

export interface Recorded {
  kind: 'in' | 'out';
  captures: number;
  verdict: string;
  reason: string;
  rule: number;
  service: number;
  backend: number;
  port: number;
  packet: number;
  wireLength: number;
  sampled: number;
  /** Unix time, ms. */
  atMs: number;
  bytes: Uint8Array;
}

export function captureSpec(change: Partial<CaptureSpec> = {}): CaptureSpec {
  return {
    capture: 0,
    serial: 1,
    points: CapturePoint.in,
    ports: 0xffff,
    verdicts: 0,
    reasons: [],
    rules: null,
    services: null,
    program: null,
    oneIn: 0,
    first: 0,
    rate: 0,
    snaplen: 262144,
    ...change,
  };
}

export function recordAt(ring: CaptureRingReader, at: number): Recorded {
  const word = (field: CaptureRecord): number => ring.words[at + field];
  const start = (at + CaptureRecord.SIZE) * 4;
  return {
    kind: word(CaptureRecord.kind) === (RecordKind.in as number) ? 'in' : 'out',
    captures: word(CaptureRecord.captures),
    verdict: VERDICTS[word(CaptureRecord.verdict)],
    reason: DROP_REASONS[word(CaptureRecord.reason)],
    rule: word(CaptureRecord.rule),
    service: word(CaptureRecord.service),
    backend: word(CaptureRecord.backend),
    port: word(CaptureRecord.port),
    packet: word(CaptureRecord.packet),
    wireLength: word(CaptureRecord.wireLength),
    sampled: word(CaptureRecord.sampled),
    atMs: (word(CaptureRecord.seconds) >>> 0) * 1000 + word(CaptureRecord.nanoseconds) / 1e6,
    bytes: ring.bytes.slice(start, start + word(CaptureRecord.length)),
  };
}

/** Captures on the one worker that a lab is. */
export class LabCaptures {
  readonly ring: CaptureRingReader;
  private version = 0;

  constructor(
    private readonly lab: Lab,
    bytes?: number,
  ) {
    this.ring = new CaptureRingReader(makeCaptureRing(bytes));
  }

  set(...captures: CaptureSpec[]): void {
    this.lab.tap.configure({ kind: 'capture', version: ++this.version, ring: this.ring.memory, captures });
  }

  take(): Recorded[] {
    const records: Recorded[] = [];
    this.ring.read(Infinity, (at) => records.push(recordAt(this.ring, at)));
    return records;
  }
}
