/** Limits in the kernel against the data plane's: the same packets at the same times, verdict by verdict. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { Assembler, encode, Label } from '../../src/control/ebpf/assembler.js';
import { emitEntry } from '../../src/control/ebpf/from_cbpf.js';
import { Alu, Reg } from '../../src/control/ebpf/instruction.js';
import { PLAIN } from '../../src/control/ebpf/offload/kinds.js';
import { emitLimit } from '../../src/control/ebpf/offload/limit.js';
import { creditOf } from '../../src/control/ebpf/offload/limit_credit.js';
import { LimitMaps } from '../../src/control/ebpf/offload/limit_maps.js';
import { emitPlain } from '../../src/control/ebpf/offload/plain.js';
import { limitSpecOf } from '../../src/control/mitigation/limit_spec.js';
import { LimiterShelf } from '../../src/dataplane/mitigate/limiters.js';
import { native, type BpfMap } from '../../src/native.js';
import type { RuleLimitConfig } from '../../src/shared/config.js';
import type { LimitSpec } from '../../src/shared/layout.js';
import { allocateHashLimit } from '../../src/shared/limits/hash_limit.js';
import { parseRate } from '../../src/shared/limits/rate.js';
import { allocateBucket } from '../../src/shared/limits/shared_bucket.js';
import { randomSource, type Random } from '../support/cbpf_programs.js';
import { PacketBuilder } from '../support/packet_builder.js';
import { parsed } from '../support/packets.js';

const ARRAY = 2;
const [WITHIN, OVER, LEFT] = [0, 1, 2];
const START = 5_000_000;
const seed = Number(process.env.SEED ?? 20261122);

let ids = 0;
function specOf(limit: Omit<RuleLimitConfig, 'rate'> & { rate: string }): LimitSpec {
  const wanted = limitSpecOf({ ...limit, rate: parseRate(limit.rate) });
  return wanted.kind === 'hash'
    ? { id: ++ids, kind: 'hash', shared: allocateHashLimit(wanted.spec) }
    : { id: ++ids, kind: 'bucket', shared: allocateBucket(wanted.spec, 1) };
}

/** One limit, alone in a program, with a clock that the test sets. */
class InKernel {
  readonly maps: LimitMaps;
  private readonly clock: BpfMap;
  private readonly program;
  nowMs = START;

  constructor(
    readonly spec: LimitSpec,
    maps?: LimitMaps,
  ) {
    this.maps = maps ?? new LimitMaps(undefined, () => this.nowMs);
    this.clock = native().createMap({ type: ARRAY, name: 'clock', keySize: 4, valueSize: 8, maxEntries: 1 });
    const asm = new Assembler();
    const leave = new Label();
    const over = new Label();
    const end = (value: number): void => {
      asm.alu32(Alu.MOV, Reg.r0, value);
      asm.exit();
    };
    emitEntry(asm);
    const labels = PLAIN.map(() => new Label());
    const find = (family: number, protocol: number | null): number =>
      PLAIN.findIndex((kind) => kind.family === family && kind.protocol === protocol);
    emitPlain(asm, (family, protocol) => labels[find(family, protocol)], leave);
    for (const [i, kind] of PLAIN.entries()) {
      asm.place(labels[i]);
      emitLimit(asm, spec, { kind, map: this.maps.of(spec), clock: this.clock.fd }, over);
      end(WITHIN);
    }
    asm.place(over);
    end(OVER);
    asm.place(leave);
    end(LEFT);
    this.program = native().loadProgram({
      ...{ type: 'xdp', name: 'test_limit', license: 'Apache-2.0' },
      instructions: encode(asm.instructions()),
    });
    onTestFinished(() => {
      this.program.close();
      this.clock.close();
      this.maps.close();
    });
  }

  judge(data: Uint8Array, nowMs: number): number {
    this.nowMs = nowMs;
    this.clock.update(new Uint8Array(4), new Uint8Array(BigUint64Array.of(BigInt(nowMs)).buffer));
    return this.program.testRun({ data }).retval;
  }
}

interface Sequence {
  /** Sources, destinations, ports of either end. */
  keys?: [number, number, number, number];
  packets?: number;
  /** Longest pause between two packets, ms. */
  pause?: number;
  /** Packets between two pauses, about. */
  batch?: number;
}

