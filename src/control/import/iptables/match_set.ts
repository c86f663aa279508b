/** `-m set` as the sets of a rule; and what `ipset save` says of the sets. */
import { isSetKey } from '../../../shared/set_config.js';
import type { ConvertInput } from '../../convert/draft.js';
import type { Option } from './conditions.js';
import type { RuleDraft } from './rule_draft.js';

export interface SetCondition {
  name: string;
  /** src, dst, or for address and port src,dst. */
  key: string;
}

/** A set as a configuration has it. */
export type ImportedSet = { name: string; type: string } | { name: string; file: string };

export const MATCH_SET: readonly (readonly [string, Option])[] = [['--match-set', { values: 2, read: matchSet }]];

/** What the configuration takes for a name. ipset takes any. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,30}$/;

function matchSet(draft: RuleDraft, [name, key]: readonly string[], negated: boolean): boolean {
  const text = `--match-set ${name} ${key}`;
  if (negated) draft.lost.push(`! ${text} (no rule asks for packets that are not in a set)`);
  else if (!NAME.test(name)) draft.lost.push(`${text} (a name that sets here cannot have)`);
  else if (!isSetKey(key)) draft.lost.push(`${text} (sets have two parts at most)`);
  else if (!draft.sets.some((set) => set.name === name && set.key === key)) draft.sets.push({ name, key });
  return true;
}

const TYPES = ['hash:ip', 'hash:net', 'hash:ip,port', 'hash:net,port'];

/** The sets that rules ask for. */
export class ImportedSets {
  readonly list: ImportedSet[] = [];
  /** Types by name, of the text of `ipset save`; null: there is none. */
  private readonly types: ReadonlyMap<string, string> | null;

  constructor(private readonly saved: ConvertInput | null) {
    this.types =
      saved &&
      new Map([...saved.text.matchAll(/^(?:create|-N|n) +(\S+) +(\S+)/gm)].map(([, ...set]) => [set[0], set[1]]));
  }

  /** The key as it is for the set's type; or why no rule of ours can ask it. */
  keyOf({ name, key }: SetCondition): { key: string } | { why: string } {
    const type = this.types?.get(name);
    if (this.types !== null && type === undefined) return { why: `there is no set ${name} in ${this.saved!.name}` };
    if (type === undefined) return { key };
    if (!TYPES.includes(type)) return { why: `set ${name} is a ${type}, which sluice does not have` };
    const words = key.split(',');
    // net/netfilter/ipset/ip_set_core.c: fewer directions than the set has parts match nothing, more are not looked at.
    if (type.includes(','))
      return words.length > 1 ? { key } : { why: `set ${name} has two parts, and one is asked for` };
    return { key: words[0] };
  }

  /** Takes the set into the configuration. True when all that is known of it is how it is asked. */
  use({ name, key }: SetCondition): boolean {
    if (this.list.some((set) => set.name === name)) return false;
    if (this.saved !== null) {
      this.list.push({ name, file: this.saved.name });
      return false;
    }
    this.list.push({ name, type: key.includes(',') ? 'hash:net,port' : 'hash:net' });
    return true;
  }
}
