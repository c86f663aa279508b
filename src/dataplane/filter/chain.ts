import { CounterBlock, RuleAction } from '../../shared/layout.js';
import type { Packet } from '../packet/packet.js';
import { DropReason } from '../verdict.js';
import { FilterVerdict, type PacketFilter } from './contract.js';
import { NO_MITIGATION, StageVerdict, type AllowStage, type Mitigation, type MitigationStage, type TcpStage } from './mitigation.js'; // prettier-ignore
import type { PlainStages } from './plain_stages.js';
import type { RuleIndex } from './rule_index.js';
import type { Limiter } from './rule_parts.js';
import type { RuleSet } from './rules.js';
import type { SanityFilter } from './sanity.js';

/** A stage of the chain. Exactly one of the three is set. */
export interface Stage {
  sanity: SanityFilter | null;
  rules: RuleSet | null;
  module: PacketFilter | null;
}

/** More user modules than this run, but through one megamorphic call site. */
const LAST_POSITION = 63;

/**
 * The filters of a config, in order. The first that does not say Continue decides. The built-in stages are called directly, so
 * that V8 can inline them; user modules through their functions.
 *
 * A packet of the default config meets: allow list → sanity → sets → rules → out-of-state and challenge → fair share → limits. The stages from sets to limits
 * stand together where the config has `rules`; user modules and the sanity checks stand where the config has them.
 */
export class FilterChain {
  /** Out parameter of `run`: why it dropped. */
  reason: DropReason = DropReason.none;
  /** The first stage when it is the sanity filter, as in nearly every config: no loop, no dispatch. */
  private readonly first: SanityFilter | null;
  private readonly rest: readonly Stage[];
  /** Position in the config of the first of `rest`. */
  private readonly restFrom: number;
  private readonly allow: AllowStage | null;
  private readonly sets: MitigationStage | null;
  private readonly tcp: TcpStage | null;
  private readonly fairShare: Limiter | null;
  private readonly limits: MitigationStage | null;
  /**
   * TCP and UDP allowed, and no stage but sanity checks, rules, one that looks at SYN and RST only, and those of `plainStages`: what no check could object
   * to, and none of these has or names, passes. Worked out once: it is asked for each burst.
   */
  readonly onlyRules: boolean;

  constructor(
    readonly stages: readonly Stage[],
    private readonly counters: Float64Array,
    readonly mitigation: Mitigation = NO_MITIGATION,
  ) {
    this.first = stages.length > 0 ? stages[0].sanity : null;
    this.restFrom = this.first === null ? 0 : 1;
    this.allow = mitigation.allow;
    this.sets = mitigation.sets;
    this.tcp = mitigation.tcp;
    this.fairShare = mitigation.fairShare;
    this.limits = mitigation.limits;
    const rest = stages.slice(this.restFrom);
    // A table of no rules decides nothing.
    const decides = this.mitigates || rest.some((stage) => stage.rules === null || !stage.rules.empty);
    this.rest = decides ? rest : [];
    this.onlyRules = this.asksOnlyRules();
  }

  /** Some stage other than the rules. */
  private get mitigates(): boolean {
    return [this.allow, this.sets, this.tcp, this.fairShare, this.limits].some((stage) => stage !== null);
  }

  private asksOnlyRules(): boolean {
    const allows = this.first === null || this.first.allowsTcpAndUdp;
    const asked = this.plainStages !== null;
    const looksAtAll = this.fairShare ?? this.limits ?? (asked ? null : (this.sets ?? this.countingAllow));
    const tracks = this.tcp !== null && this.tcp.tracks;
    return allows && !tracks && looksAtAll === null && this.rest.every((stage) => stage.rules !== null);
  }

  private get countingAllow(): AllowStage | null {
    return this.allow?.counts === true ? this.allow : null;
  }

  /** What the short way has to ask of each packet; null: nothing, or it cannot. */
  get plainStages(): PlainStages | null {
    const { plain } = this.mitigation;
    // Sets drop where the rules stand, and nowhere else.
    if (plain === null || this.rest.some(({ rules }) => rules !== null)) return plain;
    return { ...plain, drops: [] };
  }

  /** Has the memory of the stages on its way before the first packet of a burst is judged. */
  prefetch(packets: readonly Packet[], count: number): void {
    if (this.tcp !== null && this.tcp.tracks) this.tcp.prefetch(packets, count);
  }

