/** From the rules of a config to the part of the tables that is theirs. */
import { SluiceError } from '../errors.js';
import type { RuleConfig, RuleSetReference } from '../shared/config.js';
import type { Program } from '../shared/cbpf/program.js';
import { DECIDED_MOST } from '../shared/kernel_decisions.js';
import type { Tables } from '../shared/layout.js';
import { buildRuleIndex } from './rule_index.js';
import { buildRecords } from './rule_records.js';

/** What of the tables belongs to the rules. */
export type RuleTables = Pick<
  Tables,
  'rules' | 'ruleIndex' | 'programs' | 'ruleSets' | 'sets' | 'limits' | 'samples' | 'ruleStamp' | 'kernelNonce'
>;

/**
 * Where rules find what they refer to and others make. One that is left out is a thing that this build of sluice does not have, and a rule that
 * asks for it is refused: what is published can be carried out.
 */
export interface RuleParts {
  /** Position in `sets` and SetKey bits; throws SluiceError for a set that is not there. */
  set?: (reference: RuleSetReference, rule: RuleConfig) => { index: number; key: number };
  /** Position in `limits` of a rule with action limit. */
  limit?: (rule: RuleConfig) => number;
  /** Position in `samples` of a rule with action sample. */
  sample?: (rule: RuleConfig) => number;
  /** Workers have the challenge. */
  challenge?: boolean;
  /** The kernel may decide about them before workers do: rules that draw or meter get bits for that. */
  decides?: boolean;
  /** What goes into the tables under the same name. The same objects as before count as unchanged. */
  sets?: Tables['sets'];
  limits?: Tables['limits'];
  samples?: Tables['samples'];
}

/** Counts up over all shelves of the process: see Tables.ruleStamp. */
let stamps = 0;

/** Makes the rules' tables, and makes none anew that would come out the same. */
export class RuleShelf {
  #last: RuleTables | null = null;

  /**
   * @param numberOf number of a rule by its name
   * @throws SluiceError SLUICE_CONFIG as buildRecords does, and for a rule that asks for what `parts` does not have
   */
  build(rules: readonly RuleConfig[], numberOf: (rule: string) => number, parts: RuleParts = {}): RuleTables {
    const collected = new Collector(parts);
    const records = buildRecords(rules, (rule) => ({ id: numberOf(rule.name), ...collected.references(rule) }));
    const ruleSets = Int32Array.from(collected.runs);
    const { sets = [], limits = [], samples = [] } = parts;
    const { programs } = collected;
    const last = this.#last;
    if (
      last !== null &&
      same(last.rules, records) &&
      same(last.ruleSets, ruleSets) &&
      last.programs.length === programs.length &&
      last.programs.every(({ link, words }, i) => link === programs[i].link && same(words, programs[i].words)) &&
      sameObjects(last.sets, sets) &&
      sameObjects(last.samples, samples) &&
      sameObjects(last.limits, limits)
    ) {
      return last;
    }
    return (this.#last = {
      rules: shared(records),
      ruleIndex: buildRuleIndex(records, programs),
      programs: programs.map(({ link, words }) => ({ link, words: shared(words) })),
      ruleSets: shared(ruleSets),
      sets: [...sets],
      limits: [...limits],
      samples: [...samples],
      ruleStamp: ++stamps,
      kernelNonce: collected.decided > 0 ? nonce() : 0,
    });
  }
}

/** Gives what rules refer to its positions, equal things one. */
class Collector {
  readonly programs: Program[] = [];
  /** Pairs of [position in sets, SetKey bits]. */
  readonly runs: number[] = [];
  /** How many rules have a bit. */
  decided = 0;
  readonly #byContent = new Map<string, number>();

  constructor(private readonly parts: RuleParts) {}

  references(rule: RuleConfig) {
    const { program, sets = [] } = rule.match;
    const { limit, sample, challenge } = this.parts;
    const setStart = this.runs.length;
    for (const reference of sets) {
      const { index, key } = given(this.parts.set, rule, 'set')(reference, rule);
      this.runs.push(index, key);
    }
    if (rule.action === 'challenge' && challenge !== true) throw unavailable(rule, 'action challenge');
    return {
      program: program === undefined ? -1 : this.#program(program.program),
      setStart,
      setCount: sets.length,
      limit: rule.action === 'limit' ? given(limit, rule, 'action limit')(rule) : -1,
      sample: rule.action === 'sample' ? given(sample, rule, 'action sample')(rule) : -1,
      decided: this.#bit(rule),
    };
  }

  #bit({ action, probability = 1 }: RuleConfig): number {
    const asks = action === 'limit' || probability < 1;
    return this.parts.decides === true && asks && this.decided < DECIDED_MOST ? (1 << this.decided++) | 0 : 0;
  }

  #program(program: Program): number {
    const key = `${program.link} ${program.words.join()}`;
    const known = this.#byContent.get(key);
    if (known !== undefined) return known;
    this.#byContent.set(key, this.programs.length);
    return this.programs.push(program) - 1;
  }
}

/** Never 0. */
function nonce(): number {
  return crypto.getRandomValues(new Int32Array(1))[0] || 1;
}

function given<T>(part: T | undefined, rule: RuleConfig, what: string): T {
  if (part === undefined) throw unavailable(rule, what);
  return part;
}

function unavailable(rule: RuleConfig, what: string): SluiceError {
  return new SluiceError('SLUICE_CONFIG', `rule ${rule.name}: ${what} is not available`, 'Take the rule out.');
}

function shared(words: Int32Array): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(words.byteLength);
  new Int32Array(buffer).set(words);
  return buffer;
}

function same(before: SharedArrayBuffer, words: Int32Array): boolean {
  if (before.byteLength !== words.byteLength) return false;
  return Buffer.compare(Buffer.from(before), Buffer.from(words.buffer, words.byteOffset, words.byteLength)) === 0;
}

function sameObjects(one: readonly unknown[], two: readonly unknown[]): boolean {
  return one.length === two.length && one.every((each, i) => each === two[i]);
}
