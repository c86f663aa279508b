/**
 * The data path of one worker in this process, on ports that read and write captures: what replay and explain run packets through.
 */
import { SluiceError } from '../errors.js';
import { Balancer } from '../dataplane/balance/forward.js';
import { FlowField, FlowTable } from '../dataplane/balance/flow_table.js';
import { Sampler } from '../dataplane/capture/sampler.js';
import { CaptureTap } from '../dataplane/capture/tap.js';
import { buildChain, loadModules } from '../dataplane/filter/build.js';
import type { FilterChain } from '../dataplane/filter/chain.js';
import { NO_PARTS } from '../dataplane/filter/rule_parts.js';
import { MitigationStages } from '../dataplane/mitigate/stages.js';
import { Path } from '../dataplane/poll.js';
import { BurstHeader } from '../dataplane/port.js';
import { MemoryPool } from '../dataplane/ports/memory_pool.js';
import { PcapPort, type PcapOutput } from '../dataplane/ports/pcap.js';
import { Snapshot } from '../dataplane/snapshot.js';
import { readCapture, type Capture } from '../pcap/capture.js';
import type { PcapngWriter } from '../pcap/pcapng_writer.js';
import type { Config } from '../shared/config.js';
import { CounterBlock, MAX_PORTS, type Tables } from '../shared/layout.js';
import { WorkerCounters } from './counters.js';
import { moduleUrl } from './manager/module_url.js';
import { Publisher, type PublishPort } from './publish.js';
import { fixedSets } from './set_tables.js';
import { Registry, type Numbers } from './registry.js';
import { syntheticNextHop } from './replay_hops.js';
import type { NextHop } from './routes.js';
import type { BackendOverride, ServicePlan } from './service_plan.js';

export interface SetupOptions {
  config: Config;
  /** The interface of the config that the packets come in on; default its first. */
  interface?: string;
  /** Ways to backends that are known, by address text; the others are made up on the packets' own interface, with MTU 1500. */
  nextHops?: ReadonlyMap<string, NextHop>;
  /** What an operator says of backends, by `backendKey`. */
  overrides?: ReadonlyMap<string, BackendOverride>;
}

/** A config made into tables for one worker. Its filter modules are loaded. */
export interface ReplaySetup {
  config: Config;
  tables: Tables;
  numbers: Numbers;
  plans: readonly ServicePlan[];
  /** Interfaces of the config, by port number. */
  names: readonly string[];
  /** Port number that packets come in on. */
  arrival: number;
  /** By `backendKey`. */
  overrides: ReadonlyMap<string, BackendOverride>;
}

/**
 * @throws SluiceError SLUICE_CONFIG for a config that cannot be carried out, SLUICE_USAGE for an interface that it does not have
 */
export async function setUp(options: SetupOptions): Promise<ReplaySetup> {
  const { config } = options;
  const names = config.interfaces.map(({ name }) => name).slice(0, MAX_PORTS);
  if (names.length === 0) names.push('replay0');
  const arrival = options.interface === undefined ? 0 : names.indexOf(options.interface);
  if (arrival < 0) {
    throw new SluiceError(
      'SLUICE_USAGE',
      `the config has no interface ${options.interface}`,
      `It has: ${names.join(', ')}`,
    );
  }
  const overrides = options.overrides ?? new Map<string, BackendOverride>();
  const publisher = new Publisher({ registry: new Registry({ now: () => 0 }), resolveModule: moduleUrl });
  const tables = publisher.build(config, {
    nextHops: hopsOf(config, names[arrival], options.nextHops),
    overrides,
    sets: fixedSets(config.sets),
    ports: names.map((name, index): PublishPort => {
      // 'auto' repairs on veth only, and whether the capture was taken on one is not known.
      return { name, index, repairChecksum: config.interfaces[index]?.checksum === 'repair' };
    }),
  });
  await loadModules(tables.filters);
  return { config, tables, numbers: publisher.numbers, plans: publisher.plans, names, arrival, overrides };
}

export interface ReplayPathOptions {
  writer?: PcapngWriter;
  /** Which packets are written; default tx, redirect and pass. */
  outputs?: Iterable<PcapOutput>;
  /** One packet a burst. */
  lockstep: boolean;
  /** For those who want to see what goes in and out: what the path uses in place of its parts. */
  watch?: {
    balancer(balancer: Balancer): Balancer;
    chain(chain: FilterChain, block: Float64Array): FilterChain;
    /** A policy threw. */
    threw(error: unknown): void;
  };
}

