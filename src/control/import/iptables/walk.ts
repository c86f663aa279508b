/**
 * The chains of iptables as one list of rules.
 *
 * A list of ours ends at the first `pass`, a chain ends at ACCEPT and the next chain goes on. So ACCEPT becomes `pass` in the last chain of a packet's
 * way only. Where a rule that lets packets by is lost, the rules behind it would drop packets that iptables lets by: they come
 * out with `mode: shadow`, which counts and drops nothing.
 */
import type { Notes, Place } from '../../convert/draft.js';
import { readRule } from './read_rule.js';
import { connLimitEntry, connLimitProblem, type ImportedLimit } from './connlimit.js';
import { limitDocument, limitProblem, type HashLimit } from './hashlimit.js';
import type { ImportedSets } from './match_set.js';
import { RuleDraft, type MatchKeys } from './rule_draft.js';
import type { SavedChain, SavedRule, SavedTable } from './saved.js';
import { dropsTheRest } from './within.js';

export interface ImportedRule {
  name: string;
  match: MatchKeys;
  action: 'drop' | 'pass' | 'count' | 'limit';
  mode?: 'shadow';
  probability?: number;
  limit?: Record<string, unknown>;
}

/** Rules of ours that an import may come to. */
const MAX_RULES = 4096;
/** Chains that jump to chains. */
const MAX_DEPTH = 16;

/** Targets that do something to a packet, or with it, and let the next rule have it. */
const GO_ON = new Set(
  (
    'LOG NFLOG ULOG AUDIT NOTRACK CT TRACE MARK CONNMARK SET TOS DSCP ECN TTL HL TCPMSS TCPOPTSTRIP CLASSIFY CHECKSUM ' +
    'RATEEST SECMARK CONNSECMARK IDLETIMER LED TEE HMARK'
  ).split(' '),
);

const WITHIN =
  'what is within a limit (only ACCEPT of it is understood, with the rest dropped by the next rule or the policy)';

/** Why the rules behind may only count; null: nothing was lost. */
type Doubt = Place | null;

/** Where the walk is. */
interface Scope {
  table: SavedTable;
  /** Conditions of the jumps that led here; null in a chain of the kernel's. */
  outer: RuleDraft | null;
  /** Whether a packet that this chain lets by has no chain before it. */
  last: boolean;
  policy: 'ACCEPT' | 'DROP';
  path: readonly string[];
}

export class ChainWalk {
  readonly rules: ImportedRule[] = [];
  /** On connections. */
  readonly limits: ImportedLimit[] = [];
  private readonly names = new Set<string>();
  /** Tables of hashlimit that have a rule. */
  private readonly tables = new Set<string>();

  constructor(
    private readonly notes: Notes,
    private readonly sets: ImportedSets,
  ) {}

  /** Adds a chain of the kernel's, and its policy. */
  chain(table: SavedTable, name: string, last: boolean): void {
    const chain = table.chains.get(name)!;
    const policy = chain.policy ?? 'ACCEPT';
    const doubt = this.walk(name, chain, { table, outer: null, last, policy, path: [name] }, null);
    if (policy !== 'DROP') return;
    const draft = new RuleDraft(table.family);
    draft.comment = `${name.toLowerCase()}-policy`;
    this.add(draft, 'drop', chain.place, doubt, '');
  }

  private walk(name: string, chain: SavedChain, scope: Scope, doubt: Doubt): Doubt {
    /** Over this chain only: a RETURN that was lost. */
    let here = doubt;
    let after = doubt;
    for (const [i, saved] of chain.rules.entries()) {
      const draft = readRule(saved, scope.table.family);
      if (scope.outer !== null) draft.inherit(scope.outer);
      if (draft.never !== '') {
        this.notes.changed(saved, `left out, ${draft.never}: ${short(saved)}`);
        continue;
      }
      draft.comment ||= `${name.toLowerCase()}-${i + 1}`;
      this.checkSets(draft);
      const lost = this.one(draft, saved, scope, here, chain.rules.slice(i + 1));
      if (lost === 'accept') {
        here ??= saved;
        after ??= saved;
      } else if (lost === 'return') here ??= saved;
      else if (lost === 'end') break;
    }
    return after;
  }

