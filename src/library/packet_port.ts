import { setImmediate as turn } from 'node:timers/promises';
import { repairChecksum } from '../dataplane/packet/checksum.js';
import type { Packet } from '../dataplane/packet/packet.js';
import { parse } from '../dataplane/packet/parse.js';
import { BurstHeader } from '../dataplane/port.js';
import type { XskPort } from '../dataplane/ports/xsk.js';
import { DropReason, Verdict } from '../dataplane/verdict.js';
import { SluiceError } from '../errors.js';
import { native, type FrameCounts, type Tap, type Umem, type XskStatistics } from '../native.js';
import { Tally, type PortTotals } from './totals.js';

/** Longest time that `run` keeps the event loop waiting, ms. */
const TURN_MS = 20;

/** Polls at most, before a turn of the event loop, until one has no packets: what was judged leaves with the next poll, and not behind that turn. */
const LAST_POLLS = 4;

/** How often sockets are asked whether their interface is still there, ms. */
const HEALTH_MS = 100;

/** How long `close` waits for what is being sent, ms a queue. */
const DRAIN_MS = 50;

/** A policy's errors are reported at most this often, ms. */
const WARN_MS = 1000;

/** Judges one packet: what is to become of it. Called for each, so: no allocation, no clock, no I/O. */
export type Policy = (packet: Packet) => Verdict;

/** One served queue. */
export interface QueueInfo {
  readonly interface: string;
  readonly ifindex: number;
  readonly queue: number;
  /** False where the kernel copies each packet. */
  readonly zeroCopy: boolean;
}

/** A socket and what belongs to it. */
export interface OpenQueue {
  port: XskPort;
  /** Position of its interface in openPort's list. */
  position: number;
  repair: boolean;
  /** By position of the interface to leave by: the socket's number. */
  routes: Int32Array;
  /** By slot of the burst; the same one in all where packets are not parsed. */
  packets: readonly Packet[];
}

/** What `openPort` opened, in the port's hands from now on. */
export interface PortParts {
  umem: Umem;
  queues: OpenQueue[];
  taps: Tap[];
  /** Takes the programs off that openPort attached. */
  detach: () => void;
  /** False: packets' headers are not read. */
  parse: boolean;
  onAbort: ((error: unknown, packet: Packet) => void) | null;
}

/**
 * One or more interfaces, their queues, and the bursts that come from them. Belongs to the thread that opened it.
 *
 * A burst is valid until the next poll: keep no Packet, and nothing of its bytes that is not copied, any longer.
 */
export class PacketPort implements Disposable {
  private readonly tally = new Tally();
  private readonly info: readonly QueueInfo[];
  private isOpen = true;
  private polling = false;
  /** Slot of the packet whose policy failed last. */
  private failedAt = 0;
  private lost: string | null = null;
  private lastHealthMs = 0;
  private lastWarnMs = -Infinity;
  private lastFrames: FrameCounts;

  /** Use `openPort`. */
  constructor(private readonly parts: PortParts) {
    this.lastFrames = parts.umem.counts();
    this.info = parts.queues.map(({ port }) => ({
      interface: port.name,
      ifindex: port.ifindex,
      queue: port.queue,
      zeroCopy: port.socket.zeroCopy,
    }));
    this.lastHealthMs = this.nowMs;
  }

  /**
   * Takes one burst from each queue and asks `policy` for each packet's verdict; returns the number of packets. When there is
   * nothing, waits up to `timeoutMs` milliseconds, blocking the thread, and looks once more.
   *
   * `packet.port` is the position of its interface in openPort's list; for Verdict.Redirect set `packet.target` to another such
   * position. Malformed packets come too, with the reason in `packet.malformed`. Verdicts take effect with the next poll or
   * `close`, whichever comes first.
   *
   * @throws SluiceError SLUICE_STATE after close, or from within a policy; SLUICE_DEVICE once an interface was deleted,
   *   within about 100 ms; whatever `onAbort` throws
   */
  poll(policy: Policy, timeoutMs = 0): number {
    if (!this.isOpen) throw closed();
    if (this.polling) throw new SluiceError('SLUICE_STATE', 'a policy cannot poll the port that asks it');
    if (((this.nowMs - this.lastHealthMs) | 0) >= HEALTH_MS) this.checkHealth(this.nowMs);
    if (this.lost !== null) throw gone(this.lost);
    const packets = this.pollQueues(policy);
    if (packets > 0 || !(timeoutMs > 0) || !this.isOpen) return packets;
    return this.sleep(timeoutMs) ? this.pollQueues(policy) : 0;
  }

