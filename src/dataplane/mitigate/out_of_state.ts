import type { OutOfStateOptions } from '../../shared/mitigation_layout.js';
import { PacketFlag, type Packet } from '../packet/packet.js';
import { IpProtocol } from '../packet/wire.js';
import { DEFAULT_CONNECTION_TIMEOUTS } from './connection_state.js';
import { Connections, LARGEST_WINDOW, TcpReason } from './connections.js';

export type { OutOfStateOptions };

export const DEFAULT_OUT_OF_STATE: OutOfStateOptions = {
  mode: 'monitor',
  adopt: 'learning',
  learningMs: 15 * 60_000,
  timeouts: DEFAULT_CONNECTION_TIMEOUTS,
  windowBytes: LARGEST_WINDOW,
};

/**
 * TCP packets that no connection accounts for: floods of ACK, RST, FIN, SYN-ACK. Only the client's side is seen (direct server return), so a
 * connection is what its client's packets say.
 */
export class OutOfState {
  readonly connections: Connections;
  private options: OutOfStateOptions;
  private isOn = false;
  private drops = false;
  private hasStarted = false;
  /** Still taking packets of unknown connections for those of older ones. */
  isLearning: boolean;
  private learnUntilMs = 0;

  // Packets by reason, also in mode `monitor`.
  unexpected = 0;
  notFound = 0;
  outOfSequence = 0;
  alreadyClosed = 0;

  /** `words`: 16 int32 a connection, all zero; a power of two of them, at least 32. */
  constructor(options: OutOfStateOptions, words: Int32Array) {
    this.connections = new Connections(words, options.timeouts, options.windowBytes);
    this.options = options;
    this.isLearning = options.adopt !== 'never';
    this.configure(options);
  }

  /** Other options for the same connections. Learning begins anew only where it had not begun, or never ended. */
  configure(options: OutOfStateOptions): void {
    const was = this.options.adopt;
    this.options = options;
    this.isOn = options.mode !== 'off';
    this.drops = options.mode === 'mitigate';
    this.connections.configure(options.timeouts, options.windowBytes);
    if (options.adopt === was) return;
    this.isLearning = options.adopt !== 'never';
    this.hasStarted = false;
  }

  /** Why to drop the packet (`TcpReason.none`: do not). Packets must be parsed and have their `flowHash`; what is not TCP passes. */
  judge(packet: Packet, nowMs: number): TcpReason {
    if (!this.isOn || packet.protocol !== IpProtocol.tcp || (packet.flags & PacketFlag.hasPorts) === 0) {
      return TcpReason.none;
    }
    if (this.isLearning) this.learn(nowMs);
    const reason = this.connections.check(packet, this.isLearning, nowMs);
    if (reason === TcpReason.none) return reason;
    this.count(reason);
    return this.drops ? reason : TcpReason.none;
  }

  private learn(nowMs: number): void {
    if (this.options.adopt === 'always') return;
    if (!this.hasStarted) {
      this.hasStarted = true;
      this.learnUntilMs = (nowMs + this.options.learningMs) | 0;
    }
    if (((nowMs - this.learnUntilMs) | 0) >= 0) this.isLearning = false;
  }

  private count(reason: TcpReason): void {
    if (reason === TcpReason.notFound) this.notFound++;
    else if (reason === TcpReason.outOfSequence) this.outOfSequence++;
    else if (reason === TcpReason.unexpected) this.unexpected++;
    else this.alreadyClosed++;
  }
}
