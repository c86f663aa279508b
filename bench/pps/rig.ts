/**
 * Where packets a second are timed: a generator on CPU 0, the program under test on CPU 1, a sink.
 *
 *     gen g0 ── d0 node d1 ── s0 sink
 *
 * XDP programs at g0 and s0 drop what comes back or goes through, where the driver counts it. What comes into d0 is handled on the generator's CPU, what leaves by d1
 * or d0 on the program's own, as on a machine with one queue a core.
 */
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { BenchReport } from '../../src/bench/run.js';
import { balancingTables } from '../../src/bench/tables.js';
import type { LoadResult } from '../../src/generator/engine.js';
import { FrameWriter } from '../../src/generator/writer.js';
import { packageRoot } from '../../src/native.js';
import type { Playground } from '../../src/playground/netns.js';
import { type Namespace } from '../../src/playground/netns.js';
import { parseLine, type ChildProgram } from '../../src/playground/process.js';
import { parseAddress, parseMac } from '../../src/shared/addr.js';
import { ChildError } from '../process.js';
import { attach, line, ready, START_MS, startRig } from '../rig.js';
import { BACKENDS, destinationPort, leavesBy, MACS, PORT, RULES, VIP, type PpsCase } from './cases.js';
import { loadOf, type SenderRequest } from './sender.js';
import { writeTables } from './tables_file.js';

const HERE = dirname(fileURLToPath(import.meta.url));
/** Longest time until counters stand still after a load. */
const SETTLE_MS = 5000;
/** Between two reports of a program. */
const REPORT_MS = 50;
const CHUNK = 2048;

/** What the driver has counted of an interface's XDP program, and of packets that it could not hand over. */
export interface LinkCounts {
  packets: number;
  bytes: number;
  drops: number;
  /** Sent, and not taken by the other end. */
  txDropped: number;
}

/** A program under test, at work. */
export class Subject {
  /** What it said when its counts last stood still. */
  rest: BenchReport | null = null;
  /** Hears of each report. */
  onReport: ((report: BenchReport) => void) | null = null;
  private last: BenchReport | null = null;

  constructor(
    readonly name: string,
    private readonly program: ChildProgram,
  ) {
    program.on('line', (line) => {
      const report = parseLine(line);
      if (!report || !('seconds' in report)) return;
      this.last = report as BenchReport;
      this.onReport?.(this.last);
    });
  }

  /** Its next report. @throws ChildError when it has ended */
  async next(): Promise<BenchReport> {
    const before = this.last;
    const deadline = performance.now() + SETTLE_MS;
    while (this.last === before || this.last === null) {
      if (!this.program.running) throw new ChildError(`${this.name} ended:\n${this.program.errorOutput}`);
      if (performance.now() > deadline) throw new ChildError(`${this.name} says nothing any more`);
      await pause(REPORT_MS / 5);
    }
    return this.last;
  }

  /** A report whose counts are those of the one before. */
  async settled(): Promise<BenchReport> {
    const deadline = performance.now() + SETTLE_MS;
    // The kernel's counters come in every 100 ms.
    for (let quiet = 0, before = await this.next(); ;) {
      const now = await this.next();
      quiet = now.rx === before.rx && now.tx === before.tx && now.missed === before.missed ? quiet + 1 : 0;
      if (quiet >= 3) return (this.rest = now);
      if (performance.now() > deadline) throw new ChildError(`${this.name}: counters do not come to rest`);
      before = now;
    }
  }

  /** Ends it; its last report. */
  async end(): Promise<BenchReport> {
    await this.program.stop(START_MS);
    if (!this.last?.final) throw new ChildError(`${this.name} ended without a report:\n${this.program.errorOutput}`);
    return this.last;
  }
}

export class PpsRig {
  private constructor(
    private readonly playground: Playground,
    private readonly gen: Namespace,
    readonly node: Namespace,
    private readonly sink: Namespace,
    private readonly sender: ChildProgram,
    private readonly kernel: ChildProgram,
  ) {}

  /** @throws ChildError where there is no root, or one CPU */
  static start(): Promise<PpsRig> {
    return startRig('pps', 2, (playground) => PpsRig.build(playground));
  }

  private static async build(playground: Playground): Promise<PpsRig> {
    const { gen, node, sink } = line(playground, MACS);
    const child = (namespace: Namespace, cpu: number, file: string, ...args: string[]): ChildProgram =>
      playground.start(namespace, 'taskset', ['-c', String(cpu), process.execPath, join(HERE, file), ...args], {
        label: file,
      });
    const sender = child(gen, 0, 'sender.js', '--serve');
    const [atGen, kernel, atSink] = [gen, node, sink].map((namespace) => child(namespace, 1, 'kernel.js'));
    await Promise.all([sender, atGen, kernel, atSink].map(ready));
    await attach(atGen, { interface: 'g0', program: 'drop' });
    await attach(atSink, { interface: 's0', program: 'drop' });
    writeTables(playground.path('lb.tables'), tables());
    return new PpsRig(playground, gen, node, sink, sender, kernel);
  }

