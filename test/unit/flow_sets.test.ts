/** Flows in sets: where each goes, which gives way, what is left for look-ups to go by. */
import { describe, expect, it } from 'vitest';
import { drawFlowHashKeys, FLOW_HASH_KEYS, FlowHash } from '../../src/control/ebpf/flow_hash.js';
import { FLOW_BACKENDS, FLOW_WAYS, FLOW_WORDS, FlowGeneration } from '../../src/control/ebpf/flow_layout.js';
import { filterWords } from '../../src/control/manager/flow_filter.js';
import { FlowSets } from '../../src/control/manager/flow_sets.js';
import { FlowRecord, FlowSaying } from '../../src/shared/flow_ring.js';
import { random } from '../support/packets.js';

const KEYS = Array.from({ length: FLOW_HASH_KEYS }, (_, i) => 2 ** 52 + 0x1234567 * (i + 1));

function tableOf(family: 4 | 6, sets = 4, keys: readonly number[] = KEYS) {
  const words = new Int32Array(sets * FLOW_WAYS * FLOW_WORDS[family]);
  const filter = new Int32Array(filterWords(Math.ceil(sets)));
  return { words, filter, sets: new FlowSets(family, words, filter, new FlowHash(keys)) };
}

/** An offer of the flow that its number names. */
function offer(family: 4 | 6, n: number, backend = 1): Int32Array {
  const record = new Int32Array(FlowRecord.STRIDE);
  record[FlowRecord.what] = (FlowSaying.offer << 16) | (family << 8) | 17;
  record[FlowRecord.src0] = 0x0a000000 + n;
  record[FlowRecord.dst0] = 0xc633640a | 0;
  if (family === 6) record.set([1, 2, n, 3, 4, n ^ 5], FlowRecord.src1);
  record[FlowRecord.ports] = (n << 16) | 53;
  record[FlowRecord.backend] = backend;
  return record;
}

const always = (): boolean => true;
const generations = ({ words }: { words: Int32Array }, family: 4 | 6): number[] =>
  Array.from({ length: FLOW_WAYS }, (_, way) => words[way * FLOW_WORDS[family]]);

describe('the hash', () => {
  it('is that of the program, counted with large numbers', () => {
    const next = random(7);
    const word = (): number => (next() * 2 ** 32) | 0;
    for (let round = 0; round < 500; round++) {
      const keys = round === 0 ? new Array<number>(FLOW_HASH_KEYS).fill(2 ** 53 - 1) : drawFlowHashKeys();
      const words = Int32Array.from({ length: FLOW_HASH_KEYS }, () => (round === 0 ? -1 : word()));
      for (const count of [3, 9]) {
        let sum = 0n;
        for (let i = 0; i < count; i++) sum += BigInt(keys[i]) * BigInt(words[i] >>> 0);
        const hash = (sum >> 21n) & 0xffffffffn;
        const expected = ((hash ^ (hash >> 15n)) * 0x2c1b3c6dn) & 0xffffffffn;
        expect(new FlowHash(keys).of(words, count)).toBe(Number(expected) | 0);
      }
    }
  });

  it('has keys below 2^53 that are others each time', () => {
    const drawn = new Set(Array.from({ length: 50 }, drawFlowHashKeys).flat());
    expect(drawn.size).toBe(50 * FLOW_HASH_KEYS);
    for (const key of drawn) expect(Number.isSafeInteger(key) && key >= 0).toBe(true);
    expect(Math.max(...drawn)).toBeGreaterThan(2 ** 52);
  });

  it('fills sets as chance would with flows that count up, whatever the keys', () => {
    const next = random(9);
    const drawn = (): number[] => KEYS.map(() => Math.floor(next() * 2 ** 53));
    let most = 0;
    for (let draw = 0; draw < 100; draw++) {
      const { sets } = tableOf(4, 4096, drawn());
      const load = new Uint16Array(4096);
      const record = offer(4, 0);
      for (let n = 0; n < 4096; n++) {
        record[FlowRecord.ports] = ((1024 + n) << 16) | 53;
        load[sets.setOf(record) / (4 * FLOW_WORDS[4])]++;
      }
      most = Math.max(most, load.reduce((sum, count) => sum + Math.max(0, count - FLOW_WAYS), 0)); // prettier-ignore
    }
    // By chance 18 flows of 4,096 find four before them (Poisson with mean 1). A sum of products alone has draws of hundreds.
    expect(most).toBeLessThan(60);
  });
});

