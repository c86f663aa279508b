import { describe, expect, it } from 'vitest';
import { buildServiceKeys } from '../../src/control/service_keys.js';
import { NO_PORT, ServiceTable, lookupService } from '../../src/dataplane/balance/service_table.js';
import { parseAddress } from '../../src/shared/addr.js';
import type { ServiceConfig } from '../../src/shared/config.js';
import { ServiceKey } from '../../src/shared/layout.js';
import { makeService, type ServiceSketch } from '../support/configs.js';

const TCP = 6;
const UDP = 17;
const ICMP = 1;

function random(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

function tableOf(services: ServiceConfig[]) {
  const { words, lengths4, lengths6 } = buildServiceKeys(services, (name) =>
    services.findIndex((service) => service.name === name),
  );
  const shared = new SharedArrayBuffer(words.byteLength);
  new Int32Array(shared).set(words);
  return new ServiceTable({ serviceKeys: shared, prefixLengths4: lengths4, prefixLengths6: lengths6 });
}

/** Name of the service that the table finds, or null. */
function finder(sketches: ServiceSketch[]) {
  const services = sketches.map((sketch, i) => makeService({ name: `s${i}`, ...sketch }));
  const table = tableOf(services);
  return (address: string, protocol: number, port: number): string | null => {
    const { family, words } = parseAddress(address);
    const number = family === 4 ? table.find4(words[0], protocol, port) : table.find6(...words, protocol, port);
    return number < 0 ? null : services[number].name;
  };
}

const bitsCache = new WeakMap<object, string>();

/** An address as 128 binary digits. */
function bitsOf(address: { words: readonly number[] }): string {
  let bits = bitsCache.get(address);
  if (bits === undefined) {
    bits = address.words.map((word) => (word >>> 0).toString(2).padStart(32, '0')).join('');
    bitsCache.set(address, bits);
  }
  return bits;
}

/** The order of look-up, word for word from its definition, over the config: no table, no hash, no masks. */
function bruteForce(services: ServiceConfig[], address: string, protocol: number, port: number): number {
  const parsed = parseAddress(address);
  const family = parsed.family;
  const lengths = [...new Set(services.filter((s) => s.vip.family === family).map((s) => s.vip.length))];
  lengths.sort((a, b) => b - a);
  for (const portSpecific of [true, false]) {
    for (const length of lengths) {
      for (const wanted of [protocol, 0]) {
        const candidates = services
          .map((service, number) => ({ service, number }))
          .filter(({ service }) => {
            if (service.vip.family !== family || service.vip.length !== length) return false;
            if (bitsOf(service.vip).slice(0, length) !== bitsOf(parsed).slice(0, length)) return false;
            return wanted === 0 ? service.protocols.length === 0 : service.protocols.includes(wanted);
          });
        if (!portSpecific) {
          const found = candidates.find(({ service }) => service.ports.length === 0);
          if (found) return found.number;
          continue;
        }
        const exact = candidates.find(({ service }) =>
          service.ports.some((p) => p.first === p.last && p.first === port),
        );
        if (exact) return exact.number;
        const range = candidates.find(({ service }) =>
          service.ports.some((p) => p.first !== p.last && p.first <= port && port <= p.last),
        );
        if (range) return range.number;
      }
    }
  }
  return -1;
}

describe('service table', () => {
  it('finds an exact address, protocol and port, and nothing next to it', () => {
    const find = finder([{ vip: '192.0.2.1', ports: ['80', '443'], protocols: [TCP] }]);
    expect(find('192.0.2.1', TCP, 80)).toBe('s0');
    expect(find('192.0.2.1', TCP, 443)).toBe('s0');
    expect(find('192.0.2.1', TCP, 81)).toBeNull();
    expect(find('192.0.2.1', UDP, 80)).toBeNull();
    expect(find('192.0.2.2', TCP, 80)).toBeNull();
  });

  it('tells an IPv4 address from the IPv6 address with the same first word', () => {
    const find = finder([{ vip: '32.1.13.184' }, { vip: '2001:db8::/32', name: 'six' }]);
    expect(find('32.1.13.184', TCP, 80)).toBe('s0');
    expect(find('2001:db8::1', TCP, 80)).toBe('six');
    const only6 = finder([{ vip: '2001:db8::/32' }]);
    expect(only6('32.1.13.184', TCP, 80)).toBeNull();
  });

  it('prefers the longest prefix', () => {
    const find = finder([
      { vip: '192.0.2.0/24' },
      { vip: '192.0.2.64/26' },
      { vip: '192.0.2.65/32' },
      { vip: '0.0.0.0/0' },
    ]);
    expect(find('192.0.2.65', TCP, 80)).toBe('s2');
    expect(find('192.0.2.66', TCP, 80)).toBe('s1');
    expect(find('192.0.2.1', TCP, 80)).toBe('s0');
    expect(find('198.51.100.1', TCP, 80)).toBe('s3');
  });

  it('prefers a port-specific service with a short prefix to an any-port one with a long prefix', () => {
    const find = finder([
      { vip: '192.0.2.1/32', ports: [] },
      { vip: '192.0.2.0/24', ports: ['80'] },
    ]);
    expect(find('192.0.2.1', TCP, 80)).toBe('s1');
    expect(find('192.0.2.1', TCP, 81)).toBe('s0');
  });

  it("prefers the packet's protocol to any protocol, also a range of it to an exact port of any", () => {
    const find = finder([
      { ports: ['80'], protocols: [] },
      { ports: ['1-100'], protocols: [TCP] },
      { ports: [], protocols: [] },
      { ports: [], protocols: [UDP] },
    ]);
    expect(find('192.0.2.1', TCP, 80)).toBe('s1');
    expect(find('192.0.2.1', UDP, 80)).toBe('s0');
    expect(find('192.0.2.1', UDP, 81)).toBe('s3');
    expect(find('192.0.2.1', 132, 81)).toBe('s2');
  });

  it('prefers an exact port to a range, and finds the ends of ranges', () => {
    const find = finder([
      { ports: ['1000-1999', '3000-3001'] },
      { ports: ['2000-2999', '65000-65535'] },
      { ports: ['1500'] },
    ]);
    const expected: [number, string | null][] = [
      [999, null],
      [1000, 's0'],
      [1499, 's0'],
      [1500, 's2'],
      [1999, 's0'],
      [2000, 's1'],
      [2999, 's1'],
      [3000, 's0'],
      [3001, 's0'],
      [3002, null],
      [64999, null],
      [65535, 's1'],
    ];
    for (const [port, service] of expected) expect(find('192.0.2.1', TCP, port), `port ${port}`).toBe(service);
  });

  it('gives packets without ports to any-port services only', () => {
    const find = finder([
      { ports: ['0-65535'], protocols: [] },
      { vip: '192.0.2.0/24', ports: [], protocols: [] },
    ]);
    expect(find('192.0.2.1', ICMP, NO_PORT)).toBe('s1');
    expect(find('192.0.2.1', UDP, 0)).toBe('s0');
  });

  it('matches every word of IPv6 prefixes of any length', () => {
    for (const length of [0, 1, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128]) {
      const ones = 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff';
      const bits = '1'.repeat(length).padEnd(128, '0');
      const hex = bits.match(/.{16}/g)!.map((part) => parseInt(part, 2).toString(16));
      const find = finder([{ vip: `${hex.join(':')}/${length}` }]);
      expect(find(ones, TCP, 80), `/${length}`).toBe('s0');
      if (length === 0) continue;
      // The last bit of the prefix, flipped.
      const flipped = `${bits.slice(0, length - 1)}0${'1'.repeat(128 - length)}`.match(/.{16}/g)!;
      expect(find(flipped.map((part) => parseInt(part, 2).toString(16)).join(':'), TCP, 80), `/${length}`).toBeNull();
    }
  });

  it('finds nothing in a table of no services', () => {
    const find = finder([]);
    expect(find('192.0.2.1', TCP, 80)).toBeNull();
    expect(find('2001:db8::1', TCP, NO_PORT)).toBeNull();
  });

  it('looks for every kind of key when the table does not say which it has', () => {
    const services = [
      makeService({ name: 's0', ports: [], protocols: [] }),
      makeService({ name: 's1', ports: ['5-9'] }),
    ];
    const { words, lengths4 } = buildServiceKeys(services, (name) => Number(name.slice(1)));
    words[3] = 0;
    const [dst] = parseAddress('192.0.2.1').words;
    expect(lookupService(words, lengths4, 4, dst, 0, 0, 0, TCP, 6)).toBe(1);
    expect(lookupService(words, lengths4, 4, dst, 0, 0, 0, TCP, 4)).toBe(0);
  });

  it('ends a probe that meets no empty slot and no match', () => {
    // A full table does not occur (load is at most a half), but a look-up must not spin on one.
    const slots = 8;
    const words = new Int32Array(ServiceKey.HEADER + slots * ServiceKey.STRIDE).fill(7);
    words.set([slots - 1, slots, slots, 0]);
    expect(lookupService(words, [32], 4, 0x0a000001, 0, 0, 0, TCP, 80)).toBe(-1);
  });

  it('agrees with a search through the config, for random services and packets', () => {
    const next = random(42);
    const pick = <T>(list: readonly T[]): T => list[next(list.length)];
    let found = 0;
    for (let run = 0; run < 60; run++) {
      const services: ServiceConfig[] = [];
      for (let i = 0; i < 40; i++) {
        const length4 = pick([8, 24, 30, 31, 32, 32, 32]);
        const host = [10, 1, next(2), next(8)];
        const value = ((host[0] << 24) | (host[1] << 16) | (host[2] << 8) | host[3]) & (-1 << (32 - length4));
        const text4 = [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.');
        const vip =
          next(3) > 0 ? `${text4}/${length4}` : pick(['2001:db8::/32', '2001:db8::/64', '2001:db8::1', '::/0']);
        const first = next(30);
        const candidate = makeService({
          name: `s${services.length}`,
          vip,
          ports: pick([[], [`${next(40)}`], [`${first}-${first + 1 + next(9)}`], [`${next(20)}`, '30-39']]),
          protocols: pick([[], [TCP], [UDP], [TCP, UDP]]),
          backends: [],
        });
        try {
          tableOf([...services, candidate]);
        } catch {
          continue; // Claims what another has; that it is refused is tested in publish.test.ts.
        }
        services.push(candidate);
      }
      const table = tableOf(services);
      for (let packet = 0; packet < 400; packet++) {
        const protocol = pick([TCP, UDP, ICMP]);
        const port = protocol === ICMP ? NO_PORT : next(45);
        const four = next(3) > 0;
        const address = four
          ? `10.${next(2)}.${next(3)}.${next(9)}`
          : pick(['2001:db8::1', '2001:db8::2', '2001:db8:1::1', 'fe80::1']);
        const { words } = parseAddress(address);
        const actual = four ? table.find4(words[0], protocol, port) : table.find6(...words, protocol, port);
        const expected = bruteForce(services, address, protocol, port);
        expect(actual, `run ${run}: ${address} protocol ${protocol} port ${port}`).toBe(expected);
        if (expected >= 0) found++;
      }
    }
    expect(found).toBeGreaterThan(5000);
  });

  it('keeps probes short with 10,000 addresses in a row', () => {
    const services = Array.from({ length: 10_000 }, (_, i) =>
      makeService({ name: `${i}`, vip: `10.0.${i >> 8}.${i & 255}`, backends: [] }),
    );
    const { words } = buildServiceKeys(services, Number);
    const [mask, maxProbe, count] = words;
    console.log(`10,000 keys: ${mask + 1} slots, longest probe ${maxProbe}`);
    // Each service has a key for its port, one for later fragments and one for "some service of this address".
    expect(count).toBe(30_000);
    expect(mask + 1).toBe(65536);
    // A random function gives 25 to 30 at this load.
    expect(maxProbe).toBeLessThan(40);
    const table = tableOf(services);
    const wrong = services.filter((_, i) => table.find4((10 << 24) | i, TCP, 80) !== i);
    expect(wrong).toEqual([]);
  });
});
