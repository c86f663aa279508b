import { describe, expect, it } from 'vitest';
import { buildRing, isRingSize, type RingBackend } from '../../src/control/maglev_build.js';
import { moved } from '../../src/control/maglev_movement.js';
import { murmur3 } from '../../src/control/murmur3.js';
import { countsOf } from '../support/rings.js';

const SIZE = 65537;

/** Numerical Recipes' LCG: the same "random" run every time. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
}

function shuffled<T>(list: readonly T[], next: () => number): T[] {
  const copy = [...list];
  for (let i = copy.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [copy[i], copy[j]] = [copy[j], copy[i]];
  }
  return copy;
}

function pool(count: number, weightOf: (i: number) => number = () => 1, subnet = 0): RingBackend[] {
  return Array.from({ length: count }, (_, i) => ({
    key: `10.${subnet}.${i >> 8}.${i & 255}`,
    weight: weightOf(i),
  }));
}

function ringOf(backends: RingBackend[], size = SIZE): Uint16Array {
  const ring = buildRing(backends, size);
  if (!ring) throw new Error('no ring');
  return ring;
}

/** Key by slot: what a ring means, whatever the order of its list. */
function keysOf(ring: Uint16Array, backends: RingBackend[]): string[] {
  return Array.from(ring, (position) => backends[position].key);
}

describe('murmur3', () => {
  const bytes = (...list: number[]) => Uint8Array.from(list);
  const text = (s: string) => new TextEncoder().encode(s);
  it.each([
    [bytes(), 0, 0],
    [bytes(), 1, 0x514e28b7],
    [bytes(), 0xffffffff, 0x81f16f39],
    [bytes(0xff, 0xff, 0xff, 0xff), 0, 0x76293b50],
    [bytes(0x21, 0x43, 0x65, 0x87), 0, 0xf55b516b],
    [bytes(0x21, 0x43, 0x65, 0x87), 0x5082edee, 0x2362f9de],
    [bytes(0x21, 0x43, 0x65), 0, 0x7e4a8634],
    [bytes(0x21, 0x43), 0, 0xa0f7b07a],
    [bytes(0x21), 0, 0x72661cf4],
    [text('Hello, world!'), 0x9747b28c, 0x24884cba],
    [text('aaaa'), 0x9747b28c, 0x5a97808a],
    [text('abc'), 0x9747b28c, 0xc84a62dd],
    [text('The quick brown fox jumps over the lazy dog'), 0x9747b28c, 0x2fa826cd],
  ])('hashes %j with seed %i as published', (input, seed, expected) => {
    expect(murmur3(input, seed)).toBe(expected);
  });

  it("has the verification value of smhasher's main.cpp, which covers 256 lengths and seeds", () => {
    const results = new Uint8Array(256 * 4);
    const view = new DataView(results.buffer);
    const key = Uint8Array.from({ length: 256 }, (_, i) => i);
    for (let i = 0; i < 256; i++) view.setUint32(i * 4, murmur3(key.subarray(0, i), 256 - i), true);
    expect(murmur3(results, 0)).toBe(0xb0f57ee3);
  });
});