  /** Has an XDP program do the job, or none. */
  async inKernel(wanted: PpsCase | null): Promise<void> {
    const program =
      wanted === null ? null : ({ rxdrop: 'drop', l2fwd: 'tx', forward: 'redirect' } as const)[wanted.mode as 'rxdrop'];
    await attach(this.kernel, { interface: 'd0', program, to: 'd1' });
  }

  /** Starts the program of a case that is not the kernel's; resolves when packets can come. */
  async subject(wanted: PpsCase): Promise<Subject> {
    const [command, args] = this.commandLine(wanted);
    const program = this.playground.start(this.node, 'taskset', ['-c', '1', command, ...args], { label: wanted.name });
    const subject = new Subject(wanted.name, program);
    await ready(program);
    return subject;
  }

  private commandLine({ mode, by, poll }: PpsCase): [string, string[]] {
    const interfaces = leavesBy(mode) === 'd1' ? ['-i', 'd0', '-i', 'd1'] : ['-i', 'd0'];
    const common = [...interfaces, ...(poll ? ['-p'] : [])];
    if (by === 'c') {
      const own: Partial<Record<PpsCase['mode'], string[]>> = {
        txonly: ['-P', Buffer.from(txFrame()).toString('hex')],
        lb: ['-T', this.playground.path('lb.tables')],
        filter: ['-R', String(RULES)],
      };
      return [join(packageRoot, 'build/bench', mode), [...common, '-n', String(REPORT_MS), ...(own[mode] ?? [])]];
    }
    const own: Partial<Record<PpsCase['mode'], string[]>> = {
      txonly: ['-G', MACS.g0, '--dst', VIP],
      lb: ['-G', MACS.s0, '--dst', VIP, '--dport', String(PORT), '--backends', String(BACKENDS)],
      filter: ['-R', String(RULES)],
    };
    const main = join(HERE, '../../src/cli/main.js');
    return [
      process.execPath,
      [main, 'bench', mode, ...common, '--json', '-n', `${REPORT_MS}ms`, '--copy', ...(own[mode] ?? [])],
    ];
  }

  /** Starts a program on the CPU of those under test. */
  start(label: string, command: string, args: readonly string[]): ChildProgram {
    return this.playground.start(this.node, 'taskset', ['-c', '1', command, ...args], { label });
  }

  /** A file that goes with the rig. */
  path(name: string): string {
    return this.playground.path(name);
  }

  async send(wanted: PpsCase, durationMs: number, packetsPerSecond: number): Promise<LoadResult> {
    const answer = this.sender.message<{ result?: LoadResult }>(
      ({ result }) => result !== undefined,
      durationMs + START_MS,
    );
    const request: SenderRequest = {
      interface: 'g0',
      destinationMac: MACS.d0,
      destinationPort: destinationPort(wanted.mode),
      durationMs,
      packetsPerSecond,
    };
    this.sender.send(request);
    return (await answer).result!;
  }

  /** What came to the other end of the interface that the mode sends by, and what that interface could not hand over. */
  peer(wanted: PpsCase): LinkCounts {
    const by = leavesBy(wanted.mode);
    if (by === null) return linkCounts(this.node, 'd0', this.node, 'd0');
    return by === 'd0' ? linkCounts(this.gen, 'g0', this.node, 'd0') : linkCounts(this.sink, 's0', this.node, 'd1');
  }

  /** The same once it no longer moves. */
  async settledPeer(wanted: PpsCase): Promise<LinkCounts> {
    const deadline = performance.now() + SETTLE_MS;
    for (let before = this.peer(wanted); ;) {
      await pause(20);
      const now = this.peer(wanted);
      if (now.packets === before.packets && now.txDropped === before.txDropped) return now;
      if (performance.now() > deadline) throw new ChildError(`${wanted.name}: packets do not stop to arrive`);
      before = now;
    }
  }

  close(): Promise<void> {
    return this.playground.close();
  }
}

function linkCounts(receiver: Namespace, name: string, from: Namespace, by: string): LinkCounts {
  const said = receiver.exec('ethtool', '-S', name);
  const counter = (what: string): number => Number(new RegExp(`rx_queue_0_${what}: (\\d+)`).exec(said)?.[1]);
  const [link] = from.query<{ stats64: { tx: { dropped: number } } }[]>('link', 'show', 'dev', by);
  return {
    packets: counter('xdp_packets'),
    bytes: counter('xdp_bytes'),
    drops: counter('xdp_drops'),
    txDropped: link.stats64.tx.dropped,
  };
}

/** The tables of `sluice bench lb` between these interfaces. */
export function tables(): ReturnType<typeof balancingTables> {
  const service = { vip: parseAddress(VIP), port: PORT, backends: BACKENDS, destinationMac: parseMac(MACS.s0) };
  return balancingTables(service, ['d0', 'd1'], parseMac(MACS.d1));
}

/** The frame of `sluice bench txonly` out of d0. */
function txFrame(): Uint8Array {
  const request = {
    interface: 'd0',
    destinationMac: MACS.g0,
    destinationPort: PORT,
    durationMs: 1,
    packetsPerSecond: 0,
  };
  const memory = new ArrayBuffer(CHUNK);
  const length = new FrameWriter({ ...loadOf(request, parseMac(MACS.d0)), flows: 1 }, memory, CHUNK).write(0);
  return new Uint8Array(memory, 0, length);
}
