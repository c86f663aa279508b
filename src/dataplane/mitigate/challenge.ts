import type { ChallengeOptions } from '../../shared/mitigation_layout.js';
import { TokenBucket } from '../balance/token_bucket.js';
import { FlowHash } from '../balance/hash.js';
import { PacketFlag, type Packet } from '../packet/packet.js';
import { IpProtocol, TcpFlag } from '../packet/wire.js';
import { AuthenticatedTable } from './authenticated.js';
import { isAnswerable, writeChallenge } from './challenge_answer.js';
import { ChallengeCookie, deriveKey } from './challenge_cookie.js';
import { SynRates } from './syn_rates.js';

export const enum ChallengeVerdict {
  /** No SYN and no answer, or a SYN of somebody who has answered: goes on. */
  Continue = 0,
  /** The packet is now the challenge: out of the interface it came in on. */
  Tx = 1,
  /** The RST that answered a challenge: has done its work (DropReason challenge_answer). */
  DropAnswer = 2,
  /** A SYN above the budget of challenges (DropReason challenge). */
  DropLimited = 3,
  /** A SYN that would have to be challenged and cannot: fragment, IP options, no host's address (DropReason challenge_needed). */
  DropNeeded = 4,
}

export type { ChallengeOptions };

export const DEFAULT_CHALLENGE: ChallengeOptions = {
  mode: 'auto',
  scope: 'address',
  connections: 16,
  lifetimeMs: 60_000,
  slots: 1 << 16,
  maxPerSecond: 1_000_000,
  startRate: 2000,
  stopRate: 500,
  holdMs: 10_000,
};

/** SYNs that an answer lets pass in scope `connection`: the one that follows, and that sent again when it or its answer is lost. */
const CONNECTION_CREDIT = 3;

/** Kinds of key in the table. */
const enum Key {
  ipv4 = 4,
  ipv6 = 6,
  connection = 8,
}

/**
 * SYN authentication that needs nothing of the backend and of no state for a flood: the SYN of an unknown source gets an ACK with a wrong
 * acknowledgement number, a cookie. A client that has sent this SYN answers with an RST that has the cookie as its sequence number (RFC 9293
 * §3.10.7.3), which shows that it is where it says, and sends its SYN again, which passes. So client and backend make their
 * handshake by themselves, with all their options. docs/mitigation-tcp.md has what that holds off and what it does not.
 *
 * Only the side from the client is seen. Packets must be parsed; `judge` looks at TCP and lets all else go on.
 */
export class SynChallenge {
  readonly cookie: ChallengeCookie;
  private readonly authenticated: AuthenticatedTable;
  private readonly rates: SynRates;
  private readonly budget: TokenBucket;
  private readonly hash0: FlowHash;
  private readonly hash1: FlowHash;
  private readonly isOn: boolean;
  private readonly isAuto: boolean;
  private readonly byConnection: boolean;
  // Key of the packet in hand.
  private kind = 0;
  private word0 = 0;
  private word1 = 0;

  /** Challenges sent. */
  challenges = 0;
  /** Right answers. */
  passed = 0;
  /** RSTs that were looked at and answer no challenge: those that end connections are among them. */
  failed = 0;
  /** SYNs above the budget. */
  limited = 0;
  /** SYNs that needed a challenge and could not have one. */
  unanswerable = 0;
  /** SYNs that passed because of an answer. */
  admitted = 0;

  /** `keyWords`: four int32, the same on all nodes and workers that may see packets of one client. */
  constructor(options: ChallengeOptions, keyWords: readonly number[]) {
    this.isOn = options.mode !== 'off';
    this.isAuto = options.mode === 'auto';
    this.byConnection = options.scope === 'connection';
    this.cookie = new ChallengeCookie(keyWords);
    const credit = this.byConnection ? CONNECTION_CREDIT : options.connections;
    this.authenticated = new AuthenticatedTable(
      options.slots,
      hashKey(keyWords, 'sources'),
      options.lifetimeMs,
      credit,
    );
    this.rates = new SynRates(hashKey(keyWords, 'rates'), options.startRate, options.stopRate, options.holdMs);
    this.budget = new TokenBucket(options.maxPerSecond);
    this.hash0 = new FlowHash(hashKey(keyWords, 'connections'));
    this.hash1 = new FlowHash(hashKey(keyWords, 'connections, second half'));
  }

