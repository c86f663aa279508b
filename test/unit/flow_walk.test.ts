/** The walk through the cache of flows: who is told of what, what is taken out, and in how much time. */
import { describe, expect, it } from 'vitest';
import { FLOW_HASH_KEYS, FlowHash } from '../../src/control/ebpf/flow_hash.js';
import { FLOW_WAYS, FLOW_WORDS, FlowGeneration, FlowWord } from '../../src/control/ebpf/flow_layout.js';
import { filterWords } from '../../src/control/manager/flow_filter.js';
import { FlowSets } from '../../src/control/manager/flow_sets.js';
import { FlowWalk } from '../../src/control/manager/flow_walk.js';
import { FlowRecord, FlowRing, flowRingMemory, FlowSaying } from '../../src/shared/flow_ring.js';

interface Flow {
  family?: 4 | 6;
  protocol?: number;
  ports: number;
  seenMs: number;
  backend?: number;
  generation?: number;
  worker?: number;
}

const SRC = { 4: [0xc0000201], 6: [0x20010db8, 1, 2, 3] };
const DST = { 4: [0xc633640a], 6: [0x20010db8, 4, 5, 6] };

const HASH = new FlowHash(Array.from({ length: FLOW_HASH_KEYS }, (_, i) => 2 ** 51 + 0x7654321 * i));
const SETS = 65_536;

class Sets extends FlowSets {
  readonly memory: Int32Array;

  constructor(family: 4 | 6) {
    const words = new Int32Array(SETS * FLOW_WAYS * FLOW_WORDS[family]);
    super(family, words, new Int32Array(filterWords(SETS)), HASH);
    this.memory = words;
  }

  /** Records of all flows, in the order of their places. */
  get all(): Int32Array[] {
    const found: Int32Array[] = [];
    for (let place = 0; place < this.memory.length; place += this.stride) {
      const generation = this.generation(place);
      if (generation === (FlowGeneration.empty as number) || generation === (FlowGeneration.void as number)) continue;
      const record = new Int32Array(FlowRecord.STRIDE);
      this.read(place, record);
      found.push(record);
    }
    return found;
  }
}

function recordOf({ family = 4, protocol = 17, ports, backend = 3 }: Flow): Int32Array {
  const record = new Int32Array(FlowRecord.STRIDE);
  record[FlowRecord.what] = (FlowSaying.offer << 16) | (family << 8) | protocol;
  record.set(SRC[family], FlowRecord.src0);
  record.set(DST[family], FlowRecord.dst0);
  record[FlowRecord.ports] = ports;
  record[FlowRecord.backend] = backend;
  return record;
}

class FakeCache {
  readonly flows = { 4: new Sets(4), 6: new Sets(6) };

  set(flow: Flow): void {
    const { seenMs, backend = 3, generation = 7, worker = 0, family = 4 } = flow;
    const sets = this.flows[family];
    const place = sets.announce(recordOf(flow), worker, seenMs, () => true);
    expect(place).toBeGreaterThanOrEqual(0);
    if (generation > 0) expect(sets.enforce(place, backend, generation, seenMs)).toBe(true);
  }

  /** The program has seen a packet. */
  see(ports: number, seenMs: number): void {
    const { memory } = this.flows[4];
    memory[this.flows[4].find(recordOf({ ports, seenMs })) + FlowWord.seenMs] = seenMs;
  }

  get all(): Int32Array[] {
    return [...this.flows[4].all, ...this.flows[6].all];
  }
}

function rig({ records = 64, perCallMs = 0, tells = [0] } = {}) {
  const cache = new FakeCache();
  const rings = new Map(tells.map((worker) => [worker, new FlowRing(flowRingMemory(records))]));
  let ms = 0;
  let asked = 0;
  const walk = new FlowWalk({
    flows: cache.flows,
    idle: { tcpMs: 300_000, udpMs: 30_000 },
    keeps: (backend, generation) => {
      asked++;
      return backend === 3 && generation === 7;
    },
    tell: (worker) => rings.get(worker) ?? null,
    clock: () => (ms += perCallMs),
  });
  const told = (worker = 0): Int32Array[] => {
    const ring = rings.get(worker)!;
    const all: Int32Array[] = [];
    while (ring.take()) all.push(Int32Array.from(ring.record));
    return all;
  };
  return { cache, walk, told, asked: () => asked };
}

const portsOf = (records: Int32Array[]): number[] => records.map((record) => record[FlowRecord.ports]);

