import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConfigError, parseConfig } from '../../src/control/config/index.js';
import type { Config, ServiceConfig } from '../../src/shared/config.js';
import { formatServerId } from '../../src/shared/server_ids.js';

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-balance-'));
  writeFileSync(join(directory, 'routes.txt'), '# offices\n192.0.2.0/24 10.0.0.1\n2001:db8::/32 10.0.0.2\n');
  writeFileSync(join(directory, 'strange.txt'), '192.0.2.0/24 10.0.0.1\n192.0.3.0/24 10.0.0.99\n');
  writeFileSync(join(directory, 'wrong.txt'), '192.0.2.0/24 10.0.0.1\nnonsense\n');
});
afterAll(() => rmSync(directory, { recursive: true }));

function read(text: string): Config {
  return parseConfig(`interfaces: [eth0]\n${text}`, join(directory, 'sluice.yaml'));
}

/** A service with the backends 10.0.0.1 and 10.0.0.2, on line 2, and what `keys` adds. */
function yaml(keys: string, before = ''): string {
  const backends = keys.includes('backends:') ? '' : ', backends: [10.0.0.1, 10.0.0.2]';
  return `services: [{name: web, vip: 198.51.100.10, port: 80${backends}${keys === '' ? '' : `, ${keys}`}}]\n${before}`;
}

function service(keys: string, before = ''): ServiceConfig {
  return read(yaml(keys, before)).services[0];
}

/** "path: message" of each problem. */
function problems(text: string): string[] {
  try {
    read(text);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    for (const problem of error.problems) expect(problem.line, problem.message).toBeGreaterThan(0);
    return error.problems.map(({ path, message }) => `${path}: ${message}`);
  }
  throw new Error('the configuration was accepted');
}

function warnings(text: string): string[] {
  return read(text).warnings.map(({ path, message }) => `${path}: ${message}`);
}

const GUE0 = 'encapsulation: {kind: gue, gue: {variant: 0}}';
const UDP = 'protocol: udp';

describe('encapsulation', () => {
  it('is the whole configuration’s where the service does not say', () => {
    const base = 'encapsulation: {kind: gue, source: [10.0.0.254, "fd00::/64"], gue: {port: 9886, checksum: computed}}';
    const { encapsulation } = service('encapsulation: {source: 192.0.2.1, gue: {variant: 0}}', base);
    expect(encapsulation).toEqual({
      kind: 'gue',
      source4: expect.objectContaining({ text: '192.0.2.1', length: 32 }),
      source6: expect.objectContaining({ text: 'fd00::', length: 64 }),
      gue: { port: 9886, variant: 0, checksum: 'computed' },
    });
    expect(service('encapsulation: l2', base).encapsulation.kind).toBe('l2');
    expect(service('').encapsulation).toEqual(read('').encapsulation);
  });

  it.each([
    [
      yaml('encapsulation: {source: [10.0.0.1, 10.0.0.2]}'),
      'services[0].encapsulation.source[1]: is a second IPv4 address',
    ],
    [yaml('encapsulation: {source: []}'), 'services[0].encapsulation.source: is an empty list'],
    ['encapsulation: {source: 0.0.0.0/0}', 'encapsulation.source: 0.0.0.0/0 has addresses that a host cannot have'],
    ['encapsulation: {source: "ff00::/8"}', 'encapsulation.source: ff00::/8 has addresses that a host cannot have'],
    ['encapsulation: {source: "::"}', 'encapsulation.source: "::" is not an address that a host can have'],
    [yaml('hops: 2'), 'services[0].hops: a chain of 2 hops needs the header of GUE variant 0, here it is ipip'],
    [
      yaml('hops: 3', 'encapsulation: gue'),
      'services[0].hops: a chain of 3 hops needs the header of GUE variant 0, here it is GUE variant 1',
    ],
    [
      yaml(`hops: 2, hash: katran, ${GUE0}`),
      "services[0].hops: hash: katran has no second hop: its rings are Katran's",
    ],
    [
      yaml(`hops: 2, ${GUE0}, backends: [10.0.0.1, "fd00::1"]`),
      'services[0].backends[1]: is IPv6, and the first is IPv4: a chain of hops has one family',
    ],
    [yaml('hops: 4'), 'services[0].hops: 4 is not a whole number from 1 to 3'],
  ])('%s', (text, expected) => {
    expect(problems(text)).toEqual([expected]);
  });

  it.each([
    [yaml('encapsulation: {gue: {port: 9886}}'), 'services[0].encapsulation.gue: means nothing: the kind is ipip'],
    [
      yaml('encapsulation: {kind: l2, source: 10.0.0.9}'),
      'services[0].encapsulation.source: means nothing: with l2 there is no outer header',
    ],
    [
      yaml('encapsulation: l2, backends: [10.0.0.1, "fd00::1"]'),
      'services[0].backends[1]: is IPv6, and with l2 it gets IPv4 packets as they are',
    ],
  ])('%s is probably not meant', (text, expected) => {
    expect(warnings(text)).toEqual([expected]);
  });

  it('of a chain is right with GUE variant 0', () => {
    expect(warnings(yaml(`hops: 2, ${GUE0}`))).toEqual([]);
    expect(service('hops: 2', GUE0).hops).toBe(2);
  });
});