function frameOf(random: Random, [sources, destinations, sports, dports]: readonly number[]): Uint8Array {
  const [s, d] = [random(sources), random(destinations)];
  const builder = new PacketBuilder().ethernet();
  if (random(4) === 0) builder.ipv6({ src: `2001:db8:${s}::${s + 1}`, dst: `2001:db8:ffff::${d + 1}` });
  else builder.ipv4({ src: `192.0.${s}.${s + 1}`, dst: `198.51.100.${d + 1}` });
  const ports = { sport: 1024 + random(sports), dport: 50 + random(dports) };
  return (random(2) === 0 ? builder.udp(ports) : builder.tcp(ports)).payload(random(1200)).build();
}

/** Both judge the same packets. How often each verdict was given. */
function compare(spec: LimitSpec, sequence: Sequence): { within: number; over: number } {
  const { keys = [3, 2, 2, 2], packets = 1500, pause = 40, batch = 1.5 } = sequence;
  const random = randomSource(seed);
  const [[limiter]] = new LimiterShelf().load([[spec]], 0, 1);
  const kernel = new InKernel(spec);
  let now = START;
  const seen = { within: 0, over: 0 };
  for (let i = 0; i < packets; i++) {
    // The clock of the data plane's collection begins with the first packet.
    if (i > 0 && random(300) < 300 / batch) now += random(pause);
    // A long silence now and then: keys are forgotten, buckets full.
    if (random(300) === 0) now += random(4000);
    const frame = frameOf(random, keys);
    const wanted = limiter.judge(parsed(frame), now | 0) === 0 ? WITHIN : OVER;
    const got = kernel.judge(frame, now);
    if (got !== wanted) expect.fail(`packet ${i} at ${now - START} ms, seed ${seed}: ${got} instead of ${wanted}`);
    seen[got === WITHIN ? 'within' : 'over']++;
  }
  return seen;
}

describe('a limit in the kernel says what the one of the data plane says', () => {
  it.each<[string, Parameters<typeof specOf>[0], Sequence]>([
    ['packets by source', { rate: '20/second', per: ['src'] }, {}],
    ['with a burst', { rate: '15/second', burst: 40, per: ['src'] }, { pause: 15 }],
    ['that do not divide a second', { rate: '7/second', burst: 3, per: ['src'] }, {}],
    ['thousands a second', { rate: '3000/second', burst: 5, per: ['src'] }, { pause: 2, batch: 30 }],
    ['by the minute', { rate: '100/minute', burst: 10, per: ['src'] }, { pause: 300 }],
    ['by prefixes', { rate: '5/second', per: ['src'], srcMask4: 23, srcMask6: 46 }, { keys: [9, 2, 2, 2] }],
    ['by destination', { rate: '30/second', per: ['dst'], dstMask4: 31 }, { keys: [5, 4, 2, 2] }],
    ['by source port', { rate: '20/second', per: ['sport'] }, { keys: [2, 2, 4, 2] }],
    ['by destination port', { rate: '20/second', per: ['dport'] }, { keys: [2, 2, 2, 4] }],
    ['by all of them', { rate: '3/second', per: ['src', 'dst', 'sport', 'dport'] }, {}],
    ['bytes by source', { rate: '10kb/s', per: ['src'] }, {}],
    ['bytes with a burst', { rate: '4kb/s', burst: 20_000, per: ['src'] }, { pause: 15 }],
    ['a few bytes', { rate: '100b/s', per: ['src'] }, {}],
    ['one rate for all', { rate: '125/second', burst: 30, per: [] }, { pause: 10 }],
    ['one rate for all, by the default burst', { rate: '500/second', per: [] }, { pause: 4 }],
    ['one rate of bytes for all', { rate: '125b/s', burst: 64, per: [] }, { pause: 4000 }],
  ])('%s', (_, limit, sequence) => {
    const { within, over } = compare(specOf(limit), sequence);
    expect(Math.min(within, over)).toBeGreaterThan(20);
  });

  it('with keys that are forgotten before their burst is back', () => {
    const spec = specOf({ rate: '1/minute', burst: 4, per: ['src'] });
    if (spec.kind !== 'hash') throw new Error('not by key');
    const run = { ...spec.shared.run, expireMs: 900, gcIntervalMs: 400 };
    const short: LimitSpec = { ...spec, shared: { ...spec.shared, run } };
    const { within, over } = compare(short, { pause: 300 });
    expect(Math.min(within, over)).toBeGreaterThan(100);
  });

  it('takes no new keys into a full table, and has their places back when they are forgotten', () => {
    const spec = specOf({ rate: '1/second', burst: 2, per: ['src'], max: 4 });
    const kernel = new InKernel(spec);
    const [[limiter]] = new LimiterShelf().load([[spec]], 0, 1);
    const from = (host: number): Uint8Array =>
      new PacketBuilder()
        .ethernet()
        .ipv4({ src: `192.0.2.${host}`, dst: '198.51.100.1' })
        .udp({})
        .build();
    const both = (host: number, now: number): number[] => [
      limiter.judge(parsed(from(host)), now | 0) === 0 ? WITHIN : OVER,
      kernel.judge(from(host), now),
    ];
    for (const host of [1, 2, 3, 4]) expect(both(host, START)).toEqual([WITHIN, WITHIN]);
    for (const host of [5, 6]) expect(both(host, START)).toEqual([OVER, OVER]);
    expect(kernel.maps.tableFull).toBe(2);
    expect(both(4, START)).toEqual([WITHIN, WITHIN]);
    expect(both(4, START)).toEqual([OVER, OVER]);
    expect(kernel.maps.count(spec)).toBe(4);
    // One of them is still used when the others' second is over.
    expect(both(2, START + 900)).toEqual([WITHIN, WITHIN]);
    kernel.nowMs = START + 1500;
    for (let i = 0; i < 8; i++) kernel.maps.sweep();
    expect(kernel.maps.count(spec)).toBe(1);
    for (const host of [5, 6, 7]) expect(kernel.judge(from(host), START + 1500)).toBe(WITHIN);
    expect(kernel.judge(from(8), START + 1500)).toBe(OVER);
  });
});

