import type { CaptureSpec } from '../../shared/capture_spec.js';
import { CapturePoint } from '../../shared/capture_spec.js';
import type { PacketMatch } from '../../shared/cbpf/program.js';
import { TokenBucket } from '../balance/token_bucket.js';
import { DropReason } from '../verdict.js';
import { Sampling } from './sampling.js';

/** A capture as a worker runs it: its conditions, and the state of those that count. */
export class ActiveCapture {
  readonly bit: number;
  readonly wantsIn: boolean;
  readonly wantsOut: boolean;
  /** Which packets it picks can be said before anything is known of them: the others need not be copied. */
  readonly picksEarly: boolean;
  private readonly wantsRule: boolean;
  /** By drop reason, 1: wanted; null: all are. */
  private readonly reasons: Uint8Array | null;
  private readonly sampling: Sampling | null;
  private readonly bucket: TokenBucket | null;

  /** `match`: of its program; null when it has none. */
  constructor(
    readonly spec: CaptureSpec,
    readonly match: PacketMatch | null,
    seed: number,
  ) {
    this.bit = 1 << spec.capture;
    this.wantsIn = (spec.points & CapturePoint.in) !== 0;
    this.wantsOut = (spec.points & CapturePoint.out) !== 0;
    this.wantsRule = spec.rules !== null;
    const asksForFate = spec.verdicts !== 0 || spec.reasons.length > 0 || spec.rules !== null || spec.services !== null;
    // The first packets of a flow need the flow's hash.
    this.picksEarly = !asksForFate && spec.first === 0;
    this.reasons = spec.reasons.length === 0 ? null : new Uint8Array(DropReason.SIZE);
    for (const reason of spec.reasons) this.reasons![reason] = 1;
    this.sampling = spec.oneIn === 0 && spec.first === 0 ? null : new Sampling(spec.oneIn, spec.first, seed);
    this.bucket = spec.rate === 0 ? null : new TokenBucket(spec.rate);
  }

  /** Whether what became of the packet is what the capture is after. `ruleHits`: bit by capture, whose rule it has met. */
  accepts(verdict: number, reason: number, ruleHits: number, service: number): boolean {
    const { verdicts, services } = this.spec;
    if (verdicts !== 0 && (verdicts & (1 << verdict)) === 0) return false;
    if (this.reasons !== null && this.reasons[reason] === 0) return false;
    if (this.wantsRule && (ruleHits & this.bit) === 0) return false;
    return services === null || services.indexOf(service) >= 0;
  }

  /** Whether it is one of the packets that are picked. */
  picks(flowHash: number, nowMs: number): boolean {
    return this.sampling === null || this.sampling.judge(flowHash, nowMs);
  }

  withinRate(nowMs: number): boolean {
    return this.bucket === null || this.bucket.take(nowMs);
  }
}
