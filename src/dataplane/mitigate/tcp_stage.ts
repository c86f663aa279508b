import type { TcpStage } from '../filter/mitigation.js';
import type { ServiceTable } from '../balance/service_table.js';
import { PacketFlag, type Packet } from '../packet/packet.js';
import { IpProtocol, TcpFlag } from '../packet/wire.js';
import type { SynChallenge } from './challenge.js';
import { ConnectionEvent } from './connections.js';
import type { OutOfState } from './out_of_state.js';
import { afterChallenge, TcpVerdict } from './tcp_guard.js';
import type { TrackedLimits } from './tracked_limits.js';

/**
 * SYN challenges and out-of-state TCP as a stage of the chain: for packets to services only, since the host's own connections have answers that no
 * client sends. Order as in TcpGuard.
 */
export class ServiceTcp implements TcpStage {
  readonly tracks: boolean;
  /** ConnectionEvent of the packet judged last: open until a limit, or `takeBack`, has its word. */
  private event: ConnectionEvent = ConnectionEvent.none;

  constructor(
    private readonly challenge: SynChallenge | null,
    private readonly outOfState: OutOfState | null,
    private readonly limits: TrackedLimits,
    private readonly services: ServiceTable,
  ) {
    this.tracks = outOfState !== null;
  }

  prefetch(packets: readonly Packet[], count: number): void {
    if (this.outOfState !== null) this.outOfState.connections.table.prefetch(packets, count);
  }

  judge(packet: Packet, nowMs: number, challenged: boolean): number {
    this.event = ConnectionEvent.none;
    if (packet.protocol !== IpProtocol.tcp || (packet.flags & PacketFlag.hasPorts) === 0) return TcpVerdict.Continue;
    if (!this.tracks && (packet.tcpFlags & (TcpFlag.syn | TcpFlag.rst)) === 0) return TcpVerdict.Continue;
    if (!this.isForService(packet)) return TcpVerdict.Continue;
    if (this.challenge !== null) {
      const said = afterChallenge(this.challenge.judge(packet, nowMs, challenged));
      if (said !== TcpVerdict.Continue) return said;
    }
    return this.outOfState === null ? TcpVerdict.Continue : this.track(packet, nowMs, this.outOfState);
  }

  /** The packet that `judge` let through goes no further: a connection that it opened is none. */
  takeBack(packet: Packet): void {
    if (this.event !== ConnectionEvent.open || this.outOfState === null) return;
    this.event = ConnectionEvent.none;
    this.outOfState.connections.undo(packet);
  }

  /** Counts the connection that the packet opened, if it did. False: it is one too many for a limit, and is taken back. */
  admit(packet: Packet): boolean {
    if (this.event !== ConnectionEvent.open) return true;
    // A connection that is older than the table is there, whatever the limit says.
    const opens = (packet.tcpFlags & TcpFlag.syn) !== 0;
    if (this.limits.open(packet, !opens)) return true;
    this.takeBack(packet);
    return !opens;
  }

  private track(packet: Packet, nowMs: number, outOfState: OutOfState): number {
    const verdict = outOfState.judge(packet, nowMs);
    const connections = outOfState.connections;
    this.event = connections.event;
    if (this.limits.empty) return verdict;
    if (connections.event === ConnectionEvent.close) this.limits.close(packet);
    if (connections.evicted) this.limits.closeEvicted(connections);
    return verdict;
  }

  private isForService(packet: Packet): boolean {
    const port = packet.ports & 0xffff;
    if (packet.family === 4) return this.services.find4(packet.dst0, IpProtocol.tcp, port) >= 0;
    const { dst0, dst1, dst2, dst3 } = packet;
    return this.services.find6(dst0, dst1, dst2, dst3, IpProtocol.tcp, port) >= 0;
  }
}
