/** The words of one rule as a RuleDraft. */
import { BASIC, MODULES, type Option } from './conditions.js';
import { RuleDraft } from './rule_draft.js';
import type { SavedRule } from './saved.js';

/** What matches would need that sluice has no rule for; the rest is just not known. */
const REASONS: Readonly<Record<string, string>> = {
  conntrack: 'rules do not know connections',
  state: 'rules do not know connections',
};

/** Modules of protocols that `-p` loads by itself. */
const OF_PROTOCOL = new Set(['tcp', 'udp', 'sctp', 'dccp', 'udplite', 'icmp', 'icmp6', 'icmpv6', 'ipv6-icmp']);

/** Reads a rule. What is not understood is in the draft's `lost`, never left out silently. */
export function readRule({ words }: SavedRule, family: 4 | 6): RuleDraft {
  const draft = new RuleDraft(family);
  const loaded: string[] = [];
  const implied = impliedModule(words);
  let negated = false;
  let i = 0;
  /** Words from i that are values, at most `most`. */
  const values = (most: number): string[] => {
    const begin = i;
    while (i < words.length && i - begin < most && words[i] !== '!' && !/^--?[a-z]/i.test(words[i])) i++;
    return words.slice(begin, i) as string[];
  };
  while (i < words.length) {
    const word = words[i++];
    if (word === '!') {
      negated = true;
      continue;
    }
    const begin = i - (negated ? 2 : 1);
    if (word === '-m' || word === '--match') {
      loaded.push(words[i++] ?? '');
    } else if (word === '-j' || word === '--jump' || word === '-g' || word === '--goto') {
      // What is behind a target is the target's own.
      draft.target = { name: words[i] ?? '', goto: word === '-g' || word === '--goto' };
      break;
    } else if (word === '-c' || word === '--set-counters') {
      i += 2;
    } else {
      const option = optionOf(word, loaded, implied);
      if (option === undefined) {
        values(Infinity);
        draft.lost.push(textOf(words.slice(begin, i), loaded.at(-1)));
      } else {
        // As it was written before iptables 1.4.3: -s ! 10.0.0.0/8.
        if (words[i] === '!') {
          negated = true;
          i++;
        }
        const given = words.slice(i, i + option.values);
        i += option.values;
        if (given.length < option.values || !option.read(draft, given, negated)) {
          draft.lost.push(textOf(words.slice(begin, i), loaded.at(-1)));
        }
      }
    }
    negated = false;
  }
  if (draft.target === null && i < words.length) draft.lost.push(words.slice(i).join(' '));
  for (const module of loaded) {
    // A module without an option may be a condition too: -m socket.
    if (!MODULES.has(module) && !draft.lost.some((text) => text.includes(module))) draft.lost.push(textOf([], module));
  }
  return draft;
}

function impliedModule(words: readonly string[]): string | null {
  const at = words.findIndex((word) => word === '-p' || word === '--protocol' || word === '--proto');
  const name = at < 0 ? undefined : words[at + 1] === '!' ? words[at + 2] : words[at + 1];
  return name !== undefined && OF_PROTOCOL.has(name) ? name : null;
}

/** The newest module that has the option, as iptables looks for it. */
function optionOf(word: string, loaded: readonly string[], implied: string | null): Option | undefined {
  const basic = BASIC.get(word);
  if (basic !== undefined) return basic;
  for (const module of [...loaded].reverse()) {
    const option = MODULES.get(module)?.get(word);
    if (option !== undefined) return option;
  }
  return implied === null ? undefined : MODULES.get(implied)?.get(word);
}

function textOf(words: readonly string[], module: string | undefined): string {
  const known = module === undefined || MODULES.has(module);
  const text = [...(known ? [] : ['-m', module]), ...words].join(' ');
  const reason = module === undefined || known ? undefined : REASONS[module];
  return reason === undefined ? text : `${text} (${reason})`;
}
