/** Which sets a program looks packets up in, each with its sides once. */
import { RuleField, RuleMatch, type Tables } from '../../../shared/layout.js';
import { LOOKUPS_MOST } from './set_lookup.js';
import type { KernelSet, KernelSets, SetLookup } from './set_maps.js';

/** Look-ups of a record: positions in Plan.lookups, of which all must find the packet; or why they cannot be made, said of the rule. */
export type RecordLookups = { ok: true; positions: readonly number[] } | { ok: false; why: string };

const NO_LOOKUPS: RecordLookups = { ok: true, positions: [] };

/** Collects the look-ups of a plan: the allow list's, those of the sets that drop, then the rules'. */
export class LookupPlan {
  readonly lookups: SetLookup[] = [];
  /** Positions of those around the rules. */
  readonly allow: readonly number[];
  readonly drops: readonly number[];
  private readonly runs: Int32Array;

  /** `sets`: null where no set is in the kernel. Throws RangeError when the stages alone need more than LOOKUPS_MOST. */
  constructor(
    { ruleSets }: Partial<Pick<Tables, 'ruleSets'>>,
    private readonly sets: KernelSets | null,
  ) {
    this.runs = ruleSets ? new Int32Array(ruleSets) : new Int32Array(0);
    const taken = (all: readonly SetLookup[] = []): number[] => all.map((lookup) => this.take(lookup));
    this.allow = taken(sets?.allow);
    this.drops = taken(sets?.drops);
    if ([...this.allow, ...this.drops].includes(-1)) throw new RangeError(`more than ${LOOKUPS_MOST} sets`);
  }

  of(rules: Int32Array, at: number): RecordLookups {
    if ((rules[at + RuleField.fields] & RuleMatch.sets) === 0) return NO_LOOKUPS;
    if (this.sets === null) return { ok: false, why: 'matches sets' };
    const [start, count] = [rules[at + RuleField.setStart], rules[at + RuleField.setCount]];
    const positions: number[] = [];
    for (let i = 0; i < count; i++) {
      const [position, sides] = [this.runs[start + 2 * i], this.runs[start + 2 * i + 1]];
      const set = this.sets.sets[position];
      const lookup = typeof set === 'string' ? -1 : this.take({ set, sides });
      if (lookup < 0) return { ok: false, why: this.whyNot(set) };
      positions.push(lookup);
    }
    return { ok: true, positions };
  }

  private whyNot(set: KernelSet | string): string {
    if (typeof set !== 'string' || this.lookups.length === LOOKUPS_MOST) {
      return `is behind ${LOOKUPS_MOST} other look-ups in sets`;
    }
    return `matches a set that ${set}`;
  }

  /** Its position; -1: there is no room. */
  private take({ set, sides }: SetLookup): number {
    const known = this.lookups.findIndex((other) => other.set === set && other.sides === sides);
    if (known >= 0) return known;
    return this.lookups.length < LOOKUPS_MOST ? this.lookups.push({ set, sides }) - 1 : -1;
  }
}
