/**
 * Makes what the stages of mitigation work with, and keeps it: shared tables outlive generations, reloads and workers for as long as the
 * options that they were made for stay.
 */
import type { Config, RuleConfig } from '../../shared/config.js';
import { allocateConnLimit } from '../../shared/limits/conn_limit.js';
import { allocateFairShare } from '../../shared/limits/fair_share.js';
import { allocateHashLimit } from '../../shared/limits/hash_limit.js';
import { allocateBucket } from '../../shared/limits/shared_bucket.js';
import { buildLpm } from '../../shared/lpm.js';
import type {
  ChallengeSpec,
  Identified,
  LimitSpec,
  LimitTables,
  MitigationTables,
  TcpStateSpec,
} from '../../shared/mitigation_layout.js';
import type { ChallengeConfig, LimitConfig, TcpStateConfig } from '../../shared/mitigation_config.js';
import { DEFAULT_HASH_KEY_TEXT, hashKeyOf } from '../config/hash_key.js';
import { RuleShelf, type RuleParts } from '../rule_tables.js';
import { limitSpecOf } from './limit_spec.js';

/** Counts up over all shelves of the process: see Identified. */
let ids = 0;

/** The sets that limits may ask for. */
type SetParts = Pick<RuleParts, 'set' | 'sets'>;

type RateLimit = LimitConfig & { kind: 'rate' };

/** Name under which a limit of the configuration has its number, beside the rules: no rule can be called that. */
export function limitRuleName(limit: string): string {
  return `limit/${limit}`;
}

/** The limits on rates as rules, for numbers and counters. */
export function limitRules(config: Config): RuleConfig[] {
  return config.mitigation.limits
    .filter((limit): limit is RateLimit => limit.kind === 'rate')
    .map(({ name, match, limit }) => ({ name: limitRuleName(name), match, action: 'limit', limit }));
}

export class MitigationShelf {
  /** What the last build that came to its end made or took over, and what was there before that changed: a change that is taken back finds its own. */
  #last: ReadonlyMap<string, object> = new Map();
  #before: ReadonlyMap<string, object> = new Map();
  #now = new Map<string, object>();
  #workers: readonly number[] = [0];
  readonly #rules = new RuleShelf();
  /** Where the configuration has no hash_key of its own, for which everybody could make cookies. */
  readonly #ownKey = [...crypto.getRandomValues(new Int32Array(4))];

  /** Call before the others of one build. `workers`: numbers of all workers, ascending. */
  begin(workers: readonly number[]): void {
    this.#workers = workers;
    this.#now = new Map();
  }

  /** What rules with action limit and challenge want. Throws SluiceError for a limit that cannot be kept. */
  ruleParts(rules: readonly RuleConfig[]): Pick<RuleParts, 'limit' | 'limits' | 'challenge'> {
    const limits: LimitSpec[] = [];
    const positions = new Map<string, number>();
    for (const rule of rules) {
      if (rule.action !== 'limit' || rule.limit === undefined) continue;
      positions.set(rule.name, limits.length);
      limits.push(this.#limit(rule));
    }
    return { limits, limit: ({ name }) => positions.get(name) ?? -1, challenge: true };
  }

  /**
   * Ends the build.
   *
   * @param numberOf number of a rule by its name
   * @throws SluiceError SLUICE_CONFIG for what cannot be kept
   */
  tables(config: Config, numberOf: (rule: string) => number, sets: SetParts = {}): MitigationTables {
    const { challenge, tcpState, fairShare, limits } = config.mitigation;
    const workers = this.#workers.length;
    const connLimits = limits.flatMap((limit) => (limit.kind === 'connections' ? [limit] : []));
    const demanded = config.rules.some(({ action }) => action === 'challenge');
    const tracks = tcpState.mode !== 'off' || connLimits.length > 0;
    const { rate, ...share } = fairShare;
    const tables: MitigationTables = {
      workers: [...this.#workers],
      allow: this.#allow(config),
      challenge: challenge.mode === 'off' && !demanded ? null : this.#challenge(challenge, config.hashKey),
      tcpState: tracks ? tcpStateOf(tcpState) : null,
      fairShare:
        rate === null
          ? null
          : this.#keep('fair share', fairShare, () => ({ shared: allocateFairShare({ rate, ...share }, workers) })),
      connLimits: connLimits.map((limit) => {
        const { name, connections, ...spec } = limit;
        return this.#keep(`connections ${name}`, limit, () => ({
          shared: allocateConnLimit({ limit: connections, direction: 'above', ...spec }, workers),
        }));
      }),
      limits: this.#limits(config, numberOf, sets),
    };
    if (!sameKeys(this.#now, this.#last)) {
      this.#before = this.#last;
      this.#last = this.#now;
    }
    return tables;
  }

