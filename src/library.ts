/**
 * sluice as a library: open a port, judge packets. Everything is in the calling thread; for one thread a queue, open one queue
 * in each worker thread.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { SluiceError } from './errors.js';
import { native, type FrameCounts, type Tap, type Umem, type XskStatistics } from './native.js';
import type { XdpMode } from './shared/config.js';
import { PortCounter } from './shared/layout.js';
import { ManagedInterface } from './control/manager/managed_interface.js';
import { Packet } from './dataplane/packet/packet.js';
import { parse } from './dataplane/packet/parse.js';
import { BurstHeader } from './dataplane/port.js';
import { XskPort } from './dataplane/ports/xsk.js';
import { Verdict } from './dataplane/verdict.js';

/** Longest time that `run` keeps the event loop waiting, ms. */
const TURN_MS = 20;

/** Judges one packet of a burst; see `PacketPort.poll`. */
export type Policy = (packet: Packet) => Verdict;

export interface OpenPortOptions {
  /** Interface name, or several that share packet memory, so that packets can be redirected between them. */
  interface: string | readonly string[];
  /** RX queues to serve; default all. */
  queues?: 'all' | readonly number[];
  /** How to attach and bind; default 'auto': zero-copy, then copy, then generic XDP. */
  mode?: XdpMode;
  /** Frames of packet memory; default 4096 for each queue. */
  frames?: number;
  /** Bytes a frame: 2048 (default) takes packets up to 1792 bytes, 4096 up to 3840. */
  frameSize?: 2048 | 4096;
  /** Descriptors in each ring; default 2048. */
  ring?: number;
  /** Largest burst, packets; default 64. */
  burst?: number;
  /** Where Verdict.Pass goes: the host's stack through a TAP device (true), or nowhere, counted (false, default). */
  hostPath?: boolean;
}

/** Totals since the port was opened, summed over its queues. Packets, unless the name says otherwise. */
export interface PortTotals {
  rx: number;
  rxBytes: number;
  tx: number;
  txBytes: number;
  dropped: number;
  passed: number;
  /** A policy threw, or returned something that is no verdict. */
  aborted: number;
}

/**
 * Attaches the redirect program to each interface, opens an AF_XDP socket on each queue, and hands every IP packet to user
 * space. ARP and neighbour discovery stay with the host. The kernel undoes all of it when the process ends.
 *
 * @throws SluiceError or a kernel error with `code`, `syscall` and `remedy`; nothing is left behind then
 */
export async function openPort(options: OpenPortOptions): Promise<PacketPort> {
  const names = typeof options.interface === 'string' ? [options.interface] : [...options.interface];
  if (names.length === 0) throw new SluiceError('SLUICE_USAGE', 'openPort needs at least one interface');
  const port = new PacketPort();
  try {
    await port.open(names, options);
  } catch (error) {
    port.close();
    throw error;
  }
  return port;
}

/** What `openPort` gives: one or more interfaces, their queues, and the bursts that come from them. */
export class PacketPort implements Disposable {
  private umem: Umem | null = null;
  private readonly interfaces: ManagedInterface[] = [];
  private readonly taps: Tap[] = [];
  private readonly ports: XskPort[] = [];
  /** By socket: the position of its interface. */
  private readonly interfaceOf: number[] = [];
  private readonly packets: Packet[] = [];
  private aborted = 0;
  private lastError: unknown = null;

  /** Called by `openPort`. */
  async open(names: readonly string[], options: OpenPortOptions): Promise<void> {
    for (const [index, name] of names.entries()) {
      const entry = new ManagedInterface(
        {
          name,
          queues: options.queues === undefined || options.queues === 'all' ? 'all' : [...options.queues],
          mode: options.mode ?? 'auto',
          poll: 'interrupt',
          checksum: 'trust',
          fallback: 'pass',
          redirect: 'all',
          hostPath: options.hostPath ?? false,
        },
        index,
        [],
      );
      this.interfaces.push(entry);
      await entry.attach();
    }
    const sockets = this.interfaces.reduce((sum, entry) => sum + entry.queues.length, 0);
    const chunkSize = options.frameSize ?? 2048;
    this.umem = new (native().Umem)({ frameCount: options.frames ?? 4096 * sockets, chunkSize });
    const view = new DataView(this.umem.buffer);
    for (let i = 0; i < (options.burst ?? 64); i++) this.packets.push(new Packet(view, chunkSize));
    for (const entry of this.interfaces) this.openQueues(entry, this.umem, options);
  }

