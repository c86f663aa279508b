/**
 * Checks through the tunnel: a check connects to the VIP, and its packets reach one given backend, in the outer headers that
 * the data path would put on. What is checked is the whole of a client's way: tunnel, decapsulation, VIP on lo, listener.
 *
 *   check ── socket, source port P, to VIP ──► TAP device ──► wrap for the backend of P ──► packet socket ──► backend
 *     ▲                                                                                                        │
 *     └──────────────── answer from the VIP, straight to this host (direct server return) ◄────────────────────┘
 */
import { EventEmitter } from 'node:events';
import { isKernelError } from '../../../errors.js';
import { native, type PacketSocket } from '../../../native.js';
import type { Address, PortRange } from '../../../shared/config.js';
import { systemIp, type IpCommand } from '../../ip_command.js';
import type { Outcome } from '../outcome.js';
import type { Lease, TunnelAccess } from './access.js';
import { TunnelDevice, type DeviceOptions } from './device.js';
import { PortPool } from './port_pool.js';
import { Settings } from './settings.js';
import { readInner, wrap, type TunnelRoute } from './wrap.js';

export interface HealthTunnelOptions {
  /** The way to a backend, asked for each packet; null while its next hop is not resolved. */
  route: (key: string) => TunnelRoute | null;
  ip?: IpCommand;
  /** Name of the TAP device. */
  device?: string;
  /** Routing table, and preference of the rules that lead there. */
  table?: number;
  /** Source ports of checks. The default lies above Linux's ephemeral ports (32768-60999). */
  ports?: PortRange;
  /** Where changed settings are written down. */
  recordDirectory?: string;
  /** Until the device is tried again after it could not be set up, ms. */
  retryMs?: number;
}

interface HealthTunnelEvents {
  /** The device cannot be set up, or packets cannot be sent: checks through it are skipped or will fail. Once for each text. */
  problem: [error: Error];
}

/** Frames read in one turn of the event loop. */
const FRAMES_A_TURN = 64;

export class HealthTunnel extends EventEmitter<HealthTunnelEvents> implements TunnelAccess {
  readonly #route: HealthTunnelOptions['route'];
  readonly #options: DeviceOptions;
  readonly #pool: PortPool;
  readonly #retryMs: number;
  readonly #sockets = new Map<string, PacketSocket>();
  #device: TunnelDevice | null = null;
  #wanted: readonly Address[] = [];
  #problem = '';
  #changes: Promise<void> = Promise.resolve();
  #retry: NodeJS.Timeout | null = null;
  #closed = false;

  /** Changes nothing yet: the device is made for the first VIP, and removed after the last. */
  constructor(options: HealthTunnelOptions) {
    super();
    this.#route = options.route;
    const ports = options.ports ?? { first: 61440, last: 63487 };
    this.#pool = new PortPool(ports, Math.random());
    this.#retryMs = options.retryMs ?? 5000;
    this.#options = {
      ip: options.ip ?? systemIp(),
      name: options.device ?? 'sluice-health',
      table: options.table ?? 5210,
      ports,
      settings: new Settings(options.recordDirectory),
    };
  }

  setVips(addresses: readonly Address[]): void {
    if (this.#closed) return;
    this.#wanted = [...new Map(addresses.map((address) => [address.text, address])).values()];
    void this.#apply();
  }

  /** Reads the host's routes again: another source address, or a VIP that is now the host's own. */
  refresh(): void {
    if (!this.#closed && this.#wanted.length > 0) void this.#apply();
  }

  /** Resolves when what was asked for so far is done, well or not. */
  settled(): Promise<void> {
    return this.#changes;
  }

  lease(key: string, vip: Address, port: number): Lease | Outcome {
    const skipped = (reason: string): Outcome => ({ result: 'skipped', reason: `this node: ${reason}` });
    if (this.#device === null) return skipped(this.#problem || 'the tunnel is being set up');
    const route = this.#route(key);
    if (route === null) return { result: 'failed', reason: 'the next hop is not resolved' };
    const problem = this.#device.problemOf(vip, route.interface);
    if (problem !== '') return skipped(problem);
    const localPort = this.#pool.take(key);
    if (localPort === null) return skipped('all source ports of checks are in use');
    return {
      endpoint: { host: vip.text, family: vip.family, port, localPort },
      release: () => this.#pool.giveBack(localPort),
    };
  }

  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      if (this.#retry !== null) clearTimeout(this.#retry);
      this.#wanted = [];
      void this.#apply();
    }
    await this.#changes;
    this.removeAllListeners();
  }

  // --- The device

  /** One change at a time; each brings about what is wanted when its turn comes. */
  #apply(): Promise<void> {
    this.#changes = this.#changes.then(async () => {
      try {
        await this.#bringAbout(this.#wanted);
        this.#problem = '';
      } catch (error) {
        await this.#tearDown(this.#device);
        this.#report(error);
        this.#tryAgain();
      }
    });
    return this.#changes;
  }

  async #bringAbout(vips: readonly Address[]): Promise<void> {
    if (vips.length === 0) {
      if (this.#device === null) await TunnelDevice.sweep(this.#options);
      return this.#tearDown(this.#device);
    }
    if (this.#device === null) {
      const device = await TunnelDevice.open(this.#options);
      this.#device = device;
      device.tap.onReadable(() => this.#drain(device));
    }
    await this.#device.setVips(vips);
  }

  async #tearDown(device: TunnelDevice | null): Promise<void> {
    for (const socket of this.#sockets.values()) socket.close();
    this.#sockets.clear();
    this.#device = null;
    try {
      await device?.close();
    } catch (error) {
      this.#report(error);
    }
  }

  #tryAgain(): void {
    if (this.#closed || this.#wanted.length === 0 || this.#retry !== null) return;
    this.#retry = setTimeout(() => {
      this.#retry = null;
      void this.#apply();
    }, this.#retryMs).unref();
  }

  #report(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    if (text === this.#problem) return;
    this.#problem = text;
    this.emit('problem', error instanceof Error ? error : new Error(text));
  }

  // --- Packets

  #drain(device: TunnelDevice): void {
    try {
      for (let i = 0; i < FRAMES_A_TURN; i++) {
        const frame = device.tap.read();
        if (frame === null) return;
        this.#send(frame);
      }
    } catch (error) {
      // Somebody has deleted the device: a new one is made.
      device.tap.onReadable(null);
      // At once: without it checks would leave by the host's own route.
      this.#device = null;
      this.#changes = this.#changes.then(() => this.#tearDown(device));
      this.#report(error);
      this.#tryAgain();
    }
  }

  #send(frame: Uint8Array): void {
    const inner = readInner(frame);
    const key = inner && this.#pool.ownerOf(inner.sport);
    const route = key === null ? null : this.#route(key);
    // Nobody's packet, or a way that was lost meanwhile: the check runs into its time limit.
    if (inner === null || route === null) return;
    try {
      this.#socketOf(route.interface).send(wrap(inner, route));
    } catch (error) {
      if (!isKernelError(error)) throw error;
      // A full queue passes; an interface that was made anew needs another socket.
      if (error.code !== 'ENOBUFS') this.#dropSocket(route.interface);
      this.#report(error);
    }
  }

  #socketOf(name: string): PacketSocket {
    let socket = this.#sockets.get(name);
    if (socket === undefined) {
      socket = new (native().PacketSocket)({ interface: name });
      this.#sockets.set(name, socket);
    }
    return socket;
  }

  #dropSocket(name: string): void {
    this.#sockets.get(name)?.close();
    this.#sockets.delete(name);
  }
}