  #allow({ allow: { prefixes } }: Config): MitigationTables['allow'] {
    if (prefixes.length === 0) return null;
    const table = (family: 4 | 6): SharedArrayBuffer | null => {
      const entries = prefixes.filter((prefix) => prefix.family === family);
      if (entries.length === 0) return null;
      const words = buildLpm(
        entries.map(({ words, length }) => ({ words, length, value: 0 })),
        family,
      );
      const shared = new SharedArrayBuffer(words.byteLength);
      new Int32Array(shared).set(words);
      return shared;
    };
    const options = prefixes.map(({ text, length }) => `${text}/${length}`);
    return this.#keep('allow', options, () => ({
      ipv4: table(4),
      ipv6: table(6),
      prefixes: prefixes.map(({ family, words, length }) => ({ family, words: [...words], length })),
    }));
  }

  #challenge(config: ChallengeConfig, hashKey: readonly number[]): Identified & ChallengeSpec {
    const workers = this.#workers.length;
    const share = (rate: number): number => Math.max(1, Math.ceil(rate / workers));
    const isUsual = hashKeyOf(DEFAULT_HASH_KEY_TEXT).every((word, i) => word === hashKey[i]);
    return this.#keep('challenge', { ...config, hashKey }, () => ({
      key: isUsual ? this.#ownKey : [...hashKey],
      mode: config.mode,
      scope: config.scope === 'source' ? ('address' as const) : ('connection' as const),
      connections: config.connections,
      lifetimeMs: Math.round(config.lifetime * 1000),
      slots: config.sources,
      // What one worker's bucket takes.
      maxPerSecond: Math.min(share(config.maxPerSecond), 1_000_000),
      startRate: share(config.above),
      stopRate: share(config.below),
      holdMs: Math.round(config.hold * 1000),
    }));
  }

  #limits(config: Config, numberOf: (rule: string) => number, sets: SetParts): LimitTables | null {
    const rules = limitRules(config);
    if (rules.length === 0) return null;
    const { rules: records, ...rest } = this.#rules.build(rules, numberOf, { ...this.ruleParts(rules), ...sets });
    const { ruleIndex, ruleSets, programs, limits, ruleStamp } = rest;
    return { rules: records, ruleIndex, ruleSets, programs, limits, ruleStamp };
  }

  #limit({ name, limit }: RuleConfig): LimitSpec {
    const workers = this.#workers.length;
    return this.#keep(`limit ${name}`, limit!, () => {
      const wanted = limitSpecOf(limit!);
      return wanted.kind === 'hash'
        ? { kind: 'hash' as const, shared: allocateHashLimit(wanted.spec) }
        : { kind: 'bucket' as const, shared: allocateBucket(wanted.spec, workers) };
    });
  }

  /** The object of that name and options as it was, or a new one. */
  #keep<T extends object>(name: string, options: object, make: () => T): T & Identified {
    const key = `${name}\n${this.#workers.join()}\n${JSON.stringify(options)}`;
    const known = (this.#now.get(key) ?? this.#last.get(key) ?? this.#before.get(key)) as (T & Identified) | undefined;
    const object = known ?? { ...make(), id: ++ids };
    this.#now.set(key, object);
    return object;
  }
}

function tcpStateOf({ mode, connections, adopt, learn, timeouts, window }: TcpStateConfig): TcpStateSpec {
  return {
    mode: mode === 'mitigate' ? 'mitigate' : 'monitor',
    slots: connections,
    adopt,
    learningMs: Math.round(learn * 1000),
    timeouts: { ...timeouts },
    windowBytes: window,
  };
}

function sameKeys(one: ReadonlyMap<string, object>, two: ReadonlyMap<string, object>): boolean {
  return one.size === two.size && [...one.keys()].every((key) => two.has(key));
}