  private openQueues(entry: ManagedInterface, umem: Umem, options: OpenPortOptions): void {
    const ring = options.ring ?? 2048;
    for (const queue of entry.queues) {
      const spec = entry.portSpec(queue, ring);
      const port = new XskPort(umem, {
        interface: entry.name,
        queue,
        index: this.ports.length,
        mode: spec.mode,
        rxSize: ring,
        txSize: ring,
        fillSize: ring,
        completionSize: ring,
        burst: options.burst ?? 64,
      });
      this.ports.push(port);
      this.interfaceOf.push(entry.index);
      if (spec.tap !== null) {
        const tap = new (native().Tap)({ name: spec.tap });
        this.taps.push(tap);
        port.setTap(tap);
      }
      port.exchange();
      entry.bindSocket(queue, port.socket.fd, port.socket.zeroCopy);
    }
  }

  /**
   * Takes one burst from each queue and asks `policy` for each packet's verdict. `packet.port` is the position of the interface in
   * `openPort`'s list; for Verdict.Redirect set `packet.target` likewise. Malformed packets come too, with their reason
   * in `packet.malformed`. Sleeps up to `timeoutMs` when there is nothing. Returns the number of packets. Verdicts take
   * effect with the next call, which is also the end of the packets' validity.
   */
  poll(policy: Policy, timeoutMs = 0): number {
    let packets = 0;
    for (let i = 0; i < this.ports.length; i++) packets += this.pollPort(this.ports[i], policy);
    if (packets === 0 && timeoutMs > 0) this.opened().wait(timeoutMs);
    return packets;
  }

  private pollPort(port: XskPort, policy: Policy): number {
    const count = port.exchange();
    const { offset, length, verdict, target } = port.burst;
    const inInterface = this.interfaceOf[port.index];
    for (let i = 0; i < count; i++) {
      const packet = this.packets[i];
      packet.place(offset[i], length[i]);
      packet.ifindex = port.ifindex;
      packet.queue = port.queue;
      packet.port = inInterface;
      packet.target = inInterface;
      parse(packet);
      verdict[i] = this.judge(policy, packet);
      offset[i] = packet.data;
      length[i] = packet.dataEnd - packet.data;
      if (verdict[i] === Verdict.Redirect) target[i] = this.socketFor(packet.target, port.queue);
    }
    return count;
  }

  private judge(policy: Policy, packet: Packet): Verdict {
    try {
      return policy(packet);
    } catch (error) {
      this.aborted++;
      this.lastError = error;
      return Verdict.Aborted;
    }
  }

  /** The same queue of the other interface, or its first when it has fewer. −1, which the port refuses, for an interface that is none. */
  private socketFor(target: number, queue: number): number {
    let first = -1;
    for (let i = 0; i < this.ports.length; i++) {
      if (this.interfaceOf[i] !== target) continue;
      if (this.ports[i].queue === queue) return i;
      if (first < 0) first = i;
    }
    return first;
  }

  /** Polls until `signal` is aborted or the port is closed, and lets the event loop turn in between. */
  async run(policy: Policy, signal?: AbortSignal): Promise<void> {
    while (!signal?.aborted && this.umem) {
      const until = performance.now() + TURN_MS;
      do this.poll(policy, TURN_MS);
      while (performance.now() < until);
      await turn();
    }
  }

  /** Milliseconds of the burst in hand on a monotonic clock, wrapping int32. */
  get nowMs(): number {
    return this.ports[0]?.burst.header[BurstHeader.nowMs] ?? 0;
  }

  /** What the policy threw last, null when it never did. */
  get policyError(): unknown {
    return this.lastError;
  }

  totals(): PortTotals {
    const totals = { rx: 0, rxBytes: 0, tx: 0, txBytes: 0, dropped: 0, passed: 0, aborted: this.aborted };
    for (const { counters } of this.ports) {
      totals.rx += counters[PortCounter.rxPackets];
      totals.rxBytes += counters[PortCounter.rxBytes];
      totals.tx += counters[PortCounter.txPackets];
      totals.txBytes += counters[PortCounter.txBytes];
      totals.passed += counters[PortCounter.passPackets];
      totals.dropped += counters[PortCounter.dropped];
    }
    return totals;
  }

  /** Frames by owner; they add up to `total` at any time. */
  frames(): FrameCounts {
    return this.opened().counts();
  }

  /** The kernel's own statistics by socket, in the order of interfaces and queues. */
  kernelStatistics(): XskStatistics[] {
    return this.ports.map((port) => port.socket.statistics());
  }

  private opened(): Umem {
    if (!this.umem) throw new SluiceError('SLUICE_STATE', 'the port is closed');
    return this.umem;
  }

  /** Detaches the programs, closes the sockets, frees the memory. Idempotent. */
  close(): void {
    for (const entry of this.interfaces.splice(0)) entry.detach();
    for (const port of this.ports.splice(0)) port.close();
    for (const tap of this.taps.splice(0)) tap.close();
    this.interfaceOf.length = 0;
    this.umem?.close();
    this.umem = null;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
