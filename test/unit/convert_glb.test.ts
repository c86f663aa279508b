import { describe, expect, it } from 'vitest';
import { backendTexts, converted } from '../support/convert.js';

const TABLE = {
  name: 'api',
  hash_key: '000102030405060708090a0b0c0d0e0f',
  seed: '12345678901234567890123456789012',
  binds: [
    { ip: '198.51.100.10', proto: 'tcp', port: 443 },
    { ip: '198.51.100.10', proto: 'tcp', port_start: 8000, port_end: 8100 },
    { ip: '2001:db8::/64', proto: 'tcp', port: 443 },
    { ip: '198.51.100.10', proto: 'udp', port: 443 },
  ],
  backends: [
    { ip: '10.0.0.11', state: 'active', healthy: true },
    { ip: '10.0.0.12', state: 'filling', healthy: true },
    { ip: '10.0.0.13', state: 'draining', healthy: true },
  ],
};

/** A file with one table, in which some keys are others. */
const file = (changes: object = {}, top: object = {}): string =>
  JSON.stringify({ ...top, tables: [{ ...TABLE, ...changes }] }, null, '\t');

const DIRECTOR = JSON.stringify({
  outbound_gateway_mac: '02:00:00:00:00:01',
  outbound_src_ip: '10.0.0.1',
  hash_fields: { src_addr: true, src_port: true, dst_port: false },
  forward_icmp_ping_responses: false,
  num_worker_queues: 1,
});

const TCP = 'api-tcp-198.51.100.10';
const ONE = { binds: [{ ip: '198.51.100.10', proto: 'tcp', port: 443 }] };

describe('a forwarding table', () => {
  const table = converted(null, file());

  it('becomes a service for each address and protocol, with all ports', () => {
    expect(table.from).toBe('glb');
    expect(
      table.config.services.map(({ name, vip, ports, protocols }) => [
        name,
        vip.length,
        ports.map(({ first, last }) => `${first}-${last}`),
        protocols,
      ]),
    ).toEqual([
      [TCP, 32, ['443-443', '8000-8100'], [6]],
      ['api-tcp-2001:db8::_64', 64, ['443-443'], [6]],
      ['api-udp-198.51.100.10', 32, ['443-443'], [17]],
    ]);
    expect(converted('glb', file(ONE)).config.services[0].name).toBe('api');
  });

  it('with GLB’s hash, rows, second hop and tunnel, and without a flow table', () => {
    for (const service of table.config.services) {
      expect(service).toMatchObject({
        hash: 'glb',
        hashFields: ['src'],
        hops: 2,
        flowTable: false,
        glb: {
          hashKey: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
          seed: [0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12],
        },
        encapsulation: { kind: 'gue', gue: { port: 19523, variant: 0, checksum: 'zero' } },
      });
      expect(backendTexts(service)).toEqual(['10.0.0.11*1', '10.0.0.12*1', '10.0.0.13*1 draining']);
    }
    expect(table.config.icmp.echo).toBe('forward');
    expect(table.said).toEqual([]);
  });

  it('shares its list of backends in the file', () => {
    expect(table.yaml.match(/10\.0\.0\.11/g)).toHaveLength(1);
    expect(table.yaml.match(/\*backends1/g)).toHaveLength(2);
  });

  it('takes what the director is told from its own configuration', () => {
    const both = converted('glb', file(), DIRECTOR);
    const service = both.service(TCP);
    expect(service.hashFields).toEqual(['src', 'sport']);
    expect(service.encapsulation.source4?.text).toBe('10.0.0.1');
    expect(both.config.icmp.echo).toBe('pass');
    expect(both.notes.map(({ file: name, kind, message }) => `${name} ${kind} ${message.split(/[:,]/)[0]}`)).toEqual([
      'f2 changed num_worker_queues',
      'f2 changed the gateway is found by route and neighbour table',
    ]);
  });
});