  /** True when something arrived; false after the time, or a signal, which the event loop should get to see. */
  private sleep(timeoutMs: number): boolean {
    const { nowMs } = native();
    for (let left = timeoutMs, before = nowMs(); left > 0;) {
      // A deleted interface wakes nobody.
      const slice = Math.ceil(Math.min(left, HEALTH_MS));
      if (this.parts.umem.wait(slice) > 0) return true;
      const now = nowMs();
      const slept = (now - before) | 0;
      this.checkHealth(now);
      if (slept < slice - 1) return false;
      left -= slept;
      before = now;
    }
    return false;
  }

  private checkHealth(nowMs: number): void {
    this.lastHealthMs = nowMs;
    this.lost ??= this.parts.queues.find(({ port }) => port.socket.error() !== 0)?.port.name ?? null;
    if (this.lost !== null) throw gone(this.lost);
  }

  private pollQueues(policy: Policy): number {
    const queues = this.parts.queues;
    let packets = 0;
    this.polling = true;
    try {
      for (let i = 0; i < queues.length; i++) packets += this.pollQueue(queues[i], policy);
    } finally {
      this.polling = false;
      // The policy said close().
      if (!this.isOpen) this.release();
    }
    return packets;
  }

  private pollQueue(queue: OpenQueue, policy: Policy): number {
    const count = queue.port.exchange();
    if (count === 0) return 0;
    this.tally.rx += count;
    this.tally.rxBytes += this.parts.parse ? read(queue, count) : sum(queue.port.burst.length, count);
    let next = 0;
    try {
      while (next < count) next = this.judgeFrom(next, queue, policy, count);
    } catch (error) {
      // Thrown by onAbort: the rest of the burst is dropped, which is its preset verdict.
      this.tally.aborted += count - this.failedAt - 1;
      throw error;
    }
    return count;
  }

  /** Returns the position to go on from: behind a packet whose policy failed, else `count`. */
  private judgeFrom(first: number, queue: OpenQueue, policy: Policy, count: number): number {
    const { packets, routes, position } = queue;
    const { offset, length, verdict, target } = queue.port.burst;
    const tally = this.tally;
    // One object for all packets then, pointed at one after the other: the others would only take the place of what the kernel needs next out of the cache.
    const placed = this.parts.parse;
    let i = first;
    let failure: unknown;
    try {
      for (; i < count; i++) {
        const packet = packets[i];
        if (!placed) {
          packet.place(offset[i], length[i]);
          packet.target = position;
        }
        const said = policy(packet);
        if (said === Verdict.Drop) tally.dropped++;
        else if (said === Verdict.Pass) tally.passed++;
        else if (said === Verdict.Tx) tally.tx++;
        else if (said === Verdict.Redirect) {
          tally.redirected++;
          // No such interface: −1, which native code refuses and counts.
          target[i] = packet.target >>> 0 < routes.length ? routes[packet.target] : -1;
        } else if (said === Verdict.Aborted) tally.aborted++;
        else throw noVerdict(said);
        verdict[i] = said;
        offset[i] = packet.data;
        length[i] = packet.dataEnd - packet.data;
      }
      return count;
    } catch (error) {
      failure = error;
    }
    verdict[i] = Verdict.Aborted;
    tally.aborted++;
    this.failedAt = i;
    this.report(failure, packets[i]);
    return i + 1;
  }

  private report(error: unknown, packet: Packet): void {
    if (this.parts.onAbort) return this.parts.onAbort(error, packet);
    const now = performance.now();
    if (now - this.lastWarnMs < WARN_MS) return;
    this.lastWarnMs = now;
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.emitWarning(`a policy failed, the packet is dropped: ${text}`, { code: 'SLUICE_POLICY' });
  }

