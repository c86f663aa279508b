/** From results to states: rise and fall, flap dampening, and which backends are left to use. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { applyHealth, detectionMs, type Judged } from '../../src/control/health/all_down.js';
import { DueQueue, type Due } from '../../src/control/health/due_queue.js';
import { FlapDampener } from '../../src/control/health/flap.js';
import { probeAddress } from '../../src/control/health/probe_address.js';
import { RiseFall } from '../../src/control/health/rise_fall.js';
import { parsePrefix } from '../../src/shared/addr.js';

/** Results and states as letters, T for good or up. */
function states(rise: number, fall: number, results: string): string {
  const state = new RiseFall(rise, fall);
  return [...results]
    .map((result) => {
      state.take(result === 'T');
      return state.up === true ? 'T' : 'F';
    })
    .join('');
}

describe('rise and fall', () => {
  const vectors = join(fileURLToPath(new URL('../../..', import.meta.url)), 'shared/vectors/glb/cases.json');

  it.skipIf(!existsSync(vectors))(
    "agrees with GLB Director's health_dampening cases (skipped without ../shared/vectors)",
    () => {
      const { health_dampening: cases } = JSON.parse(readFileSync(vectors, 'utf8')) as {
        health_dampening: { rise: number; fall: number; in: string; out: string }[];
      };
      expect(cases.length).toBeGreaterThanOrEqual(5);
      for (const { rise, fall, in: results, out } of cases) expect(states(rise, fall, results)).toBe(out);
    },
  );

  it('lets the first result decide, and counts in a row from then on', () => {
    expect(new RiseFall(2, 3).up).toBeNull();
    expect(states(2, 3, 'TFFTFFFTFTT')).toBe('TTTTTTFFFFT');
    expect(states(5, 5, 'F')).toBe('F');
  });

  it('keeps the state when the thresholds change, and counts anew', () => {
    const state = new RiseFall(2, 3);
    state.take(true);
    state.take(false);
    state.take(false);
    state.retune(2, 4);
    expect([false, false, false].map((result) => state.take(result))).toEqual([false, false, false]);
    expect(state.take(false)).toBe(true);
    expect(state.up).toBe(false);
  });
});

describe('flap dampening', () => {
  const config = { halfLifeMs: 60_000, suppress: 4, reuse: 1, maxHoldMs: 300_000 };

  it('lets a restart or two pass, holds what goes on, and lets go when the penalty has decayed', () => {
    const flap = new FlapDampener(config);
    const heldAfter = [0, 10, 20, 30, 40].map((seconds) => {
      flap.down(seconds * 1000);
      return flap.held(seconds * 1000);
    });
    // 1, 1.89, 2.68, 3.39, 4.02: the fifth time.
    expect(heldAfter).toEqual([false, false, false, false, true]);
    // From p to 1 takes log2(p) half-lives.
    const releaseMs = 40_000 + Math.log2(flap.penaltyAt(40_000)) * 60_000;
    expect(flap.held(releaseMs - 10)).toBe(true);
    expect(flap.held(releaseMs + 10)).toBe(false);
  });

  it('never holds longer than max_hold after the last time down', () => {
    const flap = new FlapDampener(config);
    for (let ms = 0; ms < 600_000; ms += 100) flap.down(ms);
    const lastMs = 599_900;
    expect(flap.penaltyAt(lastMs)).toBeLessThanOrEqual(32);
    expect(flap.held(lastMs + 299_000)).toBe(true);
    expect(flap.held(lastMs + 300_001)).toBe(false);
  });

  it('does nothing when it is off, and lets go of what it held when it is turned off', () => {
    const off = new FlapDampener(null);
    for (let i = 0; i < 100; i++) off.down(i);
    expect(off.held(100)).toBe(false);
    const flap = new FlapDampener(config);
    for (let i = 0; i < 10; i++) flap.down(i);
    expect(flap.held(10)).toBe(true);
    flap.retune(null, 11);
    expect(flap.held(11)).toBe(false);
  });
});

describe('what is left to use', () => {
  const config = { allDown: 'keep_last' as const, fall: 3, intervalMs: 2000, timeoutMs: 1000, jitter: 0.1 };
  const window = detectionMs(config);
  const up = (key: string): Judged => ({ key, up: true, held: false, sinceMs: 0 });
  const held = (key: string): Judged => ({ key, up: true, held: true, sinceMs: 0 });
  const fresh = (key: string): Judged => ({ key, up: null, held: false, sinceMs: 0 });
  const down = (key: string, sinceMs: number): Judged => ({ key, up: false, held: false, sinceMs });
  const apply = (backends: Judged[], allDown: 'keep_last' | 'drop' = 'keep_last') => {
    const { keys, why } = applyHealth(backends, { ...config, allDown });
    return `${[...keys].join('')} ${why}`;
  };

  it.each([
    ['all that are up, or not known yet', [up('a'), down('b', 5), fresh('c')], 'ac up'],
    ['not those that are held, while others are up', [up('a'), held('b')], 'a up'],
    ['those that are held, before none', [down('a', 1), held('b'), held('c')], 'bc held'],
    [
      'those that went down together, when all are down',
      [down('a', 10_000), down('b', 10_000 + window), down('c', 10_500)],
      'abc kept',
    ],
    ['not one that had been dead before', [down('a', 9999), down('b', 10_000 + window), down('c', 10_500)], 'bc kept'],
    ['one that flaps alone in a field of the dead', [down('a', 0), down('b', 0), down('c', 900_000)], 'c kept'],
    ['nothing of nothing', [], ' none'],
  ])('%s', (_, backends, expected) => {
    expect(apply(backends)).toBe(expected);
  });

  it('with drop: none, once all are down', () => {
    expect(apply([down('a', 1), down('b', 2)], 'drop')).toBe(' none');
    expect(apply([down('a', 1), up('b')], 'drop')).toBe('b up');
    expect(apply([down('a', 1), held('b')], 'drop')).toBe('b held');
  });

  it('sees a death within the detection time, whatever the jitter does', () => {
    // Just after a good check; three bad ones, each a longest interval apart, the last with its timeout.
    expect(window).toBeGreaterThanOrEqual(3 * 2200 + 1000);
  });
});

describe('the queue of what is due', () => {
  it('gives the earliest first, also after removals in the middle', () => {
    let seed = 7;
    const random = () => (seed = (Math.imul(seed, 48271) >>> 0) % 0x7fffffff);
    const queue = new DueQueue<Due>();
    const items: Due[] = Array.from({ length: 1000 }, () => ({ dueMs: random() % 500, position: -1 }));
    for (const item of items) queue.add(item);
    const gone = new Set(items.filter(() => random() % 3 === 0));
    for (const item of gone) queue.remove(item);
    for (const item of gone) queue.remove(item);
    expect(queue.size).toBe(1000 - gone.size);
    const taken: number[] = [];
    for (let first = queue.first; first !== undefined; first = queue.first) {
      queue.remove(first);
      taken.push(first.dueMs);
    }
    const left = items.filter((item) => !gone.has(item)).map(({ dueMs }) => dueMs);
    expect(taken).toEqual(left.sort((a, b) => a - b));
  });
});

describe('the address of a VIP to check', () => {
  it.each([
    ['198.51.100.10/32', '198.51.100.10'],
    ['198.51.100.0/24', '198.51.100.1'],
    ['198.51.100.4/31', '198.51.100.4'],
    ['2001:db8::/64', '2001:db8::1'],
    ['2001:db8::10/128', '2001:db8::10'],
  ])('%s: %s', (vip, address) => {
    expect(probeAddress(parsePrefix(vip)).text).toBe(address);
  });
});