  /** The rules, when there are any. */
  get rules(): RuleSet | null {
    return this.rest.find((stage) => stage.rules !== null && !stage.rules.empty)?.rules ?? null;
  }

  /** Their index: which packets they name. */
  get ruleIndex(): RuleIndex | null {
    return this.rules?.index ?? null;
  }

  /** `nowMs`: monotonic clock of the burst, wrapping int32. */
  run(packet: Packet, nowMs: number): FilterVerdict {
    if (this.allow !== null && this.allow.has(packet)) return this.runModules(packet);
    if (this.first !== null) {
      const reason = this.first.check(packet);
      if (reason !== DropReason.none) return this.drop(reason);
    }
    return this.rest.length === 0 ? FilterVerdict.Continue : this.runRest(packet, nowMs);
  }

  private runRest(packet: Packet, nowMs: number): FilterVerdict {
    const stages = this.rest;
    for (let i = 0; i < stages.length; i++) {
      const stage = stages[i];
      if (stage.rules !== null) {
        const verdict = this.mitigate(stage.rules, packet, nowMs);
        if (verdict !== FilterVerdict.Continue) return verdict;
      } else if (stage.sanity !== null) {
        const reason = stage.sanity.check(packet);
        if (reason !== DropReason.none) return this.drop(reason);
      } else if (stage.module !== null) {
        const verdict = stage.module(packet);
        if (verdict !== FilterVerdict.Continue) return this.decided(verdict, this.restFrom + i);
      }
    }
    return FilterVerdict.Continue;
  }

  /** What a packet meets that is on the allow list. */
  private runModules(packet: Packet): FilterVerdict {
    const stages = this.rest;
    for (let i = 0; i < stages.length; i++) {
      const { module } = stages[i];
      if (module === null) continue;
      const verdict = module(packet);
      if (verdict !== FilterVerdict.Continue) return this.decided(verdict, this.restFrom + i);
    }
    return FilterVerdict.Continue;
  }

  private mitigate(rules: RuleSet, packet: Packet, nowMs: number): FilterVerdict {
    if (this.sets !== null) {
      const said = this.sets.judge(packet, nowMs);
      if (said !== (StageVerdict.Continue as number)) return this.stopped(said);
    }
    const action = rules.match(packet, nowMs);
    if (action === RuleAction.drop) return this.drop(DropReason.rule);
    if (action === RuleAction.limit) return this.drop(DropReason.limited);
    if (this.tcp !== null) {
      const said = this.tcp.judge(packet, nowMs, action === RuleAction.challenge);
      if (said !== (StageVerdict.Continue as number)) return this.stopped(said);
    }
    if (this.fairShare !== null && this.fairShare.judge(packet, nowMs) !== 0) {
      if (this.tcp !== null) this.tcp.takeBack(packet);
      return this.drop(DropReason.fairShare);
    }
    if (this.limits !== null) {
      const said = this.limits.judge(packet, nowMs);
      if (said !== (StageVerdict.Continue as number)) {
        if (this.tcp !== null) this.tcp.takeBack(packet);
        return this.stopped(said);
      }
    }
    return FilterVerdict.Continue;
  }

  /** A stage's word that is not Continue. */
  private stopped(said: number): FilterVerdict {
    return said === (StageVerdict.Tx as number) ? FilterVerdict.Tx : this.drop(said);
  }

  private drop(reason: DropReason): FilterVerdict {
    this.reason = reason;
    return FilterVerdict.Drop;
  }

  /** A module's final word. Whatever is not a verdict (undefined from a forgotten return, a string) counts as thrown. */
  private decided(verdict: FilterVerdict, position: number): FilterVerdict {
    switch (verdict) {
      case FilterVerdict.Drop:
        this.counters[CounterBlock.filters + (position < LAST_POSITION ? position : LAST_POSITION)]++;
        return this.drop(DropReason.filter);
      case FilterVerdict.Pass:
      case FilterVerdict.Tx:
        return verdict;
      case FilterVerdict.Aborted:
        return this.abort();
      default:
        throw new TypeError(`filter ${position} returned ${String(verdict)}, which is no FilterVerdict`);
    }
  }

  private abort(): FilterVerdict {
    this.reason = DropReason.policyThrew;
    return FilterVerdict.Aborted;
  }
}
