/** Loads of packets by live frames: every byte of them, how many, how fast, and that they end. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { GenOptions } from '../../src/cli/commands/gen_options.js';
import { encodeU32 } from '../../src/control/bpf_layout.js';
import type { KernelError, SluiceError } from '../../src/errors.js';
import type { LoadResult } from '../../src/generator/engine.js';
import { fold, frameTemplate } from '../../src/generator/frame.js';
import { LiveEngine } from '../../src/generator/live.js';
import type { Load } from '../../src/generator/load.js';
import { State, varyProgram } from '../../src/generator/vary.js';
import { native, packageRoot, type BpfMap } from '../../src/native.js';
import type { Namespace } from '../../src/playground/netns.js';
import { enterForTest } from '../support/bpf.js';
import { AddonChild, compileBpf, until } from '../support/bpf_child.js';
import { bpfIdsOf, bpfObjects } from '../support/daemon_kernel.js';
import {
  builtFrame,
  countFlows,
  hex,
  loadOf,
  RANDOM_FLOWS,
  RANDOM_KEYS,
  SHAPES,
  tenFrames,
} from '../support/generated_frames.js';
import { testPlayground } from '../support/netns.js';

const load = (options: Partial<GenOptions>): Load => loadOf('live', options);

/** The first frames of a load, by test runs that send nothing; each is run on what the one before it has left. */
function frames(of: Load, count: number): Uint8Array[] {
  const template = frameTemplate(of, of.sizes[0].bytes);
  const state = native().createMap({ type: 2, name: 'gen_state', keySize: 4, valueSize: State.BYTES, maxEntries: 1 });
  onTestFinished(() => state.close());
  const instructions = varyProgram(of, template, 0, state.fd);
  const program = native().loadProgram({ type: 'xdp', name: 'sluice_gen', license: 'GPL', instructions });
  onTestFinished(() => program.close());
  // As a receiver may leave a frame: nothing of its headers is right any more.
  const data = template.bytes.slice().fill(0xaa, 0, template.headerBytes);
  return Array.from({ length: count }, () => {
    const run = program.testRun({ data });
    expect(run.retval).toBe(3);
    return run.data;
  });
}

describe('frames', () => {
  it.each(SHAPES)('of $template to $dst $outerDst: addresses, then ports, then again', (shape) => {
    const [options, expected] = tenFrames(shape);
    expect(frames(load(options), 10).map(hex)).toEqual(expected.map(hex));
  });

  it('by chance are of all flows and of no other', () => {
    const seen = countFlows(frames(load(RANDOM_FLOWS), 2000));
    expect([...seen.keys()].sort()).toEqual(RANDOM_KEYS);
    expect(Math.min(...seen.values())).toBeGreaterThan(40);
  });

  it('of UDP have 0xffff for a checksum that comes to 0', () => {
    const options = { src: '198.18.0.1', dport: '53' };
    const [{ sum }] = frameTemplate(load(options), 64).checksums;
    const sport = 0xffff - fold(sum + 0xc612 + 0x0001);
    const [frame] = frames(load({ ...options, sport: `${sport}` }), 1);
    expect((frame[40] << 8) | frame[41]).toBe(0xffff);
    expect(frame).toEqual(builtFrame(options, '198.18.0.1', sport));
  });
});

/** Counts frames by source address and port, and by size; drops all. */
const COUNTER = `
struct flow { __u32 address; __u32 port; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 65536); __type(key, struct flow); __type(value, __u64); } flows SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4096); __type(key, __u32); __type(value, __u64); } sizes SEC(".maps");
SEC("xdp") int count_all(struct xdp_md *ctx) {
  unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  if (data + 42 > end) return XDP_ABORTED;
  struct flow key = { *(__u32 *)(data + 26), *(__u16 *)(data + 34) };
  __u32 size = end - data;
  __u64 one = 1, *value = bpf_map_lookup_elem(&flows, &key);
  if (value) __sync_fetch_and_add(value, 1); else bpf_map_update_elem(&flows, &key, &one, BPF_NOEXIST);
  value = bpf_map_lookup_elem(&sizes, &size);
  if (value) __sync_fetch_and_add(value, 1);
  return XDP_DROP;
}`;

