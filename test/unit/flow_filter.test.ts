/** The filter in front of flows' sets: it lets the program see each flow that is there, and hardly any other. */
import { describe, expect, it } from 'vitest';
import { FLOW_HASH_KEYS, FlowHash } from '../../src/control/ebpf/flow_hash.js';
import { FLOW_WAYS, FLOW_WORDS, FlowGeneration } from '../../src/control/ebpf/flow_layout.js';
import { FlowFilter, filterWords } from '../../src/control/manager/flow_filter.js';
import { FlowSets } from '../../src/control/manager/flow_sets.js';
import { FlowRecord, FlowSaying } from '../../src/shared/flow_ring.js';
import { random } from '../support/packets.js';

const KEYS = Array.from({ length: FLOW_HASH_KEYS }, (_, i) => 2 ** 52 + 0x7234567 * (i + 3));
/** Sets that share a word: FLOW_FILTER_SETS of bpf/maps.h. */
const SHARED = 8;
const always = (): boolean => true;

/** A flow by its number: from that source. */
function offer(family: 4 | 6, n: number): Int32Array {
  const record = new Int32Array(FlowRecord.STRIDE);
  record[FlowRecord.what] = (FlowSaying.offer << 16) | (family << 8) | 17;
  record[FlowRecord.src0] = n;
  record[FlowRecord.ports] = 53;
  record[FlowRecord.backend] = 1;
  return record;
}

class Table {
  readonly words: Int32Array;
  readonly filter: Int32Array;
  readonly sets: FlowSets;
  private readonly hash: FlowHash;

  constructor(
    readonly family: 4 | 6,
    count: number,
    keys: readonly number[] = KEYS,
  ) {
    this.words = new Int32Array(count * FLOW_WAYS * FLOW_WORDS[family]);
    this.filter = new Int32Array(filterWords(count));
    this.hash = new FlowHash(keys);
    this.sets = new FlowSets(family, this.words, this.filter, this.hash);
  }

  hashOf(n: number): number {
    const key = new Int32Array(this.family === 4 ? 3 : 9);
    key[0] = new DataView(Int32Array.of(n).buffer).getInt32(0);
    key[key.length - 1] = new DataView(Int32Array.of(53).buffer).getInt32(0);
    return this.hash.of(key, key.length);
  }

  /** Number of its set. */
  setOf(n: number): number {
    return (this.hashOf(n) >>> 10) & (this.sets.sets - 1);
  }

  /** What is_any() and may_be_in() of bpf/flow_sets.h say, by words of 64 bits. */
  admits(n: number): boolean {
    const words = new BigUint64Array(this.filter.buffer);
    const top = Math.ceil(Math.ceil(this.sets.sets / SHARED) / 64);
    const word = Math.floor(this.setOf(n) / SHARED);
    if (((words[Math.floor(word / 64)] >> BigInt(word % 64)) & 1n) === 0n) return false;
    return this.bitsOf(n).every((bit) => ((words[top + word] >> BigInt(bit)) & 1n) === 1n);
  }

  bitsOf(n: number): number[] {
    const hash = this.hashOf(n);
    return [(hash >>> 1) & 63, (hash >>> 7) & 63];
  }

  put(n: number, nowMs = 100): number {
    const place = this.sets.announce(offer(this.family, n), 0, nowMs, always);
    if (place >= 0) expect(this.sets.enforce(place, 1, 7, nowMs)).toBe(true);
    return place;
  }

  has(n: number): boolean {
    return this.sets.find(offer(this.family, n)) >= 0;
  }

  trimAll(): void {
    for (let set = 0; set < this.sets.sets; set++) this.sets.trim(this.sets.placesOf(set));
  }
}

