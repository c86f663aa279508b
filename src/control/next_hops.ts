/**
 * Keeps the ways to backends up to date: routes, links and neighbours, each asked for again when the kernel says that
 * something changed, and every ten seconds in any case, because a netlink listener may miss messages.
 */
import { EventEmitter } from 'node:events';
import { SluiceError } from '../errors.js';
import type { Address } from '../shared/config.js';
import { systemIp, type IpCommand, type Monitor } from './ip_command.js';
import { ASK_FAILED_EVERY_MS, NeighbourMemory } from './neighbour_memory.js';
import { Solicitor, neighbourKey, readNeighbours, type Neighbour, type NeighbourName } from './neighbours.js';
import { readLinks, readRoutes, type Link, type NextHop, type Route } from './routes.js';

export interface NextHopOptions {
  ip?: IpCommand;
  solicitor?: Solicitor;
  /** Everything is read again, and neighbours are verified, after this time; ms. Default 10,000. */
  refreshMs?: number;
  /** From an event to reading, so that a storm of events is read once; ms. Default 100. */
  debounceMs?: number;
  /**
   * How long the last known hardware address is used while the kernel resolves it again (an `ip neigh flush`, a peer that is
   * being replaced); ms. Default 5000: longer than the kernel takes to give up.
   */
  graceMs?: number;
  /** Before `ip monitor` is started again after it ended; ms. Default 1000. */
  restartMs?: number;
  /** Monotonic clock, ms. */
  now?: () => number;
}

interface NextHopEvents {
  /** The map is another one, and something in it is different. */
  change: [hops: ReadonlyMap<string, NextHop>];
  /** The kernel could not be asked; the last answers stand and it is tried again. Once for each new problem. */
  problem: [error: Error];
}

/** Until the next look at neighbours that are being resolved; ms. Events usually come sooner. */
const PENDING_MS = 500;
/** After a reading, this many times as long as it took passes before the next, however many events come; at most MAX_PAUSE_MS. */
const PAUSE_FACTOR = 4;
const MAX_PAUSE_MS = 1000;

export class NextHopResolver extends EventEmitter<NextHopEvents> {
  readonly #ip: IpCommand;
  readonly #solicitor: Solicitor;
  readonly #refreshMs: number;
  readonly #debounceMs: number;
  readonly #restartMs: number;
  readonly #now: () => number;
  readonly #memory: NeighbourMemory;

  #addresses: readonly Address[] = [];
  #hops: ReadonlyMap<string, NextHop> = new Map();
  #links: ReadonlyMap<string, Link> = new Map();
  #routes: readonly Route[] = [];
  /** Routes and links have to be read again. */
  #stale = true;
  #refreshedMs = -Infinity;
  /** Addresses of the neighbours in use: which events matter. */
  #watched: ReadonlySet<string> = new Set();

  #monitor: Monitor | null = null;
  #monitorText = '';
  #restartTimer: NodeJS.Timeout | null = null;
  #timer: NodeJS.Timeout | null = null;
  #timerDueMs = 0;
  #reading = false;
  #notBeforeMs = -Infinity;
  #problem = '';
  #closed = false;

  constructor(options: NextHopOptions = {}) {
    super();
    this.#ip = options.ip ?? systemIp();
    this.#solicitor = options.solicitor ?? new Solicitor(this.#ip);
    this.#refreshMs = options.refreshMs ?? 10_000;
    this.#debounceMs = options.debounceMs ?? 100;
    this.#memory = new NeighbourMemory(options.graceMs ?? 5000);
    this.#restartMs = options.restartMs ?? 1000;
    this.#now = options.now ?? (() => performance.now());
    this.#startMonitor();
  }

  /** Ways to the addresses set last, by canonical text. Never written to once it is here; a change is another map. */
  get hops(): ReadonlyMap<string, NextHop> {
    return this.#hops;
  }

  /** Sets whose next hops are wanted. What is known of an address that stays is kept. */
  setAddresses(addresses: readonly Address[]): void {
    this.#addresses = [...new Map(addresses.map((address) => [address.text, address])).values()];
    this.#stale = true;
    this.#notBeforeMs = -Infinity;
    this.#want(0);
  }

