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

export interface ChallengeOptions {
  /** What is challenged beside the SYNs that rules want challenged: none; those to destinations that get more than `startRate`; all. */
  mode: 'off' | 'auto' | 'always';
  /** What one answer is good for: the source's next SYNs, or the SYN of that connection and no other. */
  scope: 'address' | 'connection';
  /** SYNs that an answer lets pass in scope `address`, 1 to 2^24 − 1. */
  connections: number;
  /** For how long, ms. */
  lifetimeMs: number;
  /** Sources remembered: a power of two, at least 8; 16 bytes each. */
  slots: number;
  /** Challenges a second that this worker sends at most, 1 to 1,000,000. */
  maxPerSecond: number;
  /** Mode `auto`: SYNs a second to one address and port, of this worker, from which challenges start and below which they stop. */
  startRate: number;
  stopRate: number;
  /** Mode `auto`: how long it must have been below `stopRate`, ms. */
  holdMs: number;
}

/** Rates are those of one worker. */
export interface ChallengeSpec extends ChallengeOptions {
  /** Four int32 that cookies are made with: the same on all nodes that have the same hash_key. */
  key: number[];
}

/** Seconds without a packet after which a connection is forgotten, by how far it came. */
export interface ConnectionTimeouts {
  /** Above 64 s, the longest pause between the SYNs of one client (Linux: 1, 2, 4 … 64 s) and between a server's SYN-ACKs. */
  fresh: number;
  /** Above the time between keep-alives (Linux: 2 h). */
  open: number;
  /** The client has closed its half; the server may still send. */
  closing: number;
  closed: number;
}

export interface OutOfStateOptions {
  /** `monitor`: everything is tracked and counted, nothing dropped. */
  mode: 'off' | 'monitor' | 'mitigate';
  /**
   * Whether packets of unknown connections are taken for those of connections that are older than the table, or that were another
   * node's: only for `learningMs`, or always (then only flags and sequence numbers decide), or never.
   */
  adopt: 'always' | 'learning' | 'never';
  /** Time after the first packet in which connections are adopted, ms. Connections that are silent for all of it are cut. */
  learningMs: number;
  timeouts: ConnectionTimeouts;
  /** Farthest that a sequence number may be from the last seen, bytes: 2^17 to 2^30. Less drops more, and asks that no client has a larger window. */
  windowBytes: number;
}

export interface TcpStateSpec extends OutOfStateOptions {
  mode: 'monitor' | 'mitigate';
  /** Connections that a worker remembers, a power of two. */
  slots: number;
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
  /** Longest-prefix tables (shared/lpm.ts) of sources that no stage touches; sets of such are in Tables.setAllows. */
  allow: {
    ipv4: SharedArrayBuffer | null;
    ipv6: SharedArrayBuffer | null;
    /** What they were made of. */
    prefixes: readonly { family: 4 | 6; words: readonly number[]; length: number }[];
  } | null;
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