  /** What of the verdicts was lost with this rule; 'end': no packet gets to the rules behind. */
  private one(
    draft: RuleDraft,
    saved: SavedRule,
    scope: Scope,
    doubt: Doubt,
    behind: readonly SavedRule[],
  ): 'accept' | 'return' | 'end' | null {
    const target = draft.target;
    const name = target?.name ?? '';
    const within = draft.limit?.direction === 'upto' || draft.connections?.direction === 'upto';
    if (within && !(name === 'ACCEPT' && this.restIsDropped(saved, scope, behind))) {
      draft.lost.push(WITHIN);
    } else if (draft.limit !== null || draft.connections !== null) this.checkLimit(draft, within ? 'DROP' : name);
    if (target === null) {
      this.add(draft, 'count', saved, doubt);
      return null;
    }
    if (target.goto) return this.lose(saved, '-g is not understood', 'accept');
    if (name === 'DROP' || name === 'REJECT') {
      const made = this.add(draft, 'drop', saved, doubt);
      if (made && name === 'REJECT')
        this.notes.changed(saved, `REJECT answers the sender, drop does not: ${short(saved)}`);
      return null;
    }
    if (within && draft.lost.length === 0) return this.acceptWithin(draft, saved, scope, doubt);
    if (name === 'ACCEPT') return this.letBy(draft, saved, scope, doubt, 'accept');
    if (name === 'RETURN') return this.return(draft, saved, scope, doubt);
    if (GO_ON.has(name)) return this.lose(saved, `the target ${name} is not understood`, null);
    const inner = scope.table.chains.get(name);
    if (inner === undefined || inner.policy !== null) {
      return this.lose(saved, `the target ${name} is not understood`, 'accept');
    }
    return this.jump(draft, saved, name, inner, scope, doubt);
  }

  private letBy(draft: RuleDraft, saved: SavedRule, scope: Scope, doubt: Doubt, what: 'accept' | 'return') {
    if (!scope.last) {
      return this.lose(
        saved,
        'ACCEPT ends this chain only, and a packet goes on to the next chain; pass ends all rules',
        what,
      );
    }
    const bare = draft.unconditional;
    if (!this.add(draft, 'pass', saved, doubt)) return what;
    return bare ? 'end' : null;
  }

  /** In a chain of the kernel's, RETURN means its policy; in another one, the rule behind the jump. */
  private return(draft: RuleDraft, saved: SavedRule, scope: Scope, doubt: Doubt) {
    if (scope.outer !== null) {
      const own = readRule(saved, scope.table.family);
      return own.unconditional
        ? 'end'
        : this.lose(saved, 'RETURN from a chain that others jump to is not understood', 'return');
    }
    if (scope.policy === 'ACCEPT') return this.letBy(draft, saved, scope, doubt, 'accept');
    this.add(draft, 'drop', saved, doubt);
    return null;
  }

  private jump(draft: RuleDraft, saved: SavedRule, name: string, inner: SavedChain, scope: Scope, doubt: Doubt) {
    if (draft.lost.length > 0) return this.lose(saved, `not understood: ${listed(draft.lost)}`, 'accept');
    if (draft.limit !== null || draft.connections !== null) {
      return this.lose(saved, 'a jump for what is above a limit is not understood', 'accept');
    }
    if (draft.probability !== null) return this.lose(saved, 'a jump by chance is not understood', 'accept');
    if (scope.path.includes(name) || scope.path.length >= MAX_DEPTH) {
      return this.lose(saved, `chain ${name} is jumped to from itself, or too deep`, 'accept');
    }
    const path = [...scope.path, name];
    const after = this.walk(name, inner, { ...scope, outer: draft, path }, doubt);
    return after !== doubt && after !== null ? ('accept' as const) : null;
  }

  /** Asks for the sets of a rule as their types want it. */
  private checkSets(draft: RuleDraft): void {
    for (const set of draft.sets) {
      const found = this.sets.keyOf(set);
      if ('why' in found) draft.lost.push(found.why);
      else set.key = found.key;
    }
  }

  private restIsDropped(saved: SavedRule, scope: Scope, rules: readonly SavedRule[]): boolean {
    const dropsAtEnd = scope.outer === null && scope.policy === 'DROP';
    const own = readRule(saved, scope.table.family);
    return dropsTheRest(own, { rules, goesOn: (target) => GO_ON.has(target), dropsAtEnd });
  }

  /** What is above is dropped here, not by the rule behind; then the rest is let by. */
  private acceptWithin(draft: RuleDraft, saved: SavedRule, scope: Scope, doubt: Doubt) {
    if (!scope.last) return this.letBy(draft, saved, scope, doubt, 'accept');
    if (!this.add(draft, 'drop', saved, doubt)) return 'accept';
    draft.limit = draft.connections = null;
    return this.letBy(draft, saved, scope, doubt, 'accept');
  }

