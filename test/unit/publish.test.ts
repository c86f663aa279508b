import { beforeEach, describe, expect, it } from 'vitest';
import { outerHeaderSum } from '../../src/control/backend_records.js';
import { Publisher, type PublishState } from '../../src/control/publish.js';
import { Registry, backendKey } from '../../src/control/registry.js';
import type { NextHop } from '../../src/control/routes.js';
import { ServiceTable } from '../../src/dataplane/balance/service_table.js';
import { SluiceError } from '../../src/errors.js';
import { parseAddress, parsePrefix } from '../../src/shared/addr.js';
import type { Config, RuleConfig } from '../../src/shared/config.js';
import {
  BackendField,
  BackendFlag,
  LAYOUT_VERSION,
  RuleAction,
  RuleField,
  RuleMatch,
  ServiceField,
  ServiceFlag,
  type Tables,
} from '../../src/shared/layout.js';
import { IPIP, makeConfig, makeNextHop, makeService, type ServiceSketch } from '../support/configs.js';

const TCP = 6;
const UDP = 17;
const { valid, active, draining, ipv6, resolved } = {
  valid: BackendFlag.valid,
  active: BackendFlag.active,
  draining: BackendFlag.draining,
  ipv6: BackendFlag.ipv6,
  resolved: BackendFlag.resolved,
};

let clock: { ms: number };
let publisher: Publisher;
beforeEach(() => {
  clock = { ms: 0 };
  const registry = new Registry({ now: () => clock.ms, reuseAfterMs: 1000 });
  publisher = new Publisher({ registry, resolveModule: (path) => `file:///etc/sluice/${path}` });
});

function stateOf(config: Config, parts: Partial<PublishState> = {}): PublishState {
  const addresses = config.services.flatMap((service) => service.backends.map(({ address }) => address.text));
  const nextHops = new Map(addresses.map((address) => [address, makeNextHop(address)]));
  return { nextHops, overrides: new Map(), ports: [{ name: 'eth0', index: 0, repairChecksum: false }], ...parts };
}

function build(services: ServiceSketch[], parts: Partial<PublishState> = {}, config: Partial<Config> = {}): Tables {
  const whole = makeConfig({ services: services.map(makeService), ...config });
  return publisher.build(whole, stateOf(whole, parts));
}

function hops(...list: NextHop[]): Map<string, NextHop> {
  return new Map(list.map((hop) => [hop.address, hop]));
}

/** Record of a backend, by field. */
function backendOf(tables: Tables, service: string, address: string): Int32Array {
  const { number } = publisher.numbers.backends.get(backendKey(service, address))!;
  return new Int32Array(tables.backends).slice(number * BackendField.STRIDE, (number + 1) * BackendField.STRIDE);
}

function flagsOf(tables: Tables, service: string, address: string): number {
  return backendOf(tables, service, address)[BackendField.flags];
}

function serviceOf(tables: Tables, name: string): Int32Array {
  const at = publisher.numbers.services.get(name)!.number * ServiceField.STRIDE;
  return new Int32Array(tables.services).slice(at, at + ServiceField.STRIDE);
}

/** Addresses that a service's ring leads to, with their number of slots: the tables followed as the data plane does. */
function spreadOf(tables: Tables, name: string): Record<string, number> {
  const service = serviceOf(tables, name);
  if (service[ServiceField.ring] < 0) return {};
  const list = new Int32Array(tables.backendList);
  const backends = new Int32Array(tables.backends);
  const spread: Record<string, number> = {};
  for (const position of new Uint16Array(tables.rings[service[ServiceField.ring]])) {
    expect(position).toBeLessThan(service[ServiceField.listLength]);
    const backend = list[service[ServiceField.listStart] + position];
    const word = backends[backend * BackendField.STRIDE + BackendField.addr0];
    const text = [24, 16, 8, 0].map((shift) => (word >>> shift) & 255).join('.');
    spread[text] = (spread[text] ?? 0) + 1;
  }
  return spread;
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof SluiceError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'did not throw';
}