  /** Says which wall clock time, ms, `nowMs` is, so that nodes take each other's cookies; again every few minutes. */
  setClock(nowMs: number, wallMs: number): void {
    this.cookie.setClock(nowMs, wallMs);
  }

  /** Mode `auto`: destinations whose SYNs are challenged now; `always`: 1. Looks at all of the table of rates. */
  active(nowMs: number): number {
    if (this.isAuto) return this.rates.active(nowMs);
    return this.isOn ? 1 : 0;
  }

  /** `demanded`: a rule wants this packet challenged if it is a SYN, whatever the mode. */
  judge(packet: Packet, nowMs: number, demanded = false): ChallengeVerdict {
    if (packet.protocol !== IpProtocol.tcp || (packet.flags & PacketFlag.hasPorts) === 0) {
      return ChallengeVerdict.Continue;
    }
    const flags = packet.tcpFlags & (TcpFlag.syn | TcpFlag.rst | TcpFlag.ack | TcpFlag.fin);
    if (flags === TcpFlag.syn) return this.syn(packet, nowMs, demanded);
    // In mode `off` there are answers only if rules had SYNs challenged.
    if (!this.isOn && this.challenges === 0) return ChallengeVerdict.Continue;
    if ((flags & (TcpFlag.rst | TcpFlag.syn | TcpFlag.fin)) === TcpFlag.rst) return this.reset(packet, nowMs);
    return ChallengeVerdict.Continue;
  }

  private syn(packet: Packet, nowMs: number, demanded: boolean): ChallengeVerdict {
    const isWanted = this.isAuto ? this.rates.note(packet, nowMs) : this.isOn;
    if (!isWanted && !demanded) return ChallengeVerdict.Continue;
    this.key(packet);
    if (this.authenticated.take(this.kind, this.word0, this.word1, nowMs)) {
      this.admitted++;
      return ChallengeVerdict.Continue;
    }
    if (!isAnswerable(packet)) {
      this.unanswerable++;
      return ChallengeVerdict.DropNeeded;
    }
    if (!this.budget.take(nowMs)) {
      this.limited++;
      return ChallengeVerdict.DropLimited;
    }
    writeChallenge(packet, this.cookie.make(packet, nowMs));
    this.challenges++;
    return ChallengeVerdict.Tx;
  }

  private reset(packet: Packet, nowMs: number): ChallengeVerdict {
    if (!this.cookie.isValid(packet, packet.view.getInt32(packet.l4 + 4), nowMs)) {
      this.failed++;
      return ChallengeVerdict.Continue;
    }
    this.key(packet);
    this.authenticated.add(this.kind, this.word0, this.word1, nowMs);
    this.passed++;
    return ChallengeVerdict.DropAnswer;
  }

  /**
   * Key of the packet's sender: its IPv4 address, or the /64 of its IPv6 address, which one host fills at will; or its connection.
   * Not the destination: that an address is real is true of all services.
   */
  private key(packet: Packet): void {
    if (this.byConnection) {
      this.kind = Key.connection;
      this.word0 = connectionHash(this.hash0, packet);
      this.word1 = connectionHash(this.hash1, packet);
      return;
    }
    this.kind = packet.family === 4 ? Key.ipv4 : Key.ipv6;
    this.word0 = packet.src0;
    this.word1 = packet.src1;
  }
}

function connectionHash(hash: FlowHash, packet: Packet): number {
  if (packet.family === 4) return hash.ipv4(packet.src0, packet.dst0, packet.ports, 4);
  const { src0, src1, src2, src3, dst0, dst1, dst2, dst3 } = packet;
  return hash.ipv6(src0, src1, src2, src3, dst0, dst1, dst2, dst3, packet.ports, 6);
}

function hashKey(keyWords: readonly number[], purpose: string): number[] {
  return [...new Int32Array(deriveKey(keyWords, `sluice SYN challenge ${purpose}`).buffer)];
}
