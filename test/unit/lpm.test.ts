import { describe, expect, it } from 'vitest';
import { addressBits, maskWords, parseAddress, parsePrefix } from '../../src/shared/addr.js';
import { LPM_VALUE_MOST, NO_MATCH, buildLpm, lookupLpm4, lookupLpm6, type LpmEntry } from '../../src/shared/lpm.js';
import { random } from '../support/packets.js';

type Quad = [number, number, number, number];

interface Route extends LpmEntry {
  words: Quad;
}

function lookUp(table: Int32Array, family: 4 | 6, [a0, a1, a2, a3]: Quad): number {
  return family === 4 ? lookupLpm4(table, a0) : lookupLpm6(table, a0, a1, a2, a3);
}

/** The definition: of the prefixes that hold the address the longest, of equal ones the last. */
function naive(routes: readonly Route[], address: Quad): number {
  let best = -1;
  let value = NO_MATCH;
  for (const route of routes) {
    if (route.length < best) continue;
    const mask = maskWords(route.length);
    if (address.every((word, i) => ((word ^ route.words[i]) & mask[i]) === 0)) {
      best = route.length;
      value = route.value;
    }
  }
  return value;
}

function plus(address: Quad, family: 4 | 6, step: 1 | -1): Quad {
  const bits = addressBits(family);
  const number = address.reduce((sum, word) => (sum << 32n) | BigInt(word >>> 0), 0n) >> BigInt(128 - bits);
  const moved = BigInt.asUintN(bits, number + BigInt(step)) << BigInt(128 - bits);
  return [96n, 64n, 32n, 0n].map((shift) => Number(BigInt.asIntN(32, moved >> shift))) as Quad;
}

/** Addresses where answers change: both ends of every prefix, and the neighbours of those. */
function edges(routes: readonly Route[], family: 4 | 6): Quad[] {
  return routes.flatMap(({ words, length }) => {
    const mask = maskWords(length);
    const high = family === 4 ? 1 : 4;
    const first = words.map((word, i) => word & mask[i]) as Quad;
    const last = words.map((word, i) => (i < high ? (word & mask[i]) | ~mask[i] : 0)) as Quad;
    return [first, last, plus(first, family, -1), plus(last, family, 1)];
  });
}

function check(routes: readonly Route[], family: 4 | 6, more: readonly Quad[] = []): void {
  const table = buildLpm(routes, family);
  const wrong: string[] = [];
  for (const address of [...edges(routes, family), ...more]) {
    const expected = naive(routes, address);
    const found = lookUp(table, family, address);
    if (found !== expected)
      wrong.push(`${address.map((w) => (w >>> 0).toString(16)).join(':')}: ${found}, not ${expected}`);
  }
  expect(wrong.slice(0, 5)).toEqual([]);
}

const route = (text: string, value: number): Route => {
  const { words, length } = parsePrefix(text);
  return { words: [...words] as Quad, length, value };
};
const at = (text: string): Quad => [...parseAddress(text).words] as Quad;

/** Random words, made equal to `like` in the first `bits`. */
function near(next: () => number, like: Quad, bits: number): Quad {
  const mask = maskWords(bits);
  return like.map((word, i) => (word & mask[i]) | ((next() * 2 ** 32) & ~mask[i])) as Quad;
}

const only4 = (words: Quad): Quad => [words[0], 0, 0, 0];