describe.each([4, 6] as const)('flows of IPv%i', (family) => {
  it('are found by their key alone, once announced, until they are void', () => {
    const { sets } = tableOf(family, 64);
    const places = Array.from({ length: 40 }, (_, n) => sets.announce(offer(family, n), n, 100, always));
    expect(new Set(places).size).toBe(40);
    places.forEach((place, n) => {
      expect(sets.find(offer(family, n))).toBe(place);
      expect([sets.worker(place), sets.generation(place)]).toEqual([n, FlowGeneration.announced]);
    });
    for (const field of [FlowRecord.src0, FlowRecord.dst0, FlowRecord.ports, FlowRecord.what]) {
      const other = offer(family, 3);
      other[field] ^= 1;
      expect(sets.find(other)).toBe(-1);
    }
    if (family === 6) {
      for (let field: number = FlowRecord.src1; field <= FlowRecord.dst3; field++) {
        const other = offer(6, 3);
        other[field] ^= 1 << 31;
        expect(sets.find(other)).toBe(-1);
      }
    }
    sets.void(places[3]);
    expect([sets.find(offer(family, 3)), sets.find(offer(family, 4))]).toEqual([-1, places[4]]);
  });

  it('are in one place only: announced anew they stay where they are, with the later decision', () => {
    const { sets } = tableOf(family, 1);
    const [first, second] = [0, 1].map((n) => sets.announce(offer(family, n), 0, 100, always));
    expect(sets.enforce(second, 1, 7, 150)).toBe(true);
    sets.void(first);
    expect(sets.announce(offer(family, 1, 2), 0, 200, always)).toBe(second);
    expect(sets.generation(second)).toBe(FlowGeneration.announced);
    // The former decision comes too late.
    expect(sets.enforce(second, 1, 7, 250)).toBe(false);
    expect(sets.enforce(second, 2, 8, 250)).toBe(true);
    expect([sets.backend(second), sets.generation(second), sets.idleMs(second, 260)]).toEqual([2, 8, 10]);
    expect(sets.enforce(second, 2, 8, 300)).toBe(false);
  });

  it('that the program has voided are not put in force, nor those that were withdrawn', () => {
    const { sets, words } = tableOf(family, 1);
    const place = sets.announce(offer(family, 0), 0, 100, always);
    words[place] = FlowGeneration.void;
    expect([sets.enforce(place, 1, 7, 150), sets.generation(place)]).toEqual([false, FlowGeneration.void]);
    expect(sets.announce(offer(family, 0), 0, 200, always)).toBe(place);
    sets.withdraw(place);
    expect(sets.enforce(place, 1, 7, 250)).toBe(false);
    expect(sets.announce(offer(family, 0), 0, 300, always)).toBe(place);
    expect(sets.enforce(place, 1, 7, 350)).toBe(true);
    sets.withdraw(place);
    expect(sets.generation(place)).toBe(7);
  });

  it('give way in this order: void decisions, then the one that was silent longest, for two seconds at least; no other', () => {
    const { sets } = tableOf(family, 1);
    const keeps = (_: number, generation: number): boolean => generation !== 9;
    const put = (n: number, generation: number, nowMs: number): number => {
      const place = sets.announce(offer(family, n), 0, nowMs, keeps);
      if (place >= 0) sets.enforce(place, 1, generation, nowMs);
      return place;
    };
    const [a, b, c] = [put(0, 7, 3000), put(1, 7, 1000), put(2, 9, 4000)];
    const announced = sets.announce(offer(family, 3), 0, 0, keeps);
    expect(new Set([a, b, c, announced]).size).toBe(4);
    // One is of a backend that has none any more.
    expect(put(4, 7, 4000)).toBe(c);
    // One has just been announced, the others are in use.
    expect(put(5, 7, 2999)).toBe(-1);
    expect(sets.find(offer(family, 1))).toBe(b);
    expect(put(5, 7, 3000)).toBe(b);
    expect(put(6, 7, 4999)).toBe(-1);
    expect(put(6, 7, 7000)).toBe(a);
    expect([0, 1, 2, 3, 4, 5, 6].map((n) => sets.find(offer(family, n)) >= 0)).toEqual([
      false,
      false,
      false,
      true,
      true,
      true,
      true,
    ]);
    expect(sets.generation(announced)).toBe(FlowGeneration.announced);
  });

  it('are told in use over the end of 31 bits of milliseconds', () => {
    const { sets } = tableOf(family, 1);
    const endMs = 2 ** 31;
    for (let n = 0; n < 4; n++)
      sets.enforce(sets.announce(offer(family, n), 0, endMs - 1000 - n, always), 1, 7, endMs - 1000 - n);
    expect(sets.announce(offer(family, 4), 0, endMs + 900, always)).toBe(-1);
    expect(sets.announce(offer(family, 4), 0, endMs + 997, always)).toBe(sets.find(offer(family, 4)));
    expect(sets.find(offer(family, 3))).toBe(-1);
  });

  it('have no empty place in front of them; what is void behind the last is empty after a trim', () => {
    const table = tableOf(family, 1);
    const { sets } = table;
    const places = [0, 1, 2].map((n) => sets.announce(offer(family, n), 0, 100, always));
    const { announced, void: gone, empty } = { announced: -2, void: -1, empty: 0 };
    expect(generations(table, family)).toEqual([announced, announced, announced, empty]);
    sets.void(places[1]);
    sets.trim(0);
    expect(generations(table, family)).toEqual([announced, gone, announced, empty]);
    expect(sets.find(offer(family, 2))).toBe(places[2]);
    sets.void(places[2]);
    sets.trim(0);
    expect(generations(table, family)).toEqual([announced, empty, empty, empty]);
    expect(sets.announce(offer(family, 5), 0, 100, always)).toBe(places[1]);
    sets.void(places[0]);
    expect(sets.announce(offer(family, 6), 0, 100, always)).toBe(places[0]);
  });

  it('of backends and workers that have no number there are not taken', () => {
    const { sets } = tableOf(family, 1);
    expect(sets.announce(offer(family, 0, FLOW_BACKENDS), 0, 100, always)).toBe(-1);
    expect(sets.announce(offer(family, 0), 256, 100, always)).toBe(-1);
    const place = sets.announce(offer(family, 0, FLOW_BACKENDS - 1), 255, 100, always);
    expect([sets.backend(place), sets.worker(place), sets.protocol(place)]).toEqual([FLOW_BACKENDS - 1, 255, 17]);
  });

  it('need a power of two of sets, up to 2^22', () => {
    for (const sets of [3, 0, 0.25]) expect(() => tableOf(family, sets)).toThrow(/a power of two of sets/);
    expect(tableOf(family, 2).sets.sets).toBe(2);
  });
});