it('what a limit has charged stays as long as the limit does', () => {
  const [spec, other] = [specOf({ rate: '1/minute', per: [] }), specOf({ rate: '1/minute', per: ['src'] })];
  const frame = frameOf(randomSource(seed), [1, 1, 1, 1]);
  const first = new InKernel(spec);
  expect([0, 1].map(() => first.judge(frame, START))).toEqual([WITHIN, OVER]);
  first.maps.of(other);
  first.maps.keepOnly([spec, other]);
  expect(new InKernel(spec, first.maps).judge(frame, START + 1000)).toBe(OVER);
  first.maps.keepOnly([other]);
  first.maps.keepOnly([other, spec]);
  expect(new InKernel(spec, first.maps).judge(frame, START + 1000)).toBe(WITHIN);
});

it('one rate for all that is faster than its look-ahead is kept to within that', () => {
  const spec = specOf({ rate: '8000/second', burst: 100, per: [] });
  const [[limiter]] = new LimiterShelf().load([[spec]], 0, 1);
  const kernel = new InKernel(spec);
  const random = randomSource(seed);
  const frame = frameOf(random, [1, 1, 1, 1]);
  let now = START;
  const granted = [0, 0];
  for (let i = 0; i < 6000; i++) {
    if (random(16) === 0) now++;
    granted[0] += limiter.judge(parsed(frame), now | 0) === 0 ? 1 : 0;
    granted[1] += kernel.judge(frame, now) === WITHIN ? 1 : 0;
    // A worker draws a millisecond's tokens ahead.
    expect(Math.abs(granted[0] - granted[1])).toBeLessThanOrEqual(8);
  }
  const most = 100 + (now - START) * 8;
  expect(granted[1]).toBeGreaterThan(most * 0.99);
  expect(granted[1]).toBeLessThanOrEqual(most);
});

describe('limits that the kernel has no numbers for', () => {
  it.each<[string, Parameters<typeof specOf>[0], boolean]>([
    ['5 an hour', { rate: '5/hour', per: ['src'] }, true],
    ['1 a day, a burst of 5', { rate: '1/day', per: ['src'] }, false],
    ['2 a day, a burst of 1', { rate: '2/day', burst: 1, per: ['src'] }, false],
    ['1 a day for all, a burst of 1000', { rate: '1/day', burst: 1000, per: [] }, true],
  ])('%s', (_, limit, fits) => {
    expect(creditOf(specOf(limit)) !== null).toBe(fits);
  });
});
