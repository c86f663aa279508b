/**
 * Runs a configuration's whole data path over a capture file, without root, network or addon: what would sluice have done to these
 * packets? The same code judges them as in a worker; only the port is another (dataplane/ports/pcap.ts).
 *
 * Deterministic: the clock is the capture's, hashes are keyed by the config and by constants, next hops that nobody gives are made
 * up from the backends' addresses. Equal config and capture make an equal report and an equal output file.
 */
import { realpathSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { SluiceError } from '../errors.js';
import { Balancer } from '../dataplane/balance/forward.js';
import { FlowField, FlowTable } from '../dataplane/balance/flow_table.js';
import { buildChain, loadModules } from '../dataplane/filter/build.js';
import { Path } from '../dataplane/poll.js';
import { BurstHeader } from '../dataplane/port.js';
import { MemoryPool } from '../dataplane/ports/memory_pool.js';
import { PcapPort, type PcapOutput } from '../dataplane/ports/pcap.js';
import { Snapshot } from '../dataplane/snapshot.js';
import { readCapture, type Capture } from '../pcap/capture.js';
import { PcapngWriter } from '../pcap/pcapng_writer.js';
import type { Config } from '../shared/config.js';
import { CounterBlock, MAX_PORTS, PortCounter, type Tables } from '../shared/layout.js';
import { WorkerCounters } from './counters.js';
import { moduleUrl } from './manager/module_url.js';
import { Publisher, type PublishPort } from './publish.js';
import { Registry } from './registry.js';
import { syntheticNextHop } from './replay_hops.js';
import { countersReport, PacketWords, type ReplayReport } from './replay_report.js';
import type { NextHop } from './routes.js';

export type { ReplayReport } from './replay_report.js';
export type { PcapOutput } from '../dataplane/ports/pcap.js';

export interface ReplayOptions {
  config: Config;
  /** Path or bytes of a pcap or pcapng file. */
  input: string | Uint8Array;
  /** Path of a pcapng file to write, or a writer, which stays the caller's to close. */
  output?: string | PcapngWriter;
  /** Which packets are written: default tx, redirect and pass. */
  outputs?: Iterable<PcapOutput>;
  /** The interface of the config that the packets came in on; default its first. */
  interface?: string;
  /** Ways to backends that are known, by address text; the others are made up on the packets' own interface, with MTU 1500. */
  nextHops?: ReadonlyMap<string, NextHop>;
  /**
   * false: bursts as the config has them, faster, and comments in the output name only the verdict. Default true: a packet at a time,
   * each commented with its reason, rule, filter, service and backend.
   */
  lockstep?: boolean;
  /** false: packets before the damage of a damaged capture are replayed, and the report tells of it. Default true: refused. */
  strict?: boolean;
  /** Ends the replay early, by throwing its reason. */
  signal?: AbortSignal;
}

/** Frames of the replay: more than any burst, and what a burst sent is free again when the next one is taken. */
const FRAMES = 4096;

/** Rules with a probability hit the same packets in every run. */
const RULE_SEED = 1;

/** Place of a flow in the flow table does not depend on the run. */
const FLOW_SECRET = [0x736c7569, 0x63650001, 0x63650002, 0x63650003];

/** Bursts between two looks at the event loop, so that an interrupt gets through. */
const TURN_BURSTS = 4096;

const MAX_ERRORS = 10;

/** A capture of no packets, for ports that packets only leave by. */
const EMPTY = Uint8Array.of(0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0);

/**
 * @throws SluiceError SLUICE_FORMAT for a capture that cannot be read, SLUICE_CONFIG for a config that cannot be carried out, SLUICE_USAGE
 * for files and interfaces that are not there. The output file is created only after all of these.
 */
export async function replay(options: ReplayOptions): Promise<ReplayReport> {
  const { config } = options;
  const capture = readCapture(options.input, { strict: options.strict ?? true });
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
  const publisher = new Publisher({ registry: new Registry({ now: () => 0 }), resolveModule: moduleUrl });
  const tables = publisher.build(config, {
    nextHops: hopsOf(config, names[arrival], options.nextHops),
    overrides: new Map(),
    ports: names.map((name, index): PublishPort => {
      // 'auto' repairs on veth only, and whether the capture was taken on one is not known.
      return { name, index, repairChecksum: config.interfaces[index]?.checksum === 'repair' };
    }),
  });
  await loadModules(tables.filters);

  const writer = openOutput(options);
  try {
    const run = new Run(config, tables, capture, names, arrival, options, writer);
    const words =
      (options.lockstep ?? true) && writer ? new PacketWords(config, publisher.numbers, run.counters) : null;
    await run.toEnd(words, options.signal);
    return { ...run.report(), ...countersReport(config, publisher.numbers, run.counters) };
  } finally {
    if (typeof options.output === 'string') writer?.close();
  }
}

/** The data path of one worker on ports that read and write captures. */
class Run {
  readonly counters: WorkerCounters;
  private readonly pool: MemoryPool;
  private readonly ports: PcapPort[];
  private readonly input: PcapPort;
  private readonly balancer: Balancer;
  private readonly path: Path;
  private readonly errors: ReplayReport['errors'] = [];
  private readonly writtenBefore: number;

  constructor(
    config: Config,
    tables: Tables,
    private readonly capture: Capture,
    names: readonly string[],
    arrival: number,
    options: ReplayOptions,
    private readonly writer: PcapngWriter | undefined,
  ) {
    const { frames, flows } = config;
    this.counters = new WorkerCounters(0);
    this.writtenBefore = writer?.packets ?? 0;
    const block = new Float64Array(this.counters.block, 0, CounterBlock.SIZE);
    this.pool = new MemoryPool({ frameCount: FRAMES, chunkSize: frames.size });
    const nothing = readCapture(EMPTY);
    this.ports = names.map((name, index) => {
      const hostPath = config.interfaces[index]?.hostPath ?? true;
      const common = { index, name, hostPath, burst: frames.burst, writer, outputs: options.outputs };
      return new PcapPort(this.pool, index === arrival ? capture : nothing, {
        ...common,
        lockstep: options.lockstep ?? true,
      });
    });
    this.input = this.ports[arrival];
    const snapshot = new Snapshot(tables);
    const table = new FlowTable(new Int32Array(flows.slots * FlowField.STRIDE), tables.settings.timeouts);
    this.balancer = new Balancer(table, block, FLOW_SECRET, snapshot);
    const chain = buildChain(tables, block, {
      worker: 0,
      seed: RULE_SEED,
      nowMs: () => this.input.burst.header[BurstHeader.nowMs],
    });
    this.path = new Path(
      this.pool.memory,
      frames.size,
      this.balancer,
      chain,
      tables.settings.repairChecksums,
      block,
      (error, packet) => this.note(error, packet.dataHardStart),
    );
  }

  async toEnd(words: PacketWords | null, signal: AbortSignal | undefined): Promise<void> {
    const { input, path, balancer } = this;
    let text = '';
    if (words) input.annotate = () => text;
    for (let bursts = 0; !input.done; bursts++) {
      if (bursts % TURN_BURSTS === 0) {
        signal?.throwIfAborted();
        if (bursts > 0) await turn();
      }
      const count = path.pollOnce(input);
      // The packet judged before was settled, and with it written, by this pollOnce.
      if (words) text = words.next();
      if (count > 0) balancer.sweep(input.burst.header[BurstHeader.nowMs]);
    }
    balancer.fragments.dropHeld();
    for (const port of this.ports) port.exchange();
  }

  /** A policy threw over the packet in this chunk. */
  private note(error: unknown, chunk: number): void {
    if (this.errors.length >= MAX_ERRORS) return;
    const message = error instanceof Error ? error.message : String(error);
    this.errors.push({ packet: this.input.positionIn(chunk) + 1, message });
  }

  /** All that is not in the data path's counters. */
  report() {
    const frames = this.pool.counts();
    const violations = this.counters.check();
    if (frames.free !== frames.total) {
      violations.push(`${frames.total - frames.free} of ${frames.total} frames did not come back`);
    }
    return {
      captured: this.capture.length,
      tooLong: this.input.counters[PortCounter.kernelRxDropped],
      written: (this.writer?.packets ?? 0) - this.writtenBefore,
      errors: this.errors,
      damage: this.capture.damage?.message ?? null,
      durationMs: this.input.clockMs,
      violations,
    };
  }
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

function openOutput({ input, output }: ReplayOptions): PcapngWriter | undefined {
  if (typeof output !== 'string') return output;
  if (typeof input === 'string' && sameFile(input, output)) {
    throw new SluiceError('SLUICE_USAGE', `${output} is the capture that is read`, 'Write to another file.');
  }
  return PcapngWriter.open(output);
}

function sameFile(a: string, b: string): boolean {
  try {
    return realpathSync(a) === realpathSync(b);
  } catch {
    // The output is not there yet.
    return false;
  }
}
