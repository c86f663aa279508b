import type { RuleConfig } from '../shared/config.js';
import type { SampleSpec } from '../shared/layout.js';
import type { RuleParts } from './rule_tables.js';

/** What rules with action sample keep of their packets. A rule that is as before has the same object as before. */
export class SampleShelf {
  #last: ReadonlyMap<string, SampleSpec> = new Map();

  /** One sampler a rule: each counts for itself. */
  parts(rules: readonly RuleConfig[]): Pick<RuleParts, 'sample' | 'samples'> {
    const now = new Map<string, SampleSpec>();
    for (const { name, action, sample } of rules) {
      if (action !== 'sample' || sample === undefined) continue;
      const { oneIn, first, snaplen } = sample;
      const last = this.#last.get(name);
      const same = last?.oneIn === oneIn && last.first === first && last.snaplen === snaplen;
      now.set(name, same ? last : { oneIn, first, snaplen });
    }
    this.#last = now;
    const positions = new Map([...now.keys()].map((name, i) => [name, i]));
    return { samples: [...now.values()], sample: ({ name }) => positions.get(name) ?? -1 };
  }
}
