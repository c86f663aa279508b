/**
 * The jobs of `sluice bench` and the same in C (bench/reference/), between real interfaces: every packet of both leaves with the bytes that it should have, and each counts what it did.
 *
 *     gen g0 ── d0 node d1 ── s0 sink
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Mode } from '../../src/bench/modes.js';
import { FLOWS, leavesBy, PORT, RULES, VIP, type Doer } from '../../bench/pps/cases.js';
import { tables } from '../../bench/pps/rig.js';
import { loadOf } from '../../bench/pps/sender.js';
import { writeTables } from '../../bench/pps/tables_file.js';
import type { BenchReport } from '../../src/bench/run.js';
import { FrameWriter } from '../../src/generator/writer.js';
import { packageRoot } from '../../src/native.js';
import type { Namespace, Playground } from '../../src/playground/netns.js';
import { compiledProgram, parseLine, type ChildProgram } from '../../src/playground/process.js';
import { parseMac } from '../../src/shared/addr.js';
import { sendFrames, sniff } from '../support/capture_wire.js';
import { testPlayground } from '../support/netns.js';
import { internetChecksum } from '../support/packet_builder.js';

const MACS = { g0: '02:00:00:00:01:01', d0: '02:00:00:00:01:02', d1: '02:00:00:00:01:03', s0: '02:00:00:00:01:04' };
const PACKETS = 256;
/** Those of the packets of `filter` that no rule is for. */
const UNMATCHED = 16;
const ETHERNET = 14;

let directory: string;
const program = (mode: Mode): string => join(directory, mode);

/** Compiles the C programs as setup does: a warning fails the tests. */
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-reference-'));
  const flags = ['-O2', '-Wall', '-Wextra', '-Werror'];
  for (const mode of ['rxdrop', 'txonly', 'l2fwd', 'forward', 'lb', 'filter'] as const) {
    const source = join(packageRoot, 'bench/reference', `${mode}.${mode === 'lb' ? 'cc' : 'c'}`);
    const [compiler, standard] = mode === 'lb' ? ['g++', '-std=c++17'] : ['gcc', '-std=gnu11'];
    await run(compiler, [standard, ...flags, '-o', program(mode), source]);
  }
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

async function run(command: string, args: readonly string[]): Promise<void> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let errors = '';
  child.stderr.on('data', (text: Buffer) => (errors += text.toString()));
  const code = await new Promise((resolve) => child.on('close', resolve));
  expect([code, errors]).toEqual([0, '']);
}

interface Wire {
  playground: Playground;
  gen: Namespace;
  node: Namespace;
  sink: Namespace;
}

function wire(): Wire {
  const playground = testPlayground();
  const [gen, node, sink] = ['gen', 'node', 'sink'].map((role) => playground.namespace(role));
  playground.veth({ namespace: gen, name: 'g0' }, { namespace: node, name: 'd0' });
  playground.veth({ namespace: node, name: 'd1' }, { namespace: sink, name: 's0' });
  for (const [namespace, name] of [
    [gen, 'g0'],
    [node, 'd0'],
    [node, 'd1'],
    [sink, 's0'],
  ] as const) {
    // prettier-ignore
    namespace.sysctl({ [`net/ipv6/conf/${name}/disable_ipv6`]: 1 });
    namespace.ip(`link set ${name} address ${MACS[name]} arp off up`);
  }
  writeTables(playground.path('lb.tables'), tables());
  return { playground, gen, node, sink };
}

/** Distinct UDP packets of the bench's load, the destination ports as given, again and again. */
function frames(ports: readonly number[]): Buffer[] {
  const memory = new ArrayBuffer(2048);
  const request = {
    interface: 'g0',
    destinationMac: MACS.d0,
    destinationPort: PORT,
    durationMs: 1,
    packetsPerSecond: 0,
  };
  const writers = ports.map(
    (destinationPort) => new FrameWriter(loadOf({ ...request, destinationPort }, parseMac(MACS.g0)), memory, 2048),
  );
  return Array.from({ length: PACKETS }, (_, i) => {
    const writer = writers[i % writers.length];
    writer.forget(0);
    return Buffer.from(memory.slice(0, writer.write(0)));
  });
}

const swapped = (frame: Buffer): Buffer => Buffer.concat([frame.subarray(6, 12), frame.subarray(0, 6), frame.subarray(12)]); // prettier-ignore
const hex = (list: readonly Buffer[]): string[] => list.map((one) => one.toString('hex'));

/** Starts the job; resolves when packets can come. `end` gives its last report. */
async function start({ playground, node }: Wire, mode: Mode, by: Doer, ...more: string[]) {
  const interfaces = leavesBy(mode) === 'd1' ? ['-i', 'd0', '-i', 'd1'] : ['-i', 'd0'];
  const child: ChildProgram =
    by === 'c'
      ? playground.start(node, program(mode), [...interfaces, '-p', ...more])
      : playground.start(node, process.execPath, [compiledProgram('cli/main'), 'bench', mode, ...interfaces, '-p', '--json', ...more]); // prettier-ignore
  let last: BenchReport | undefined;
  child.on('line', (line) => (last = parseLine(line) as BenchReport));
  await child.message<{ ready?: boolean }>(({ ready }) => ready === true, 20_000);
  return {
    ended: child.ended,
    end: async (): Promise<BenchReport> => {
      const { code } = await child.stop();
      expect([code, child.errorOutput]).toEqual([0, '']);
      return last!;
    },
  };
}

/** What leaves when these come in, and the job's report. */
async function through(on: Wire, mode: Mode, by: Doer, input: Buffer[], ...more: string[]) {
  const job = await start(on, mode, by, ...more);
  const back = leavesBy(mode) === 'd0';
  const stop = await sniff(on.playground, back ? on.gen : on.sink, back ? 'g0' : 's0', 'ip');
  await sendFrames(on.gen, 'g0', input);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const report = await job.end();
  return { report, output: await stop() };
}

