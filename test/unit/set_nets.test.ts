import { describe, expect, it } from 'vitest';
import { IpSet } from '../../src/control/sets/ip_set.js';
import type { SetOptions } from '../../src/control/sets/options.js';
import { addressBits, formatWords, maskWords, parseAddress } from '../../src/shared/addr.js';
import { SetView } from '../../src/shared/sets/index.js';
import { random } from '../support/packets.js';

type Words = [number, number, number, number];

/** A set and the definition of what it should do, side by side. */
class Pair {
  now = 1000;
  readonly set: IpSet;
  /** By text: what decides. `until` 0: never ends. */
  private readonly model = new Map<
    string,
    { words: Words; length: number; port: number; nomatch: boolean; until: number }
  >();
  private seen: { version: number; view: SetView } | null = null;

  constructor(
    readonly family: 4 | 6,
    options: Partial<SetOptions> = {},
  ) {
    const name = 'pair';
    this.set = new IpSet({ name, type: 'hash:net', maxelem: 200_000, ...options }, { seconds: () => this.now });
  }

  get size(): number {
    return this.model.size;
  }

  textOf(words: Words, length: number, port: number): string {
    const place = `${formatWords(this.family, words)}/${length}`;
    return port === 0 ? place : `${place},${port >>> 16}:${port & 0xffff}`;
  }

  add(words: Words, length: number, { port = 0, nomatch = false, timeout = 0 } = {}): void {
    const text = this.textOf(words, length, port);
    const until = timeout === 0 ? 0 : this.now + timeout + 1;
    this.model.set(text, { words, length, port, nomatch, until });
    this.set.add(text, { nomatch, timeout: timeout === 0 ? undefined : timeout }, true);
  }

  del(text: string): void {
    this.model.delete(text);
    this.set.del(text, true);
  }

  texts(): string[] {
    return [...this.model.keys()];
  }

  /** Whether the longest live network that holds the address is one that matches. */
  expected(address: Words, port: number): boolean {
    let best = 0;
    let matches = false;
    for (const one of this.model.values()) {
      if (one.length <= best || one.port !== port || (one.until !== 0 && one.until <= this.now)) continue;
      const mask = maskWords(one.length);
      if (!address.every((word, i) => ((word ^ one.words[i]) & mask[i]) === 0)) continue;
      best = one.length;
      matches = !one.nomatch;
    }
    return matches;
  }

  found(address: Words, port: number): boolean {
    if (this.seen?.version !== this.set.version)
      this.seen = { version: this.set.version, view: new SetView(this.set.buffers) };
    const { view } = this.seen;
    return (
      (this.family === 4 ? view.lookup4(address[0], port, this.now) : view.lookup6(...address, port, this.now)) > 0
    );
  }

  /** Addresses at which it is wrong. */
  wrong(addresses: Iterable<Words>, port = 0): string[] {
    const wrong: string[] = [];
    for (const address of addresses) {
      const expected = this.expected(address, port);
      if (this.found(address, port) !== expected)
        wrong.push(`${formatWords(this.family, address)} ${port}: not ${expected}`);
    }
    return wrong;
  }
}

/** Words that are `like` in the first `bits`, random behind. */
function near(next: () => number, like: Words, bits: number, family: 4 | 6): Words {
  const mask = maskWords(bits);
  const words = like.map((word, i) => (word & mask[i]) | ((next() * 2 ** 32) & ~mask[i])) as Words;
  return family === 4 ? [words[0], 0, 0, 0] : words;
}

function cut(words: Words, length: number): Words {
  const mask = maskWords(length);
  return words.map((word, i) => word & mask[i]) as Words;
}

const BASES: Record<4 | 6, Words[]> = {
  4: ['10.0.0.0', '10.1.2.3', '192.0.2.255', '203.0.113.0'].map((text) => [...parseAddress(text).words] as Words),
  6: ['2001:db8::', '2001:db8:1:2:3:4:5:6', '2a00::', 'fe80::1'].map((text) => [...parseAddress(text).words] as Words),
};

