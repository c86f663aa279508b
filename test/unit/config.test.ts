import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig, parseConfig } from '../../src/control/config/index.js';
import { type Config, SANITY_CHECKS } from '../../src/shared/config.js';

/** A configuration with one interface, and what `more` adds. */
function read(more: string): Config {
  return parseConfig(`interfaces: [eth0]\n${more}`);
}

function service(fields: string): Config['services'][number] {
  return read(`services: [{name: web, vip: 198.51.100.10, ${fields}}]`).services[0];
}

function match(fields: string): Config['rules'][number]['match'] {
  return read(`rules: [{name: r, match: {${fields}}, action: drop}]`).rules[0].match;
}

describe('the least configuration', () => {
  it('has every default filled in', () => {
    expect(read('')).toEqual({
      path: '',
      interfaces: [
        {
          name: 'eth0',
          queues: 'all',
          mode: 'auto',
          poll: 'interrupt',
          checksum: 'auto',
          fallback: 'pass',
          redirect: 'services',
          hostPath: true,
        },
      ],
      frames: { count: 8192, size: 2048, hugepages: false, ring: 2048, burst: 64 },
      flows: {
        slots: 1048576,
        maxNewPerSecond: 0,
        timeouts: { tcpSyn: 10, tcpEstablished: 900, tcpClosing: 10, udp: 30, other: 30 },
      },
      encapsulation: {
        kind: 'ipip',
        source4: null,
        source6: null,
        gue: { port: 6080, variant: 1, checksum: 'zero' },
      },
      icmp: { echo: 'answer', tooBig: 'reply', maxPerSecond: 1000 },
      fragments: { policy: 'follow', outOfOrder: 'hold', slots: 4096, timeout: 2, held: 256 },
      decapsulate: { addresses: [], sources: [], guePorts: [6080] },
      hashKey: [257616956, -1897949621, -1255797174, -402205921],
      services: [],
      filters: [{ kind: 'sanity', checks: SANITY_CHECKS.slice(0, -1), protocols: null }, { kind: 'rules' }],
      rules: [],
      offload: 'off',
      flowOffload: 'off',
      sets: [],
      allow: { prefixes: [], sets: [] },
      mitigation: {
        challenge: {
          mode: 'off',
          above: 2000,
          below: 500,
          hold: 10,
          scope: 'source',
          connections: 16,
          lifetime: 60,
          sources: 65536,
          maxPerSecond: 1_000_000,
        },
        tcpState: {
          mode: 'off',
          connections: 1_048_576,
          adopt: 'learning',
          learn: 900,
          window: 2 ** 30,
          timeouts: { fresh: 90, open: 10_800, closing: 600, closed: 10 },
        },
        fairShare: { rate: null, share: 'fair', prefixes4: [24], prefixes6: [64, 48], columns: 512 },
        limits: [],
      },
      metrics: { listen: { host: '127.0.0.1', port: 9477 } },
      control: { socket: '/run/sluice/control.sock' },
      log: { level: 'info', format: 'auto' },
      warnings: [expect.objectContaining({ path: 'interfaces[0]', line: 1, column: 14 })],
    });
  });

  it('takes a key with nothing behind it as left out', () => {
    const empty = read('services:\nrules:\nframes:\nflows: {timeouts: }\nmetrics:\nfilters:\nlog: {level: ~}\n');
    expect({ ...empty, warnings: [] }).toEqual({ ...read(''), warnings: [] });
  });
});

describe('an interface', () => {
  const queues = (text: string): unknown =>
    parseConfig(`interfaces: [{name: eth0, queues: ${text}}]`).interfaces[0].queues;

  it('has queues as all, a number, a list or a range', () => {
    expect(queues('all')).toBe('all');
    expect(queues('2')).toEqual([0, 1]);
    expect(queues('[3, 1]')).toEqual([1, 3]);
    expect(queues('1-3')).toEqual([1, 2, 3]);
    expect(queues('[0, 4-5]')).toEqual([0, 4, 5]);
  });

  it('keeps what is set', () => {
    const text =
      'interfaces: [{name: a.1@b-c, mode: copy, poll: busy, checksum: repair, fallback: drop, redirect: all, host_path: false}]';
    expect(parseConfig(text).interfaces[0]).toEqual({
      name: 'a.1@b-c',
      queues: 'all',
      mode: 'copy',
      poll: 'busy',
      checksum: 'repair',
      fallback: 'drop',
      redirect: 'all',
      hostPath: false,
    });
  });
});

