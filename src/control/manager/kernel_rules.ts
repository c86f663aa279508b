import type { BpfLink } from '../../native.js';
import { RuleCounter, RuleField } from '../../shared/layout.js';
import { RuleFront, type Front, type FrontRules } from '../ebpf/offload/front.js';
import { SET_DROPS } from '../ebpf/offload/rules_program.js';
import { FLOW_PROGRAM } from '../ebpf/flow_layout.js';
import type { FlowCache } from './flow_cache.js';
import { REDIRECT_PROGRAM, type RedirectProgram } from './redirect_program.js';

/**
 * The rules that run in the kernel on one interface: which program its link has, the redirect program or one with rules that ends in it, and what
 * the rules have counted there. Counters go on over other rules, other redirect programs, and the interface's loss.
 */
export class KernelRules {
  private readonly fronts = new Map<RedirectProgram, RuleFront>();
  /** Sums of fronts that are gone, by rule number. */
  private readonly gone = new Map<number, number[]>();
  /** Numbers that were ever in a program: of no other is there anything to read. */
  private readonly known = new Set<number>();
  private attached: Front | null = null;
  private rules: FrontRules | null = null;

  /** Those that the link's program has; null: it is the redirect program. */
  get inForce(): FrontRules | null {
    return this.rules;
  }

  /** Loads and throws away. @throws KernelError when the kernel does not take the rules */
  tryOut(program: RedirectProgram, rules: FrontRules): Front {
    const front = this.frontOf(program).load(rules);
    front.program.close();
    return front;
  }

  /**
   * Gives the link the rules in front of `program`, or with null `program` alone, in one step: each packet meets the one or the other. Throws with
   * the former in place. `cache`: of flows, between the two.
   */
  put(link: BpfLink, program: RedirectProgram, rules: FrontRules | null, cache: FlowCache | null = null): Front | null {
    const front = rules && this.frontOf(program);
    const next = rules && front!.load(rules);
    try {
      cache?.goOnTo(program.behind.program);
      front?.goOnTo(cache?.program ?? program.behind.program);
      if (next) link.update(next.program);
      else if (cache) link.update(cache.object, FLOW_PROGRAM);
      else link.update(program.object, REDIRECT_PROGRAM);
    } catch (error) {
      next?.program.close();
      throw error;
    }
    if (next && next.plan.drops.length > 0) this.known.add(SET_DROPS);
    for (const { at } of next?.plan.records ?? []) this.known.add(next!.plan.rules[at + RuleField.id]);
    this.attached?.program.close();
    this.attached = next;
    this.rules = rules;
    return next;
  }

  /** The link is closed. */
  detached(): void {
    this.attached?.program.close();
    this.attached = null;
    this.rules = null;
  }

  /** No CPU runs the program any more, nor rules in front of it: their counts are final. */
  retire(program: RedirectProgram): void {
    const front = this.fronts.get(program);
    if (!front) return;
    for (const rule of this.known) {
      const counts = front.counts(rule);
      if (counts.some((count) => count > 0)) this.gone.set(rule, sum(this.gone.get(rule), counts));
    }
    this.fronts.delete(program);
    front.close();
  }

  /** Of a rule's number, or SET_DROPS; in the order of RuleCounter, since the daemon started. */
  counts(rule: number): number[] {
    if (!this.known.has(rule)) return NONE;
    let counts = this.gone.get(rule) ?? NONE;
    for (const front of this.fronts.values()) counts = sum(counts, front.counts(rule));
    return counts;
  }

  private frontOf(program: RedirectProgram): RuleFront {
    let front = this.fronts.get(program);
    if (front === undefined) this.fronts.set(program, (front = new RuleFront(program.behind)));
    return front;
  }
}

const NONE = new Array<number>(RuleCounter.SIZE).fill(0);

function sum(a: readonly number[] = NONE, b: readonly number[]): number[] {
  return a.map((count, i) => count + (b[i] ?? 0));
}