  /** A rule of ours has a table of its own, and drops what is above. */
  private checkLimit(draft: RuleDraft, target: string): void {
    const { limit, connections } = draft;
    if (limit !== null && connections !== null) draft.lost.push('two limits');
    else if (target !== 'DROP' && target !== 'REJECT') draft.lost.push('a limit with another target than DROP');
    else if (connections !== null) {
      if (connections.direction === null) draft.lost.push('connlimit without --connlimit-above');
    } else if (limit !== null) this.checkTable(draft, limit);
  }

  private checkTable(draft: RuleDraft, limit: HashLimit): void {
    const table = limit.name === null ? null : `${draft.family} ${limit.name}`;
    if (limit.direction === null) draft.lost.push('hashlimit without --hashlimit-above');
    else if (table !== null && this.tables.has(table))
      draft.lost.push(`hashlimit ${limit.name}, which another rule has too`);
    else if (limitProblem(limit) !== '') draft.lost.push(limitProblem(limit));
    if (table !== null) this.tables.add(table);
  }

  private lose<T extends 'accept' | 'return' | null>(saved: SavedRule, why: string, what: T): T {
    this.notes.lost(saved, `${why}: ${short(saved)}`);
    return what;
  }

  /** Makes the rule, or says what of it was not understood. */
  private add(draft: RuleDraft, action: ImportedRule['action'], place: Place, doubt: Doubt, text?: string): boolean {
    const shown = text ?? short(place as SavedRule);
    const matches = draft.lost.length > 0 ? [] : draft.matches();
    // Each of several rules would take its own chance, and count its own packets.
    if (matches.length > 1 && (draft.probability !== null || draft.limit !== null || action === 'count'))
      draft.lost.push('one of two conditions');
    const { connections } = draft;
    if (connections !== null && matches.length > 0 && draft.lost.length === 0) {
      const why = matches.length > 1 ? 'one of two conditions' : connLimitProblem(matches[0]);
      if (why !== '') draft.lost.push(why);
      else if (draft.probability !== null) draft.lost.push('a limit on connections by chance');
    }
    if (draft.lost.length > 0) {
      this.notes.lost(place, `not understood: ${listed(draft.lost)}: ${shown}`);
      return false;
    }
    if (this.rules.length + matches.length > MAX_RULES) {
      this.notes.lost(place, `there is no room for more than ${MAX_RULES} rules`);
      return false;
    }
    for (const set of draft.sets) {
      if (!this.sets.use(set)) continue;
      const what = `set ${set.name} begins empty, and its type is a guess`;
      this.notes.changed(place, `${what}: ${shown}`, 'Give what "ipset save" prints: --ipset FILE.');
    }
    if (connections !== null) {
      this.limits.push(connLimitEntry(this.name(draft.comment), connections, draft.family));
      const what = 'counts the TCP connections to services, of IPv4 and IPv6, and drops SYNs';
      this.notes.changed(place, `a limit on connections ${what}: ${shown}`);
      return true;
    }
    for (const match of matches) {
      const rule: ImportedRule = { name: this.name(draft.comment), match, action };
      if (draft.probability !== null && draft.probability !== 1) rule.probability = draft.probability;
      if (draft.limit !== null) {
        rule.action = 'limit';
        rule.limit = limitDocument(draft.limit, draft.family);
      }
      if (doubt !== null && action === 'drop') {
        rule.mode = 'shadow';
        const why = `counts only (mode: shadow), because a rule before it that lets packets by was lost, on line ${doubt.line}`;
        this.notes.changed(place, `${why}: ${rule.name}`);
      }
      this.rules.push(rule);
    }
    return true;
  }

  /** The comment as far as a name may have it, or "input-3" after the rule's place in its chain; each name once. */
  private name(comment: string): string {
    const clean = comment.replace(/[^A-Za-z0-9._:-]+/g, '-').replace(/^[^A-Za-z0-9]+|-+$/g, '');
    const base = clean.slice(0, 63) || 'rule';
    let name = base;
    for (let n = 2; this.names.has(name); n++) name = `${base.slice(0, 62 - String(n).length)}-${n}`;
    this.names.add(name);
    return name;
  }
}

/** The rule as it stands in the file, on one line that fits. */
function short({ text }: SavedRule): string {
  return text.length > 120 ? `${text.slice(0, 119)}…` : text;
}

/** What was not understood, as far as a note has room for it. */
function listed(lost: readonly string[]): string {
  const text = lost.join('; ');
  return text.length > 600 ? `${text.slice(0, 599)}…` : text;
}