describe('a service', () => {
  it('has ports as a number, range, list, string list or any', () => {
    expect(service('port: 80').ports).toEqual([{ first: 80, last: 80 }]);
    expect(service('port: "80"').ports).toEqual([{ first: 80, last: 80 }]);
    expect(service('port: 1000-2000').ports).toEqual([{ first: 1000, last: 2000 }]);
    expect(service('port: [443, 80, 1000 - 2000]').ports.map((range) => range.first)).toEqual([80, 443, 1000]);
    expect(service('port: "80, 443"').ports.map((range) => range.first)).toEqual([80, 443]);
    expect(service('port: any').ports).toEqual([]);
    expect(service('port: 0-65535').ports).toEqual([{ first: 0, last: 65535 }]);
  });

  it('has protocols by name and number, tcp when none is named', () => {
    expect(service('port: 80').protocols).toEqual([6]);
    expect(service('port: 80, protocol: [tcp, UDP]').protocols).toEqual([6, 17]);
    expect(service('port: 80, protocol: "tcp,udp"').protocols).toEqual([6, 17]);
    expect(service('protocol: any').protocols).toEqual([]);
    expect(service('protocol: 47').protocols).toEqual([47]);
    expect(service('protocol: icmpv6').protocols).toEqual([58]);
  });

  it('needs no port where its protocol has none', () => {
    expect(service('protocol: gre')).toMatchObject({ ports: [], protocols: [47] });
    expect(service('protocol: any').ports).toEqual([]);
  });

  it('has backends in short and long form', () => {
    const { backends } = service('port: 80, backends: [10.0.0.11, {address: "fd00::12", weight: 0, state: draining}]');
    expect(backends).toEqual([
      {
        address: { family: 4, words: [0x0a00000b, 0, 0, 0], text: '10.0.0.11' },
        weight: 1,
        state: 'active',
        serverIds: [],
      },
      {
        address: { family: 6, words: [0xfd000000 | 0, 0, 0, 0x12], text: 'fd00::12' },
        weight: 0,
        state: 'draining',
        serverIds: [],
      },
    ]);
  });

  it('has a prefix as its VIP', () => {
    const config = read(
      'services: [{name: a, vip: 198.51.100.0/24, port: any}, {name: b, vip: "2001:db8::/64", port: 1}]',
    );
    expect(config.services[0].vip).toEqual({
      family: 4,
      words: [0xc6336400 | 0, 0, 0, 0],
      text: '198.51.100.0',
      length: 24,
    });
    expect(config.services[1].vip).toMatchObject({ family: 6, length: 64 });
  });

  it('shares its backends with another by an alias', () => {
    const config = read(
      'services:\n- {name: a, vip: 198.51.100.1, port: 1, backends: &pool [10.0.0.1, 10.0.0.2]}\n- {name: b, vip: 198.51.100.2, port: 1, backends: *pool}\n',
    );
    expect(config.services[1].backends).toEqual(config.services[0].backends);
    expect(config.services[1].backends).toHaveLength(2);
  });
});

describe('services beside each other', () => {
  const two = (a: string, b: string): Config => read(`services: [{name: a, ${a}}, {name: b, ${b}}]`);

  it.each([
    ['other ports', 'vip: 198.51.100.1, port: 80', 'vip: 198.51.100.1, port: 81-90'],
    ['other protocols', 'vip: 198.51.100.1, port: 53', 'vip: 198.51.100.1, port: 53, protocol: udp'],
    ['any port beside one', 'vip: 198.51.100.1, port: 80', 'vip: 198.51.100.1, port: any'],
    ['any protocol beside one', 'vip: 198.51.100.1, port: 80', 'vip: 198.51.100.1, port: 80, protocol: any'],
    ['a longer prefix', 'vip: 198.51.100.0/24, port: 80', 'vip: 198.51.100.1, port: 80'],
    ['the other family', 'vip: 0.0.0.0/0, port: 80', 'vip: "::/0", port: 80'],
  ])('may have %s', (_, a, b) => {
    expect(two(a, b).services).toHaveLength(2);
  });
});

describe('times', () => {
  const udp = (text: string): number => read(`flows: {timeouts: {udp: ${text}}}`).flows.timeouts.udp;

  it('are seconds, from a number or a number with a unit', () => {
    expect(udp('45')).toBe(45);
    expect(udp('0.25')).toBe(0.25);
    expect(udp('500ms')).toBe(0.5);
    expect(udp('1100ms')).toBe(1.1);
    expect(udp('10s')).toBe(10);
    expect(udp('1.5m')).toBe(90);
    expect(udp('1h')).toBe(3600);
    expect(udp('24h')).toBe(86400);
    expect(udp('100ms')).toBe(0.1);
  });
});

describe('the hash key', () => {
  it('is 32 hex digits, big-endian', () => {
    expect(read('hash_key: "00000001ffffffff8000000000000002"').hashKey).toEqual([1, -1, -2147483648, 2]);
  });

  it('or the first 128 bits of the SHA-256 of any other text', () => {
    const digest = createHash('sha256').update('our secret').digest();
    expect(read('hash_key: our secret').hashKey).toEqual([0, 4, 8, 12].map((at) => digest.readInt32BE(at)));
    expect(read('hash_key: sluice').hashKey).toEqual(read('').hashKey);
  });
});