describe.each([4, 6] as const)('networks of IPv%i', (family) => {
  const bits = addressBits(family);

  it('match by the longest, through any adding, taking out, changing and ending', () => {
    for (let seed = 1; seed <= 7; seed++) {
      const next = random(seed * 100 + family);
      const integer = (limit: number): number => Math.floor(next() * limit);
      const timeouts = seed % 3 === 0;
      const pair = new Pair(family, timeouts ? { timeout: 0 } : {});
      const likes: Words[] = BASES[family];
      const somewhere = (): Words =>
        near(next, likes[integer(likes.length)], integer(seed % 2 === 0 ? bits + 1 : 16), family);
      for (let step = 0; step < 900; step++) {
        // Grows for two thirds, then shrinks to nothing.
        const growing = step < 600;
        if (next() < (growing ? 0.8 : 0.1)) {
          const length = 1 + integer(bits);
          const nomatch = next() < 0.2;
          pair.add(cut(somewhere(), length), length, {
            nomatch,
            timeout: timeouts && next() < 0.5 ? 1 + integer(200) : 0,
          });
        } else if (pair.size > 0) {
          const texts = pair.texts();
          pair.del(texts[integer(texts.length)]);
        }
        if (timeouts) pair.now += integer(3);
        if (step % 50 === 0 && next() < 0.5) pair.set.expire();
        if (step % 9 === 0)
          expect(pair.wrong(Array.from({ length: 12 }, somewhere)), `seed ${seed}, step ${step}`).toEqual([]);
      }
      for (const text of pair.texts()) pair.del(text);
      expect(pair.set.count).toBe(0);
      expect(pair.wrong(likes)).toEqual([]);
    }
  });

  it('match at the edges of every entry, built in one go as well as one by one', () => {
    const next = random(family);
    const integer = (limit: number): number => Math.floor(next() * limit);
    for (const bulk of [false, true]) {
      const pair = new Pair(family);
      const fill = (): void => {
        for (let i = 0; i < 700; i++) {
          const length = 1 + integer(bits);
          pair.add(cut(near(next, BASES[family][integer(4)], integer(bits), family), length), length);
        }
      };
      const settle = bulk ? pair.set.startBulk() : () => undefined;
      fill();
      settle();
      const edges = [...pair.set.list()].flatMap(({ text }) => {
        const [address, length] = text.split('/');
        const first = [...parseAddress(address).words] as Words;
        const mask = maskWords(length === undefined ? bits : Number(length));
        const last = first.map((word, i) => (i < bits / 32 ? word | ~mask[i] : 0)) as Words;
        const w = bits / 32 - 1;
        const before = [...first] as Words;
        const behind = [...last] as Words;
        before[w] = (before[w] - 1) | 0;
        behind[w] = (behind[w] + 1) | 0;
        return [first, last, before, behind];
      });
      expect(pair.wrong(edges).slice(0, 3)).toEqual([]);
    }
  });

  it('with ports are apart for each protocol and port', () => {
    const next = random(family + 50);
    const integer = (limit: number): number => Math.floor(next() * limit);
    const pair = new Pair(family, { type: 'hash:net,port' });
    const ports = [(6 << 16) | 80, (6 << 16) | 443, (17 << 16) | 80, (47 << 16) | 0, (132 << 16) | 65535];
    for (let step = 0; step < 1500; step++) {
      if (next() < 0.7) {
        const length = 1 + integer(bits);
        const port = ports[integer(ports.length)];
        pair.add(cut(near(next, BASES[family][integer(4)], integer(bits), family), length), length, {
          port,
          nomatch: next() < 0.2,
        });
      } else {
        const texts = pair.texts();
        if (texts.length > 0) pair.del(texts[integer(texts.length)]);
      }
      if (step % 10 !== 0) continue;
      const addresses = Array.from({ length: 4 }, () => near(next, BASES[family][integer(4)], integer(bits), family));
      for (const port of [...ports, (6 << 16) | 81]) expect(pair.wrong(addresses, port), `step ${step}`).toEqual([]);
    }
  });
});
