import { CounterBlock, RuleAction } from '../../shared/layout.js';
import type { Packet } from '../packet/packet.js';
import { DropReason } from '../verdict.js';
import { FilterVerdict, type PacketFilter } from './contract.js';
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
 */
export class FilterChain {
  /** Out parameter of `run`: why it dropped. */
  reason: DropReason = DropReason.none;
  /** The first stage when it is the sanity filter, as in nearly every config: no loop, no dispatch. */
  private readonly first: SanityFilter | null;
  private readonly rest: readonly Stage[];
  /** Position in the config of the first of `rest`. */
  private readonly restFrom: number;

  constructor(
    readonly stages: readonly Stage[],
    private readonly counters: Float64Array,
  ) {
    this.first = stages.length > 0 ? stages[0].sanity : null;
    this.restFrom = this.first === null ? 0 : 1;
    const rest = stages.slice(this.restFrom);
    // A table of no rules decides nothing.
    this.rest = rest.some((stage) => stage.rules === null || !stage.rules.empty) ? rest : [];
  }

  /** No rules and no modules, and TCP and UDP allowed: what no sanity check could object to passes. */
  get onlySanity(): boolean {
    return this.rest.length === 0 && (this.first === null || this.first.allowsTcpAndUdp);
  }

  run(packet: Packet): FilterVerdict {
    if (this.first !== null) {
      const reason = this.first.check(packet);
      if (reason !== DropReason.none) return this.drop(reason);
    }
    return this.rest.length === 0 ? FilterVerdict.Continue : this.runRest(packet);
  }

  private runRest(packet: Packet): FilterVerdict {
    const stages = this.rest;
    for (let i = 0; i < stages.length; i++) {
      const stage = stages[i];
      if (stage.rules !== null) {
        if (stage.rules.match(packet) === RuleAction.drop) return this.drop(DropReason.rule);
      } else if (stage.sanity !== null) {
        const reason = stage.sanity.check(packet);
        if (reason !== DropReason.none) return this.drop(reason);
      } else if (stage.module !== null) {
        const verdict = stage.module(packet);
        if (verdict === FilterVerdict.Continue) continue;
        return this.decided(verdict, this.restFrom + i);
      }
    }
    return FilterVerdict.Continue;
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
