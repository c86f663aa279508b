/**
 * What the control plane hands to the workers for the stages of mitigation. Everything with an `id` is made once for its options: while
 * these stay as they are, it comes again with the same id, in tables of whatever generation, and a worker keeps what it has learnt with it.
 */
import type { ConnLimitShared } from './limits/conn_limit.js';
import type { FairShareShared } from './limits/fair_share.js';
import type { HashLimitShared } from './limits/hash_limit.js';
import type { BucketShared } from './limits/shared_bucket.js';
import type { RuleIndexTables, RuleProgram } from './rule_layout.js';

/** Never comes back within a process for anything else. */
export interface Identified {
  id: number;
}

/** As ChallengeOptions of the data plane; rates are those of one worker. */
export interface ChallengeSpec {
  /** Four int32 that cookies are made with: the same on all nodes that have the same hash_key. */
  key: number[];
  mode: 'off' | 'auto' | 'always';
  scope: 'address' | 'connection';
  connections: number;
  lifetimeMs: number;
  slots: number;
  maxPerSecond: number;
  startRate: number;
  stopRate: number;
  holdMs: number;
}

/** As OutOfStateOptions of the data plane. */
export interface TcpStateSpec {
  mode: 'monitor' | 'mitigate';
  /** Connections that a worker remembers, a power of two. */
  slots: number;
  adopt: 'always' | 'learning' | 'never';
  learningMs: number;
  timeouts: { fresh: number; open: number; closing: number; closed: number };
  windowBytes: number;
}

/** A rate: by key, or one for all packets. */
export type LimitSpec = Identified &
  ({ kind: 'hash'; shared: HashLimitShared } | { kind: 'bucket'; shared: BucketShared });

/** The limits behind fair share, which are rules with action limit: see the same names in Tables. */
export interface LimitTables {
  rules: SharedArrayBuffer;
  ruleIndex: RuleIndexTables | null;
  ruleSets: SharedArrayBuffer;
  programs: RuleProgram[];
  limits: LimitSpec[];
  ruleStamp: number;
}

export interface MitigationTables {
  /** Numbers of all workers, ascending: a worker's position is the number that it has in shared limits. */
  workers: number[];
  /** Longest-prefix tables (shared/lpm.ts) of sources that no stage touches. */
  allow: { ipv4: SharedArrayBuffer | null; ipv6: SharedArrayBuffer | null } | null;
  /** Also with mode `off`, when a rule has SYNs challenged. */
  challenge: (Identified & ChallengeSpec) | null;
  /** Also with mode `monitor` where only limits on connections need it. */
  tcpState: TcpStateSpec | null;
  fairShare: (Identified & { shared: FairShareShared }) | null;
  connLimits: (Identified & { shared: ConnLimitShared })[];
  limits: LimitTables | null;
}

export const NO_MITIGATION_TABLES: MitigationTables = {
  workers: [0],
  allow: null,
  challenge: null,
  tcpState: null,
  fairShare: null,
  connLimits: [],
  limits: null,
};