describe('decapsulation and fragments', () => {
  it.each([
    [
      'decapsulate: {addresses: 10.0.0.1}',
      'decapsulate.addresses: nobody may send to these addresses: there is no decapsulate.from',
    ],
    [
      'decapsulate: {addresses: [10.0.0.1, 10.0.0.1], from: 10.0.0.0/8}',
      'decapsulate.addresses[1]: 10.0.0.1 is there twice',
    ],
    [
      'decapsulate: {addresses: 10.0.0.1, from: 10.0.0.0/8, gue_ports: [6080, 9886, 6080]}',
      'decapsulate.gue_ports[2]: 6080 is there twice',
    ],
    [
      'services: [{name: gue, vip: 10.0.0.0/24, port: 6000-7000, protocol: udp}]\ndecapsulate: {addresses: 10.0.0.1, from: 10.0.0.0/8}',
      'services[0].port: UDP port 6080 of 10.0.0.1 is that of tunnels to this node (decapsulate)',
    ],
    [
      'frames: {count: 4096, ring: 1024}\nfragments: {held: 1025}',
      'fragments.held: 1025 frames that wait for a first fragment are more than a quarter of frames.count, 4096',
    ],
  ])('%s', (text, expected) => {
    expect(problems(text)).toEqual([expected]);
  });

  it('hold no more than a quarter of the frames, whatever the default says', () => {
    expect(read('frames: {count: 4096, ring: 1024}\nfragments: {held: 1024}').fragments.held).toBe(1024);
    expect(read('frames: {count: 513, ring: 64}').fragments.held).toBe(128);
    expect(read('').fragments.held).toBe(256);
  });

  it('from somewhere to nowhere is probably not meant', () => {
    expect(warnings(`${yaml('')}decapsulate: {from: 10.0.0.0/8}`)).toEqual([
      'decapsulate.from: means nothing: there are no decapsulate.addresses',
    ]);
  });
});

describe('a hash', () => {
  it.each([
    ['katran', ['src', 'sport', 'dport']],
    ['katran-v2', ['src', 'sport', 'dport']],
    ['glb', ['src']],
    ['sluice', ['src', 'sport', 'dst', 'dport', 'protocol']],
  ])('%s takes %j unless told otherwise', (hash, fields) => {
    expect(service(`hash: ${hash}`).hashFields).toEqual(fields);
  });

  it.each(['[src, sport, dport]', '[dport, src]', '[dport]', '[src, sport]', '[src]'])('katran takes %s', (fields) => {
    expect(warnings(yaml(`hash: katran, hash_fields: ${fields}`))).toEqual([]);
  });

  it.each([
    ['hash: katran, hash_fields: [sport]', 'services[0].hash_fields: Katran does not hash sport'],
    ['hash: katran-v2, hash_fields: [src, dst]', 'services[0].hash_fields: Katran does not hash src, dst'],
    ['hash: katran, hash_fields: [src, protocol]', 'services[0].hash_fields: Katran does not hash src, protocol'],
    ['hash: glb, hash_fields: [src, protocol]', 'services[0].hash_fields[1]: GLB Director does not hash the protocol'],
    ['hash: glb, ring_size: 65521', "services[0].ring_size: GLB's tables have 65536 rows, whatever is said here"],
    ['hash_fields: []', 'services[0].hash_fields: is an empty list'],
    ['hash_fields: [src, src]', 'services[0].hash_fields[1]: src is there twice'],
    [`glb: {hash_key: "${'0'.repeat(32)}", seed: "${'1'.repeat(32)}"}`, 'services[0].glb: goes with hash: glb only'],
    ['hash: glb, glb: {hash_key: abc}', 'services[0].glb.hash_key: is not a key of 32 hex digits'],
  ])('%s', (keys, expected) => {
    expect(problems(yaml(keys))).toContain(expected);
  });

  it('of GLB has keys, and no weights', () => {
    const keys = `hash: glb, glb: {hash_key: "${'01'.repeat(16)}", seed: "${'f0'.repeat(16)}"}`;
    expect(service(keys).glb).toEqual({ hashKey: Array(16).fill(1), seed: Array(16).fill(0xf0) });
    expect(service('hash: glb').glb).toBeNull();
    expect(warnings(yaml('hash: glb, backends: [10.0.0.1, {address: 10.0.0.2, weight: 2}]'))).toEqual([
      "services[0].backends[1].weight: GLB has no weights: with these the rows are not those of GLB's directors",
    ]);
    expect(warnings(yaml('hash: glb'))).toEqual([]);
  });
});

