/** A rule of iptables on its way to one of ours: keys of `match`, programs, and what was not understood. */
import { valuesOfBoth } from './both.js';
import { hasPorts, protocolNumber } from '../../config/protocols.js';
import type { ConnLimit } from './connlimit.js';
import type { HashLimit } from './hashlimit.js';
import type { SetCondition } from './match_set.js';
import { readBytecode, writeBytecode } from '../../../shared/cbpf/bytecode_text.js';

/** Keys of `match` as the configuration writes them. */
export type MatchKeys = Record<string, unknown>;

export class RuleDraft {
  readonly match: MatchKeys = {};
  /** All must hold. */
  readonly exprs: string[] = [];
  /** All must hold; offset 0 is the IP header. */
  readonly bytecode: string[] = [];
  /** More conditions, of which one must hold: each makes a rule of its own. */
  alternatives: MatchKeys[] | null = null;
  /** 0 to 1; null: always. */
  probability: number | null = null;
  /** Packets above it are meant, or those within it. */
  limit: HashLimit | null = null;
  /** The same of connections. */
  connections: ConnLimit | null = null;
  /** Sets that the packet must be in. */
  readonly sets: SetCondition[] = [];
  comment = '';
  /** Conditions that were not understood, as they stand there. A rule with any is not made. */
  readonly lost: string[] = [];
  /** No packet can match, or none that sluice sees; says why. */
  never = '';
  target: { name: string; goto: boolean } | null = null;

  constructor(readonly family: 4 | 6) {}

  /** Adds a condition; with one on the same key that is there already, what fits both is left. */
  set(key: string, value: unknown, text: string): void {
    if (!(key in this.match)) {
      this.match[key] = value;
      return;
    }
    if (JSON.stringify(this.match[key]) === JSON.stringify(value)) return;
    const both = valuesOfBoth(key, this.match[key], value);
    if (both === null) this.lost.push(text);
    else if (both.length === 0) this.never ||= `no packet fits both conditions on ${key}`;
    else this.match[key] = both.length === 1 ? both[0] : both;
  }

  either(alternatives: MatchKeys[], text: string): void {
    if (this.alternatives !== null) this.lost.push(text);
    else this.alternatives = alternatives;
  }

  /** A program of instructions [code, jt, jf, k] that begins at the IP header. */
  program(text: string): void {
    this.bytecode.push(text);
  }

  /** Conditions of a rule that jumps to the chain that this rule is in. */
  inherit(outer: RuleDraft): void {
    for (const [key, value] of Object.entries(outer.match)) this.set(key, value, `${key} of the jump to this chain`);
    this.exprs.unshift(...outer.exprs);
    this.bytecode.unshift(...outer.bytecode);
    this.sets.unshift(
      ...outer.sets.filter(({ name, key }) => !this.sets.some((set) => set.name === name && set.key === key)),
    );
    if (outer.alternatives !== null) this.either(outer.alternatives, 'the conditions of the jump to this chain');
    this.never ||= outer.never;
  }

  /** Whether there is no condition at all beyond the family. */
  get unconditional(): boolean {
    const keys = Object.keys(this.match).filter((key) => key !== 'family');
    return (
      keys.length + this.exprs.length + this.bytecode.length + this.sets.length + this.lost.length === 0 &&
      this.alternatives === null &&
      this.probability === null &&
      this.limit === null &&
      this.connections === null &&
      this.never === ''
    );
  }

  /** The values of `match`, one for each rule to make. Empty, with a word in `lost`, when two programs would be needed. */
  matches(): MatchKeys[] {
    const programs = new Set(this.bytecode);
    if (programs.size > 1 || (programs.size === 1 && this.exprs.length > 0)) {
      this.lost.push('two conditions that need a program each');
      return [];
    }
    const base: MatchKeys = { ...this.match };
    if (!('src' in base) && !('dst' in base)) base.family = this.family;
    if (this.exprs.length > 0) base.expr = [...new Set(this.exprs)].join(' and ');
    if (programs.size === 1) base.bytecode = this.bytecode[0];
    if (this.sets.length > 0) base.set = this.sets.length === 1 ? this.sets[0] : [...this.sets];
    const all: MatchKeys[] = [];
    for (const more of this.alternatives ?? [{}]) {
      if (Object.keys(more).some((key) => key in base)) {
        this.lost.push('two conditions on the same field');
        return [];
      }
      all.push(inOrder({ ...base, ...more }));
    }
    const wrong = all.map(protocolProblem).find((problem) => problem !== '');
    if (wrong !== undefined) {
      this.lost.push(wrong);
      return [];
    }
    return all;
  }
}

/** What iptables would not have taken: a condition on what the protocol does not have. '' when there is none. */
function protocolProblem({ protocol, sport, dport, tcp_flags: flags }: MatchKeys): string {
  if (protocol === undefined) return '';
  if (flags !== undefined && protocol !== 'tcp') return `TCP flags of protocol ${String(protocol)}`;
  if ((sport ?? dport) === undefined || hasPorts(protocolNumber(protocol) ?? 0)) return '';
  return `ports of protocol ${String(protocol)}, which has none`;
}

/** As docs/configuration.md has them. */
const ORDER = [
  'family',
  'protocol',
  'src',
  'dst',
  'sport',
  'dport',
  'tcp_flags',
  'length',
  'ttl',
  'expr',
  'bytecode',
  'set',
];

function inOrder(match: MatchKeys): MatchKeys {
  return Object.fromEntries(ORDER.filter((key) => key in match).map((key) => [key, match[key]]));
}

/** The text of a program as we write it; null when it is none. */
export function cleanBytecode(text: string): string | null {
  try {
    return writeBytecode(readBytecode(text, 'ip'));
  } catch {
    return null;
  }
}