  /**
   * Waits until each address is resolved or has an error, but no longer than this. Returns whether it came to that.
   *
   * @throws SluiceError SLUICE_DEVICE when the kernel cannot be asked at all
   */
  async settled(timeoutMs: number): Promise<boolean> {
    const endMs = this.#now() + timeoutMs;
    for (;;) {
      if (this.#isSettled()) return true;
      if (this.#problem !== '') throw problemOf(this.#problem);
      if (this.#closed || this.#now() >= endMs) return false;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  #isSettled(): boolean {
    return this.#addresses.every(({ text }) => {
      const hop = this.#hops.get(text);
      return hop !== undefined && (hop.resolved || hop.error !== null);
    });
  }

  /** Stops at once: no child, timer or event is left. */
  close(): void {
    this.#closed = true;
    if (this.#timer) clearTimeout(this.#timer);
    if (this.#restartTimer) clearTimeout(this.#restartTimer);
    this.#monitor?.close();
    this.#solicitor.close();
    this.removeAllListeners();
  }

  // --- When to read

  #startMonitor(): void {
    this.#monitorText = '';
    this.#monitor = this.#ip.monitor(['link', 'address', 'route', 'neigh'], {
      onText: (text) => this.#onEvents(text),
      onExit: () => {
        this.#monitor = null;
        if (this.#closed) return;
        this.#restartTimer = setTimeout(() => {
          this.#startMonitor();
          // Nobody listened in between.
          this.#stale = true;
          this.#want(0);
        }, this.#restartMs);
      },
    });
  }

  /** A trigger and nothing more: what is true is read, not deduced from events. */
  #onEvents(text: string): void {
    const lines = (this.#monitorText + text).split('\n');
    this.#monitorText = lines.pop()!;
    for (const line of lines) {
      // Lines that go on with the event before start with a space.
      if (line === '' || line.startsWith(' ') || line.startsWith('\t')) continue;
      if (!line.startsWith('[NEIGH]')) this.#stale = true;
      else if (
        !line
          .slice(7)
          .split(' ')
          .some((word) => this.#watched.has(word))
      )
        continue;
      this.#want(this.#debounceMs);
    }
  }

  #want(inMs: number): void {
    if (this.#closed) return;
    const dueMs = Math.max(this.#now() + inMs, this.#notBeforeMs);
    if (this.#timer && this.#timerDueMs <= dueMs) return;
    if (this.#timer) clearTimeout(this.#timer);
    this.#timerDueMs = dueMs;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.#read();
    }, dueMs - this.#now());
  }

  async #read(): Promise<void> {
    // What was wanted while reading is read afterwards.
    if (this.#reading) return this.#want(this.#debounceMs);
    this.#reading = true;
    const startMs = this.#now();
    let nextMs = PENDING_MS;
    try {
      nextMs = await this.#readOnce(startMs);
      this.#problem = '';
    } catch (error) {
      this.#stale = true;
      this.#report(error);
    } finally {
      this.#reading = false;
    }
    const endMs = this.#now();
    this.#notBeforeMs = endMs + Math.min(MAX_PAUSE_MS, (endMs - startMs) * PAUSE_FACTOR);
    this.#want(nextMs);
  }

  /** Returns the time until the next reading, ms. */
  async #readOnce(nowMs: number): Promise<number> {
    const refresh = nowMs - this.#refreshedMs >= this.#refreshMs;
    const addresses = this.#addresses;
    if (this.#stale || refresh) {
      this.#stale = false;
      const [links, routes] = await Promise.all([readLinks(this.#ip), readRoutes(this.#ip, addresses)]);
      this.#links = links;
      this.#routes = routes;
    }
    const neighbours = await readNeighbours(this.#ip);
    // Addresses were set anew while we asked: the answers are for others. setAddresses() has made it stale again.
    if (this.#closed || addresses !== this.#addresses) return 0;
    if (refresh) this.#refreshedMs = nowMs;

    const names = this.#namesInUse();
    this.#memory.see(names.keys(), neighbours, nowMs);
    this.#publish(new Map(addresses.map((address, i) => [address.text, this.#hopOf(address, this.#routes[i], nowMs)])));
    await this.#solicit(names, neighbours, refresh, nowMs);
    return this.#timeToNext(names, neighbours, nowMs);
  }

  #timeToNext(names: Map<string, NeighbourName>, neighbours: Map<string, Neighbour>, nowMs: number): number {
    let nextMs = this.#refreshedMs + this.#refreshMs - nowMs;
    for (const key of names.keys()) {
      if (neighbours.get(key)?.mac) continue;
      // An answer may come, or a time of grace ends.
      const awaited = !this.#memory.hasFailed(key) || this.#memory.mac(key, nowMs) !== null;
      nextMs = Math.min(nextMs, awaited ? PENDING_MS : ASK_FAILED_EVERY_MS);
    }
    return Math.max(0, nextMs);
  }

  #report(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    if (this.#closed || text === this.#problem) return;
    this.#problem = text;
    this.emit('problem', error instanceof SluiceError ? error : problemOf(text));
  }

  // --- What was read

  #namesInUse(): Map<string, NeighbourName> {
    const names = new Map<string, NeighbourName>();
    this.#addresses.forEach(({ text }, i) => {
      const route = this.#routes[i];
      if ('error' in route || !this.#links.get(route.interface)?.mac) return;
      const name = { address: route.gateway ?? text, interface: route.interface };
      names.set(neighbourKey(name), name);
    });
    this.#watched = new Set([...names.values()].map(({ address }) => address));
    return names;
  }

  #hopOf({ text }: Address, route: Route, nowMs: number): NextHop {
    const none = { address: text, interface: '', gateway: null, source: null, smac: null, dmac: null, mtu: 0 };
    if ('error' in route) return { ...none, resolved: false, error: `backend ${text} has no route: ${route.error}` };
    const { gateway, source } = route;
    const known = { ...none, interface: route.interface, gateway, source };
    const link = this.#links.get(route.interface);
    if (!link) return { ...known, resolved: false, error: `backend ${text}: interface ${route.interface} is gone` };
    const mtu = Math.min(link.mtu, route.mtu ?? Infinity);
    if (!link.mac) {
      const error = `backend ${text}: interface ${link.name} is no Ethernet device`;
      return { ...known, mtu, resolved: false, error };
    }
    const name = { address: gateway ?? text, interface: link.name };
    const key = neighbourKey(name);
    const dmac = this.#memory.mac(key, nowMs);
    let error: string | null = null;
    if (!link.up) error = `backend ${text}: interface ${link.name} is down`;
    else if (!dmac && this.#memory.hasFailed(key))
      error = `backend ${text}: ${name.address} on ${link.name} does not answer neighbour requests`;
    return { ...known, smac: link.mac, dmac, mtu, resolved: link.up && dmac !== null, error };
  }

  #publish(hops: Map<string, NextHop>): void {
    const same =
      hops.size === this.#hops.size &&
      [...hops].every(([text, hop]) => {
        const before = this.#hops.get(text);
        return before !== undefined && sameHop(before, hop);
      });
    if (same) return;
    this.#hops = hops;
    this.emit('change', hops);
  }

  async #solicit(
    names: Map<string, NeighbourName>,
    neighbours: Map<string, Neighbour>,
    refresh: boolean,
    nowMs: number,
  ): Promise<void> {
    const unknown: NeighbourName[] = [];
    const known: NeighbourName[] = [];
    for (const [key, name] of names) {
      const state = neighbours.get(key)?.state ?? '';
      if (refresh && (state === 'REACHABLE' || state === 'STALE')) known.push(name);
      if ((state === '' || state === 'FAILED') && this.#memory.mayAsk(key, nowMs)) unknown.push(name);
    }
    await this.#solicitor.resolve(unknown);
    await this.#solicitor.verify(known);
  }
}

function sameHop(a: NextHop, b: NextHop): boolean {
  return (
    a.interface === b.interface &&
    a.gateway === b.gateway &&
    a.source?.text === b.source?.text &&
    a.mtu === b.mtu &&
    a.resolved === b.resolved &&
    a.error === b.error &&
    sameBytes(a.smac, b.smac) &&
    sameBytes(a.dmac, b.dmac)
  );
}

function sameBytes(a: Uint8Array | null, b: Uint8Array | null): boolean {
  return a === b || (a !== null && b !== null && Buffer.compare(a, b) === 0);
}

function problemOf(text: string): SluiceError {
  return new SluiceError(
    'SLUICE_DEVICE',
    `next hops cannot be looked up: ${text}`,
    'Is iproute2 installed? Try: ip -json route get 192.0.2.1',
  );
}
