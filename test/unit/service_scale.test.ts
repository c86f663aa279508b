import { describe, expect, it } from 'vitest';
import { buildRing } from '../../src/control/maglev_build.js';
import { Publisher } from '../../src/control/publish.js';
import { Registry, backendKey } from '../../src/control/registry.js';
import { buildServiceKeys } from '../../src/control/service_keys.js';
import { NO_PORT, ServiceTable } from '../../src/dataplane/balance/service_table.js';
import { parseAddress } from '../../src/shared/addr.js';
import type { ServiceConfig } from '../../src/shared/config.js';
import { ServiceField } from '../../src/shared/layout.js';
import { makeConfig, makeNextHop, makeService } from '../support/configs.js';
import { random } from '../support/packets.js';

const [TCP, UDP, ICMP] = [6, 17, 1];

/** Ten services of every kind, one inside the other, around the addresses of block b. */
function block(b: number): ServiceConfig[] {
  const net4 = `10.${b >> 8}.${b & 255}`;
  const net6 = `2001:db8:${b.toString(16)}`;
  return [
    { vip: `${net4}.1`, ports: ['443'] },
    { vip: `${net4}.1`, ports: ['80', '8000-8099'] },
    { vip: `${net4}.1`, ports: ['53'], protocols: [UDP] },
    { vip: `${net4}.0/24`, ports: [] },
    { vip: `${net4}.16/28`, ports: ['443'] },
    { vip: `${net4}.16/28`, ports: [], protocols: [] },
    { vip: `${net4}.2/31`, ports: ['1000-1999'], protocols: [] },
    { vip: `${net6}::1`, ports: ['443'] },
    { vip: `${net6}::/64`, ports: ['443', '5000-5999'], protocols: [] },
    { vip: `${net6}::/48`, ports: [], protocols: [] },
  ].map((sketch, i) => makeService({ name: `s${b * 10 + i}`, backends: [], ...sketch }));
}

const services = Array.from({ length: 1000 }, (_, b) => block(b)).flat();

function tableOf(list: readonly ServiceConfig[]): ServiceTable {
  const { words, lengths4, lengths6 } = buildServiceKeys(list, (name) => Number(name.slice(1)));
  return new ServiceTable({ serviceKeys: words.buffer as never, prefixLengths4: lengths4, prefixLengths6: lengths6 });
}

interface Probe {
  words: readonly number[];
  family: 4 | 6;
  protocol: number;
  port: number;
}

/** A packet to somewhere in one of the first `blocks` blocks, or just outside. */
function probe(next: () => number, blocks: number): Probe {
  const pick = <T>(...of: T[]): T => of[Math.floor(next() * of.length)];
  const b = Math.floor(next() * blocks);
  const protocol = pick(TCP, TCP, UDP, ICMP);
  const port = protocol === ICMP ? NO_PORT : pick(443, 80, 53, 8000, 8050, 8100, 1000, 1999, 5500, 7);
  const address =
    next() < 0.6
      ? `10.${b >> 8}.${b & 255}.${pick(0, 1, 2, 3, 4, 16, 31, 32, 255)}`
      : `2001:db8:${b.toString(16)}:${pick('0', '1')}::${pick('1', '2')}`;
  const { family, words } = parseAddress(address);
  return { words, family, protocol, port };
}

const find = (table: ServiceTable, { words, family, protocol, port }: Probe): number =>
  family === 4
    ? table.find4(words[0], protocol, port)
    : table.find6(words[0], words[1], words[2], words[3], protocol, port);

const digits = (words: readonly number[]): string =>
  words.map((word) => (word >>> 0).toString(2).padStart(32, '0')).join('');
const prefixes = services.map(({ vip }) => digits(vip.words).slice(0, vip.length));

/** Every service looked at, the best by the documented order. */
function best({ words, family, protocol, port }: Probe): number {
  const address = digits(words);
  let found = -1;
  let rank = Infinity;
  services.forEach((service, number) => {
    if (service.vip.family !== family || !address.startsWith(prefixes[number])) return;
    if (service.protocols.length > 0 && !service.protocols.includes(protocol)) return;
    const anyPort = service.ports.length === 0;
    const match = service.ports.find(({ first, last }) => first <= port && port <= last);
    if (!anyPort && match === undefined) return;
    const order = [anyPort, service.protocols.length === 0, match !== undefined && match.first !== match.last];
    const own = Number(order[0]) * 1000 + (128 - service.vip.length) * 4 + Number(order[1]) * 2 + Number(order[2]);
    if (own < rank) [found, rank] = [number, own];
  });
  return found;
}

