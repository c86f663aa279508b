import { Counter, type MitigationTables, type Tables } from '../../shared/layout.js';
import { FlowField } from '../balance/flow_entry.js';
import { ServiceTable } from '../balance/service_table.js';
import { Chance } from '../filter/chance.js';
import { NO_MITIGATION, type Mitigation } from '../filter/mitigation.js';
import { packetSets, type SetTables } from '../filter/packet_sets.js';
import { ProgramShelf } from '../filter/programs.js';
import { NO_PARTS, type Limiter } from '../filter/rule_parts.js';
import { RuleSet } from '../filter/rules.js';
import { AllowList } from './allow_list.js';
import { SynChallenge } from './challenge.js';
import { FairShare } from './fair_share.js';
import { LimitStage } from './limit_stage.js';
import { LimiterShelf } from './limiters.js';
import { OutOfState } from './out_of_state.js';
import { ServiceTcp } from './tcp_stage.js';
import { TrackedLimits } from './tracked_limits.js';

/** How often gauges are taken, and how often the challenge is told the wall clock's time, ms. */
const GAUGES_MS = 100;
const CLOCK_MS = 60_000;

export type StageTables = Pick<Tables, 'mitigation' | 'limits' | 'serviceKeys' | 'prefixLengths4' | 'prefixLengths6'> &
  SetTables;

/** What a chain needs of the stages. */
export interface AdoptedStages {
  /** By RuleField.limit. */
  limits: readonly Limiter[];
  mitigation: Mitigation;
}

/**
 * The stages of mitigation of one worker. What they have learnt stays for as long as the options that it was made for: sources that
 * answered, connections, what a key has used of its rate.
 */
export class MitigationStages {
  private challenge: SynChallenge | null = null;
  private challengeId = 0;
  private outOfState: OutOfState | null = null;
  private slots = 0;
  private fairShare: FairShare | null = null;
  private fairShareId = 0;
  private readonly limiters = new LimiterShelf();
  private readonly tracked = new TrackedLimits();
  /** Of limits. */
  readonly programs = new ProgramShelf();
  private rates: RuleSet | null = null;
  private ratesStamp = 0;
  private readonly chance = new Chance(1);
  /** By Counter: what was counted by objects that are gone. */
  private readonly base = new Float64Array(Counter.SIZE);
  /** Clock of the last burst, ms: `tick` sets it, and who ticks less often than bursts come. */
  nowMs = 0;
  private gaugesMs = 0;
  private clockMs = 0;

  /** `worker`: its number, one of MitigationTables.workers. `allocate`: zeroed memory of that many bytes. */
  constructor(
    private readonly worker: number,
    private readonly counters: Float64Array,
    private readonly wallClock: () => number = Date.now,
    private readonly allocate: (bytes: number) => ArrayBuffer = (bytes) => new ArrayBuffer(bytes),
  ) {}

  /** The stages of these tables. Throws when there is no memory for them: then all is as before. */
  adopt(tables: StageTables, nowMs: number): AdoptedStages {
    const { mitigation, limits } = tables;
    const workers = mitigation.workers.length;
    const position = mitigation.workers.indexOf(this.worker);
    if (position < 0) throw new Error(`worker ${this.worker} is not in the tables`);
    const words = this.wordsFor(mitigation);
    const [ruleLimits, rateLimits] = this.limiters.load([limits, mitigation.limits?.limits ?? []], position, workers);
    this.adoptChallenge(mitigation, nowMs);
    const fresh = this.adoptTracker(mitigation, words);
    const connections = this.outOfState?.connections ?? null;
    this.tracked.load(mitigation.connLimits, position, workers, connections, fresh);
    if (mitigation.fairShare === null) this.fairShare = null;
    else if (this.fairShare === null || this.fairShareId !== mitigation.fairShare.id) {
      this.fairShare = new FairShare(mitigation.fairShare.shared, position, workers);
    }
    this.fairShareId = mitigation.fairShare?.id ?? 0;
    this.nowMs = nowMs;
    this.adoptRates(tables, rateLimits);

    const { challenge, outOfState, tracked, rates } = this;
    const tcp =
      challenge === null && outOfState === null
        ? null
        : new ServiceTcp(challenge, outOfState, tracked, new ServiceTable(tables));
    const counted = tracked.empty ? null : tcp;
    return {
      limits: ruleLimits,
      mitigation: {
        ...NO_MITIGATION,
        allow: mitigation.allow && new AllowList(mitigation.allow),
        tcp,
        fairShare: this.fairShare,
        limits: rates === null && counted === null ? null : new LimitStage(rates, counted),
      },
    };
  }