describe('the source of encapsulation', () => {
  it('is one address, or one of each family in either order', () => {
    expect(read('encapsulation: {source: 10.0.0.1}').encapsulation).toMatchObject({
      source4: { text: '10.0.0.1' },
      source6: null,
    });
    expect(read('encapsulation: {source: [fd00::1, 10.0.0.1]}').encapsulation).toMatchObject({
      source4: { text: '10.0.0.1' },
      source6: { text: 'fd00::1' },
    });
  });
});

describe('a rule', () => {
  it('matches what it names and nothing more', () => {
    expect(match('')).toEqual({});
    expect(
      match(
        'family: 4, protocol: udp, src: 203.0.113.0/24, dst: 198.51.100.10, sport: 1-1023, dport: 9999, length: 0-64, ttl: 1-5, fragment: false',
      ),
    ).toEqual({
      family: 4,
      protocol: 17,
      src: { family: 4, words: [0xcb007100 | 0, 0, 0, 0], text: '203.0.113.0', length: 24 },
      dst: { family: 4, words: [0xc633640a | 0, 0, 0, 0], text: '198.51.100.10', length: 32 },
      sport: { first: 1, last: 1023 },
      dport: { first: 9999, last: 9999 },
      length: { first: 0, last: 64 },
      ttl: { first: 1, last: 5 },
      fragment: false,
    });
    expect(match('protocol: any, dport: 53')).toEqual({ dport: { first: 53, last: 53 } });
  });

  it('on TCP flags is a rule on TCP', () => {
    expect(match('tcp_flags: syn')).toEqual({ protocol: 6, tcpFlags: { mask: 2, value: 2 } });
    expect(match('tcp_flags: "syn,!ack"')).toEqual({ protocol: 6, tcpFlags: { mask: 18, value: 2 } });
    expect(match('tcp_flags: [FIN, psh, "!urg"], protocol: tcp')).toEqual({
      protocol: 6,
      tcpFlags: { mask: 41, value: 9 },
    });
    expect(match('tcp_flags: none').tcpFlags).toEqual({ mask: 255, value: 0 });
  });
});

describe('filters', () => {
  let directory = '';
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-config-'));
    writeFileSync(join(directory, 'my filter.ts'), 'export default {};\n');
    writeFileSync(join(directory, 'other.mjs'), 'export default {};\n');
  });
  afterAll(() => rmSync(directory, { recursive: true }));
  const filters = (text: string): unknown =>
    parseConfig(`interfaces: [eth0]\nfilters: ${text}\n`, join(directory, 'sluice.yaml')).filters;

  it('may be none, and keep their order', () => {
    expect(filters('[]')).toEqual([]);
    expect(filters('[rules, {sanity: {checks: [land], protocols: "tcp, 47"}}]')).toEqual([
      { kind: 'rules' },
      { kind: 'sanity', checks: ['land'], protocols: [6, 47] },
    ]);
    expect(filters('\n- sanity:\n- rules: {}\n')).toMatchObject([
      { kind: 'sanity', checks: SANITY_CHECKS.filter((check) => check !== 'ipv4-options') },
      { kind: 'rules' },
    ]);
  });

  it('may be modules beside the configuration, with options handed on as they are', () => {
    expect(filters('[{module: ./my filter.ts, options: {limit: 1, list: [a, {b: null}]}}, ./other.mjs]')).toEqual([
      {
        kind: 'module',
        name: 'my-filter',
        path: join(directory, 'my filter.ts'),
        options: { limit: 1, list: ['a', { b: null }] },
      },
      { kind: 'module', name: 'other', path: join(directory, 'other.mjs'), options: undefined },
    ]);
    expect(filters(`[{module: ${join(directory, 'other.mjs')}, name: mine}]`)).toMatchObject([{ name: 'mine' }]);
    const [filter] = filters('[{module: ./other.mjs, options: {constructor: 1}}]') as { options: object }[];
    expect(Object.getPrototypeOf(filter.options)).toBe(Object.prototype);
    expect(Object.keys(filter.options)).toEqual(['constructor']);
  });

  it('and the socket are found from where the file is', () => {
    const file = join(directory, 'sluice.yaml');
    writeFileSync(file, '\ufeffinterfaces: [eth0]\r\nfilters: [./other.mjs]\r\ncontrol: {socket: run/c.sock}\r\n');
    const config = loadConfig(file);
    expect(config.path).toBe(file);
    expect(config.filters).toMatchObject([{ path: join(directory, 'other.mjs') }]);
    expect(config.control.socket).toBe(join(directory, 'run/c.sock'));
  });
});

describe('metrics', () => {
  it('can be off in every way that people write it', () => {
    for (const text of ['off', 'false', '{listen: off}', '"off"'])
      expect(read(`metrics: ${text}`).metrics.listen).toBeNull();
    expect(read('metrics: {listen: "[::1]:0"}').metrics.listen).toEqual({ host: '::1', port: 0 });
  });
});