const BOTH = ['c', 'typescript'] as const;

it('l2fwd and forward send every packet on, the same but for its addresses, in order', async () => {
  const on = wire();
  const input = frames([PORT]);
  for (const mode of ['l2fwd', 'forward'] as const) {
    for (const by of BOTH) {
      const { report, output } = await through(on, mode, by, input);
      expect(hex(output), `${mode} ${by}`).toEqual(hex(input.map(swapped)));
      expect(report).toMatchObject({ mode, rx: PACKETS, rxBytes: PACKETS * 64, tx: PACKETS, txBytes: PACKETS * 64, dropped: 0, txLost: 0, missed: 0, final: true }); // prettier-ignore
    }
  }
});

it('forward goes both ways', async () => {
  const on = wire();
  const input = frames([PORT]);
  for (const by of BOTH) {
    const job = await start(on, 'forward', by);
    const stop = await sniff(on.playground, on.gen, 'g0', 'ip');
    await sendFrames(on.sink, 's0', input);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await job.end()).toMatchObject({ rx: PACKETS, tx: PACKETS });
    expect(hex(await stop()), by).toEqual(hex(input.map(swapped)));
  }
});

it('lb puts the same header in front of each packet in C and in TypeScript, by its flow', async () => {
  const on = wire();
  const input = frames([PORT]);
  const [c, ours] = [
    await through(on, 'lb', 'c', input, '-T', on.playground.path('lb.tables')),
    await through(on, 'lb', 'typescript', input, '-G', MACS.s0, '--dst', VIP, '--dport', String(PORT)),
  ];
  expect(hex(c.output)).toEqual(hex(ours.output));
  for (const { report } of [c, ours]) {
    expect(report).toMatchObject({
      mode: 'lb',
      rx: PACKETS,
      tx: PACKETS,
      txBytes: PACKETS * 84,
      dropped: 0,
      missed: 0,
    });
  }
  const backends = new Set<string>();
  ours.output.forEach((frame, i) => {
    const outer = frame.subarray(ETHERNET, ETHERNET + 20);
    expect(frame.subarray(ETHERNET + 20).equals(input[i].subarray(ETHERNET))).toBe(true);
    expect([frame.subarray(0, 12).toString('hex'), outer[9], outer.readUInt16BE(2)]).toEqual(['020000000104020000000103', 4, 70]); // prettier-ignore
    expect(internetChecksum(outer)).toBe(0);
    backends.add(outer.subarray(16).join('.'));
  });
  expect(backends.size).toBe(16);
  expect(FLOWS).toBeGreaterThan(PACKETS);
});

it('rxdrop drops all, filter what its rules name', async () => {
  const on = wire();
  const none = frames([PORT]);
  // The first and the last rule's port, and those next to them.
  const some = [...frames([1000, 1000 + RULES - 1]).slice(0, PACKETS - UNMATCHED), ...frames([999, 1000 + RULES]).slice(0, UNMATCHED)]; // prettier-ignore
  for (const by of BOTH) {
    const dropped = await through(on, 'rxdrop', by, none);
    expect(dropped.output).toEqual([]);
    expect(dropped.report).toMatchObject({ rx: PACKETS, dropped: PACKETS, tx: 0, missed: 0 });
    const filtered = await through(on, 'filter', by, some, '-R', String(RULES));
    expect(filtered.report).toMatchObject({ rx: PACKETS, dropped: PACKETS - UNMATCHED, tx: 0, missed: 0 });
  }
});

it('txonly sends so many of one frame, the same in C and in TypeScript', async () => {
  const on = wire();
  const [frame] = frames([PORT]);
  const request = {
    interface: 'd0',
    destinationMac: MACS.g0,
    destinationPort: PORT,
    durationMs: 1,
    packetsPerSecond: 0,
  };
  const memory = new ArrayBuffer(2048);
  new FrameWriter({ ...loadOf(request, parseMac(MACS.d0)), flows: 1 }, memory, 2048).write(0);
  const expected = Buffer.from(memory, 0, 64);
  // As the bench's packets, the other way.
  expect(expected.equals(swapped(frame))).toBe(true);
  for (const by of BOTH) {
    const stop = await sniff(on.playground, on.gen, 'g0', 'ip');
    const what = by === 'c' ? ['-P', expected.toString('hex')] : ['-G', MACS.g0, '--dst', VIP];
    const job = await start(on, 'txonly', by, '-C', '500', ...what);
    expect((await job.ended).code).toBe(0);
    expect(await job.end()).toMatchObject({ tx: 500, txBytes: 32_000, rx: 0, final: true });
    const output = hex(await stop());
    expect([output.length, ...new Set(output)], by).toEqual([500, expected.toString('hex')]);
  }
});

it('ends with the reason where a job cannot be, or its interface goes', async () => {
  const on = wire();
  const bench = (...args: string[]): ChildProgram =>
    on.playground.start(on.node, process.execPath, [
      compiledProgram('cli/main'),
      'bench',
      ...args,
      '-i',
      'd0',
      '--json',
    ]);
  const refused = bench('rxdrop', '-z', '-d', '1s');
  expect([(await refused.ended).code, refused.errorOutput]).toEqual([
    69,
    expect.stringContaining('EOPNOTSUPP') as string,
  ]);
  const job = bench('filter', '-p', '-d', '30s');
  await job.message<{ ready?: boolean }>(({ ready }) => ready === true, 20_000);
  on.node.ip('link del d0');
  expect([(await job.ended).code, job.errorOutput]).toEqual([
    69,
    expect.stringContaining('an interface is gone') as string,
  ]);
});