  /**
   * Polls until `signal` is aborted or the port is closed; resolves then. Lets the event loop turn every 20 ms, so timers and
   * sockets of the same thread go on, with up to that delay. Rejects with what `poll` throws.
   */
  async run(policy: Policy, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    if (!this.isOpen) throw closed();
    while (this.isOpen && !signal?.aborted) {
      this.pollFor(policy, TURN_MS);
      await turn();
    }
  }

  /** For so long, or until there was nothing for as long. */
  private pollFor(policy: Policy, ms: number): void {
    const started = native().nowMs();
    let packets: number;
    do packets = this.poll(policy, ms);
    while (this.isOpen && packets > 0 && ((this.nowMs - started) | 0) < ms);
    for (let i = 0; i < LAST_POLLS && this.isOpen && packets > 0; i++) packets = this.poll(policy);
  }

  /** The served queues. */
  get queues(): readonly QueueInfo[] {
    return this.info;
  }

  get closed(): boolean {
    return !this.isOpen;
  }

  /** Monotonic clock in ms of the latest poll, wrapping int32: compare by `(a - b) | 0`. Costs nothing, unlike any other clock. */
  get nowMs(): number {
    return this.parts.queues[0]?.port.burst.header[BurstHeader.nowMs] ?? 0;
  }

  /** Works after close, too: the totals at its end. */
  totals(): PortTotals {
    return this.tally.totals(
      this.parts.queues.map(({ port }) => ({
        counters: port.counters,
        statistics: () => port.socket.statistics(),
      })),
    );
  }

  /** Frames of packet memory by owner; they add up to `total` at any time. After close: as they were then. */
  frames(): FrameCounts {
    return this.isOpen ? this.parts.umem.counts() : this.lastFrames;
  }

  /** The kernel's own statistics (XDP_STATISTICS) of each queue, in the order of `queues`. @throws SluiceError after close */
  kernelStatistics(): XskStatistics[] {
    if (!this.isOpen) throw closed();
    return this.parts.queues.map(({ port }) => port.socket.statistics());
  }

  /**
   * Detaches the programs that openPort attached, carries out the last verdicts, closes the sockets, frees the memory.
   * Idempotent. From within a policy it takes effect at the end of the poll.
   */
  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    if (!this.polling) this.release();
  }

  private release(): void {
    const { umem, queues, taps, detach } = this.parts;
    detach();
    // The last verdicts. What comes in with that nobody has seen, and nobody will.
    for (const { port } of queues) this.tally.skip(port.exchange());
    this.lastFrames = umem.counts();
    for (const { port } of queues) this.tally.keep(port.counters, port.socket.statistics());
    for (const { port } of queues.splice(0)) port.socket.close(DRAIN_MS);
    for (const tap of taps.splice(0)) tap.close();
    umem.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Points the queue's packets at its burst, finds their headers, completes their checksums where wanted. Returns their bytes. */
function read({ port, packets, position, repair }: OpenQueue, count: number): number {
  const { offset, length } = port.burst;
  let bytes = 0;
  for (let i = 0; i < count; i++) {
    const packet = packets[i];
    packet.place(offset[i], length[i]);
    packet.target = position;
    bytes += length[i];
    if (parse(packet) === DropReason.none && repair) repairChecksum(packet);
  }
  return bytes;
}

function sum(values: Int32Array, count: number): number {
  let total = 0;
  for (let i = 0; i < count; i++) total += values[i];
  return total;
}

function noVerdict(said: unknown): TypeError {
  const what = said instanceof Promise ? 'a Promise: it must answer at once' : `${String(said)}, which is no Verdict`;
  return new TypeError(`the policy returned ${what}`);
}

function closed(): SluiceError {
  return new SluiceError('SLUICE_STATE', 'the port is closed');
}

function gone(name: string): SluiceError {
  return new SluiceError(
    'SLUICE_DEVICE',
    `interface ${name} was deleted while its port was open`,
    'Close the port, and open it again when the interface is back.',
  );
}