describe('ids in packets', () => {
  const IDS = 'backends: [{address: 10.0.0.1, server_ids: 1}, {address: 10.0.0.2, server_ids: [2, 3]}]';
  const LB = 'quic: {quic_lb: [{server_id_length: 2, nonce_length: 6}]}';
  const bytes = (a: string, b: string): string =>
    `backends: [{address: 10.0.0.1, server_ids: "hex:${a}"}, {address: 10.0.0.2, server_ids: "hex:${b}"}]`;

  it('are read in the ways that are asked for', () => {
    const katran = service(`${UDP}, quic: katran, stable_udp: true, ${IDS}`);
    expect(katran).toMatchObject({ quic: { scheme: 'katran' }, stableUdp: true, tcpServerId: false });
    expect(katran.backends.map(({ serverIds }) => serverIds.map(formatServerId))).toEqual([['1'], ['2', '3']]);
    const key =
      'quic: {quic_lb: [{server_id_length: 2, nonce_length: 6}, {rotation: 5, server_id_length: 3, nonce_length: 16, key: "000102030405060708090a0b0c0d0e0f"}]}';
    const lb = service(`${UDP}, ${key}, ${bytes('0001', '00000a')}`);
    expect(lb.quic).toEqual({
      scheme: 'quic-lb',
      configs: [
        { rotation: 0, serverIdLength: 2, nonceLength: 6, key: null },
        {
          rotation: 5,
          serverIdLength: 3,
          nonceLength: 16,
          key: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        },
      ],
    });
    expect(service(`tcp_server_id: true, ${IDS}`).tcpServerId).toBe(true);
    expect(service(`protocol: any, quic: katran, tcp_server_id: true, ${IDS}`).quic).not.toBeNull();
  });

  it.each([
    [`quic: katran, ${IDS}`, 'services[0].quic: the service takes no udp'],
    [`stable_udp: true, ${IDS}`, 'services[0].stable_udp: the service takes no udp'],
    [`${UDP}, tcp_server_id: true, ${IDS}`, 'services[0].tcp_server_id: the service takes no tcp'],
    [`${UDP}, quic: {}, ${IDS}`, 'services[0].quic: does not say how connection ids hold a server id'],
    [`${UDP}, quic: {quic_lb: []}, ${IDS}`, 'services[0].quic: does not say how connection ids hold a server id'],
    [
      `${UDP}, quic: {katran: true, quic_lb: [{server_id_length: 2, nonce_length: 6}]}, ${IDS}`,
      "services[0].quic: is Katran's and QUIC-LB at once",
    ],
    [
      `${UDP}, quic: {quic_lb: [{server_id_length: 2, nonce_length: 18}]}, ${bytes('0001', '0002')}`,
      'services[0].quic.quic_lb[0].nonce_length: server id and nonce have 20 bytes together, a connection id has room for 19',
    ],
    [
      `${UDP}, quic: {quic_lb: [{server_id_length: 2, nonce_length: 6}, {server_id_length: 3, nonce_length: 6}]}, ${bytes('0001', '000002')}`,
      'services[0].quic.quic_lb[1]: rotation 0 is there twice, first on line 2',
    ],
    [
      `${UDP}, ${LB}, ${bytes('0001', '000002')}`,
      'services[0].backends[1].server_ids: server id hex:000002 has 3 bytes, and quic_lb says 2',
    ],
    [
      `${UDP}, ${LB}, ${bytes('0001', '0001')}`,
      'services[0].backends[1].server_ids: server id hex:0001 is there twice, first on line 2',
    ],
    [
      'tcp_server_id: true, backends: [{address: 10.0.0.1, server_ids: [7, 7]}]',
      'services[0].backends[0].server_ids[1]: server id 7 is there twice, first on line 2',
    ],
    [
      'tcp_server_id: true, backends: [{address: 10.0.0.1, server_ids: 0}]',
      'services[0].backends[0].server_ids: 0 is not a server id: a number must be from 1 to 4294967295',
    ],
  ])('%s', (keys, expected) => {
    expect(problems(yaml(keys))).toEqual([expected]);
  });

  it.each([
    [IDS, 'services[0].backends[0].server_ids: nothing in packets is read as such an id'],
    [`${UDP}, ${LB}, ${IDS}`, 'services[0].backends[0].server_ids: nothing in packets is read as such an id'],
    [
      `tcp_server_id: true, ${bytes('01', '02')}`,
      'services[0].backends[0].server_ids: nothing in packets is read as such an id',
    ],
    [`${UDP}, quic: katran`, 'services[0].quic: no backend has server_ids: every packet goes by flow table and ring'],
    [
      'tcp_server_id: true',
      'services[0].tcp_server_id: no backend has server_ids: every packet goes by flow table and ring',
    ],
  ])('%s is probably not meant', (keys, expected) => {
    expect(warnings(yaml(keys))).toEqual([expected]);
  });
});

