import type { Packet } from '../packet/packet.js';
import { DropReason } from '../verdict.js';
import { ChallengeVerdict, type SynChallenge } from './challenge.js';
import type { OutOfState } from './out_of_state.js';

/** What becomes of a packet: go on, send it back as it is now, or a DropReason's number. */
export const enum TcpVerdict {
  Continue = 0,
  /** The packet is now a SYN challenge: Verdict.Tx. */
  Tx = -1,
  // Drop reasons
  challenge = DropReason.challenge,
  challengeAnswer = DropReason.challengeAnswer,
  unexpected = DropReason.tcpUnexpected,
  notFound = DropReason.tcpNotFound,
  outOfSequence = DropReason.tcpOutOfSequence,
  alreadyClosed = DropReason.tcpAlreadyClosed,
  challengeNeeded = DropReason.challengeNeeded,
}

/** What the challenge's word means for the packet. */
export function afterChallenge(verdict: ChallengeVerdict): TcpVerdict {
  switch (verdict) {
    case ChallengeVerdict.Continue:
      return TcpVerdict.Continue;
    case ChallengeVerdict.Tx:
      return TcpVerdict.Tx;
    case ChallengeVerdict.DropAnswer:
      return TcpVerdict.challengeAnswer;
    case ChallengeVerdict.DropLimited:
      return TcpVerdict.challenge;
    case ChallengeVerdict.DropNeeded:
      return TcpVerdict.challengeNeeded;
  }
}

/**
 * The two TCP stages in the order that keeps each from spoiling the other: a SYN that is challenged leaves no connection behind, and the RST
 * that answers a challenge is no packet of an unknown connection.
 */
export class TcpGuard {
  constructor(
    readonly challenge: SynChallenge,
    readonly outOfState: OutOfState,
  ) {}

  /** Packets must be parsed and have their `flowHash`. `challenged`: a rule wants this SYN challenged, whatever the stage thinks of its destination. */
  judge(packet: Packet, nowMs: number, challenged = false): TcpVerdict {
    const said = afterChallenge(this.challenge.judge(packet, nowMs, challenged));
    return said !== TcpVerdict.Continue ? said : (this.outOfState.judge(packet, nowMs) as number as TcpVerdict);
  }
}
