/** Rules at run time: carries out what operators want of them, and takes out those whose time is over. */
import { SluiceError } from '../../errors.js';
import type { Config, RuleConfig } from '../../shared/config.js';
import { RuleCounter } from '../../shared/layout.js';
import type {
  OffloadStatus,
  RuleChangeResult,
  RuleListing,
  RuleMode,
  RulePlace,
  RuleTarget,
} from '../api/contract_rules.js';
import { rulesFromTree } from '../config/read_rules.js';
import type { Placement } from '../ebpf/offload/placement.js';
import { ruleDocument } from '../rules/document.js';
import { RuleBook } from '../rules/rule_book.js';
import { addRules, moveRule, removeRules, resetRules, setModes, type RuleChanges } from '../rules/rule_changes.js';
import type { ChangeHost } from './change_host.js';

/** Longest timer of Node, ms. */
const MAX_TIMER_MS = 0x7fffffff;

/** What of the daemon it works on. */
export interface RuleHost extends ChangeHost {
  counter(rule: string, counter: RuleCounter): number;
  offload(): OffloadStatus;
  /** Where a rule that is in force runs. */
  placement(rule: string): Placement;
  /** What of `counter` was counted in the kernel. */
  kernelCounter(rule: string, counter: RuleCounter): number;
}

export class RuleControl implements RuleTarget {
  /** Rules whose time was over. */
  expired = 0;
  private readonly book: RuleBook;
  /** Changes that are being tried out. */
  private trying: RuleChanges | null = null;
  private timer: NodeJS.Timeout | null = null;
  private closed = false;

  constructor(
    private readonly host: RuleHost,
    private readonly nowMs: () => number = () => performance.now(),
  ) {
    this.book = new RuleBook(nowMs);
  }

  /** The configuration with the rules that are to be in force. */
  effective(config: Config): Config {
    return { ...config, rules: this.book.compose(config.rules, this.trying ?? this.book.changes) };
  }

  /** The tables of this configuration are in force. */
  adopt(config: Config): void {
    for (const name of this.book.commit(config.rules)) {
      this.host.log.info('rule that was added at run time is the configuration’s now', { rule: name });
    }
    this.arm();
  }

  list(): RuleListing {
    const nowMs = this.nowMs();
    const { host, book } = this;
    return {
      pid: process.pid,
      clockMs: nowMs,
      generation: host.generation(),
      offload: host.offload(),
      rules: this.effective(host.config()).rules.map((rule) => {
        const { origin, changed, expiresAtMs } = book.standing(rule.name);
        const count = (counter: RuleCounter): number => host.counter(rule.name, counter);
        return {
          name: rule.name,
          action: rule.action,
          mode: rule.mode ?? 'enforce',
          packets: count(RuleCounter.packets),
          bytes: count(RuleCounter.bytes),
          acted: count(RuleCounter.acted),
          actedBytes: count(RuleCounter.actedBytes),
          rule: ruleDocument(rule),
          origin,
          changed,
          ttlLeftMs: expiresAtMs === null ? null : Math.max(0, expiresAtMs - nowMs),
          ...host.placement(rule.name),
          kernelPackets: host.kernelCounter(rule.name, RuleCounter.packets),
        };
      }),
      absent: book.absent(),
      expired: this.expired,
    };
  }

  async add(tree: unknown, place: RulePlace | null, replace: boolean): Promise<RuleChangeResult> {
    const rules = rulesFromTree(tree, 'rules');
    return this.change(names(rules), (changes) => addRules(changes, rules, place, replace));
  }

  remove(rules: readonly string[]): Promise<RuleChangeResult> {
    return this.change(rules, (changes) => removeRules(changes, rules));
  }

  move(rule: string, place: RulePlace): Promise<RuleChangeResult> {
    return this.change([rule], (changes) => moveRule(changes, rule, place));
  }

  setMode(rules: readonly string[], mode: RuleMode): Promise<RuleChangeResult> {
    return this.change(rules, (changes) => setModes(changes, rules, mode));
  }

  reset(rules: readonly string[] | null): Promise<RuleChangeResult> {
    return this.host.serialize(() => {
      const { added, removed, modes, placed, expired } = this.book.changes;
      const changed = [added, removed, modes, placed, expired].flatMap((part) => [...part.keys()]);
      const these = rules ?? [...new Set(changed)];
      const known = names(this.host.config().rules);
      return this.carryOut(these, (changes) => resetRules(changes, these, known));
    });
  }

  close(): void {
    this.closed = true;
    if (this.timer !== null) clearTimeout(this.timer);
  }

  private change(rules: readonly string[], make: (changes: RuleChanges) => RuleChanges): Promise<RuleChangeResult> {
    return this.host.serialize(() => this.carryOut(rules, make));
  }

  private async carryOut(
    rules: readonly string[],
    make: (changes: RuleChanges) => RuleChanges,
  ): Promise<RuleChangeResult> {
    const { host, book } = this;
    if (this.closed) throw new SluiceError('SLUICE_STATE', 'sluice is stopping');
    const next = make(book.changes);
    if (!host.config().filters.some(({ kind }) => kind === 'rules') && next.added.size > 0) {
      throw new SluiceError(
        'SLUICE_STATE',
        'no rule would ever be applied: the filters do not have "rules" among them',
        'Add rules to the list of filters in the configuration, and reload.',
      );
    }
    this.trying = next;
    try {
      await host.publish();
    } catch (error) {
      this.trying = null;
      await host.goBack();
      throw error;
    }
    this.trying = null;
    book.commit(host.config().rules, next);
    this.arm();
    return { rules: [...rules], order: [...book.changes.order], generation: host.generation() };
  }

  private arm(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const at = this.book.nextExpiryMs;
    if (this.closed || at === Infinity) return;
    const wait = Math.min(MAX_TIMER_MS, Math.max(1, Math.ceil(at - this.nowMs())));
    this.timer = setTimeout(() => void this.host.serialize(() => this.expire()), wait);
    this.timer.unref();
  }

  private async expire(): Promise<void> {
    if (this.closed) return;
    const before = new Map(this.effective(this.host.config()).rules.map((rule) => [rule.name, rule]));
    const due = this.book.expire();
    this.expired += due.length;
    for (const name of due) {
      const { action, ttl } = before.get(name)!;
      const packets = this.host.counter(name, RuleCounter.packets);
      const acted = this.host.counter(name, RuleCounter.acted);
      this.host.log.info('rule’s time is over', { rule: name, action, ttl, packets, acted });
    }
    this.arm();
    if (due.length === 0) return;
    try {
      await this.host.publish();
    } catch (error) {
      this.host.log.error('a rule whose time is over cannot be taken out', { rules: due, err: error });
    }
  }
}

function names(rules: readonly RuleConfig[]): string[] {
  return rules.map(({ name }) => name);
}
