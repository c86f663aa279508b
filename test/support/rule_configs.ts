import type { RuleConfig } from '../../src/shared/config.js';

export const port = (n: number) => ({ first: n, last: n });

/** A rule that drops, whose name is its number. */
export const rule = (i: number, match: RuleConfig['match'], more: Partial<RuleConfig> = {}): RuleConfig => ({
  name: String(i),
  match,
  action: 'drop',
  mode: 'enforce',
  probability: 1,
  ...more,
});