describe('buildRing', () => {
  it('fills every slot with a backend of the list', () => {
    for (const count of [1, 2, 3, 250, 1000]) {
      const ring = ringOf(pool(count));
      expect(ring).toHaveLength(SIZE);
      expect(ring.every((position) => position < count)).toBe(true);
    }
  });

  it('gives a single backend every slot', () => {
    expect(countsOf(ringOf(pool(1), 251), 1)).toEqual([251]);
  });

  it('has no ring for no backends, nor for backends without weight', () => {
    expect(buildRing([], SIZE)).toBeNull();
    expect(
      buildRing(
        pool(3, () => 0),
        SIZE,
      ),
    ).toBeNull();
  });

  it.each([251, 65537, 655373])('takes the prime size %i', (size) => {
    expect(ringOf(pool(3), size)).toHaveLength(size);
  });

  it.each([0, 1, 2, 241, 250, 256, 65536, 65539 * 3, 655375, 655379, 65537.5, Number.NaN])(
    'refuses size %d',
    (size) => {
      expect(isRingSize(size)).toBe(false);
      expect(() => buildRing(pool(2), size)).toThrow(RangeError);
    },
  );

  it.each([-1, 0.5, 65536, Number.NaN])('refuses weight %d and names the backend', (weight) => {
    expect(() => buildRing([{ key: '10.9.8.7', weight }], SIZE)).toThrow(/10\.9\.8\.7/);
  });

  it('refuses one backend twice', () => {
    expect(() => buildRing([...pool(3), ...pool(1)], SIZE)).toThrow(/10\.0\.0\.0 is in the ring twice/);
  });

  it('leaves out weight 0 as if it were not there', () => {
    const all = pool(10, (i) => (i === 4 ? 0 : 1));
    const without = all.filter((_, i) => i !== 4);
    expect(keysOf(ringOf(all), all)).toEqual(keysOf(ringOf(without), without));
  });

  it('does not depend on the order of the list', () => {
    const next = random(1);
    const weighted = pool(57, (i) => (i * i) % 9);
    const expected = keysOf(ringOf(weighted), weighted);
    for (let run = 0; run < 10; run++) {
      const list = shuffled(weighted, next);
      expect(keysOf(ringOf(list), list)).toEqual(expected);
    }
  });

  it('depends on proportions of weights only', () => {
    const one = pool(20, (i) => 1 + (i % 5));
    const thousand = pool(20, (i) => 1000 * (1 + (i % 5)));
    expect(ringOf(thousand)).toEqual(ringOf(one));
  });

  it.each([2, 3, 5, 10, 33, 100, 1000, 65000])('spreads equal weights over %i backends to one slot', (count) => {
    const counts = countsOf(ringOf(pool(count)), count);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
  });

  const skewed: [string, RingBackend[], number][] = [
    ['1, 2, 3', pool(3, (i) => i + 1), SIZE],
    ['1 to 1000', pool(2, (i) => [1, 1000][i]), SIZE],
    ['one heavy among 999 light', pool(1000, (i) => (i === 0 ? 1000 : 1)), SIZE],
    ['65535 and 1', pool(2, (i) => [65535, 1][i]), SIZE],
    ['65535 and 999 times 1', pool(1000, (i) => (i === 0 ? 65535 : 1)), SIZE],
    ['all weights different', pool(1000, (i) => i + 1), SIZE],
    ['powers of two', pool(16, (i) => 2 ** i), SIZE],
    ['two of 65535, many small, a small ring', pool(60, (i) => (i < 2 ? 65535 : i)), 251],
    ['more backends than slots', pool(1000), 251],
    ['a large ring', pool(100, (i) => 1 + ((i * 7919) % 65535)), 655373],
  ];
  it.each(skewed)('keeps weights to two slots: %s', (_, backends, size) => {
    const total = backends.reduce((sum, backend) => sum + backend.weight, 0);
    const counts = countsOf(ringOf(backends, size), backends.length);
    backends.forEach(({ weight }, i) => {
      expect(Math.abs(counts[i] - (size * weight) / total)).toBeLessThanOrEqual(2);
    });
  });

  it('keeps any weights to two slots (200 random sets)', () => {
    const next = random(2);
    for (let run = 0; run < 200; run++) {
      const shape = 1 + next() * 20;
      const backends = pool(1 + Math.floor(next() * 300), () => Math.floor(65535 * next() ** shape));
      const total = backends.reduce((sum, backend) => sum + backend.weight, 0);
      const ring = buildRing(backends, 5003);
      if (total === 0) {
        expect(ring).toBeNull();
        continue;
      }
      const counts = countsOf(ring!, backends.length);
      const worst = Math.max(...backends.map(({ weight }, i) => Math.abs(counts[i] - (5003 * weight) / total)));
      expect(worst, `run ${run}`).toBeLessThanOrEqual(2);
    }
  });

  it('is what it was: a ring in the field must not change with a release', () => {
    // Pins hash, seeds and order of turns. Another value here is an incompatible change: machines disagree while it rolls out.
    const digest = (backends: RingBackend[]) => murmur3(new Uint8Array(ringOf(backends).buffer), 0).toString(16);
    expect([digest(pool(3)), digest(pool(10, (i) => i + 1)), digest(pool(1000))]).toEqual([
      '56b73c27',
      '8c15192d',
      'e154b8ca',
    ]);
  });

  it('builds 65537 slots over 1000 backends well under 100 ms', () => {
    const cases: [string, RingBackend[]][] = [
      ['equal', pool(1000)],
      ['all different', pool(1000, (i) => i + 1)],
      ['65535 and 999 times 1', pool(1000, (i) => (i === 0 ? 65535 : 1))],
    ];
    for (const [name, backends] of cases) {
      const times = Array.from({ length: 7 }, () => {
        // Of the processor, not of the clock: other test files run beside this one.
        const start = process.cpuUsage();
        ringOf(backends);
        const { user, system } = process.cpuUsage(start);
        return (user + system) / 1000;
      });
      console.log(`ring 65537 x 1000, ${name}: best ${Math.min(...times).toFixed(1)} ms of 7`);
      expect(Math.min(...times)).toBeLessThan(100);
    }
  });
});