describe('health in a table', () => {
  const checked = (...checks: object[]): string =>
    file(
      {
        ...ONE,
        backends: checks.map((healthchecks, i) => ({ ip: `10.0.0.${11 + i}`, state: 'active', healthchecks })),
      },
      { healthchecks: { interval_ms: 4000, timeout_ms: 500, trigger: 5 } },
    );

  it('becomes a check by sluice, through the tunnel when GLB checks that and the port is the VIP’s', () => {
    const { config } = converted('glb', checked({ http: 443, http_uri: '/ok', gue: 19523 }));
    expect(config.services[0].health).toMatchObject({
      check: { type: 'http', path: '/ok' },
      port: 443,
      intervalMs: 4000,
      timeoutMs: 500,
      rise: 5,
      fall: 5,
      through: 'tunnel',
    });
  });

  it('stays direct for another port, which is said', () => {
    const { config, said } = converted('glb', checked({ http: 8080, gue: 19523 }));
    expect(config.services[0].health).toMatchObject({
      check: { type: 'http', path: '/' },
      port: 8080,
      through: 'direct',
    });
    expect(said[0]).toContain('port 8080 is checked at the backend’s own address');
  });

  it('of the tunnel alone is a check of the VIP’s first port', () => {
    const { config } = converted('glb', checked({ gue: 19523 }));
    expect(config.services[0].health).toMatchObject({ check: { type: 'tcp' }, port: 443, through: 'tunnel' });
    expect(converted('glb', checked({ tcp: 25 })).config.services[0].health).toMatchObject({
      check: { type: 'tcp' },
      port: 25,
      through: 'direct',
    });
  });

  it('through the tunnel is by service: one whose ports it is not among is checked directly', () => {
    const binds = [
      { ip: '198.51.100.10', proto: 'tcp', port: 443 },
      { ip: '198.51.100.11', proto: 'tcp', port_start: 8000, port_end: 8100 },
    ];
    const backends = [{ ip: '10.0.0.11', state: 'active', healthchecks: { http: 443, gue: 19523 } }];
    const { config, said } = converted('glb', file({ ...ONE, binds, backends }));
    expect(config.services.map(({ health }) => [health?.port, health?.through])).toEqual([
      [443, 'tunnel'],
      [443, 'direct'],
    ]);
    expect(said).toHaveLength(2);
  });

  it('has nothing to say of glb-healthcheck’s own configuration', () => {
    const own = JSON.stringify({ forwarding_table: { src: 'a', dst: 'b' }, reload_command: 'c' });
    expect(converted('glb', file(), own).said).toEqual([expect.stringMatching(/^1 changed: glb-healthcheck’s own/)]);
  });

  it('is one for all backends', () => {
    const { config, said } = converted('glb', checked({ http: 443 }, { http: 443 }, { http: 81 }));
    expect(config.services[0].health?.port).toBe(443);
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(/is checked as the backend on line \d+ is/);
  });

  it('that was found bad makes a backend draining', () => {
    const backends = [
      { ip: '10.0.0.11', state: 'active', healthy: false },
      { ip: '10.0.0.12', state: 'inactive', healthy: true },
    ];
    const { config, said } = converted('glb', file({ ...ONE, backends }));
    expect(backendTexts(config.services[0])).toEqual(['10.0.0.11*1 draining', '10.0.0.12*1 inactive']);
    expect(said.filter((text) => text.includes('10.0.0.11 is not healthy in the table'))).toHaveLength(1);
    expect(said.filter((text) => text.includes('2 backends are not active'))).toHaveLength(1);
  });
});

describe('what is wrong is named with its line', () => {
  /** Line of the first place where the text stands, from 1. */
  const lineOf = (text: string, part: string): number => text.slice(0, text.indexOf(part)).split('\n').length;

  it.each([
    [{ hash_key: 'abc' }, '"hash_key"', 'lost: hash_key is not 32 hex digits'],
    [{ seed: 5 }, '"seed"', 'lost: seed is not 32 hex digits'],
    [
      { binds: [...ONE.binds, { ip: '198.51.100.11', proto: 'sctp', port: 7 }] },
      '{\n\t\t\t\t\t"ip": "198.51.100.11"',
      'lost: "sctp" is not a protocol that GLB has (tcp, udp)',
    ],
    [
      { binds: [...ONE.binds, { ip: '198.51.100.11', proto: 'tcp', port_start: 9, port_end: 8 }] },
      '{\n\t\t\t\t\t"ip": "198.51.100.11"',
      'lost: ports 9 to 8 run backwards',
    ],
    [
      { binds: [{ ip: '198.51.100.77/24', proto: 'tcp', port: 7 }] },
      '"ip": "198.51.100.77/24"',
      'changed: 198.51.100.77/24 is written as 198.51.100.0/24: bits beyond the prefix are zero',
    ],
    [
      { backends: [...TABLE.backends, { ip: '198.51.100.10', state: 'active' }] },
      '"ip": "198.51.100.10",\n\t\t\t\t\t"state"',
      'lost: 198.51.100.10 is a VIP of its own table',
    ],
    [
      { backends: [...TABLE.backends, { ip: '10.0.0.14', state: 'asleep' }] },
      '"state": "asleep"',
      'lost: "asleep" is not a state',
    ],
    [
      { backends: [...TABLE.backends, { ip: 'fd00::11', state: 'active' }] },
      '"backends"',
      'lost: a second hop between address families',
    ],
  ])('%j', (changes, part, expected) => {
    const text = file(changes);
    expect(converted('glb', text).said).toContain(`${lineOf(text, part)} ${expected}`);
  });

  it('of two tables with one bind', () => {
    const text = JSON.stringify(
      {
        tables: [
          { ...TABLE, ...ONE },
          { ...TABLE, name: 'git' },
        ],
      },
      null,
      1,
    );
    const { config, said } = converted('glb', text);
    expect(config.services.map(({ name }) => name)).toEqual([
      'api',
      'git-tcp-198.51.100.10',
      'git-tcp-2001:db8::_64',
      'git-udp-198.51.100.10',
    ]);
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(/lost: port 443 of 198\.51\.100\.10 belongs to the table of the bind on line \d+$/);
  });

  it.each([
    ['{"tables": [', /f:1: lost: is not JSON/],
    ['{\n"tables": [,]}', /f:2: lost: is not JSON/],
    ['{"tables": {}}', /f:1: lost: there is no list "tables"/],
    ['{"tables": [7]}', /f:1: lost: an entry of "tables" is not a map/],
    ['{"a": 1}', /is neither a forwarding table/],
    ['[]', /is not a map of keys/],
  ])('%s', (text, expected) => {
    expect(() => converted('glb', text)).toThrow(expected);
  });
});
