/** The stages of mitigation around the rules, as the chain sees them. */
import type { Packet } from '../packet/packet.js';
import type { PlainPrefixes, PlainStages } from './plain_stages.js';
import type { Limiter } from './rule_parts.js';

/** What a stage says that is no DropReason. */
export const enum StageVerdict {
  Continue = 0,
  /** The packet is now an answer to its sender: out of the interface it came in on. */
  Tx = -1,
}

export interface MitigationStage {
  /** A StageVerdict, or the DropReason of a packet to drop. `nowMs`: monotonic, wrapping int32. */
  judge(packet: Packet, nowMs: number): number;
}

export interface TcpStage {
  /** As MitigationStage.judge. `challenged`: a rule wants this SYN challenged, whatever the stage thinks of its destination. */
  judge(packet: Packet, nowMs: number, challenged: boolean): number;
  /** It looks at every packet of a connection, not only at SYN and RST. */
  readonly tracks: boolean;
  /** A later stage drops the packet that `judge` let through last. */
  takeBack(packet: Packet): void;
  /** Before the first of a burst's packets is judged. All must have their `flowHash`. */
  prefetch(packets: readonly Packet[], count: number): void;
}

export interface AllowStage {
  has(packet: Packet): boolean;
  /** It counts whom it has. */
  readonly counts: boolean;
  /** Prefixes on the list, which count nothing; null: none. */
  readonly prefixes: PlainPrefixes | null;
}

/**
 * Stages in the order in which a packet meets them; null: not there. `allow` comes before the whole chain, the others stand where the config has the
 * rules: `sets` before them, the rest behind.
 */
export interface Mitigation {
  /** A packet that is in it skips the sanity checks, the rules and all stages here. User modules still see it. */
  readonly allow: AllowStage | null;
  readonly sets: MitigationStage | null;
  /** Out-of-state packets and SYN challenges. */
  readonly tcp: TcpStage | null;
  readonly fairShare: Limiter | null;
  readonly limits: MitigationStage | null;
  /** What the short way asks in place of `allow` and `sets`; null: it cannot, if they have to see every packet. */
  readonly plain: PlainStages | null;
}

export const NO_MITIGATION: Mitigation = {
  allow: null,
  sets: null,
  tcp: null,
  fairShare: null,
  limits: null,
  plain: null,
};
