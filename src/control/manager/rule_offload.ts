import { SluiceError, isKernelError } from '../../errors.js';
import type { CaptureSpec } from '../../shared/capture_spec.js';
import type { Config } from '../../shared/config.js';
import { RuleCounter } from '../../shared/layout.js';
import type { OffloadStatus } from '../api/contract_rules.js';
import type { FrontRules } from '../ebpf/offload/front.js';
import { LimitMaps } from '../ebpf/offload/limit_maps.js';
import { placements, type Placement } from '../ebpf/offload/placement.js';
import { planOffload } from '../ebpf/offload/plan.js';
import type { Log } from '../log.js';
import { KernelSetStore, type NamedSets } from './kernel_sets.js';
import type { ManagedInterface } from './managed_interface.js';
import { capturedRules, dropRules, sanityBefore, standsBefore, type OffloadTables } from './offload_limits.js';
import { errorText } from './text.js';

export type OffloadMode = Config['offload'];

/** An interface as far as rules in the kernel go. */
export type OffloadInterface = Pick<ManagedInterface, 'name' | 'attached' | 'setRules' | 'tryRules' | 'ruleCounts'>;

export interface RuleOffloadOptions {
  interfaces: readonly OffloadInterface[];
  /** Captures that run. */
  captures: () => readonly CaptureSpec[];
  /** Where rules run may have changed, other than by `use`. */
  changed?: () => void;
  log: Log;
}

/** How long a rule's counters are good for after they were read from the kernel, ms: who reads one of them reads all four. */
const FRESH_MS = 20;

/** How long a change waits for its sets to be copied into the kernel, ms: with `auto` rules run in user space from then until they are there. */
const COPY_MS = { auto: 1000, require: 120_000 } as const;

/** Has the rules run in the kernel, where the setting wants that, the kernel takes them, and nothing that it does not know stands in the way. */
export class RuleOffload {
  private mode: OffloadMode = 'off';
  private tables: OffloadTables | null = null;
  private placed = new Map<number, Placement>();
  /** Why no rule runs in the kernel. */
  private why = OFF;
  private active = false;
  /** What was applied last. */
  private applied = '';
  private readonly limits = new LimitMaps((error) =>
    this.options.log.warn('keys of limits in the kernel are not forgotten', {
      message: errorText(error).split('\n')[0],
    }),
  );
  private readonly read = new Map<number, { atMs: number; counts: number[] }>();
  private readonly sets: KernelSetStore;

  constructor(private readonly options: RuleOffloadOptions) {
    this.sets = new KernelSetStore({ log: options.log, changed: () => this.applyAgain() });
  }

  get status(): OffloadStatus {
    return { mode: this.mode, active: this.active, why: this.why };
  }

  /** Of a rule by its number. */
  placement(rule: number): Placement {
    if (this.why !== '') return { runs: 'user space', why: this.why };
    return this.placed.get(rule) ?? { runs: 'user space', why: '' };
  }

  /** What the kernel has counted for a rule, packets that it dropped and only these; sum over all interfaces since the daemon started. */
  count(rule: number, counter: RuleCounter): number {
    const now = performance.now();
    let read = this.read.get(rule);
    if (read === undefined || now - read.atMs > FRESH_MS) {
      const all = this.options.interfaces.map((entry) => entry.ruleCounts(rule));
      const counts = Array.from({ length: RuleCounter.SIZE }, (_, i) => all.reduce((sum, one) => sum + one[i], 0));
      this.read.set(rule, (read = { atMs: now, counts }));
    }
    return read.counts[counter];
  }

  /** Packets that limits in the kernel dropped because a table was full. */
  get limitTableFull(): number {
    return this.limits.tableFull;
  }

  /** What the kernel found in sets of a name, of packets that it dropped. */
  setMatches(name: string): { packets: number; bytes: number } {
    return this.sets.matches(name);
  }

  /** Why a set is not in the kernel; '' when it is; null when nothing there would ask it. */
  setPlacement(name: string): string | null {
    const { tables, mode } = this;
    if (tables === null || mode === 'off' || standsBefore(tables) !== '') return null;
    const why = this.sets.whyNot(tables, name);
    if (why === null || why !== '') return why && `it ${why}`;
    return this.active ? '' : this.why || 'no rule runs there';
  }

  /** Before `check`: the sets of the tables go into the kernel. */
  async prepare(tables: OffloadTables, mode: OffloadMode, sets: NamedSets): Promise<void> {
    if (mode === 'off' || standsBefore(tables) !== '') return;
    await this.sets.prepare(tables, sets, COPY_MS[mode]);
  }

  /** No program is attached any more. */
  close(): void {
    this.limits.close();
    this.sets.close();
  }

