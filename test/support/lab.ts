/** The whole data path of a configuration over ports made of memory: no root, no addon, a clock that the test moves. */
import { isDeepStrictEqual } from 'node:util';
import { parseConfig } from '../../src/control/config/index.js';
import { Publisher } from '../../src/control/publish.js';
import type { BackendOverride } from '../../src/control/service_plan.js';
import { Registry, backendKey } from '../../src/control/registry.js';
import { makeSets } from '../../src/control/set_content.js';
import { SetClock, SetMatches, type SetStock } from '../../src/control/set_tables.js';
import type { IpSet } from '../../src/control/sets/index.js';
import type { NextHop } from '../../src/control/routes.js';
import { Balancer } from '../../src/dataplane/balance/forward.js';
import { FlowField, FlowTable } from '../../src/dataplane/balance/flow_table.js';
import { Sampler } from '../../src/dataplane/capture/sampler.js';
import { CaptureTap } from '../../src/dataplane/capture/tap.js';
import { buildChain } from '../../src/dataplane/filter/build.js';
import { FilterChain, type Stage } from '../../src/dataplane/filter/chain.js';
import type { PacketFilter } from '../../src/dataplane/filter/contract.js';
import { NO_PARTS } from '../../src/dataplane/filter/rule_parts.js';
import { MitigationStages } from '../../src/dataplane/mitigate/stages.js';
import { Path } from '../../src/dataplane/poll.js';
import { MemoryPool } from '../../src/dataplane/ports/memory_pool.js';
import { MemoryPort } from '../../src/dataplane/ports/memory.js';
import { Snapshot } from '../../src/dataplane/snapshot.js';
import { DROP_REASONS } from '../../src/dataplane/verdict.js';
import { parseAddress } from '../../src/shared/addr.js';
import type { Config } from '../../src/shared/config.js';
import {
  BackendCounter,
  Counter,
  CounterBlock,
  RuleCounter,
  ServiceCounter,
  type Tables,
} from '../../src/shared/layout.js';

export interface LabOptions {
  flowSlots?: number;
  /** Addresses of backends whose next hop is not known. */
  unresolved?: string[];
  mtu?: number;
  /** What is otherwise than here of the way to a backend. */
  nextHop?: (address: string) => Partial<NextHop>;
  /** Put in front of the configured chain. */
  filter?: PacketFilter;
  repair?: boolean;
  /** Bytes in front of each packet; default: MemoryPort's. */
  headroom?: number;
}

export class Lab {
  nowMs = 1000;
  readonly pool: MemoryPool;
  readonly ports: MemoryPort[];
  readonly counters = new Float64Array(CounterBlock.SIZE);
  readonly flows: FlowTable;
  readonly balancer: Balancer;
  readonly path: Path;
  readonly tap: CaptureTap;
  readonly stages: MitigationStages;
  readonly aborts: unknown[] = [];
  readonly publisher: Publisher;
  readonly overrides = new Map<string, BackendOverride>();
  /** By `backendKey`: what health checks take out, and why. */
  readonly down = new Map<string, string>();
  config: Config;
  /** Where the sets of `sets` are: those of the configuration that it was made with, or adopted last with other sets. */
  private stock: SetStock;
  private tables: Tables;

  constructor(
    yaml: string,
    private readonly options: LabOptions = {},
  ) {
    this.config = parseConfig(yaml);
    this.pool = new MemoryPool({ frameCount: 512, chunkSize: 2048 });
    this.ports = this.config.interfaces.map(
      ({ name }, index) =>
        new MemoryPort(this.pool, {
          index,
          name,
          clock: () => this.nowMs,
          keepDropped: true,
          headroom: options.headroom,
        }),
    );
    this.publisher = new Publisher({
      registry: new Registry({ now: () => this.nowMs }),
      resolveModule: (path) => `file://${path}`,
    });
    this.stock = this.stockOf(this.config);
    this.tables = this.build();
    this.flows = new FlowTable(
      new Int32Array((options.flowSlots ?? 4096) * FlowField.STRIDE),
      this.tables.settings.timeouts,
    );
    const snapshot = new Snapshot(this.tables);
    this.balancer = new Balancer(this.flows, this.counters, [11, 22, 33, 44], snapshot);
    this.tap = new CaptureTap(this.pool.memory, 2048, snapshot);
    this.stages = new MitigationStages(0, this.counters, () => this.nowMs);
    this.path = new Path(
      this.pool.memory,
      2048,
      this.balancer,
      this.chain(),
      this.tables.settings.repairChecksums,
      this.counters,
      (error) => this.aborts.push(error),
      undefined,
      this.tap,
    );
    this.path.expectDecisions(this.tables.kernelNonce);
  }

  private stockOf({ sets: configs }: Config): SetStock {
    const clock = new SetClock(() => this.nowMs);
    const sets = makeSets(configs, { seconds: () => clock.seconds() });
    return { clock, matches: new SetMatches(), sets: () => sets };
  }

  /** A set, to be changed as while sluice runs. */
  set(name: string): IpSet {
    return new Map(this.stock.sets()).get(name)!;
  }

  /** What the kernel would sign its decisions with. */
  get kernelNonce(): number {
    return this.tables.kernelNonce;
  }

  private build(): Tables {
    const nextHops = new Map<string, NextHop>();
    for (const { backends } of this.config.services) {
      for (const { address } of backends) nextHops.set(address.text, this.nextHop(address.text));
    }
    return this.publisher.build(this.config, {
      nextHops,
      overrides: this.overrides,
      down: this.down,
      sets: this.stock,
      ports: this.config.interfaces.map(({ name }, index) => ({
        name,
        index,
        repairChecksum: this.options.repair ?? false,
      })),
    });
  }

