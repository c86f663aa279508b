/** Sets: what a look-up costs at 1 k, 100 k and 1 M entries, against a Map, and what a change costs. */
import { IpSet } from '../../src/control/sets/index.js';
import { formatWords } from '../../src/shared/addr.js';
import { SetView, type SetType } from '../../src/shared/sets/index.js';
import { measure, SMOKE, type MicroCase } from './harness.js';

type Words = [number, number, number, number];

/** Addresses that come round in a warm case, as a burst's flows do; and so many that each look-up meets memory anew. */
const WARM = 1024;
const COLD = 1 << 19;
const SIZES: readonly [number, string][] = SMOKE ? [[1000, '1 k']] : [[1000, '1 k'], [100_000, '100 k'], [1_000_000, '1 M']]; // prettier-ignore

/** The same words every time. */
function sequence(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state = (Math.imul(state, 0x915f77f5) + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d);
    t = Math.imul(t ^ (t >>> 12), 0x297a2d39);
    return t ^ (t >>> 15);
  };
}

interface Fixture {
  set: IpSet;
  view: SetView;
  entries: { words: Words; length: number }[];
}

/** Hosts anywhere; networks as in lists of bad ones: /24 of IPv4 and /48 of IPv6 mostly, some shorter or longer, in the half of the space that has bit 31 clear. */
function fixture(type: SetType, family: 4 | 6, size: number): Fixture {
  const next = sequence(size + family);
  const set = new IpSet({ name: 'bench', type, maxelem: 2 * size }, { seconds: () => 1, expected: size });
  const entries: Fixture['entries'] = [];
  const settle = set.startBulk();
  while (set.count < size) {
    const first = next() >>> 1;
    const words: Words = family === 4 ? [first, 0, 0, 0] : [0x20000000 | (first & 0x3ffffff), next(), next(), next()];
    const kind = next() & 15;
    const whole = family === 4 ? 32 : 128;
    const usual = family === 4 ? 24 : 48;
    const length = type === 'hash:ip' ? whole : kind < 10 ? usual : kind < 14 ? usual - 1 - (next() & 3) : whole;
    set.add(`${formatWords(family, words)}${length === whole ? '' : `/${length}`}`, {}, true);
    entries.push({ words, length });
  }
  settle();
  return { set, view: new SetView(set.buffers), entries };
}

/**
 * So many addresses, one after the other; of entries, or of what none has: for IPv4 the half of the space where there are none, for IPv6 what differs from all in
 * the first 44 bits, which every entry has.
 */
function addresses({ entries }: Fixture, family: 4 | 6, hit: boolean, count: number): Int32Array {
  const next = sequence(count);
  const out = new Int32Array(4 * count);
  const first44 = (first: number, second: number): number => (first & 0x3ffffff) * 4096 + (second >>> 20);
  const taken = new Set(hit || family === 4 ? [] : entries.map(({ words }) => first44(words[0], words[1])));
  for (let i = 0; i < count; i++) {
    const { words } = entries[(next() >>> 1) % entries.length];
    if (hit) out.set(words, 4 * i);
    else if (family === 4) out[4 * i] = next() | (1 << 31);
    else {
      let first: number;
      let second: number;
      do {
        first = 0x20000000 | (next() & 0x3ffffff);
        second = next();
      } while (taken.has(first44(first, second)));
      out.set([first, second, next(), next()], 4 * i);
    }
  }
  return out;
}

function lookUpCase(name: string, { view }: Fixture, family: 4 | 6, hit: boolean, list: Int32Array): MicroCase {
  const calls = list.length / 4;
  const body4 = (): number => {
    let found = 0;
    for (let at = 0; at < list.length; at += 4) if (view.lookup4(list[at], 0, 1) > 0) found++;
    return found;
  };
  const body6 = (): number => {
    let found = 0;
    for (let at = 0; at < list.length; at += 4) {
      if (view.lookup6(list[at], list[at + 1], list[at + 2], list[at + 3], 0, 1) > 0) found++;
    }
    return found;
  };
  return { name, body: family === 4 ? body4 : body6, expected: hit ? calls : 0, calls };
}

/** The least that a look-up is made of: the addresses are read, and one word for each, by its first bits, from as much memory as slots of so many have. */
function floorCase(name: string, family: 4 | 6, size: number, list: Int32Array): MicroCase {
  const words = new Int32Array(new SharedArrayBuffer(4 << Math.ceil(Math.log2(2 * size))));
  const shift = Math.clz32(words.length - 1);
  const body4 = (): number => {
    let found = 0;
    for (let at = 0; at < list.length; at += 4) if (words[(list[at] * 2) >>> shift] === 0) found++;
    return found;
  };
  const body6 = (): number => {
    let found = 0;
    for (let at = 0; at < list.length; at += 4) {
      if (words[(list[at] ^ list[at + 1] ^ list[at + 2] ^ list[at + 3]) >>> shift] === 0) found++;
    }
    return found;
  };
  return { name, body: family === 4 ? body4 : body6, expected: list.length / 4, calls: list.length / 4 };
}

function mapCase(name: string, { entries }: Fixture, list: Int32Array): MicroCase {
  const map = new Map(entries.map(({ words }, i) => [words[0], i]));
  const body = (): number => {
    let found = 0;
    for (let at = 0; at < list.length; at += 4) if (map.get(list[at]) !== undefined) found++;
    return found;
  };
  return { name, body, expected: list.length / 4, calls: list.length / 4 };
}

/** Adds entries that are not there, one by one, and takes them out again. */
function changeCase(name: string, { set }: Fixture, family: 4 | 6): MicroCase {
  const texts = Array.from({ length: 500 }, (_, i) =>
    family === 4 ? `200.${i >> 8}.${i & 255}.7` : `2001:db8:${i.toString(16)}::7`,
  );
  const body = (): number => {
    for (const text of texts) set.add(text);
    for (const text of texts) set.del(text);
    return set.count;
  };
  return { name, body, expected: set.count, calls: 2 * texts.length };
}

for (const type of ['hash:ip', 'hash:net'] as const) {
  for (const family of [4, 6] as const) {
    for (const [size, sizeName] of SIZES) {
      const made = fixture(type, family, size);
      const what = `${type} IPv${family}, ${sizeName}`;
      const hits = addresses(made, family, true, WARM);
      const cases = [
        ...(type === 'hash:ip'
          ? [floorCase(`addresses and one word, IPv${family}, ${sizeName}`, family, size, hits)]
          : []),
        lookUpCase(`${what}: hit`, made, family, true, hits),
        lookUpCase(`${what}: miss`, made, family, false, addresses(made, family, false, WARM)),
      ];
      if (size > 1000) {
        const cold = addresses(made, family, true, COLD);
        cases.push(lookUpCase(`${what}: hit, cold`, made, family, true, cold));
        cases.push(lookUpCase(`${what}: miss, cold`, made, family, false, addresses(made, family, false, COLD)));
        if (type === 'hash:ip' && family === 4)
          cases.push(mapCase(`Map of numbers, ${sizeName}: hit, cold`, made, cold));
      }
      if (type === 'hash:ip' && family === 4) cases.push(mapCase(`Map of numbers, ${sizeName}: hit`, made, hits));
      if (size !== 100_000) cases.push(changeCase(`${what}: add or take out`, made, family));
      measure(cases);
    }
  }
}