describe('a load', () => {
  let here: Namespace;
  let there: Namespace;
  let flows: BpfMap;
  let sizes: BpfMap;

  /** This thread is where va is; vb, in another namespace, counts. */
  beforeEach(() => {
    const playground = testPlayground();
    here = playground.namespace('a');
    there = playground.namespace('b');
    playground.veth({ namespace: here, name: 'va' }, { namespace: there, name: 'vb' });
    for (const namespace of [here, there]) namespace.sysctl({ 'net/ipv6/conf/all/disable_ipv6': 1 });
    here.ip('link set va up');
    there.ip('link set vb up');
    enterForTest(there);
    const object = new (native().BpfObject)(compileBpf('count', COUNTER));
    object.load();
    const link = object.attachXdp('count_all', native().linkInfo('vb').ifindex, 'native');
    onTestFinished(() => (link.close(), object.close()));
    [flows, sizes] = [object.map('flows'), object.map('sizes')];
    enterForTest(here);
  });

  const number = (value: Uint8Array | null): number => (value ? new DataView(value.buffer, value.byteOffset).getUint32(0, true) : 0); // prettier-ignore
  const perFlow = (): number[] => flows.keys().map((key) => number(flows.lookup(key)));
  const arrived = (): number => perFlow().reduce((sum, count) => sum + count, 0);
  const ofSize = (bytes: number): number => number(sizes.lookup(encodeU32(bytes)));
  async function run(options: Partial<GenOptions>): Promise<LoadResult> {
    return (await new LiveEngine().start(load(options))).ended;
  }

  it('sends as many as asked, of each flow alike, and the interface has them all', async () => {
    // Slow enough for the ring between the two ends, whoever else wants the CPU.
    const result = await run({ count: '20k', rate: '200k', flows: '250', src: '198.18.0.0/25' });
    expect(result).toMatchObject({ packets: 20_000, bytes: 1_280_000, ended: 'count', sent: 20_000, dropped: 0 });
    expect(perFlow()).toEqual(new Array(250).fill(80));
    expect(ofSize(64)).toBe(20_000);
  });

  it('mixes sizes as their weights say', async () => {
    const result = await run({ count: '120k', rate: '200k', size: 'imix' });
    expect(result.bySize.map(({ packets }) => packets).reduce((a, b) => a + b)).toBe(120_000);
    const shares = result.bySize.map(({ bytes, packets }) => {
      expect(ofSize(bytes)).toBe(packets);
      return packets / 120_000;
    });
    // Off by at most one row of the most frequent size: 7 × 1,024 packets (kMixRun of native/live_frames.cc).
    [7 / 12, 4 / 12, 1 / 12].forEach((share, i) => expect(Math.abs(shares[i] - share)).toBeLessThan(0.06));
  });

  it('keeps to its rate, and ends in time without a count', async () => {
    const begin = performance.now();
    const { packets, elapsedMs, ended } = await run({ rate: '20k', duration: '600ms' });
    expect(ended).toBe('time');
    expect(elapsedMs).toBeGreaterThanOrEqual(600);
    expect(performance.now() - begin).toBeLessThan(10_000);
    // Never more than the rate allows; less only as far as others took the CPU for long.
    expect(packets).toBeLessThanOrEqual(20 * elapsedMs + 1);
    expect(packets).toBeGreaterThan(20 * 600 * 0.3);
    expect(arrived()).toBe(packets);
  });

  it('goes as fast as it can without a rate, leaves the event loop free, and says what the ring had no room for', async () => {
    const running = await new LiveEngine().start(load({ duration: '400ms', cpu: '0' }));
    let turns = 0;
    const timer = setInterval(() => turns++, 5);
    const result = await running.ended;
    clearInterval(timer);
    expect(turns).toBeGreaterThan(10);
    expect(result.packets).toBeGreaterThan(5000);
    expect(result.sent + result.dropped).toBe(result.packets);
    expect(arrived()).toBe(result.sent);
    expect(result.cpuMs).toBeGreaterThan(0);
    expect(result.cpuMs).toBeLessThanOrEqual(result.elapsedMs * 1.05);
  });

  it('ends when it is told to, and leaves nothing in the kernel', async () => {
    const before = bpfIdsOf(process.pid);
    const running = await new LiveEngine().start(load({ rate: '10k' }));
    await until(() => running.progress().packets > 100);
    const begin = performance.now();
    running.stop();
    expect((await running.ended).ended).toBe('stopped');
    expect(performance.now() - begin).toBeLessThan(5000);
    const after = arrived();
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(arrived()).toBe(after);
    expect(bpfIdsOf(process.pid)).toEqual(before);
  });

  it.each(['SIGKILL', 'exit'])('ends with its process: %s', async (how) => {
    const child = new AddonChild(
      `const instructions = Buffer.from('b4000000030000009500000000000000', 'hex');
       const program = addon.loadProgram({ type: 'xdp', name: 'back', license: 'GPL', instructions });
       const frame = new Uint8Array(64);
       const { ifindex } = addon.linkInfo('va');
       const load = new addon.LiveFrames({ parts: [{ program: program.fd, frame }], ifindex, durationMs: 60000, packetsPerSecond: 5000 });
       program.close();
       setInterval(() => { if (load.progress().packets > 50) say('sends'); }, 10);
       if (args[0] === 'exit') setTimeout(() => process.exit(3), 700);`,
      [how],
      here.name,
    );
    await child.said('sends');
    const ids = bpfIdsOf(child.process.pid!);
    expect(ids.some((id) => id.startsWith('link'))).toBe(true);
    if (how === 'SIGKILL') child.process.kill('SIGKILL');
    expect((await child.ended).code).toBe(how === 'exit' ? 3 : null);
    const after = arrived();
    expect(after).toBeGreaterThan(50);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(arrived()).toBe(after);
    await until(() => bpfObjects().every((id) => !ids.includes(id)));
  });

  it('ends with the worker thread that began it', async () => {
    const before = bpfIdsOf(process.pid);
    const worker = new Worker(
      `const addon = require(${JSON.stringify(join(packageRoot, 'build', 'Release', 'sluice.node'))});
       const instructions = Buffer.from('b4000000030000009500000000000000', 'hex');
       const program = addon.loadProgram({ type: 'xdp', name: 'back', license: 'GPL', instructions });
       const { ifindex } = addon.linkInfo('va');
       globalThis.load = new addon.LiveFrames({ parts: [{ program: program.fd, frame: new Uint8Array(64) }], ifindex, durationMs: 60000, packetsPerSecond: 5000 });
       setInterval(() => undefined, 1000);`,
      { eval: true },
    );
    onTestFinished(() => void worker.terminate());
    await until(() => arrived() > 50, 10_000);
    await worker.terminate();
    const after = arrived();
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(arrived()).toBe(after);
    expect(bpfIdsOf(process.pid)).toEqual(before);
  });

  it('is refused, or ends, with the reason', async () => {
    here.ip('link set va mtu 1000');
    const refused = async (options: Partial<GenOptions>): Promise<string> => {
      const error = (await run(options).catch((cause: unknown) => cause)) as SluiceError;
      return `${error.code}: ${error.message} | ${error.remedy}`;
    };
    expect(await refused({ size: '1514' })).toMatch(
      /^SLUICE_USAGE: frames of 1514 bytes do not fit the MTU of va, 1000 \| Send 1014 bytes at most/,
    );
    here.ip('link set va down');
    expect(await refused({})).toBe('SLUICE_DEVICE: va is down | Run: ip link set va up');
    expect(await refused({ interface: 'nil0' })).toMatch(/^ENODEV: .*nil0/);

    const frame = new Uint8Array(64);
    const start = (options: object) => () => new (native().LiveFrames)({ parts: [{ program: 0, frame }], ifindex: 1, durationMs: 100, ...options }); // prettier-ignore
    expect(start({ durationMs: 0 })).toThrow(/durationMs must be a whole number from 1 to 3600000/);
    expect(start({ durationMs: undefined })).toThrow(/durationMs must be a number/);
    expect(start({ parts: [] })).toThrow(/parts must have 1 to 16/);
    expect(start({ parts: [{ program: 4095, frame }] })).toThrow(/EBADF/);
    expect(start({ parts: [{ program: 0, frame: new Uint8Array(13) }] })).toThrow(/14 to 4096 bytes/);
    expect(start({ batchSize: 257 })).toThrow(/batchSize/);
    expect(start({ counters: 4095 })).toThrow(/EBADF.*/);
    expect(start({ cpu: 1023 })).toThrow(/EINVAL.*/);
    expect(start({ packetsPerSecond: -1 })).toThrow(/packetsPerSecond/);
    // Standard input is no program: known when it is run.
    const wrong = start({})();
    onTestFinished(() => wrong.close());
    await until(() => {
      try {
        return !wrong.progress().running;
      } catch (error) {
        expect((error as KernelError).syscall).toBe('bpf');
        return true;
      }
    });
    expect(() => wrong.progress()).toThrow(/attach to a loopback interface/);
    wrong.close();
    expect(() => wrong.progress()).toThrow(/the load is closed/);
  });
});