describe('longest-prefix match', () => {
  it('finds the longest of nested prefixes, and nothing outside', () => {
    const table = buildLpm(
      [route('10.0.0.0/8', 1), route('10.1.0.0/16', 2), route('10.1.2.0/24', 3), route('10.1.2.3', 4), route('192.0.2.0/24', 5)],
      4,
    ); // prettier-ignore
    const find = (text: string): number => lookupLpm4(table, at(text)[0]);
    expect(find('10.200.0.1')).toBe(1);
    expect(find('10.1.200.1')).toBe(2);
    expect(find('10.1.2.4')).toBe(3);
    expect(find('10.1.2.3')).toBe(4);
    expect(find('10.1.3.0')).toBe(2);
    expect(find('192.0.2.255')).toBe(5);
    expect(find('192.0.3.0')).toBe(NO_MATCH);
    expect(find('9.255.255.255')).toBe(NO_MATCH);
    expect(find('0.0.0.0')).toBe(NO_MATCH);
    expect(find('255.255.255.255')).toBe(NO_MATCH);
  });

  it('does so for IPv6', () => {
    const table = buildLpm([route('2001:db8::/32', 1), route('2001:db8:1::/48', 2), route('2001:db8:1::7', 3)], 6);
    const find = (text: string): number => lookupLpm6(table, ...at(text));
    expect(find('2001:db8:ffff::')).toBe(1);
    expect(find('2001:db8:1:ffff::1')).toBe(2);
    expect(find('2001:db8:1::7')).toBe(3);
    expect(find('2001:db8:1::8')).toBe(2);
    expect(find('2001:db9::')).toBe(NO_MATCH);
    expect(find('2001:db7:ffff:ffff:ffff:ffff:ffff:ffff')).toBe(NO_MATCH);
  });

  it('matches nothing when it is empty', () => {
    expect(lookupLpm4(buildLpm([], 4), -1)).toBe(NO_MATCH);
    expect(lookupLpm6(buildLpm([], 6), -1, -1, -1, -1)).toBe(NO_MATCH);
  });

  it('takes the default route, and single addresses at both ends of the space', () => {
    check([route('0.0.0.0/0', 7)], 4, [at('0.0.0.0'), at('255.255.255.255'), at('128.0.0.0')]);
    check([route('0.0.0.0/0', 7), route('0.0.0.0', 1), route('255.255.255.255', 2)], 4);
    check([route('::/0', 7)], 6, [at('::'), at('ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff')]);
    check([route('::/0', 7), route('::', 1), route('ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 2)], 6);
    check([route('0.0.0.0/1', 0), route('128.0.0.0/1', LPM_VALUE_MOST)], 4);
  });

  it('lets the last of equal prefixes count, and ignores host bits', () => {
    check([route('10.0.0.0/8', 1), route('10.0.0.0/8', 2), route('10.0.0.0/9', 3), route('10.0.0.0/9', 1)], 4);
    const table = buildLpm([{ words: at('10.9.9.9'), length: 8, value: 5 }], 4);
    expect(lookupLpm4(table, at('10.0.0.1')[0])).toBe(5);
    expect(lookupLpm4(table, at('11.0.0.1')[0])).toBe(NO_MATCH);
  });

  it('takes every length of one chain, along zeros, ones and random bits', () => {
    const next = random(5);
    for (const like of [[0, 0, 0, 0], [-1, -1, -1, -1], near(next, [0, 0, 0, 0], 0)] as Quad[]) {
      const chain = (bits: number, words: Quad): Route[] =>
        Array.from({ length: bits + 1 }, (_, length) => ({ words, length, value: length }));
      check(chain(32, only4(like)), 4);
      check(chain(128, like), 6);
    }
  });

  it.each([
    [1, 4],
    [30, 4],
    [900, 4],
    [1, 6],
    [30, 6],
    [900, 6],
  ] as const)('agrees with the definition: %d random prefixes, IPv%d', (count, family) => {
    for (let seed = 1; seed <= 4; seed++) {
      const next = random(100 * seed + count);
      const lengths = family === 4 ? 33 : 129;
      const routes: Route[] = [];
      for (let i = 0; i < count; i++) {
        // Half of them inside or around another, so that they nest.
        const other = routes[Math.floor(next() * routes.length)];
        const shared = other === undefined || next() < 0.5 ? 0 : Math.floor(next() * lengths);
        const words = near(next, other?.words ?? [0, 0, 0, 0], shared);
        routes.push({
          words: family === 4 ? only4(words) : words,
          length: Math.floor(next() * lengths),
          value: Math.floor(next() * 5),
        });
      }
      const anywhere = Array.from({ length: 300 }, () => {
        const words = near(next, routes[Math.floor(next() * count)].words, Math.floor(next() * lengths));
        return family === 4 ? only4(words) : words;
      });
      check(routes, family, anywhere);
    }
  });

  // Many prefixes that share their first bits: deep nodes, and nodes that skip.
  it.each([
    ['hosts of one /16', 4, [16], 32],
    ['hosts of few /24', 4, [5, 24], 32],
    ['/64 of one /32', 6, [32], 64],
    ['hosts of one /64', 6, [64], 128],
    ['hosts with low numbers in few /64', 6, [20, 64, 118], 128],
    ['/48 of the world', 6, [3], 48],
  ] as const)('agrees where prefixes crowd: %s', (_name, family, levels, length) => {
    const next = random(length + levels.length);
    let parents: Quad[] = [at(family === 4 ? '198.51.100.7' : '2001:db8:77:1234::')];
    levels.forEach((bits, i) => {
      const count = i === levels.length - 1 ? 700 : 6;
      parents = Array.from({ length: count }, (_, n) => near(next, parents[n % parents.length], bits));
    });
    const routes = parents.map((words, i) => ({ words: family === 4 ? only4(words) : words, length, value: i % 9 }));
    const around = levels.flatMap((bits) =>
      Array.from({ length: 150 }, (_, i) => near(next, routes[i].words, Math.max(0, bits - (i % 40)))),
    );
    check(routes, family, family === 4 ? around.map(only4) : around);
  });

  it('takes memory by the number of prefixes, not by where they lie', () => {
    const next = random(1);
    const hosts = Array.from({ length: 20_000 }, (_, i) => ({
      words: near(next, [0, 0, 0, 0], 0),
      length: 128,
      value: i,
    }));
    const bytesEach = buildLpm(hosts, 6).byteLength / hosts.length;
    expect(bytesEach).toBeLessThan(80);
    expect(buildLpm(hosts.slice(0, 10), 6).byteLength).toBeLessThan(4096);
    const crowded = hosts.map(({ value }) => ({ words: [1, value >> 3, 0, value & 7] as Quad, length: 128, value }));
    expect(buildLpm(crowded, 6).byteLength / hosts.length).toBeLessThan(100);
    const ipv4 = hosts.map(({ words, value }) => ({ words: only4(words), length: 32, value }));
    expect(buildLpm(ipv4, 4).byteLength / hosts.length).toBeLessThan(50);
  });

  it('reads an entry at once: an iterable may yield one object again and again', () => {
    const one = { words: [0, 0, 0, 0] as Quad, length: 8, value: 0 };
    function* entries(): Iterable<Route> {
      for (let i = 1; i < 200; i++) {
        one.words[0] = i << 24;
        one.value = i;
        yield one;
      }
    }
    const table = buildLpm(entries(), 4);
    for (let i = 1; i < 200; i++) expect(lookupLpm4(table, (i << 24) | 77)).toBe(i);
  });

  it.each([
    [[{ words: [0], length: 33, value: 0 }], 4, 'prefix length 33 of an IPv4 address'],
    [[{ words: [0, 0, 0, 0], length: 129, value: 0 }], 6, 'prefix length 129 of an IPv6 address'],
    [[{ words: [0], length: -1, value: 0 }], 4, 'prefix length -1 of an IPv4 address'],
    [[{ words: [0], length: 8, value: -1 }], 4, 'LPM value -1'],
    [[{ words: [0], length: 8, value: LPM_VALUE_MOST + 1 }], 4, `LPM value ${LPM_VALUE_MOST + 1}`],
  ] as const)('%# refuses what it cannot hold', (entries, family, message) => {
    expect(() => buildLpm(entries, family)).toThrow(message);
  });
});