describe('10,000 services', () => {
  it('are looked up in the documented order, as by looking at every one', () => {
    const table = tableOf(services);
    const next = random(7);
    const seen = new Set<number>();
    for (let i = 0; i < 1500; i++) {
      const packet = probe(next, 1000);
      const expected = best(packet);
      expect(find(table, packet), JSON.stringify(packet)).toBe(expected);
      seen.add(expected < 0 ? -1 : expected % 10);
    }
    expect([...seen].sort((a, b) => a - b)).toEqual([-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it('cost no more a look-up than ten do, but for the cache', () => {
    const next = random(8);
    const tables = [tableOf(services.slice(0, 10)), tableOf(services)];
    const packets = [1, 1000].map((blocks) => Array.from({ length: 1024 }, () => probe(next, blocks)));
    const fastest = [Infinity, Infinity];
    let sum = 0;
    // The fastest of many rounds in turn: what else runs here can only make one slower.
    for (let round = 0; round < 200; round++) {
      const side = round & 1;
      const start = process.hrtime.bigint();
      for (const packet of packets[side]) sum = (sum + find(tables[side], packet)) | 0;
      fastest[side] = Math.min(fastest[side], Number(process.hrtime.bigint() - start) / 1024);
    }
    expect(sum).not.toBe(0);
    const ratio = fastest[1] / fastest[0];
    console.log(`look-up: ${fastest[0].toFixed(0)} ns with 10 services, ${fastest[1].toFixed(0)} ns with 10,000`);
    // 1.3 where the cache is not shared with others. A search that halves would take four times as long, one in a row a thousand.
    expect(ratio).toBeLessThan(3.5);
  });

  it('of 3 backends each, and one of 4,096, are published; a change of one backend leaves the other parts alone', () => {
    const many = services.map((service, i) =>
      makeService({
        ...{ name: service.name, backends: [1, 2, 3].map((n) => `10.${100 + n}.${i >> 8}.${i & 255}`) },
        more: { vip: service.vip, ports: service.ports, protocols: service.protocols },
      }),
    );
    const addresses = Array.from({ length: 4096 }, (_, i) => `10.200.${i >> 8}.${i & 255}`);
    many.push(makeService({ name: 'large', vip: '192.0.2.99', ringSize: 65537, backends: addresses }));
    const config = makeConfig({ services: many });
    const all = many.flatMap((service) => service.backends.map(({ address }) => address.text));
    const nextHops = new Map(all.map((address) => [address, makeNextHop(address)]));
    const ports = [{ name: 'eth0', index: 0, repairChecksum: false }];
    const publisher = new Publisher({ registry: new Registry({ now: () => 0 }), resolveModule: (path) => path });

    const times: number[] = [];
    const timed = <T>(run: () => T): T => {
      const start = performance.now();
      const result = run();
      times.push(performance.now() - start);
      return result;
    };
    const first = timed(() => publisher.build(config, { nextHops, overrides: new Map(), ports }));
    const overrides = new Map([[backendKey('s1234', '10.101.4.210'), { state: 'draining' as const }]]);
    const second = timed(() => publisher.build(config, { nextHops, overrides, ports }));
    const largeOverride = new Map([[backendKey('large', addresses[77]), { state: 'draining' as const }]]);
    const third = timed(() => publisher.build(config, { nextHops, overrides: largeOverride, ports }));
    console.log(
      `34,096 backends of 10,001 services: built in ${times[0].toFixed(0)} ms, again after a change of one of 3 in ` +
        `${times[1].toFixed(0)} ms, of one of 4,096 in ${times[2].toFixed(0)} ms`,
    );

    const at = publisher.numbers.services.get('large')!.number * ServiceField.STRIDE;
    const ringOf = (tables: typeof first): SharedArrayBuffer =>
      tables.rings[new Int32Array(tables.services)[at + ServiceField.ring]];
    expect(new Set(new Uint16Array(ringOf(first))).size).toBe(4096);
    expect(new Set(new Uint16Array(ringOf(third))).size).toBe(4095);
    expect(ringOf(second)).toBe(ringOf(first));
    expect(second.serviceKeys).toBe(first.serviceKeys);
    expect(second.backends).not.toBe(first.backends);
    expect(second.rings.filter((ring, i) => ring !== first.rings[i]).length).toBeLessThanOrEqual(1);
  }, 30_000);

  it('a Maglev ring of 65,537 slots over 1,000 backends takes well under 100 ms', () => {
    const backends = Array.from({ length: 1000 }, (_, i) => ({
      key: `10.0.${i >> 8}.${i & 255}`,
      weight: 1 + (i % 3),
    }));
    let fastest = Infinity;
    for (let round = 0; round < 5; round++) {
      const start = process.cpuUsage();
      const ring = buildRing(backends, 65537)!;
      const { user, system } = process.cpuUsage(start);
      fastest = Math.min(fastest, (user + system) / 1000);
      expect(new Set(ring).size).toBe(1000);
    }
    console.log(`Maglev, 65,537 slots over 1,000 backends: ${fastest.toFixed(1)} ms`);
    expect(fastest).toBeLessThan(100);
  });
});
