import { RuleField, RuleMatch } from '../../../shared/layout.js';
import type { PlannedRecord } from './plan.js';

/** Fewer records are compared one after the other. */
const SPLIT_LEAST = 9;

/** A comparison of a port that parts records: those that can match up to `at`, and those that can match above it. Many are in one part only. */
export interface Split {
  /** Byte of the port in the transport header. */
  readonly offset: 0 | 2;
  readonly at: number;
  readonly low: readonly PlannedRecord[];
  readonly high: readonly PlannedRecord[];
}

const PORTS = [
  { offset: 2, bit: RuleMatch.dport, first: RuleField.dportFirst, last: RuleField.dportLast },
  { offset: 0, bit: RuleMatch.sport, first: RuleField.sportFirst, last: RuleField.sportLast },
] as const;

/** null when no comparison is worth it: the parts together may have a third more than there are, and each a quarter less. */
export function splitOf(rules: Int32Array, records: readonly PlannedRecord[]): Split | null {
  if (records.length < SPLIT_LEAST) return null;
  let best: Split | null = null;
  for (const { offset, bit, first, last } of PORTS) {
    const asks = (at: number): boolean => (rules[at + RuleField.fields] & bit) !== 0;
    const lasts = records.filter(({ at }) => asks(at)).map(({ at }) => rules[at + last]);
    if (lasts.length < records.length / 2) continue;
    const at = lasts.sort((a, b) => a - b)[(lasts.length - 1) >> 1];
    const low = records.filter((record) => !asks(record.at) || rules[record.at + first] <= at);
    const high = records.filter((record) => !asks(record.at) || rules[record.at + last] > at);
    const most = Math.max(low.length, high.length);
    if (most > records.length * 0.75 || low.length + high.length > records.length * 1.34) continue;
    if (best === null || low.length + high.length < best.low.length + best.high.length)
      best = { offset, at, low, high };
  }
  return best;
}