describe.each([4, 6] as const)('of IPv%i', (family) => {
  it('has every flow that is announced or in force, whatever happens to others, and after a trim nothing else', () => {
    const next = random(11);
    const below = (most: number): number => Math.floor(next() * most);
    for (const count of [1, 2, 16, 512]) {
      const table = new Table(family, count);
      const { sets, words } = table;
      const flows = Array.from({ length: count * 6 }, (_, n) => n);
      const isIn = new Uint8Array(flows.length);
      let nowMs = 0;
      let pushedOut = 0;
      for (let step = 0; step < 500; step++) {
        const n = below(flows.length);
        const place = sets.find(offer(family, n));
        switch (below(6)) {
          case 0:
            if (place >= 0) sets.void(place);
            break;
          case 1:
            // The program has seen a RST of it.
            if (place >= 0) words[place] = FlowGeneration.void;
            break;
          case 2:
            sets.trim(sets.placesOf(below(count)));
            break;
          case 3:
            if (place < 0) sets.announce(offer(family, n), 0, nowMs, always);
            else sets.withdraw(place);
            break;
          default: {
            nowMs += 700;
            const before = flows.filter((flow) => table.has(flow)).length;
            if (place < 0 && table.put(n, nowMs) >= 0 && flows.filter((flow) => table.has(flow)).length === before)
              pushedOut++;
          }
        }
        if (count <= 16 || step % 50 === 0) {
          for (const flow of flows) {
            isIn[flow] = table.has(flow) ? 1 : 0;
            if (isIn[flow] === 1 && !table.admits(flow))
              expect.fail(`step ${step} of ${count} sets: ${flow} is missed`);
          }
        }
      }
      if (count <= 16) expect(pushedOut).toBeGreaterThan(0);
      table.trimAll();
      const fresh = new Table(family, count);
      for (const flow of flows.filter((n) => table.has(n))) fresh.put(flow);
      expect(table.filter).toEqual(fresh.filter);
      for (const flow of flows) if (table.has(flow)) sets.void(sets.find(offer(family, flow)));
      table.trimAll();
      expect(table.filter.every((word) => word === 0)).toBe(true);
    }
  });

  it('keeps the bits that two flows share until both have gone', () => {
    const table = new Table(family, SHARED);
    const same = (n: number): string => [...table.bitsOf(n), table.setOf(n)].join();
    const seen = new Map<string, number>();
    let pair: number[] = [];
    for (let n = 0; pair.length === 0; n++) {
      const other = seen.get(same(n));
      if (other !== undefined) pair = [other, n];
      seen.set(same(n), n);
    }
    const [first, second] = pair;
    const places = [table.put(first), table.put(second)];
    expect(places[1] - places[0]).toBe(FLOW_WORDS[family]);
    // The first leaves a void place in front of the second, which is no reason to ask for it.
    table.sets.void(places[0]);
    table.trimAll();
    expect([table.admits(second), table.has(second), table.has(first)]).toEqual([true, true, false]);
    expect(table.sets.generation(places[0])).toBe(FlowGeneration.void);
    table.sets.void(places[1]);
    table.trimAll();
    expect(table.admits(second)).toBe(false);
  });

  it('loses a flow of a set with its place, and one behind which others are at the next trim', () => {
    const table = new Table(family, 1);
    const alone = (n: number, others: number[]): boolean =>
      table.bitsOf(n).some((bit) => others.every((other) => !table.bitsOf(other).includes(bit)));
    const flows = [0];
    for (let n = 1; flows.length < 6; n++) if (alone(n, flows)) flows.push(n);
    const own = flows.filter((n) =>
      alone(
        n,
        flows.filter((other) => other !== n),
      ),
    );
    expect(own.length).toBeGreaterThan(3);
    flows.slice(0, 4).forEach((n, i) => table.put(n, 1000 + i));
    expect(flows.map((n) => table.has(n))).toEqual([true, true, true, true, false, false]);
    // All are silent: the first is pushed out.
    table.put(flows[4], 9000);
    expect([table.has(flows[0]), table.admits(flows[4])]).toEqual([false, true]);
    if (own.includes(flows[0])) expect(table.admits(flows[0])).toBe(false);
    // A void place is taken before anybody has trimmed it.
    table.sets.void(table.sets.find(offer(family, flows[1])));
    if (own.includes(flows[1])) expect(table.admits(flows[1])).toBe(true);
    table.put(flows[5], 9000);
    if (own.includes(flows[1])) expect(table.admits(flows[1])).toBe(false);
    table.sets.void(table.sets.find(offer(family, flows[2])));
    table.sets.trim(0);
    if (own.includes(flows[2])) expect(table.admits(flows[2])).toBe(false);
    expect([3, 4, 5].map((i) => table.admits(flows[i]))).toEqual([true, true, true]);
  });

  it('lets few strangers see a set: of a hundred one at most where one set of sixteen has a flow, ten where each has', () => {
    const count = 4096;
    const next = random(13);
    for (let draw = 0; draw < 8; draw++) {
      const keys = KEYS.map(() => Math.floor(next() * 2 ** 53));
      for (const [flows, most] of [
        [0, 0],
        [count / 16, 0.01],
        [count, 0.1],
      ] as const) {
        const table = new Table(family, count, keys);
        // They count up, as addresses of a network do.
        for (let n = 0; n < flows; n++) table.put(n);
        let seen = 0;
        for (let n = 0; n < 10_000; n++) if (table.admits(2 ** 24 + n)) seen++;
        expect(seen / 10_000).toBeLessThanOrEqual(most);
      }
    }
  });
});

it('is of as many sets as there are', () => {
  expect([1, 8, 9, 512, 513, 262_144].map(filterWords)).toEqual([4, 4, 6, 130, 134, 66_560]);
  expect(() => new FlowFilter(new Int32Array(4), 9)).toThrow(/9 sets has 6 words, not 4/);
});
