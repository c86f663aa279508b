/**
 * Keeps the hardware addresses of next hops known. XDP can look a neighbour up but not ask for one, and what it sends does not
 * keep an entry fresh: so the kernel is made to ask, by an empty datagram to the discard port (RFC 863).
 */
import { createSocket, type Socket } from 'node:dgram';
import type { Address } from '../../shared/config.js';
import type { HopCounts } from './decapsulator.js';

const DISCARD_PORT = 9;
/** A hop that packets go to is asked for as often as this, in ms: the kernel believes an entry for 30 s (base_reachable_time). */
const REFRESH_MS = 10_000;

interface Known {
  forwarded: number;
  unresolved: number;
  askedMs: number;
}

/** Has the kernel find out a hardware address. */
export interface Asker {
  ask(address: Address): void;
}

export class HopKeeper {
  private readonly known = new Map<string, Known>();

  constructor(private readonly asker: Asker) {}

  /**
   * Looks at the counts and asks for hops that packets wait for, or that are in use and were not asked for lately. Cheap
   * without such: call it several times a second. `nowMs` is a monotonic clock.
   */
  look(hops: readonly HopCounts[], nowMs: number): void {
    for (const { address, forwarded, unresolved } of hops) {
      const before = this.known.get(address.text) ?? { forwarded: 0, unresolved: 0, askedMs: -Infinity };
      const wanted = unresolved > before.unresolved;
      const inUse = forwarded > before.forwarded && nowMs - before.askedMs >= REFRESH_MS;
      if (wanted || inUse) {
        this.asker.ask(address);
        this.known.set(address.text, { forwarded, unresolved, askedMs: nowMs });
      }
    }
    // The kernel's map forgets what is not used; so do we.
    if (this.known.size > 2 * hops.length + 64) {
      const present = new Set(hops.map(({ address }) => address.text));
      for (const text of this.known.keys()) if (!present.has(text)) this.known.delete(text);
    }
  }
}

/** Asks by a datagram that nobody reads. */
export class DatagramAsker implements Asker {
  private readonly sockets = new Map<4 | 6, Socket>();

  ask({ family, text }: Address): void {
    let socket = this.sockets.get(family);
    if (!socket) {
      socket = createSocket(family === 4 ? 'udp4' : 'udp6');
      // "Port unreachable" comes back: an answer is all that was wanted.
      socket.on('error', () => undefined);
      socket.unref();
      this.sockets.set(family, socket);
    }
    // No route: the program counts that itself.
    socket.send(new Uint8Array(0), DISCARD_PORT, text, () => undefined);
  }

  close(): void {
    for (const socket of this.sockets.values()) socket.close();
    this.sockets.clear();
  }
}