describe('source routes', () => {
  it('come from the list and from files, in order', () => {
    const keys = 'source_routes: [{prefix: 203.0.113.0/24, backend: 10.0.0.2}, {file: routes.txt}]';
    const routes = service(keys).sourceRoutes.map(
      ({ prefix, backend }) => `${prefix.text}/${prefix.length} ${backend.text}`,
    );
    expect(routes).toEqual(['203.0.113.0/24 10.0.0.2', '192.0.2.0/24 10.0.0.1', '2001:db8::/32 10.0.0.2']);
    expect(service('source_routes: routes.txt').sourceRoutes).toHaveLength(2);
  });

  it.each([
    ['[{prefix: 192.0.2.0/24}]', 'services[0].source_routes[0]: has no file, and not both prefix and backend'],
    ['[{}]', 'services[0].source_routes[0]: has no file, and not both prefix and backend'],
    ['[{file: routes.txt, backend: 10.0.0.1}]', 'services[0].source_routes[0]: is a file and a route at once'],
    [
      '[{prefix: 192.0.2.0/24, backend: 10.0.0.3}]',
      'services[0].source_routes[0].backend: 10.0.0.3 is not a backend of the service',
    ],
    [
      '[{prefix: "2001:db8::/32", backend: 10.0.0.1}]',
      'services[0].source_routes[0].prefix: no packet has it: the VIP is IPv4',
    ],
    [
      '[{prefix: 192.0.2.0/24, backend: 10.0.0.1}, {prefix: 192.0.2.0/24, backend: 10.0.0.2}]',
      'services[0].source_routes[1].prefix: 192.0.2.0/24 is there twice, first on line 2',
    ],
    [
      'strange.txt',
      'services[0].source_routes: sends 192.0.3.0/24 to 10.0.0.99, which is not a backend of the service',
    ],
  ])('%s', (routes, expected) => {
    expect(problems(yaml(`source_routes: ${routes}`))).toEqual([expected]);
  });

  it('of a file that is not there or not right are refused with place and line', () => {
    expect(problems(yaml('source_routes: absent.txt'))[0]).toMatch(/^services\[0\]\.source_routes: .*absent\.txt/);
    expect(problems(yaml('source_routes: wrong.txt'))[0]).toMatch(/^services\[0\]\.source_routes: .*wrong\.txt.*2/);
  });
});

describe('keys that mean nothing beside others', () => {
  it.each([
    ['mss_clamp: auto, protocol: udp', 'services[0].mss_clamp: means nothing: the service takes no tcp'],
    ['drain: {udp: move}', 'services[0].drain.udp: means nothing: the service takes no udp'],
    ['flood: {above: drop}', 'services[0].flood.above: drops nothing: there is no limit to be above'],
    [
      'flow_table: false, flood: {max_new_per_second: 5}',
      'services[0].flood: means nothing: flow_table is false, and no flow is new where none is remembered',
    ],
  ])('%s', (keys, expected) => {
    expect(warnings(yaml(keys))).toEqual([expected]);
  });

  it('are not these', () => {
    expect(
      warnings(yaml('mss_clamp: 1400, drain: {timeout: 10m}, flood: {max_new_per_second: 5, above: drop}')),
    ).toEqual([]);
    expect(warnings(yaml('flood: {above: drop}', 'flows: {max_new_per_second: 10}'))).toEqual([]);
    expect(service('mss_clamp: 1400, drain: {timeout: 10m}')).toMatchObject({
      mssClamp: 1400,
      drain: { timeout: 600, udp: 'keep' },
    });
  });

  it('health is checked with its service', () => {
    expect(problems('services: [{name: a, vip: 198.51.100.1, protocol: any, health: tcp}]')).toEqual([
      'services[0].health: the service has no port of its own to check',
    ]);
  });
});