describe('publisher', () => {
  it('starts at generation 1 and counts up by one', () => {
    expect(build([{}])).toMatchObject({ version: LAYOUT_VERSION, generation: 1 });
    expect(build([{}]).generation).toBe(2);
  });

  it('leads from a packet to its service, ring and backends', () => {
    const tables = build([
      { name: 'web', vip: '192.0.2.1', ports: ['80'], backends: ['10.0.0.1', '10.0.0.2*3'] },
      { name: 'dns', vip: '192.0.2.1', ports: ['53'], protocols: [UDP], backends: ['10.0.0.9'], flowTable: false },
    ]);
    const table = new ServiceTable(tables);
    const [vip] = parseAddress('192.0.2.1').words;
    expect(table.find4(vip, TCP, 80)).toBe(publisher.numbers.services.get('web')!.number);
    expect(table.find4(vip, UDP, 53)).toBe(publisher.numbers.services.get('dns')!.number);
    expect(table.find4(vip, TCP, 53)).toBe(-1);
    expect(spreadOf(tables, 'web')).toEqual({ '10.0.0.1': 63, '10.0.0.2': 188 });
    expect(spreadOf(tables, 'dns')).toEqual({ '10.0.0.9': 251 });
    expect(serviceOf(tables, 'web')[ServiceField.flags]).toBe(ServiceFlag.valid | ServiceFlag.flowTable);
    expect(serviceOf(tables, 'dns')[ServiceField.flags]).toBe(ServiceFlag.valid);
    expect(tables.prefixLengths4).toEqual([32]);
    expect(tables.prefixLengths6).toEqual([]);
  });

  it('lists prefix lengths longest first, by family', () => {
    const vips = ['10.1.0.0/16', '192.0.2.1', '10.2.0.0/16', '10.0.0.0/12', '2001:db8::/64', '2001:db8::1'];
    const tables = build(vips.map((vip, i) => ({ name: `s${i}`, vip })));
    expect(tables.prefixLengths4).toEqual([32, 16, 12]);
    expect(tables.prefixLengths6).toEqual([128, 64]);
  });

  it('builds tables of nothing', () => {
    const tables = build([]);
    expect(tables.rings).toEqual([]);
    expect(tables.services.byteLength).toBe(0);
    expect(new Int32Array(tables.rules)).toEqual(new Int32Array(RuleField.HEADER));
    expect(new ServiceTable(tables).find4(1, TCP, 80)).toBe(-1);
  });

  describe('backend records', () => {
    it('hold addresses, port, MTU, both hardware addresses and the number of their service', () => {
      const tables = build([{ name: 'other' }, { name: 'web', vip: '192.0.2.2', backends: ['10.0.0.7'] }], {
        nextHops: hops(
          makeNextHop('10.0.0.7', {
            interface: 'eth1',
            mtu: 1480,
            smac: Uint8Array.of(0xf2, 0xa1, 0x33, 0x44, 0x55, 0x66),
            dmac: Uint8Array.of(0x00, 0x11, 0x22, 0x33, 0x44, 0xff),
            source: parseAddress('10.0.0.254'),
          }),
        ),
        ports: [
          { name: 'eth0', index: 0, repairChecksum: false },
          { name: 'eth1', index: 3, repairChecksum: true },
        ],
      });
      const record = backendOf(tables, 'web', '10.0.0.7');
      const source = parseAddress('10.0.0.254').words[0];
      const address = parseAddress('10.0.0.7').words[0];
      expect([...record]).toEqual([
        ...[valid | active | resolved, 1, publisher.numbers.services.get('web')!.number, 3],
        ...[address, 0, 0, 0, source, 0, 0, 0],
        ...[0x00112233, 0x44fff2a1, 0x33445566],
        ...[1480, outerHeaderSum(source, address, 4)],
        ...new Array<number>(BackendField.STRIDE - BackendField.encap).fill(0),
      ]);
      expect(tables.settings.repairChecksums).toEqual([false, false, false, true]);
    });

    it('want a backend without outer header on the link, and nothing of its source', () => {
      const l2 = { encapsulation: { ...IPIP, kind: 'l2' as const } };
      const nextHops = hops(
        makeNextHop('10.0.0.7', { gateway: '10.255.0.254' }),
        makeNextHop('10.0.0.8', { source: null }),
      );
      const tables = build([{ backends: ['10.0.0.7', '10.0.0.8'], more: l2 }], { nextHops });
      expect(flagsOf(tables, 'web', '10.0.0.7') & resolved).toBe(0);
      expect(flagsOf(tables, 'web', '10.0.0.8') & resolved).toBe(resolved);
      expect(publisher.warnings).toEqual([
        'backend 10.0.0.7 is behind the router 10.255.0.254: encapsulation l2 reaches only hosts on the link',
      ]);
    });

    it('have the sum of the outer IPv4 header that a checksum of the whole header confirms', () => {
      const header = (tos: number, length: number, protocol: number, source: string, destination: string): Buffer => {
        const bytes = Buffer.from([0x45, tos, length >> 8, length & 255, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
        const quad = (text: string) => Buffer.from(text.split('.').map(Number));
        return Buffer.concat([bytes, quad(source), quad(destination)]);
      };
      const sumOf = (bytes: Buffer): number => {
        let sum = 0;
        for (let i = 0; i < bytes.length; i += 2) sum += bytes.readUInt16BE(i);
        while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
        return sum;
      };
      for (const [family, vip, protocol] of [
        [4, '192.0.2.1', 4],
        [6, '2001:db8::1', 41],
      ] as const) {
        for (const [source, destination] of [
          ['10.255.0.1', '10.0.0.1'],
          ['255.255.255.254', '255.255.255.253'],
          ['192.168.1.1', '172.16.104.123'],
        ]) {
          const tables = build([{ name: `v${family}`, vip, backends: [destination] }], {
            nextHops: hops(makeNextHop(destination, { source: parseAddress(source) })),
          });
          const constant = backendOf(tables, `v${family}`, destination)[BackendField.headerSum];
          expect(constant).toBeLessThanOrEqual(0xffff);
          const bytes = header(0x2e, 1234, protocol, source, destination);
          let sum = constant + 0x2e + 1234;
          sum = (sum & 0xffff) + (sum >>> 16);
          expect(sum).toBe(sumOf(bytes));
        }
      }
    });

    it('take the outer source from the config before that of the route', () => {
      const encapsulation = { ...IPIP, source4: parsePrefix('10.9.9.9'), source6: parsePrefix('2001:db8:9::9') };
      const tables = build([{ backends: ['10.0.0.1', '2001:db8:1::1'], more: { encapsulation } }]);
      expect(backendOf(tables, 'web', '10.0.0.1')[BackendField.source0]).toBe(0x0a090909);
      const six = backendOf(tables, 'web', '2001:db8:1::1');
      expect([...six.subarray(BackendField.source0, BackendField.source0 + 4)]).toEqual([0x20010db8, 0x00090000, 0, 9]);
      expect([...six.subarray(BackendField.addr0, BackendField.addr0 + 4)]).toEqual([0x20010db8, 0x00010000, 0, 1]);
      expect(six[BackendField.flags]).toBe(valid | active | ipv6 | resolved);
      expect(six[BackendField.headerSum]).toBe(0);
    });

    it.each([
      ['no next hop yet', undefined, /not been looked up/],
      ['no hardware address', { dmac: null, resolved: false }, /hardware address/],
      ['no route', { interface: '', resolved: false, error: 'backend 10.0.0.1: no route' }, /no route/],
      ['an interface that is not served', { interface: 'eth9' }, /eth9, which sluice does not serve/],
      ['no source address', { source: null }, /no source address/],
    ])('are not resolved with %s, and say so', (_, parts, warning) => {
      const nextHops = parts ? hops(makeNextHop('10.0.0.1', parts)) : hops();
      const tables = build([{ backends: ['10.0.0.1'] }], { nextHops });
      expect(flagsOf(tables, 'web', '10.0.0.1')).toBe(valid | active);
      expect(publisher.warnings).toHaveLength(1);
      expect(publisher.warnings[0]).toMatch(warning);
      // Its flows stay its own: a next hop that comes and goes must not move everybody else's.
      expect(spreadOf(tables, 'web')).toEqual({ '10.0.0.1': 251 });
    });

    it('have no warnings when all can be reached', () => {
      build([{}]);
      expect(publisher.warnings).toEqual([]);
    });
  });

  describe('backend states', () => {
    it.each([
      ['10.0.0.1', valid | active | resolved, true],
      ['10.0.0.1 draining', valid | draining | resolved, false],
      ['10.0.0.1 inactive', valid | resolved, false],
      ['10.0.0.1*0', valid | active | resolved, false],
    ])('%s', (text, flags, inRing) => {
      const tables = build([{ backends: [text, '10.0.0.2'] }]);
      expect(flagsOf(tables, 'web', '10.0.0.1')).toBe(flags);
      expect('10.0.0.1' in spreadOf(tables, 'web')).toBe(inRing);
    });

    it('can be overridden, with the weight, one service at a time', () => {
      const services = [
        { name: 'a', vip: '192.0.2.1' },
        { name: 'b', vip: '192.0.2.2' },
      ];
      const overrides = new Map([
        [backendKey('a', '10.0.0.1'), { state: 'draining' as const }],
        [backendKey('a', '10.0.0.2'), { weight: 4 }],
      ]);
      const tables = build(services, { overrides });
      expect(flagsOf(tables, 'a', '10.0.0.1')).toBe(valid | draining | resolved);
      expect(spreadOf(tables, 'a')).toEqual({ '10.0.0.2': 201, '10.0.0.3': 50 });
      expect(flagsOf(tables, 'b', '10.0.0.1')).toBe(valid | active | resolved);
      expect(Object.keys(spreadOf(tables, 'b'))).toHaveLength(3);
    });

    it('leave a service without a ring when nobody takes new flows', () => {
      const tables = build([
        { backends: ['10.0.0.1 draining', '10.0.0.2 inactive'] },
        { name: 'none', vip: '192.0.2.9', backends: [] },
      ]);
      for (const name of ['web', 'none']) expect(serviceOf(tables, name)[ServiceField.ring]).toBe(-1);
      expect(serviceOf(tables, 'web')[ServiceField.listLength]).toBe(2);
      expect(tables.rings).toEqual([]);
    });

    it('draining one moves only its own share of flows', () => {
      const before = build([{ ringSize: 65537 }]);
      const view = publisher.ring('web')!;
      const after = build([{ ringSize: 65537 }], {
        overrides: new Map([[backendKey('web', '10.0.0.2'), { state: 'draining' as const }]]),
      });
      const newView = publisher.ring('web')!;
      expect(view.ring).toEqual(new Uint16Array(before.rings[0]));
      expect(newView.ring).toEqual(new Uint16Array(after.rings[0]));
      let moved = 0;
      for (let slot = 0; slot < 65537; slot++) {
        const was = view.backends[view.ring![slot]].key;
        if (was !== '10.0.0.2' && newView.backends[newView.ring![slot]].key !== was) moved++;
      }
      expect(moved / 65537).toBeLessThan(0.0008);
    });
  });

  describe('from one generation to the next', () => {
    const parts = ['serviceKeys', 'services', 'backendList', 'backends', 'rules'] as const;
    const changed = (before: Tables, after: Tables): string[] => [
      ...parts.filter((part) => before[part] !== after[part]),
      ...(before.rings.length === after.rings.length && before.rings.every((ring, i) => ring === after.rings[i])
        ? []
        : ['rings']),
    ];

    it('keeps every part that did not change as the same object', () => {
      const before = build([{}, { name: 'b', vip: '192.0.2.2' }]);
      expect(changed(before, build([{}, { name: 'b', vip: '192.0.2.2' }]))).toEqual([]);
    });

    it('changes nothing when backends are listed in another order', () => {
      const before = build([{ backends: ['10.0.0.1', '10.0.0.2*2', '10.0.0.3'] }]);
      expect(changed(before, build([{ backends: ['10.0.0.3', '10.0.0.1', '10.0.0.2*2'] }]))).toEqual([]);
    });

    it('changes only the backend records with a next hop', () => {
      const before = build([{}]);
      const config = makeConfig({ services: [makeService()] });
      const state = stateOf(config);
      (state.nextHops as Map<string, NextHop>).set('10.0.0.2', makeNextHop('10.0.0.2', { mtu: 9000 }));
      expect(changed(before, publisher.build(config, state))).toEqual(['backends']);
    });

    it('changes rings and backend records with a weight', () => {
      const before = build([{}]);
      const overrides = new Map([[backendKey('web', '10.0.0.1'), { weight: 2 }]]);
      expect(changed(before, build([{}], { overrides }))).toEqual(['rings']);
    });

    it('never writes to tables that it handed out', () => {
      const before = build([{}, { name: 'b', vip: '192.0.2.2' }]);
      const copies = parts.map((part) => Buffer.from(Buffer.from(before[part])));
      build([{ backends: ['10.0.0.9'], ports: ['1-9'] }]);
      build([]);
      parts.forEach((part, i) => expect(Buffer.compare(Buffer.from(before[part]), copies[i]), part).toBe(0));
    });

    it('shares one ring among services with equal backends, weights and size', () => {
      const backends = ['10.0.0.1', '10.0.0.2*2'];
      const tables = build([
        { name: 'a', vip: '192.0.2.1', backends },
        { name: 'b', vip: '192.0.2.2', backends: [...backends].reverse() },
        { name: 'other weights', vip: '192.0.2.3', backends: ['10.0.0.1*2', '10.0.0.2'] },
        { name: 'other size', vip: '192.0.2.4', backends, ringSize: 257 },
      ]);
      const ring = (name: string) => serviceOf(tables, name)[ServiceField.ring];
      expect(ring('a')).toBe(ring('b'));
      expect(new Set(['a', 'other weights', 'other size'].map(ring)).size).toBe(3);
      expect(tables.rings).toHaveLength(3);
      expect(spreadOf(tables, 'b')).toEqual(spreadOf(tables, 'a'));
    });

    it('clears the record of a backend that is gone and gives its number a higher incarnation later', () => {
      build([{ backends: ['10.0.0.1', '10.0.0.2', '10.0.0.3'] }]);
      const { number } = publisher.numbers.backends.get(backendKey('web', '10.0.0.2'))!;
      const at = number * BackendField.STRIDE;
      const without = build([{ backends: ['10.0.0.1', '10.0.0.3'] }]);
      const record = new Int32Array(without.backends).slice(at, at + BackendField.STRIDE);
      expect([...record]).toEqual(new Array(BackendField.STRIDE).fill(0));
      const soon = build([{ backends: ['10.0.0.1', '10.0.0.3', '10.0.0.4'] }]);
      expect(flagsOf(soon, 'web', '10.0.0.4')).not.toBe(0);
      expect(publisher.numbers.backends.get(backendKey('web', '10.0.0.4'))!.number).not.toBe(number);
      clock.ms += 1000;
      const late = build([{ backends: ['10.0.0.1', '10.0.0.3', '10.0.0.4', '10.0.0.5'] }]);
      expect(publisher.numbers.backends.get(backendKey('web', '10.0.0.5'))).toEqual({ number, incarnation: 2 });
      expect(new Int32Array(late.backends)[at + BackendField.incarnation]).toBe(2);
    });

    it('clears the record of a service that is gone', () => {
      build([{ name: 'a' }, { name: 'b', vip: '192.0.2.2' }]);
      const tables = build([{ name: 'b', vip: '192.0.2.2' }]);
      expect(new Int32Array(tables.services).slice(0, ServiceField.STRIDE)).toEqual(
        new Int32Array(ServiceField.STRIDE),
      );
      expect(serviceOf(tables, 'b')[ServiceField.flags] & ServiceFlag.valid).toBe(ServiceFlag.valid);
      expect(new ServiceTable(tables).find4(parseAddress('192.0.2.1').words[0], TCP, 80)).toBe(-1);
    });

    it('leaves everything as it was when a build fails', () => {
      const before = build([{}]);
      const numbers = publisher.numbers;
      const clash = [
        { name: 'new', ports: ['80'] },
        { name: 'newer', ports: ['80'] },
      ];
      expect(codeOf(() => build(clash))).toMatch(/^SLUICE_CONFIG: services new and newer both claim port 80/);
      expect(publisher.tables).toBe(before);
      expect(publisher.numbers).toBe(numbers);
      const after = build([{}]);
      expect(after.generation).toBe(2);
      expect(changed(before, after)).toEqual([]);
    });
  });

  describe('refuses what the tables cannot hold', () => {
    it.each([
      ['the same range twice', ['10-20'], ['20-30'], 'ports 20-20'],
      ['one range inside another', ['10-99'], ['20-30'], 'ports 20-30'],
      ['any port twice', [], [], 'any port'],
    ])('%s', (_, one, other, what) => {
      const services = [
        { name: 'a', ports: one },
        { name: 'b', ports: other },
      ];
      expect(codeOf(() => build(services))).toContain(`services a and b both claim ${what}`);
    });

    it('but takes one service that says the same twice, and an exact port inside a range of another', () => {
      const tables = build([
        { name: 'a', ports: ['80', '80', '100-120', '110-130'] },
        { name: 'b', ports: ['105'] },
      ]);
      const table = new ServiceTable(tables);
      const [vip] = parseAddress('192.0.2.1').words;
      expect([80, 100, 105, 125, 130, 131].map((port) => table.find4(vip, TCP, port))).toEqual([0, 0, 1, 0, 0, -1]);
    });

    it('more rules than the limit', () => {
      const rules = Array.from({ length: 4097 }, (_, i): RuleConfig => ({ name: `r${i}`, match: {}, action: 'count' }));
      expect(codeOf(() => build([], {}, { rules }))).toContain('too many rules: the limit is 4096');
    });

    it('more filters than the limit', () => {
      const filters = Array.from({ length: 65 }, () => ({ kind: 'rules' as const }));
      expect(codeOf(() => build([], {}, { filters }))).toContain('the limit is 64');
    });

    it('a port number beyond the counter blocks', () => {
      const ports = [{ name: 'eth0', index: 16, repairChecksum: false }];
      expect(codeOf(() => build([], { ports }))).toContain('the limit is 16');
    });
  });

  describe('rules', () => {
    const ruleWords = (rules: RuleConfig[]): Int32Array => new Int32Array(build([], {}, { rules }).rules);
    const F = RuleField.HEADER;

    it('are written in order, each under its own stable number', () => {
      ruleWords([
        { name: 'one', match: {}, action: 'count' },
        { name: 'two', match: {}, action: 'drop' },
      ]);
      const words = ruleWords([
        { name: 'three', match: {}, action: 'pass' },
        { name: 'two', match: {}, action: 'drop' },
      ]);
      expect(words[0]).toBe(2);
      expect([words[F + RuleField.id], words[F + RuleField.action]]).toEqual([2, RuleAction.pass]);
      const second = F + RuleField.STRIDE;
      expect([words[second + RuleField.id], words[second + RuleField.action]]).toEqual([1, RuleAction.drop]);
      expect(words[second + RuleField.fields]).toBe(0);
    });

    it('write every field', () => {
      const words = ruleWords([
        {
          name: 'all',
          action: 'drop',
          match: {
            protocol: 6,
            src: parsePrefix('2001:db8:aaaa:bbb8::/61'),
            dst: parsePrefix('2001:db8::1'),
            sport: { first: 1, last: 2 },
            dport: { first: 3, last: 4 },
            tcpFlags: { mask: 0x17, value: 0x02 },
            length: { first: 40, last: 60 },
            ttl: { first: 5, last: 6 },
            fragment: true,
          },
        },
      ]);
      expect([...words.subarray(F)]).toEqual([
        ...[1023, RuleAction.drop, 0, 6, 6],
        ...[0x20010db8, 0xaaaabbb8 | 0, 0, 0, -1, -8, 0, 0],
        ...[0x20010db8, 0, 0, 1, -1, -1, -1, -1],
        ...[1, 2, 3, 4, 0x17, 0x02, 40, 60, 5, 6, 1],
        // flags, threshold; program, sets, limit, sample, signature, names; spare
        ...[0, 0, -1, 0, 0, -1, -1, -1, -1],
        ...[0, 0, 0, 0, 0, 0, 0],
      ]);
    });

    it.each([
      ['0.0.0.0/0', 0, 0],
      ['128.0.0.0/1', 0x80000000 | 0, 0x80000000 | 0],
      ['10.0.0.0/8', 0x0a000000, 0xff000000 | 0],
      ['192.0.2.1', 0xc0000201 | 0, -1],
    ])('write prefix %s with its mask and its family', (text, word, mask) => {
      const words = ruleWords([{ name: 'r', match: { dst: parsePrefix(text) }, action: 'drop' }]);
      expect(words[F + RuleField.fields]).toBe(RuleMatch.dst | RuleMatch.family);
      expect(words[F + RuleField.family]).toBe(4);
      expect([words[F + RuleField.dst0], words[F + RuleField.dstMask0]]).toEqual([word, mask]);
      expect([...words.subarray(F + RuleField.dstMask1, F + RuleField.dstMask3 + 1)]).toEqual([0, 0, 0]);
    });

    it('tell whole datagrams from fragments', () => {
      const words = ruleWords([{ name: 'r', match: { fragment: false }, action: 'drop' }]);
      expect([words[F + RuleField.fields], words[F + RuleField.fragment]]).toEqual([RuleMatch.fragment, 0]);
    });

    it('of two families at once are refused', () => {
      const match = { family: 4 as const, src: parsePrefix('2001:db8::/32') };
      expect(codeOf(() => ruleWords([{ name: 'both', match, action: 'drop' }]))).toContain(
        'rule both asks for IPv4 and IPv6',
      );
    });
  });

  it('passes filters and settings on, with modules as URLs', () => {
    const filters: Config['filters'] = [
      { kind: 'sanity', checks: ['land'], protocols: [6, 17] },
      { kind: 'module', name: 'mine', path: 'mine.ts', options: { limit: 3 } },
      { kind: 'rules' },
    ];
    const tables = build([], {}, { filters });
    expect(tables.filters).toEqual([
      filters[0],
      { kind: 'module', name: 'mine', url: 'file:///etc/sluice/mine.ts', options: { limit: 3 } },
      { kind: 'rules' },
    ]);
    expect(tables.settings).toEqual({
      hashKey: [1, 2, 3, 4],
      maxNewFlowsPerSecond: 0,
      timeouts: { tcpSyn: 5, tcpEstablished: 300, tcpClosing: 10, udp: 30, other: 30 },
      repairChecksums: [false],
      icmp: { echo: 'answer', tooBig: 'reply', maxPerSecond: 1000 },
      fragments: { policy: 'follow', outOfOrder: 'hold', slots: 4096, timeout: 2, held: 256 },
      decapsulate: { addresses: [], sources: [], guePorts: [6080] },
    });
  });

  it('survives the trip to a worker', () => {
    const tables = build([{}]);
    const clone = structuredClone(tables);
    expect(clone.generation).toBe(1);
    new Int32Array(tables.backends)[0] ^= 0;
    expect(new Int32Array(clone.services)).toEqual(new Int32Array(tables.services));
  });

  it('builds 10,000 services in under a second', () => {
    const config = makeConfig({
      services: Array.from({ length: 10_000 }, (_, i) =>
        makeService({
          name: `service-${i}`,
          vip: `10.${100 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`,
          ports: ['80', '443', '8000-8099'],
          protocols: [TCP, UDP],
          ringSize: 65537,
          backends: Array.from({ length: 4 }, (_, b) => `10.0.${i % 20}.${b}`),
        }),
      ),
    });
    const state = stateOf(config);
    // CPU time, not the clock: the other tests run on the same cores.
    const build = (): number => {
      const start = process.cpuUsage();
      publisher.build(config, state);
      const { user, system } = process.cpuUsage(start);
      return (user + system) / 1000;
    };
    const first = build();
    const again = Math.min(build(), build(), build());
    console.log(
      `10,000 services, 40,000 backends, 20 rings of 65537: ${first.toFixed(0)} ms of CPU, again ${again.toFixed(0)} ms`,
    );
    expect(publisher.tables!.rings).toHaveLength(20);
    expect(Math.min(first, again)).toBeLessThan(1000);
  });
});
