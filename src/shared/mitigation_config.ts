/** The parts of the configuration that say what is done about floods; times in seconds, rates of all workers together. */
import type { Prefix, RuleLimitConfig, RuleMatchConfig } from './config.js';
import type { Rate } from './limits/rate.js';

export interface ChallengeConfig {
  mode: 'off' | 'auto' | 'always';
  /** SYNs a second to one address and port from which challenges start, and below which they stop. */
  above: number;
  below: number;
  /** How long it must have been below. */
  hold: number;
  /** What one answer is good for. */
  scope: 'source' | 'connection';
  /** SYNs that an answer lets pass in scope source, and for how long. */
  connections: number;
  lifetime: number;
  /** Sources that a worker remembers, a power of two. */
  sources: number;
  maxPerSecond: number;
}

export interface TcpStateConfig {
  mode: 'off' | 'monitor' | 'mitigate';
  /** Connections that a worker remembers, a power of two. */
  connections: number;
  /** Whether packets of unknown connections are taken for those of older ones: for the time of `learn`, always, never. */
  adopt: 'learning' | 'always' | 'never';
  learn: number;
  /** Farthest that a sequence number may be from the last, bytes. */
  window: number;
  timeouts: { fresh: number; open: number; closing: number; closed: number };
}

export interface FairShareConfig {
  /** null: off. */
  rate: Rate | null;
  share: 'fair' | 'fixed';
  prefixes4: number[];
  prefixes6: number[];
  columns: number;
}

/** A rate for packets that match, or how many TCP connections a source may have. */
export type LimitConfig = { name: string } & (
  | { kind: 'rate'; match: RuleMatchConfig; limit: RuleLimitConfig }
  | {
      kind: 'connections';
      connections: number;
      side: 'source' | 'destination';
      mask4: number;
      mask6: number;
      max: number;
    }
);

export interface MitigationConfig {
  challenge: ChallengeConfig;
  tcpState: TcpStateConfig;
  fairShare: FairShareConfig;
  limits: LimitConfig[];
}

/** Sources that no stage of mitigation touches: those of the prefixes and those in one of the sets, which are asked with key src. */
export interface AllowConfig {
  prefixes: readonly Prefix[];
  /** Names. */
  sets: readonly string[];
}
