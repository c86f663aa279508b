/** A fleet at work: its topology, a sluice on every node, backends with agents, and what an operator does to them. */
import type { Status } from '../control/api/contract.js';
import { SluiceError } from '../errors.js';
import { Backend } from './backends.js';
import { FLEET_SERVICES, fleetConfigText, type FleetBackend, type FleetPolicy } from './fleet_config.js';
import { FleetTopology, SWITCH_PREFIXES, type FleetTopologyOptions, type NextHopWeight } from './fleet_topology.js';
import type { Host } from './hosts.js';
import type { Playground } from './netns.js';
import { SluiceProcess } from './sluice_process.js';

const DRAIN_LIMIT_MS = 30_000;
const ADOPT_LIMIT_MS = 15_000;
const LOOK_MS = 100;
/** A backend is empty when it is found so this many times in a row: a SYN may be on its way. */
const EMPTY_LOOKS = 3;

export interface FleetOptions extends FleetTopologyOptions {
  /** Default 2. */
  nodes?: number;
  /** Default 3. */
  backends?: number;
  policy?: FleetPolicy;
  /** Further keys of every node's file, beside its services. */
  settings?: object;
}

export interface FleetNode {
  host: Host;
  sluice: SluiceProcess;
  /** The router sends to it. */
  routed: boolean;
  /** It answers, and takes what is said to every node. */
  serving: boolean;
}

export class Fleet {
  readonly nodes: FleetNode[] = [];
  /** Those that serve now. */
  readonly backends: Backend[] = [];
  private configured: FleetBackend[] = [];
  /** Of nodes and backends that have ended, and took their counters with them. */
  private readonly ended = { misses: 0, hops: 0 };
  /** Changes of the configuration, one at a time. */
  private queue: Promise<unknown> = Promise.resolve();

  private constructor(
    readonly topology: FleetTopology,
    private readonly policy: FleetPolicy,
    private readonly settings: object,
  ) {}

  /** Builds it, with every node routed to. Throws what keeps it from coming up; closing the playground then removes the rest. */
  static async build(playground: Playground, options: FleetOptions = {}): Promise<Fleet> {
    const fleet = new Fleet(new FleetTopology(playground, options), options.policy ?? {}, options.settings ?? {});
    const hosts = Array.from({ length: options.backends ?? 3 }, () => fleet.topology.addBackend());
    fleet.configured = hosts.map((host) => ({ host, state: 'active' }));
    for (let i = 0; i < (options.nodes ?? 2); i++) fleet.prepareNode();
    const starting = fleet.nodes.map((node) => fleet.start(node));
    const backends = await Promise.all(hosts.map((host) => fleet.startBackend(host)));
    fleet.backends.push(...backends);
    await Promise.all(starting);
    fleet.route(fleet.nodes);
    return fleet;
  }

  get playground(): Playground {
    return this.topology.playground;
  }

  get client(): Host {
    return this.topology.client;
  }

  /** One more node; it serves when this resolves, and is not routed to. */
  async addNode(): Promise<FleetNode> {
    const node = this.prepareNode();
    await this.start(node);
    return node;
  }

  /** The router sends to these nodes from now on, and to no other. */
  route(nodes: readonly FleetNode[], weights: readonly number[] = []): void {
    this.topology.route(nodes.map(({ host }, i): NextHopWeight => ({ host, weight: weights[i] })));
    for (const node of this.nodes) node.routed = nodes.includes(node);
  }

  join(node: FleetNode): void {
    this.route([...this.nodes.filter(({ routed }) => routed), node]);
  }

  leave(node: FleetNode): void {
    this.route(this.nodes.filter((other) => other.routed && other !== node));
  }

  /** Takes a node out in order: no more packets to it, then SIGTERM. */
  async retire(node: FleetNode): Promise<void> {
    this.leave(node);
    await this.note(node);
    node.serving = false;
    await node.sluice.stop();
  }

  /** `kill -9`. The router is told at once, as by a protocol like BFD; what it had sent until then is lost. */
  async kill(node: FleetNode): Promise<void> {
    await this.note(node);
    node.serving = false;
    await node.sluice.killHard();
    this.leave(node);
  }

  /** Starts the sluice of a killed node again, and routes to it when it has the configuration of the others. */
  async revive(node: FleetNode): Promise<void> {
    await this.start(node);
    this.join(node);
  }

  statuses(): Promise<Status[]> {
    return Promise.all(this.nodes.filter(({ serving }) => serving).map(({ sluice }) => sluice.status()));
  }

  /**
   * Packets whose flow a node did not know, over all nodes that ever were; of a killed one, until just before. With flow tables, what is
   * more than connections were opened are flows that came from another node.
   */
  async misses(): Promise<number> {
    return (await this.statuses()).reduce((sum, status) => sum + misses(status), this.ended.misses);
  }

  /** Packets that backends sent on to the next hop of their chain, over all backends that ever were. */
  async hops(): Promise<number> {
    const counts = await Promise.all(this.backends.map(hops));
    return counts.reduce((a, b) => a + b, this.ended.hops);
  }

  /** A new backend host with everything running; it is not in the configuration. */
  async launchBackend(): Promise<Backend> {
    const backend = await this.startBackend(this.topology.addBackend());
    this.backends.push(backend);
    return backend;
  }