describe('disruption', () => {
  // Share of the ring that moves although its backend stayed, M = 65537: kernel-facts.md, invariant 9. Asserted at twice that.
  const limits: [number, number][] = [
    [3, 0.0004],
    [5, 0.003],
    [10, 0.004],
    [33, 0.005],
    [100, 0.006],
  ];
  const rows: string[] = [];

  it.each(limits)('of removal and addition stays small with %i backends', (count, limit) => {
    let worstRemoval = 0;
    let worstAddition = 0;
    for (let subnet = 0; subnet < 20; subnet++) {
      const all = pool(count, () => 1, subnet);
      const gone = (subnet * 7) % count;
      const rest = all.filter((_, i) => i !== gone);
      const full = { ring: ringOf(all), backends: all };
      const less = { ring: ringOf(rest), backends: rest };
      const removal = moved(full, less);
      const addition = moved(less, full);
      expect(removal.moved).toBe(addition.moved);
      worstRemoval = Math.max(worstRemoval, (removal.moved - removal.needed) / SIZE);
      worstAddition = Math.max(worstAddition, (addition.moved - addition.needed) / SIZE);
    }
    rows.push(`N=${count}: worst extra ${(100 * worstRemoval).toFixed(3)} % of 20 sets, limit ${200 * limit} %`);
    console.log(rows.at(-1));
    expect(worstRemoval).toBeLessThanOrEqual(2 * limit);
    expect(worstAddition).toBeLessThanOrEqual(2 * limit);
  });

  it('leaves nothing behind: adding a backend again restores the ring', () => {
    const all = pool(33, (i) => 1 + (i % 4));
    const before = keysOf(ringOf(all), all);
    const without = all.slice(1);
    expect(keysOf(ringOf(without), without)).not.toEqual(before);
    const back = [...without, all[0]];
    expect(keysOf(ringOf(back), back)).toEqual(before);
  });
});

describe('moved', () => {
  const view = (backends: RingBackend[], size = SIZE) => ({ ring: buildRing(backends, size), backends });

  it('counts nothing for a list in another order', () => {
    const all = pool(9, (i) => 1 + i);
    const result = moved(view(all), view([...all].reverse()));
    expect(result).toEqual({ slots: SIZE, moved: 0, needed: 0, bound: 0 });
  });

  it('agrees with a count by hand', () => {
    const before = { ring: Uint16Array.of(0, 0, 1, 1), backends: pool(2) };
    const after = { ring: Uint16Array.of(0, 1, 0, 1), backends: pool(2) };
    // Two slots changed hands, but both backends have as many as before: none had to.
    expect(moved(before, after)).toEqual({ slots: 4, moved: 2, needed: 0, bound: 0 });
  });

  it('needs every slot when the ring comes or goes', () => {
    const some = view(pool(3));
    const none = view(pool(3, () => 0));
    expect(moved(some, none)).toMatchObject({ moved: SIZE, needed: SIZE, bound: SIZE });
    expect(moved(none, some)).toMatchObject({ moved: SIZE, needed: SIZE });
    expect(moved(none, none)).toEqual({ slots: 0, moved: 0, needed: 0, bound: 0 });
  });

  it('refuses rings of two sizes', () => {
    expect(() => moved(view(pool(2), 251), view(pool(2), 257))).toThrow(RangeError);
  });

  it('stays within its bound for removal, addition and another weight, at several sizes', () => {
    let tightest = Infinity;
    for (const size of [251, 4093, SIZE]) {
      for (const count of [3, 10, 33, 100]) {
        for (let subnet = 0; subnet < 5; subnet++) {
          const all = pool(count, (i) => 1 + (i % 4), subnet);
          const changed = (subnet * 7) % count;
          const less = all.filter((_, i) => i !== changed);
          const heavier = all.map((backend, i) =>
            i === changed ? { ...backend, weight: backend.weight * 2 } : backend,
          );
          for (const [from, to] of [
            [all, less],
            [less, all],
            [all, heavier],
          ]) {
            const result = moved(view(from, size), view(to, size));
            expect(result.moved).toBeGreaterThanOrEqual(result.needed);
            expect(result.moved).toBeLessThanOrEqual(result.bound);
            tightest = Math.min(tightest, result.bound / result.moved);
          }
        }
      }
    }
    console.log(`moved: bound / moved is ${tightest.toFixed(2)} at the tightest`);
    // Not so loose that it says nothing.
    expect(tightest).toBeLessThan(1.5);
  });
});
