/** The walk through the cache of flows: who is told of what, what is taken out, and in how much time. */
import { describe, expect, it } from 'vitest';
import {
  encodeFlowKey,
  encodeFlowValue,
  FLOW_KEY_BYTES,
  FLOW_VALUE_BYTES,
} from '../../src/control/ebpf/flow_layout.js';
import { FlowWalk, type WalkedCache } from '../../src/control/manager/flow_walk.js';
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

/** A map as the kernel's, read in the order of insertion. */
class FakeCache implements WalkedCache {
  readonly maps = { 4: new Map<string, Uint8Array>(), 6: new Map<string, Uint8Array>() };
  reads = 0;

  set({ family = 4, protocol = 17, ports, seenMs, backend = 3, generation = 7, worker = 0 }: Flow): void {
    const key = encodeFlowKey({ family, protocol, ports, src: SRC[family], dst: DST[family] });
    const value = { seenMs, backend, generation, worker, sport: 0, label: 0, host: 0 };
    this.maps[family].set(Buffer.from(key).toString('latin1'), encodeFlowValue(value));
  }

  read(family: 4 | 6, keys: Uint8Array, values: Uint8Array, from: number | null) {
    this.reads++;
    const bytes = FLOW_KEY_BYTES[family];
    const room = keys.length / bytes;
    const entries = [...this.maps[family]].slice(from ?? 0, (from ?? 0) + room);
    entries.forEach(([key, value], i) => {
      keys.set(Buffer.from(key, 'latin1'), i * bytes);
      values.set(value, i * FLOW_VALUE_BYTES);
    });
    return { count: entries.length, next: entries.length < room ? null : (from ?? 0) + room };
  }

  removeMany(family: 4 | 6, keys: Uint8Array): void {
    const bytes = FLOW_KEY_BYTES[family];
    for (let at = 0; at < keys.length; at += bytes) {
      this.maps[family].delete(Buffer.from(keys.subarray(at, at + bytes)).toString('latin1'));
    }
  }

  get size(): number {
    return this.maps[4].size + this.maps[6].size;
  }
}

function rig({ records = 64, perCallMs = 0, tells = [0] } = {}) {
  const cache = new FakeCache();
  const rings = new Map(tells.map((worker) => [worker, new FlowRing(flowRingMemory(records))]));
  let ms = 0;
  const walk = new FlowWalk({
    cache,
    idle: { tcpMs: 300_000, udpMs: 30_000 },
    keeps: (backend, generation) => backend === 3 && generation === 7,
    tell: (worker) => rings.get(worker) ?? null,
    clock: () => (ms += perCallMs),
  });
  const told = (worker = 0): Int32Array[] => {
    const ring = rings.get(worker)!;
    const all: Int32Array[] = [];
    while (ring.take()) all.push(Int32Array.from(ring.record));
    return all;
  };
  return { cache, walk, told };
}

const portsOf = (records: Int32Array[]): number[] => records.map((record) => record[FlowRecord.ports]);

describe('a walk', () => {
  it('tells workers of what was seen since the round before, a second later than written, and never of the future', () => {
    const { cache, walk, told } = rig({ tells: [0, 5] });
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
    const { reads } = cache;
    walk.turn(2999);
    expect(cache.reads).toBe(reads);
    cache.set({ ports: 80, seenMs: 2500 });
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
    // The first batch is behind, and one of its flows has a packet now.
    cache.set({ ports: 1, seenMs: 10_010 });
    for (let now = 10_050; walk.rounds < 2; now += 50) walk.turn(now);
    expect(portsOf(told())).toEqual([]);
    walk.turn(12_000);
    expect(portsOf(told())).toEqual([1]);
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
    const left = [...cache.maps[4].keys(), ...cache.maps[6].keys()].map((key) =>
      Buffer.from(key, 'latin1').readUInt32BE(key.length - 8),
    );
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
    expect(heard).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    expect(now - 10_000).toBe(50 * 16);
    for (let i = 0; i < 1000; i++) cache.set({ ports: i, seenMs: 12_990 });
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
    const { cache, walk } = rig({ perCallMs: 1, records: 16384 });
    for (let i = 0; i < 5000; i++) cache.set({ ports: i, seenMs: 0 });
    let turns = 0;
    let most = 0;
    for (let now = 1000; walk.rounds === 0; now += 50) {
      const { reads } = cache;
      walk.turn(now);
      most = Math.max(most, cache.reads - reads);
      turns++;
    }
    expect(walk.flows).toBe(5000);
    // A batch has 512, and the clock says that each takes a millisecond.
    expect([most, turns]).toEqual([2, 7]);
  });
});
