/**
 * What rules ask and call, by position. Each position of an array holds one object; classes that share an array should be few (at most four shapes at
 * a call site, or V8 looks each one up in a hash table).
 *
 * A further kind of match gets a bit in RuleMatch behind those that are there, a word in the record and an array here; `RuleSet` asks it
 * in `matchesMore`, at a call site of its own.
 */
import type { Packet } from '../packet/packet.js';

/** A set of addresses. `key`: SetKey bits, which fields of the packet are looked up. */
export interface PacketSet {
  has(packet: Packet, key: number): boolean;
}

export interface Limiter {
  /** 0 when the packet is within the limit, and counted against it. `nowMs`: monotonic, wrapping int32. */
  judge(packet: Packet, nowMs: number): number;
}

export interface Sampler {
  /** Whether the packet is one of those that are sampled. */
  judge(packet: Packet, nowMs: number): boolean;
  /** Takes a packet that was. `rule`: RuleField.id. */
  take(packet: Packet, rule: number): void;
}

/** Is told of every match, but not by rules that sample: these tell their sampler. */
export interface RuleWatch {
  /** `rule`: RuleField.id. */
  matched(packet: Packet, rule: number): void;
}

export interface RuleParts {
  readonly sets: readonly PacketSet[];
  readonly limits: readonly Limiter[];
  readonly samples: readonly Sampler[];
  readonly watch?: RuleWatch;
}

export const NO_PARTS: RuleParts = { sets: [], limits: [], samples: [] };