/** Frames of the replay: more than any burst, and what a burst sent is free again when the next one is taken. */
const FRAMES = 4096;

/** Rules with a probability hit the same packets in every run. */
const SEED = 1;

/** Place of a flow in the flow table does not depend on the run. */
const FLOW_SECRET = [0x736c7569, 0x63650001, 0x63650002, 0x63650003];

/** A capture of no packets, for ports that packets only leave by. */
const EMPTY = Uint8Array.of(0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0);

export class ReplayPath {
  readonly counters: WorkerCounters;
  /** The same, as the path writes it. */
  readonly block: Float64Array;
  readonly pool: MemoryPool;
  readonly ports: PcapPort[];
  /** Where the packets come in. */
  readonly input: PcapPort;
  readonly balancer: Balancer;
  readonly snapshot: Snapshot;
  readonly path: Path;
  private readonly stages: MitigationStages;

  constructor(setup: ReplaySetup, capture: Capture, { writer, outputs, lockstep, watch }: ReplayPathOptions) {
    const { config, tables, names, arrival } = setup;
    const { frames, flows } = config;
    this.counters = new WorkerCounters(0);
    this.block = new Float64Array(this.counters.block, 0, CounterBlock.SIZE);
    this.pool = new MemoryPool({ frameCount: FRAMES, chunkSize: frames.size });
    const nothing = readCapture(EMPTY);
    this.ports = names.map((name, index) => {
      const hostPath = config.interfaces[index]?.hostPath ?? true;
      const common = { index, name, hostPath, burst: frames.burst, writer, outputs };
      return new PcapPort(this.pool, index === arrival ? capture : nothing, { ...common, lockstep });
    });
    this.input = this.ports[arrival];
    this.snapshot = new Snapshot(tables);
    const table = new FlowTable(new Int32Array(flows.slots * FlowField.STRIDE), tables.settings.timeouts);
    const balancer = new Balancer(table, this.block, FLOW_SECRET, this.snapshot);
    this.balancer = watch?.balancer(balancer) ?? balancer;
    const tap = new CaptureTap(this.pool.memory, frames.size, this.snapshot);
    // Cookies of challenges change with the wall clock, which here is the capture's.
    this.stages = new MitigationStages(0, this.block, () => this.nowMs);
    const { limits, mitigation } = this.stages.adopt(tables, 0);
    const chain = buildChain(tables, this.block, {
      worker: 0,
      seed: SEED,
      nowMs: () => this.nowMs,
      parts: { ...NO_PARTS, limits, samples: tables.samples.map((spec, i) => new Sampler(spec, tap, SEED + i)) },
      mitigation,
    });
    this.path = new Path(
      this.pool.memory,
      frames.size,
      this.balancer,
      watch?.chain(chain, this.block) ?? chain,
      tables.settings.repairChecksums,
      this.block,
      (error, packet) => {
        watch?.threw(error);
        this.note(error, packet.dataHardStart);
      },
      undefined,
      tap,
    );
  }

  /** Clock of the burst in hand, ms, wrapping int32. */
  get nowMs(): number {
    return this.input.burst.header[BurstHeader.nowMs];
  }

  /** After each burst that had packets. */
  sweep(): void {
    this.balancer.sweep(this.nowMs);
    this.tick();
  }

  /** Brings the counters of the stages of mitigation up to date. */
  tick(): void {
    this.stages.tick(this.nowMs);
  }

  /** Settles what is still in hand, and drops what is held. */
  end(): void {
    this.balancer.fragments.dropHeld();
    for (const port of this.ports) port.exchange();
  }

  /** A policy threw over the packet in this chunk. */
  protected note(_error: unknown, _chunk: number): void {}
}

function hopsOf(config: Config, interfaceName: string, known?: ReadonlyMap<string, NextHop>): Map<string, NextHop> {
  const hops = new Map<string, NextHop>();
  for (const { backends } of config.services) {
    for (const { address } of backends) {
      hops.set(address.text, known?.get(address.text) ?? syntheticNextHop(address, interfaceName));
    }
  }
  return hops;
}