  /**
   * Before tables are published: with `require`, throws SLUICE_CONFIG for a rule that drops and would not run in the kernel. Captures are left aside:
   * they end.
   *
   * @param nameOf of a rule by its number
   */
  check(tables: OffloadTables, mode: OffloadMode, nameOf: (rule: number) => string): void {
    if (mode !== 'require') return;
    const drops = dropRules(tables);
    if (drops.length === 0 && tables.setDrops.length === 0) return;
    const first = drops.length > 0 ? `rule ${nameOf(drops[0])}` : `set ${tables.sets[tables.setDrops[0].set].name}`;
    const before = standsBefore(tables);
    if (before !== '') throw refused(first, before);
    const { sets, hindrance } = this.sets.access(tables);
    if (hindrance !== '') throw refused(first, hindrance);
    this.refuseLeft(drops, placements(planOffload(tables, undefined, sets)), nameOf);
    const entry = this.options.interfaces.find(({ attached }) => attached);
    if (!entry || (this.active && this.tables?.ruleStamp === tables.ruleStamp)) return;
    try {
      const front = entry.tryRules({ tables, sanity: sanityBefore(tables.filters), sets, limits: this.limits });
      this.refuseLeft(drops, placements(front.plan, front.cut), nameOf);
    } catch (error) {
      // Of limits that will not be in force.
      this.limits.keepOnly(this.tables?.limits ?? []);
      if (error instanceof SluiceError && error.code === 'SLUICE_CONFIG') throw error;
      throw refused(first, `the kernel does not take the program: ${errorText(error)}`);
    }
  }

  private refuseLeft(
    drops: readonly number[],
    placed: ReadonlyMap<number, Placement>,
    nameOf: (rule: number) => string,
  ): void {
    for (const rule of drops) {
      const { runs, why } = placed.get(rule)!;
      if (runs !== 'kernel') throw refused(`rule ${nameOf(rule)}`, `it ${why}`);
    }
  }

  /** All workers have adopted these tables. */
  use(tables: OffloadTables, mode: OffloadMode): void {
    this.tables = tables;
    this.mode = mode;
    this.apply();
    this.sets.keepOnly(mode === 'off' || standsBefore(tables) !== '' ? null : tables);
  }

  /** A capture has begun or ended. */
  capturesChanged(): void {
    this.applyAgain();
  }

  /** An interface is back. */
  attached(): void {
    this.applied = '';
    this.applyAgain();
  }

  private applyAgain(): void {
    this.apply();
    this.options.changed?.();
  }

  private apply(): void {
    const { tables, mode } = this;
    if (tables === null) return;
    const captured = capturedRules(this.options.captures());
    const { interfaces } = this.options;
    const gone = interfaces.some(({ attached }) => attached) ? '' : 'no interface is there';
    const before = mode === 'off' ? OFF : standsBefore(tables);
    const { sets, hindrance, key: setsKey } = before === '' ? this.sets.access(tables) : NO_SETS;
    const drops = sets !== null && sets.drops.length > 0;
    const wanted = captured.all || (captured.sets && drops) ? CAPTURE : '';
    const stop = before || hindrance || wanted || gone;
    const sanity = sanityBefore(tables.filters);
    const key = JSON.stringify([mode, stop, tables.ruleStamp, sanity, [...captured.rules], setsKey]);
    if (key === this.applied) return;
    this.applied = key;
    const rules = { tables, sanity, captured: captured.rules, sets, limits: this.limits };
    const plan = stop === '' ? planOffload(tables, captured.rules, sets) : null;
    const placed = plan ? placements(plan) : new Map<number, Placement>();
    // Where no rule drops in the kernel, the program would cost and do nothing.
    const some = plan !== null && (drops || [...placed.values()].some(({ runs }) => runs !== 'user space'));
    const failure = some ? this.put(rules, placed) : '';
    if (!some || failure !== '') this.takeOut();
    // For a capture rules are out for a moment: what limits have charged stays.
    this.limits.keepOnly(mode === 'off' ? [] : tables.limits);
    this.placed = placed;
    this.tell(some && failure === '', stop || failure);
  }

  /** Says what the kernel or a driver had against it, '' when it is done. */
  private put(rules: FrontRules, placed: Map<number, Placement>): string {
    try {
      for (const entry of this.options.interfaces) {
        const front = entry.setRules(rules);
        if (front) for (const [rule, placement] of placements(front.plan, front.cut)) placed.set(rule, placement);
      }
      return '';
    } catch (error) {
      const code = isKernelError(error) ? error.code : '';
      this.options.log.warn('the kernel does not take the rules; they run in user space', {
        code,
        message: errorText(error).split('\n')[0],
      });
      return `the kernel does not take them${code === '' ? '' : ` (${code})`}`;
    }
  }

  private takeOut(): void {
    for (const entry of this.options.interfaces) {
      try {
        entry.setRules(null);
      } catch (error) {
        this.options.log.error('rules cannot be taken out of the kernel', { interface: entry.name, err: error });
      }
    }
  }

  private tell(active: boolean, why: string): void {
    const { log } = this.options;
    const inKernel = [...this.placed.values()].filter(({ runs }) => runs === 'kernel').length;
    if (active !== this.active || why !== this.why) {
      if (active) log.info('rules run in the kernel', { rules: inKernel });
      else if (why !== '' && why !== OFF) log.info('rules run in user space', { why });
    }
    this.active = active;
    this.why = why;
  }
}

const OFF = 'offload is off';
const NO_SETS = { sets: null, hindrance: '', key: '' };
const CAPTURE = 'a capture asks for dropped packets';

/** `what`: "rule NAME". */
function refused(what: string, why: string): SluiceError {
  return new SluiceError(
    'SLUICE_CONFIG',
    `${what} cannot run in the kernel, which offload: require asks for: ${why}`,
    'Write offload: auto, or take the rule or what hinders it out.',
  );
}