  /** Addresses in 10.2.0.0/16 and fd02::/16 leave by the second interface, all others by the first. */
  private nextHop(address: string): NextHop {
    const second = address.startsWith('10.2.') || address.startsWith('fd02:');
    const last = Number(/(\d+)$/.exec(address)?.[1] ?? 1) & 255;
    const resolved = !(this.options.unresolved ?? []).includes(address);
    return {
      address,
      interface: this.config.interfaces[second ? 1 : 0].name,
      gateway: null,
      source: parseAddress(address.includes(':') ? 'fd00::2' : '10.0.0.2'),
      smac: Uint8Array.of(2, 0, 0, 0, 0, 0xaa),
      dmac: resolved ? Uint8Array.of(2, 0, 0, 0, 1, last) : null,
      mtu: this.options.mtu ?? 1500,
      resolved,
      error: null,
      ...this.options.nextHop?.(address),
    };
  }

  private chain(): FilterChain {
    const samples = this.tables.samples.map((spec) => new Sampler(spec, this.tap, 1));
    const { limits, mitigation } = this.stages.adopt(this.tables, this.nowMs);
    const parts = { ...NO_PARTS, limits, samples, watch: this.tap };
    const context = { worker: 0, nowMs: () => this.nowMs, seed: 1, parts, mitigation };
    const configured = buildChain(this.tables, this.counters, context);
    if (!this.options.filter) return configured;
    const first: Stage = { sanity: null, rules: null, module: this.options.filter };
    return new FilterChain([first, ...configured.stages], this.counters);
  }

  /** Publishes and adopts, as after a reload or a backend's change. */
  adopt(yaml?: string): void {
    if (yaml !== undefined) {
      const { sets } = this.config;
      this.config = parseConfig(yaml);
      if (!isDeepStrictEqual(sets, this.config.sets)) this.stock = this.stockOf(this.config);
    }
    this.tables = this.build();
    const snapshot = new Snapshot(this.tables);
    this.balancer.adopt(snapshot);
    this.path.adopt(this.chain(), this.tables.settings.repairChecksums);
    this.path.expectDecisions(this.tables.kernelNonce);
  }

  setBackend(service: string, address: string, override: BackendOverride): void {
    this.overrides.set(backendKey(service, address), override);
    this.adopt();
  }

  /** Runs frames through the path, from the first port unless said otherwise, and returns what came of them. */
  run(frames: Uint8Array[], from = 0): { sent: Uint8Array[][]; passed: Uint8Array[]; dropped: Uint8Array[] } {
    const port = this.ports[from];
    for (const frame of frames) port.inject(frame);
    while (this.path.pollOnce(port) > 0);
    this.stages.tick(this.nowMs);
    return {
      sent: this.ports.map((each) => each.sent.splice(0)),
      passed: port.passed.splice(0),
      dropped: port.dropped.splice(0),
    };
  }

  total(counter: Counter): number {
    return this.counters[CounterBlock.totals + counter];
  }

  /** Packets by drop reason, without those that are 0. */
  drops(): Record<string, number> {
    const entries = DROP_REASONS.map((name, i) => [name, this.counters[CounterBlock.reasons + i]] as const);
    return Object.fromEntries(entries.filter(([, packets]) => packets > 0));
  }

  rule(name: string): { packets: number; bytes: number } {
    const at = CounterBlock.rules + this.publisher.numbers.rules.get(name)!.number * RuleCounter.SIZE;
    return { packets: this.counters[at + RuleCounter.packets], bytes: this.counters[at + RuleCounter.bytes] };
  }

  /** Packets that were found in a set. */
  matches(set: string): { packets: number; bytes: number } {
    return this.stock.matches.total(set);
  }

  backend(service: string, address: string): { packets: number; flows: number; newFlows: number } {
    const { number } = this.publisher.numbers.backends.get(backendKey(service, address))!;
    const at = CounterBlock.backends + number * BackendCounter.SIZE;
    return {
      packets: this.counters[at + BackendCounter.packets],
      flows: this.counters[at + BackendCounter.flows],
      newFlows: this.counters[at + BackendCounter.newFlows],
    };
  }

  service(name: string): { packets: number; bytes: number } {
    const { number } = this.publisher.numbers.services.get(name)!;
    const at = CounterBlock.services + number * ServiceCounter.SIZE;
    return { packets: this.counters[at + ServiceCounter.packets], bytes: this.counters[at + ServiceCounter.bytes] };
  }

  /** Frames conserved, and counters adding up: what must hold after any traffic. */
  violations(): string[] {
    const problems: string[] = [];
    const { free, fill, rx, tx, held, total } = this.ports[0].counts();
    if (free + fill + rx + tx + held !== total) {
      problems.push(`frames: ${free}+${fill}+${rx}+${tx}+${held} ≠ ${total}`);
    }
    if (held !== this.total(Counter.framesHeld))
      problems.push(`${held} frames held ≠ ${this.total(Counter.framesHeld)}`);
    const t = (counter: Counter) => this.total(counter);
    const settled = t(Counter.drop) + t(Counter.pass) + t(Counter.tx) + t(Counter.redirect) + t(Counter.aborted);
    const accounted = settled + t(Counter.framesHeld);
    if (t(Counter.rx) !== accounted) problems.push(`rx ${t(Counter.rx)} ≠ verdicts and held ${accounted}`);
    const reasons = Object.values(this.drops()).reduce((a, b) => a + b, 0);
    if (reasons !== t(Counter.drop) + t(Counter.aborted)) problems.push(`reasons ${reasons} ≠ drop + aborted`);
    return problems;
  }
}
