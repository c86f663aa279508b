import { describe, expect, it } from 'vitest';
import { katranEndpointHash } from '../../src/control/katran_endpoint_hash.js';
import { buildKatranRing, type KatranBackend } from '../../src/control/katran_ring.js';
import { murmur3 } from '../../src/control/murmur3.js';
import { katranHash4, katranHash6 } from '../../src/dataplane/balance/katran_hash.js';
import { parseAddress } from '../../src/shared/addr.js';
import { katranFlow, vipOf, type KatranFlow } from '../support/katran_flow.js';
import { katranSetup, RING_SIZE } from '../support/katran_setup.js';
import { random } from '../support/packets.js';
import { frameOf, katranVectors, NO_VECTORS } from '../support/vectors.js';
import { countsOf } from '../support/rings.js';

function backendsOf(addresses: readonly string[], weightOf: (i: number) => number = () => 1): KatranBackend[] {
  return addresses.map((text, i) => ({ address: parseAddress(text), weight: weightOf(i), id: i + 1 }));
}

function pool(count: number, weightOf: (i: number) => number = () => 1): KatranBackend[] {
  return backendsOf(
    Array.from({ length: count }, (_, i) => `fc00::${(i + 1).toString(16)}`),
    weightOf,
  );
}

function ringOf(backends: KatranBackend[], size = RING_SIZE, version: 1 | 2 = 1): Uint16Array {
  const ring = buildKatranRing(backends, size, version);
  if (!ring) throw new Error('no ring');
  return ring;
}

/** Address by slot: what a ring means, whatever the order of its list. */
function addressesOf(ring: Uint16Array, backends: KatranBackend[]): string[] {
  return Array.from(ring, (position) => backends[position].address.text);
}

/** The backend that Katran's ring gives a flow. `anyPort`: Katran forgets the destination port. */
function pick(backends: KatranBackend[], flow: KatranFlow, anyPort: boolean, byPort = false): string {
  const dport = anyPort ? 0 : flow.dport;
  const [a, b, c, d] = byPort ? [0, 0, 0, 0] : flow.src.words;
  const ports = ((byPort ? dport : flow.sport) << 16) | dport;
  const hash = flow.src.family === 4 ? katranHash4(a, ports) : katranHash6(a, b, c, d, ports);
  return backends[ringOf(backends)[(hash >>> 0) % RING_SIZE]].address.text;
}

/** Cases whose backend comes from something else than the ring: why, and the numbers of the cases in their suites. */
const NOT_BY_RING: Record<string, [why: string, cases: number[]]> = {
  base: ['server id in the connection id, or the flow that one is in', [26, 27, 29, 30, 31, 32, 34, 35]],
  gue: ['server id in the connection id, or the flow that one is in', [24, 25, 27, 28, 29, 30, 33, 34]],
  tpr: ['server id in a TCP option, or the flow that one is in', [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 16, 17]],
  tpr_gue: ['server id in a TCP option, or the flow that one is in', [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 16, 17]],
  lpm_src: ['source route', [1, 2, 3, 5, 6, 8]],
  udp_stable_rt: ['server id in the payload', [2, 3, 4]],
};

describe("Katran's rings", () => {
  const vectors = katranVectors();

  it("pick the backend of every case in Katran's tests", ({ skip }) => {
    skip(vectors === null, NO_VECTORS);
    const agreed: string[] = [];
    for (const [suite, cases] of Object.entries(vectors!.suites)) {
      const setup = katranSetup(suite);
      if (!setup) continue;
      const others = NOT_BY_RING[suite]?.[1] ?? [];
      let count = 0;
      for (const one of cases) {
        if (!one.outer || others.includes(one.n)) continue;
        const flow = katranFlow(frameOf(one.in));
        const { vip, anyPort } = vipOf(setup, flow)!;
        const picked = pick(backendsOf(vip.reals), flow, anyPort, vip.flags.includes('dport-hash'));
        expect(picked, `${suite} ${one.n}: ${one.description}`).toBe(one.outer.dst);
        count++;
      }
      agreed.push(`${suite} ${count}`);
    }
    console.log(`cases that the ring decides, all agree: ${agreed.join(', ')}`);
    expect(agreed).toContain('base 16');
  });

  // Katran's testSimulator: what getRealForFlow must say.
  it.each([
    ['172.16.0.1', '10.200.1.1', '10.0.0.2'],
    ['172.16.0.1', '10.200.1.3', 'fc00::2'],
    ['fc00:2::1', 'fc00:1::1', 'fc00::3'],
  ])('give %s:31337 to %s:80 the backend of the simulator, %s', (src, dst, expected) => {
    const flow = { protocol: 6, src: parseAddress(src), dst: parseAddress(dst), sport: 31337, dport: 80 };
    const { vip, anyPort } = vipOf(katranSetup('base')!, flow)!;
    expect(pick(backendsOf(vip.reals), flow, anyPort)).toBe(expected);
  });
});

describe('katranEndpointHash', () => {
  it.each([
    ['10.0.0.1', 'd671359dbaa15954'],
    ['192.168.255.254', 'dc9bf0b6f019fa15'],
    ['fc00::1', '64e74a25b986d744'],
  ])('of %s stays what it was', (text, expected) => {
    expect(katranEndpointHash(parseAddress(text)).toString(16)).toBe(expected);
  });

  it('is the same for some IPv4 addresses: then the lower id has its turns first', () => {
    const [a, b] = ['10.0.126.254', '10.0.128.0'].map((text) => parseAddress(text));
    expect(katranEndpointHash(a)).toBe(katranEndpointHash(b));
    const first = (idOfA: number, idOfB: number) => {
      const backends = [
        { address: a, weight: 1, id: idOfA },
        { address: b, weight: 1, id: idOfB },
      ];
      return addressesOf(ringOf(backends), backends);
    };
    expect(first(1, 2)).toEqual(first(7, 9));
    expect(first(2, 1)).toEqual(first(1, 2).map((text) => (text === a.text ? b.text : a.text)));
  });
});