  /** No new connections to it, on every node; the file says so too, for nodes that start later. */
  async drain(backend: Backend): Promise<void> {
    await this.change(backend.host, { host: backend.host, state: 'draining' }, async ({ sluice }) => {
      for (const family of [4, 6] as const) {
        const address = family === 4 ? backend.host.address4 : backend.host.address6;
        const change = { state: 'draining', reason: 'to be replaced' } as const;
        await sluice.setBackend(FLEET_SERVICES[family], address, change);
      }
    });
  }

  /**
   * Waits until nobody is connected to it. With second hop a node's "flows left" are not what counts: a flow that another node began
   * is down to the backend that this node would have chosen. So only the backend's own word is taken then.
   */
  async drained(backend: Backend): Promise<void> {
    const deadline = performance.now() + DRAIN_LIMIT_MS;
    const { flow_table: remembered = true, hops = 1 } = this.policy;
    const asksNodes = remembered && hops === 1;
    let empty = 0;
    let left = '';
    while (empty < EMPTY_LOOKS) {
      if (performance.now() > deadline) {
        throw new SluiceError(
          'SLUICE_STATE',
          `${backend.host.name} did not drain within ${DRAIN_LIMIT_MS} ms: ${left}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      const flows = asksNodes ? await this.flowsLeft(backend.host) : 0;
      const { open } = await backend.stats();
      left = `${flows} flows, ${open} connections`;
      empty = flows === 0 && open === 0 ? empty + 1 : 0;
    }
  }

  /**
   * Replaces a backend by a new one with another address: drains it, waits until it is empty, ends it, takes it off the wire, and
   * only then changes the configuration. Returns the new one.
   */
  async replace(backend: Backend): Promise<Backend> {
    const launching = this.launchBackend();
    // Awaited below; should draining fail first, its own failure is of no interest.
    launching.catch(() => undefined);
    await this.drain(backend);
    await this.drained(backend);
    await this.end(backend);
    const fresh = await launching;
    await this.change(backend.host, { host: fresh.host, state: 'active' }, ({ sluice }) => sluice.reload());
    return fresh;
  }

  /**
   * Another entry for a backend, in every node's file, and `tell` on every node that serves, which knows the way to its backends when
   * this resolves. One that is down reads its file when it comes back.
   */
  private change(host: Host, entry: FleetBackend, tell: (node: FleetNode) => Promise<unknown>): Promise<void> {
    return this.inTurn(async () => {
      this.configured = this.configured.map((other) => (other.host === host ? entry : other));
      for (const { sluice } of this.nodes) this.writeConfig(sluice);
      await Promise.all(
        this.nodes.map(async (node) => {
          if (!node.serving) return;
          try {
            await tell(node);
            await node.sluice.ready(ADOPT_LIMIT_MS);
          } catch (error) {
            // Killed while it was asked.
            if (node.serving) throw error;
          }
        }),
      );
    });
  }

  /** Starts a node's sluice. It serves with the configuration of all others when this resolves. */
  private async start(node: FleetNode): Promise<void> {
    node.sluice.spawn();
    await node.sluice.ready();
    await this.inTurn(async () => {
      // What changed while it came up.
      await node.sluice.reload();
      await node.sluice.ready(ADOPT_LIMIT_MS);
      node.serving = true;
    });
  }

  private inTurn<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.queue.then(act);
    this.queue = turn.catch(() => undefined);
    return turn;
  }

  /** Keeps what a node has counted that is about to end. */
  private async note(node: FleetNode): Promise<void> {
    const status = await node.sluice.status();
    this.ended.misses += misses(status);
  }

  private async end(backend: Backend): Promise<void> {
    const forwarded = await hops(backend);
    this.ended.hops += forwarded;
    this.backends.splice(this.backends.indexOf(backend), 1);
    await backend.program.stop();
    this.topology.unplug(backend.host);
  }

  private async flowsLeft({ address4, address6 }: Host): Promise<number> {
    const entries = (await this.statuses()).flatMap(({ services }) => services.flatMap(({ backends }) => backends));
    return entries
      .filter(({ address }) => address === address4 || address === address6)
      .reduce((sum, { flows }) => sum + flows, 0);
  }

  private prepareNode(): FleetNode {
    const host = this.topology.addNode();
    const { name } = host;
    const files = { config: `${name}.yaml`, control: `${name}.sock`, log: `${name}.log` };
    const node = { host, sluice: new SluiceProcess(this.playground, host, files), routed: false, serving: false };
    this.writeConfig(node.sluice);
    this.nodes.push(node);
    return node;
  }

  private writeConfig(sluice: SluiceProcess): void {
    const { configured, policy, settings } = this;
    sluice.writeConfig(fleetConfigText(configured, policy, sluice.controlSocket, settings));
  }

  private startBackend(host: Host): Promise<Backend> {
    return Backend.startWithAgent(this.playground, host, { from: [...SWITCH_PREFIXES], second_hop: true });
  }
}

function misses({ totals }: Status): number {
  return totals.flowMiss;
}

async function hops(backend: Backend): Promise<number> {
  return (await backend.stats()).decap?.hop_forwarded ?? 0;
}
