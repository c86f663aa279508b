/** What a rate and what goes with it must satisfy. */
import { SluiceError } from '../../errors.js';
import { checkLimit, limitSpecOf } from '../mitigation/limit_spec.js';
import type { Findings } from './findings.js';
import type { Path } from './problem.js';
import { normaliseLimit, type RawLimit } from './schema_limit.js';

/** Whether the tables can keep such a limit. `raw`: has its rate. */
export function checkRate(raw: Partial<RawLimit>, at: Path, findings: Findings): void {
  const { rate, per } = raw;
  if (rate === undefined || per === undefined || per.includes(undefined as never)) return;
  const limit = normaliseLimit({ ...raw, rate, per });
  try {
    checkLimit(limitSpecOf(limit));
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    findings.error([...at, raw.burst === undefined ? 'rate' : 'burst'], error.message, error.remedy);
  }
  for (const [side, four, six] of [
    ['src', 'src_mask', 'src_mask6'],
    ['dst', 'dst_mask', 'dst_mask6'],
  ] as const) {
    for (const key of [four, six]) {
      if (raw[key] === undefined || per.includes(side)) continue;
      findings.error([...at, key], `means nothing: per does not have ${side}`, `Add ${side} to per, or take it out.`);
    }
  }
}