describe('buildKatranRing', () => {
  it.each([1, 2] as const)('V%i does not depend on the order of the list nor on ids', (version) => {
    const next = random(7);
    const backends = pool(40, (i) => 1 + (i % 5));
    const expected = addressesOf(ringOf(backends, 4093, version), backends);
    for (let run = 0; run < 5; run++) {
      const other = backends
        .map((backend) => ({ backend: { ...backend, id: Math.floor(1e6 * next()) }, key: next() }))
        .sort((x, y) => x.key - y.key)
        .map(({ backend }) => backend);
      expect(addressesOf(ringOf(other, 4093, version), other)).toEqual(expected);
    }
  });

  it('V1 gives weights a run of turns in the first round only', () => {
    // 3 rounds: 5 + 1 + 1 slots, then one each. 251 = 7 + 3 * 81 + 1.
    const backends = pool(3, (i) => (i === 0 ? 5 : 1));
    const counts = countsOf(ringOf(backends, 251, 1), 3);
    expect(counts[0] - 4).toBeGreaterThanOrEqual(Math.floor(247 / 3));
    expect(counts[0] - 4).toBeLessThanOrEqual(Math.ceil(247 / 3));
    expect(Math.abs(counts[1] - counts[2])).toBeLessThanOrEqual(1);
  });

  it('V1 ends in the first round when weights fill the ring', () => {
    const counts = countsOf(
      ringOf(
        pool(2, () => 60000),
        RING_SIZE,
        1,
      ),
      2,
    );
    expect(counts.sort((x, y) => x - y)).toEqual([5537, 60000]);
  });

  it('V2 gives slots in proportion to weights', () => {
    const backends = pool(4, (i) => [1, 2, 3, 10][i]);
    const counts = countsOf(ringOf(backends, RING_SIZE, 2), 4);
    backends.forEach(({ weight }, i) => expect(Math.abs(counts[i] - (RING_SIZE * weight) / 16)).toBeLessThan(4));
  });

  it('V1 and V2 are one for equal weights', () => {
    expect(
      ringOf(
        pool(33, () => 4),
        RING_SIZE,
        2,
      ),
    ).toEqual(ringOf(pool(33), RING_SIZE, 1));
  });

  it('leaves out weight 0, has every slot of a single backend, and no ring without weight', () => {
    const backends = pool(3, (i) => (i === 1 ? 1 : 0));
    expect(countsOf(ringOf(backends, 251), 3)).toEqual([0, 251, 0]);
    expect(
      buildKatranRing(
        pool(3, () => 0),
        251,
        1,
      ),
    ).toBeNull();
    expect(buildKatranRing([], 251, 2)).toBeNull();
  });

  it.each([251, 65537, 655373])('fills every slot of a ring of %i', (size) => {
    for (const version of [1, 2] as const) {
      const ring = ringOf(
        pool(50, (i) => 1 + (i % 3)),
        size,
        version,
      );
      expect(ring.every((position) => position < 50)).toBe(true);
    }
  });

  // Digests of the rings that a second implementation makes, which visits every backend in every round as Katran does.
  const skewed = [7, 1, 7, 3, 2, 3, 65535, 1, 40000];
  it.each([
    ['V1, weights 1 to 10', pool(10, (i) => i + 1), RING_SIZE, 1, 'c7fb6d8c'],
    ['V2, weights 1 to 10', pool(10, (i) => i + 1), RING_SIZE, 2, '1e379eee'],
    ['V2, skewed weights', pool(9, (i) => skewed[i]), 4093, 2, '8311bbb9'],
    ['V1, a ring so large that 32-bit sums wrap', pool(1000), 655373, 1, 'c08761cf'],
  ] as const)('is the very ring: %s', (_, backends, size, version, digest) => {
    const ring = ringOf(backends, size, version);
    expect(murmur3(new Uint8Array(ring.buffer), 0).toString(16)).toBe(digest);
  });

  it('refuses sizes, weights, versions and addresses that cannot be', () => {
    expect(() => buildKatranRing(pool(2), 65536, 1)).toThrow(RangeError);
    expect(() =>
      buildKatranRing(
        pool(2, () => 65536),
        251,
        1,
      ),
    ).toThrow(/fc00::1 is not an integer/);
    expect(() => buildKatranRing(pool(2), 251, 3 as 2)).toThrow(RangeError);
    expect(() => buildKatranRing([...pool(2), ...pool(1)], 251, 1)).toThrow(/fc00::1 is in the ring twice/);
  });

  it('builds 65537 slots over 1000 backends in less than 200 ms', () => {
    const cases: [string, KatranBackend[], 1 | 2][] = [
      ['V1, equal', pool(1000), 1],
      ['V2, all different', pool(1000, (i) => i + 1), 2],
      ['V2, 65535 and 999 times 1', pool(1000, (i) => (i === 0 ? 65535 : 1)), 2],
    ];
    for (const [name, backends, version] of cases) {
      const times = Array.from({ length: 5 }, () => {
        // Of the processor, not of the clock: other test files run beside this one.
        const start = process.cpuUsage();
        ringOf(backends, RING_SIZE, version);
        const { user, system } = process.cpuUsage(start);
        return (user + system) / 1000;
      });
      console.log(`Katran ring 65537 x 1000, ${name}: best ${Math.min(...times).toFixed(1)} ms of 5`);
      expect(Math.min(...times)).toBeLessThan(200);
    }
  });
});