describe('a walk', () => {
  it('tells workers of what was seen since the round before, a second later than written, and never of the future', () => {
    const { cache, walk, told, asked } = rig({ tells: [0, 5] });
    cache.set({ ports: 80, seenMs: 500 });
    cache.set({ ports: 81, seenMs: 999, worker: 5 });
    cache.set({ family: 6, protocol: 6, ports: (7 << 16) | 82, seenMs: 1 });
    walk.turn(1000);
    expect([walk.rounds, walk.flows]).toEqual([1, 3]);
    const [four, six] = told();
    expect(told(5).map((record) => record[FlowRecord.seenMs])).toEqual([1000]);
    expect([...four.slice(0, 15)]).toEqual([
      (FlowSaying.seen << 16) | 0x0411,
      0xc0000201 | 0,
      ...[0, 0, 0],
      0xc633640a | 0,
      ...[0, 0, 0],
      80,
      ...[0, 0, 0, 0],
      1000,
    ]);
    expect([...six.slice(0, 10)]).toEqual([(FlowSaying.seen << 16) | 0x0606, ...SRC[6], ...DST[6], (7 << 16) | 82]);
    expect(six[FlowRecord.seenMs]).toBe(1000);

    // Nothing before two seconds are over.
    const looks = asked();
    walk.turn(2999);
    expect(asked()).toBe(looks);
    cache.see(80, 2500);
    walk.turn(3000);
    // That of 999 may have been written after it was looked at in the round that began at 1000.
    expect(told(5)).toHaveLength(1);
    expect(told().map((record) => [record[FlowRecord.ports], record[FlowRecord.seenMs]])).toEqual([[80, 3000]]);
    walk.turn(5000);
    expect(told(5)).toEqual([]);
    expect(told().map((record) => record[FlowRecord.seenMs])).toEqual([]);
  });

  it('never misses what was written while a round was under way', () => {
    const { cache, walk, told } = rig({ perCallMs: 2 });
    while (walk.rounds === 0) walk.turn(8000);
    for (let i = 0; i < 2000; i++) cache.set({ ports: i, seenMs: 0 });
    walk.turn(10_000);
    // The first sets are behind, and one of their flows has a packet now.
    const first = cache.all[0][FlowRecord.ports];
    expect([walk.rounds, portsOf(told())]).toEqual([1, []]);
    cache.see(first, 10_010);
    for (let now = 10_050; walk.rounds < 2; now += 50) walk.turn(now);
    expect(portsOf(told())).toEqual([]);
    while (walk.rounds === 2) walk.turn(12_000);
    expect(portsOf(told())).toEqual([first]);
  });

  it('takes out what is idle by its protocol, void, or announced long ago, and keeps the rest', () => {
    const { cache, walk } = rig();
    cache.set({ ports: 1, seenMs: 70_001 });
    cache.set({ ports: 2, seenMs: 69_999 });
    cache.set({ ports: 3, protocol: 6, seenMs: 1 });
    cache.set({ ports: 4, seenMs: 99_999, generation: 6 });
    cache.set({ ports: 5, seenMs: 99_999, backend: 4 });
    cache.set({ ports: 6, seenMs: 89_999, generation: 0 });
    cache.set({ ports: 7, seenMs: 90_001, generation: 0 });
    cache.set({ family: 6, ports: 8, seenMs: 1 });
    cache.set({ family: 6, ports: 9, seenMs: 99_000 });
    walk.turn(100_000);
    const left = portsOf(cache.all).sort((one, other) => one - other);
    expect(left).toEqual([1, 3, 7, 9]);
    expect(walk.flows).toBe(3);
  });

  it('waits for a worker whose ring is full, and says everything once it reads; one that never reads holds it up for a second', () => {
    const { cache, walk, told } = rig({ records: 64 });
    for (let i = 0; i < 1000; i++) cache.set({ ports: i, seenMs: 9990 });
    const heard: number[] = [];
    let now = 10_000;
    while (walk.rounds === 0) {
      walk.turn(now);
      const some = portsOf(told());
      expect(some.length).toBeLessThanOrEqual(64);
      heard.push(...some);
      now += 50;
    }
    expect(heard).toEqual(portsOf(cache.all));
    expect(new Set(heard).size).toBe(1000);
    expect(now - 10_000).toBe(50 * 16);
    for (let i = 0; i < 1000; i++) cache.see(i, 12_990);
    const startedMs = (now = 13_000);
    while (walk.rounds === 1) walk.turn((now += 50));
    expect([now - startedMs, walk.flows]).toEqual([1050, 1000]);
  });

  it('has no worker to wait for whose ring is gone', () => {
    const { cache, walk } = rig({ records: 64 });
    for (let i = 0; i < 1000; i++) cache.set({ ports: i, seenMs: 999, worker: 9 });
    walk.turn(1000);
    expect(walk.rounds).toBe(1);
  });

  it('takes a slice of each turn, and goes on where it was', () => {
    const { cache, walk, told, asked } = rig({ perCallMs: 1, records: 16384 });
    for (let i = 0; i < 5000; i++) cache.set({ ports: i, seenMs: 999 });
    let turns = 0;
    let most = 0;
    for (let now = 1000; walk.rounds === 0; now += 50) {
      const looks = asked();
      walk.turn(now);
      most = Math.max(most, asked() - looks);
      turns++;
    }
    expect(walk.flows).toBe(5000);
    expect(portsOf(told())).toEqual(portsOf(cache.all));
    // The clock says that each 16,384 units take a millisecond; a flow is 64, and the turn ends before the third.
    expect(most).toBeLessThanOrEqual(2 * (256 + FLOW_WAYS));
    expect(turns).toBeGreaterThanOrEqual(10);
    expect(turns).toBeLessThan(16);
  });

  it('leaves no void place behind the last flow of a set', () => {
    const { cache, walk } = rig({ records: 16384 });
    for (let i = 0; i < 6000; i++) cache.set({ ports: i, seenMs: i % 3 === 0 ? 99_000 : 1 });
    walk.turn(100_000);
    expect(walk.flows).toBe(2000);
    const { memory, stride } = cache.flows[4];
    let voids = 0;
    for (let set = 0; set < memory.length; set += FLOW_WAYS * stride) {
      const generations = Array.from({ length: FLOW_WAYS }, (_, way) => memory[set + way * stride]);
      const used = generations.filter((generation) => generation !== (FlowGeneration.empty as number));
      expect(used.at(-1)).not.toBe(FlowGeneration.void);
      expect(generations.slice(0, used.length)).toEqual(used);
      voids += used.filter((generation) => generation === (FlowGeneration.void as number)).length;
    }
    expect(voids).toBeGreaterThan(0);
  });
});