  /** Forgets some of what is over and brings the counters up to date. Every few bursts, and when idle. */
  tick(nowMs: number): void {
    this.nowMs = nowMs;
    if (this.outOfState !== null) {
      const { connections } = this.outOfState;
      const words = connections.sweep(nowMs);
      if (words > 0 && !this.tracked.empty) this.tracked.closeEnded(connections.ended, words);
    }
    this.publish();
    if (((nowMs - this.gaugesMs) | 0) < GAUGES_MS) return;
    this.gaugesMs = nowMs;
    this.counters[Counter.challengeActive] = this.challenge?.active(nowMs) ?? 0;
    this.counters[Counter.connections] = this.outOfState?.connections.table.count ?? 0;
    this.counters[Counter.tcpLearning] = this.outOfState?.isLearning === true ? 1 : 0;
    this.programs.compileSome();
    if (this.challenge !== null && ((nowMs - this.clockMs) | 0) >= CLOCK_MS) this.setClock(nowMs);
  }

  /** Memory for the tracker, where that has to begin anew. */
  private wordsFor({ tcpState }: MitigationTables): Int32Array | null {
    if (tcpState === null || (this.outOfState !== null && this.slots === tcpState.slots)) return null;
    return new Int32Array(this.allocate((tcpState.slots * FlowField.STRIDE) << 2));
  }

  private adoptChallenge({ challenge }: MitigationTables, nowMs: number): void {
    if (challenge?.id === this.challengeId) return;
    this.publish();
    if (this.challenge !== null) {
      for (const at of [Counter.challenges, Counter.challengeAdmitted, Counter.challengeFailed]) {
        this.base[at] = this.counters[at];
      }
    }
    this.challenge = challenge && new SynChallenge(challenge, challenge.key);
    this.challengeId = challenge?.id ?? 0;
    if (challenge !== null) this.setClock(nowMs);
  }

  private setClock(nowMs: number): void {
    this.challenge?.setClock(nowMs, this.wallClock());
    this.clockMs = nowMs;
  }

  /** True when it begins anew. */
  private adoptTracker({ tcpState }: MitigationTables, words: Int32Array | null): boolean {
    if (tcpState !== null && words === null) {
      this.outOfState!.configure(tcpState);
      return false;
    }
    this.publish();
    for (let at = Counter.tcpUnexpected as number; at <= Counter.tcpAlreadyClosed; at++) {
      this.base[at] = this.counters[at];
    }
    this.base[Counter.connectionEvict] = this.counters[Counter.connectionEvict];
    this.outOfState = tcpState && new OutOfState(tcpState, words!);
    this.slots = tcpState?.slots ?? 0;
    return true;
  }

  private adoptRates(tables: StageTables, limiters: readonly Limiter[]): void {
    const { limits } = tables.mitigation;
    if (limits === null) {
      this.rates = null;
    } else if (this.rates === null || this.ratesStamp !== limits.ruleStamp) {
      const loaded = this.programs.load(limits.programs);
      const sets = packetSets(tables, this.worker, () => this.nowMs);
      this.rates = new RuleSet(limits, loaded, { ...NO_PARTS, limits: limiters, sets }, this.counters, this.chance);
    }
    this.ratesStamp = limits?.ruleStamp ?? 0;
  }

  private publish(): void {
    const { counters, base, challenge, outOfState } = this;
    if (challenge !== null) {
      counters[Counter.challenges] = base[Counter.challenges] + challenge.challenges;
      counters[Counter.challengeAdmitted] = base[Counter.challengeAdmitted] + challenge.admitted;
      counters[Counter.challengeFailed] = base[Counter.challengeFailed] + challenge.failed;
    }
    if (outOfState !== null) {
      counters[Counter.tcpUnexpected] = base[Counter.tcpUnexpected] + outOfState.unexpected;
      counters[Counter.tcpNotFound] = base[Counter.tcpNotFound] + outOfState.notFound;
      counters[Counter.tcpOutOfSequence] = base[Counter.tcpOutOfSequence] + outOfState.outOfSequence;
      counters[Counter.tcpAlreadyClosed] = base[Counter.tcpAlreadyClosed] + outOfState.alreadyClosed;
      counters[Counter.connectionEvict] = base[Counter.connectionEvict] + outOfState.connections.evictions;
    }
    counters[Counter.limitTableFull] = this.limiters.tableFull + this.tracked.tableFull;
  }
}
