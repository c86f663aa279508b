import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exitCodeOf } from '../../src/errors.js';
import { loadConfig, parseConfig } from '../../src/control/config/index.js';
import { nearest } from '../../src/control/config/nearest.js';
import { errorOf, problems, ruleProblems, short } from '../support/config_problems.js';

describe('an error', () => {
  const text =
    'interfaces: [eth0]\nservices:\n  - name: web\n    vip: 198.51.100.10\n    port: 70000\n    backend: []\n';

  it('reads like a compiler’s: file, line, column, path, what, and what to do', () => {
    const error = errorOf(() => parseConfig(text, 'etc/sluice.yaml'));
    expect(error.code).toBe('SLUICE_CONFIG');
    expect(exitCodeOf(error)).toBe(78);
    expect(error.message).toBe(
      [
        'etc/sluice.yaml:5:11: services[0].port: 70000 is not a port (0-65535)',
        'etc/sluice.yaml:6:5: services[0].backend: unknown key',
        '  Did you mean backends?',
      ].join('\n'),
    );
    expect(error.problems[1]).toEqual({
      file: 'etc/sluice.yaml',
      line: 6,
      column: 5,
      path: 'services[0].backend',
      message: 'unknown key',
      remedy: 'Did you mean backends?',
    });
  });

  it('names the text when there is no file', () => {
    expect(errorOf(() => parseConfig(text)).message).toMatch(/^<string>:5:11: services\[0\]\.port/);
  });

  it('cannot steer a terminal, nor fill it', () => {
    const error = errorOf(() =>
      parseConfig('interfaces: ["\\e[2J\\u009b1m\\u202e"]\n"\\e]0;x\\a": 1\n' + `log: {level: ${'x'.repeat(9999)}}`),
    );
    expect(error.message.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\u202e]/u);
    expect(error.problems).toHaveLength(3);
    expect(error.message.length).toBeLessThan(1000);
  });

  it('comes with all others, in the order of the file, also when they depend on what else is wrong', () => {
    const config = `
frames: {count: 100, ring: 128, burst: 2000}
services:
  - {name: web, vip: 198.51.100.10, port: 80, ring_size: 1000, backends: [10.0.0.1, 10.0.0.1, nope]}
  - {name: web, vip: 198.51.100.10, port: 80, weight: 3}
rules: [{name: a, match: {dport: 80}, action: drop}, {name: a, action: drop}]
log: {level: warning}
`;
    expect(problems(config).map((line) => line.split(': ').slice(0, 2).join(': ').split(' | ')[0])).toEqual([
      '3:17 frames.count: 100 frames (0.2 MiB) are too few for rings of 128',
      '3:40 frames.burst: 2000 is not a whole number from 1 to 1024',
      '5:58 services[0].ring_size: 1000 is not a prime number',
      '5:85 services[0].backends[1]: 10.0.0.1 is there twice, first on line 5',
      '5:95 services[0].backends[2]: "nope" is not an IP address',
      '6:12 services[1].name: there is another service of the name web, on line 5',
      '6:22 services[1].vip: tcp port 80 of 198.51.100.10 belongs to service web (line 5) already',
      '6:47 services[1].weight: unknown key',
      '7:54 rules[1].match: is missing',
      '7:61 rules[1].name: there is another rule of the name a, on line 7',
      '8:14 log.level: "warning" is not one of trace, debug, info, warn, error, silent',
    ]);
  });

  it('stops listing at 200, and counts the rest', () => {
    const error = errorOf(() => parseConfig(Array.from({ length: 1000 }, (_, i) => `k${i}: 1`).join('\n')));
    expect(error.problems).toHaveLength(200);
    expect(error.more).toBe(801);
    expect(error.message).toMatch(/… and 801 more problems$/);
  });
});

describe('an unknown key', () => {
  it.each([
    ['servces: []', 'Did you mean services?'],
    ['hash-key: x', 'Did you mean hash_key?'],
    ['Frames: {}', 'Did you mean frames?'],
    ['frames: {szie: 2048}', 'Did you mean size?'],
    ['flows: {timeouts: {tcp_etablished: 1h}}', 'Did you mean tcp_established?'],
    ['metrics: {lisen: off}', 'Did you mean listen?'],
    ['log: {colour: true}', 'The keys here are level, format.'],
    [
      '<<: {log: {level: info}}',
      'Merge keys are not read; use an alias for the whole value (key: *anchor) or write the keys out.',
    ],
    ['filters: [santiy]', 'Did you mean sanity?'],
    ['filters: [{rules: {x: 1}}]', 'There are no keys here: take it out.'],
  ])('%s', (text, remedy) => {
    const found = problems(text);
    expect(found).toHaveLength(1);
    expect(found[0]).toContain('unknown key');
    expect(found[0].endsWith(`| ${remedy}`)).toBe(true);
  });

  it('is also one that every object has', () => {
    expect(problems('__proto__: {log: {level: debug}}\nconstructor: 1\ntoString: 1\nhasOwnProperty: 1')).toEqual([
      '2:1 __proto__: unknown key | Take it out.',
      expect.stringContaining('3:1 constructor: unknown key'),
      expect.stringContaining('4:1 toString: unknown key'),
      expect.stringContaining('5:1 hasOwnProperty: unknown key'),
    ]);
    expect(problems('filters: [{module: ./x.js, options: {a: {__proto__: {b: 1}}}}]')[1]).toContain(
      'options.a.__proto__: unknown key',
    );
    expect(({} as { log?: unknown }).log).toBeUndefined();
  });

  it('gets the nearest key, or none when nothing is near', () => {
    expect(nearest('weigth', ['address', 'weight', 'state'])).toBe('weight');
    expect(nearest('wt', ['weight'])).toBeNull();
    expect(nearest('x', ['a', 'b'])).toBeNull();
    expect(nearest('addres', ['address'])).toBe('address');
    expect(nearest('x'.repeat(1e6), ['address'])).toBeNull();
  });
});

describe('a value of the wrong kind', () => {
  it.each([
    [
      'frames: 8192',
      '2:9 frames: is 8192, not a map | Write keys and values; the keys here are count, size, hugepages, ring, burst.',
    ],
    [
      'services: {name: web}',
      '2:11 services: is a map, not a list | Start each entry on its own line with "- ", or write [a, b].',
    ],
    ['frames: {count: "8192"}', '2:17 frames.count: "8192" is not a whole number from 64 to 1048575 | '],
    ['frames: {count: 8192.5}', '2:17 frames.count: 8192.5 is not a whole number from 64 to 1048575 | '],
    ['frames: {count: .nan}', '2:17 frames.count: NaN is not a whole number from 64 to 1048575 | '],
    ['frames: {size: 3000}', '2:16 frames.size: 3000 is not a frame size | Write 2048, or 4096 for an MTU above 1500.'],
    ['frames: {hugepages: yes}', '2:21 frames.hugepages: "yes" is not true or false | '],
    ['frames: {ring: 65536}', '2:16 frames.ring: 65536 is not a power of two from 64 to 32768 | '],
    ['frames: {ring: 1000}', '2:16 frames.ring: 1000 is not a power of two | Write 512 or 1024.'],
    ['flows: {slots: 1000000}', '2:16 flows.slots: 1000000 is not a power of two | Write 524288 or 1048576.'],
    [
      'log: {level: warning}',
      '2:14 log.level: "warning" is not one of trace, debug, info, warn, error, silent | Did you mean warn?',
    ],
    [
      'log: {level: inof}',
      '2:14 log.level: "inof" is not one of trace, debug, info, warn, error, silent | Did you mean info?',
    ],
    ['rules: [~]', '2:9 rules[0]: is an empty entry | Take the "-" out, or write something behind it.'],
    [
      'hash_key: 12345678901234567890123456789012',
      expect.stringContaining('is not a key | If it is meant as text, put it in quotes'),
    ],
    ['hash_key: ""', '2:11 hash_key: is not a key of 1 to 1024 characters | '],
    ['metrics: {listen: 9477}', expect.stringContaining('2:19 metrics.listen: 9477 is not address:port')],
    ['metrics: {listen: example.org:80}', '2:19 metrics.listen: "example.org" is not an IP address | '],
    ['control: {socket: ""}', '2:19 control.socket: "" is not the path of a file | '],
    [
      'encapsulation: {source: 224.0.0.1}',
      '2:25 encapsulation.source: "224.0.0.1" is not an address that a host can have | ',
    ],
    ['encapsulation: {source: []}', expect.stringContaining('encapsulation.source: is an empty list')],
    [
      'encapsulation: {source: [10.0.0.1, 10.0.0.2]}',
      '2:36 encapsulation.source[1]: is a second IPv4 address | Write one of each family.',
    ],
  ])('%s', (text, expected) => {
    expect(problems(text)).toEqual([expected]);
  });

  it.each(['10', 'ten seconds', '10d', '-1', '0', '50ms', '25h', '.inf', '.nan', '[10s]', 's', '10 s s'])(
    'time %s',
    (text) => {
      if (text === '10')
        expect(parseConfig(`interfaces: [a]\nflows: {timeouts: {udp: ${text}}}`).flows.timeouts.udp).toBe(10);
      else expect(problems(`flows: {timeouts: {udp: ${text}}}`)[0]).toMatch(/^2:\d+ flows\.timeouts\.udp/);
    },
  );
});

describe('an interface', () => {
  const of = (text: string): string[] => errorOf(() => parseConfig(`interfaces: ${text}`)).problems.map(short);

  it('must be there', () => {
    expect(errorOf(() => parseConfig('log: {}')).problems.map(short)).toEqual([
      '1:1 interfaces: is missing | Write for example interfaces: [eth0]',
    ]);
    expect(of('[]')[0]).toContain('is an empty list');
    expect(of('[{mode: copy}]')).toEqual(['1:14 interfaces[0].name: is missing | Write for example name: eth0']);
  });

  it.each(['sixteen-bytes-xx', '"ünïcödë-nämé"', 'a/b', '"a b"', '""', '.', '..', '"a\\tb"', 'a:0', '"a\\0"', '7'])(
    'of the name %s is refused',
    (name) => {
      expect(of(`[{name: ${name}}]`)[0]).toContain('is not an interface name');
    },
  );

  it.each(['0', '-1', '5000', '1.5', '[]', '[0, 0]', '[1-3, 2]', '[-1]', 'some', '3-1', '{a: 1}', '[[1]]', 'true'])(
    'with queues %s is refused',
    (queues) => {
      expect(of(`[{name: eth0, queues: ${queues}}]`)).toHaveLength(1);
    },
  );

  it('must be there once, and at most 16 times', () => {
    expect(of('[eth0, eth1, {name: eth0}]')).toEqual([
      '1:33 interfaces[2].name: there is another interface of the name eth0, on line 1 | Give each its own name.',
    ]);
    expect(of(`[${Array.from({ length: 17 }, (_, i) => `e${i}`).join(', ')}]`)).toEqual([
      '1:13 interfaces: there are 17 interfaces, at most 16 fit | ',
    ]);
  });
});

describe('frames', () => {
  it('must be at least twice the ring', () => {
    expect(problems('frames: {count: 4095}')).toEqual([
      '2:17 frames.count: 4095 frames (8 MiB) are too few for rings of 2048: a socket needs twice its ring, 4096 (8 MiB) | Write count: 4096 or more, or a smaller ring.',
    ]);
    expect(parseConfig('interfaces: [a]\nframes: {count: 4096}').frames.count).toBe(4096);
  });

  it('must take less than 2 GiB', () => {
    expect(problems('frames: {count: 524288, size: 4096}')).toEqual([
      '2:17 frames.count: 524288 frames of 4096 bytes are 2048 MiB, and must be less than 2 GiB a worker | Write at most 524287.',
    ]);
    expect(parseConfig('interfaces: [a]\nframes: {count: 524287, size: 4096}').frames.count).toBe(524287);
  });

  it('must hold a burst in a ring', () => {
    expect(problems('frames: {ring: 64, burst: 65}')).toEqual([
      '2:27 frames.burst: a burst of 65 is larger than the rings (64) | Write at most 64; 64 is usual.',
    ]);
  });
});

describe('a rule', () => {
  it.each([
    ['protocol: icmp, dport: 80', 'rules[0].match.dport: the protocol icmp has no ports'],
    ['protocol: 47, sport: 80', 'rules[0].match.sport: the protocol gre has no ports'],
    ['protocol: udp, tcp_flags: syn', 'rules[0].match.tcp_flags: goes with protocol tcp only'],
    ['protocol: any, tcp_flags: syn', 'rules[0].match.tcp_flags: goes with protocol tcp only'],
    ['tcp_flags: "syn,!syn"', 'rules[0].match.tcp_flags: syn is there twice'],
    ['tcp_flags: sin', 'rules[0].match.tcp_flags: "sin" is not a TCP flag'],
    ['tcp_flags: 2', 'rules[0].match.tcp_flags: 2 does not name TCP flags'],
    ['src: 10.0.0.0/8, dst: "::/0"', 'rules[0].match.dst: no packet matches: src is IPv4, dst is IPv6'],
    ['family: 6, src: 10.0.0.0/8', 'rules[0].match.src: no packet matches: family is 6, src is IPv4'],
    ['family: 5', 'rules[0].match.family: 5 is not an address family'],
    ['ttl: 256', 'rules[0].match.ttl: 256 is not a TTL (0-255)'],
    ['length: 64-', 'rules[0].match.length: "64-" is not a packet length'],
    ['fragment: "true"', 'rules[0].match.fragment: "true" is not true or false'],
    ['src: 10.1.0.0/8', 'rules[0].match.src: "10.1.0.0/8" has bits set beyond its length'],
  ])('%s', (match, expected) => {
    const found = ruleProblems(match);
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(expected);
  });

  it('must say what it matches, so that an empty match is meant', () => {
    expect(problems('rules: [{name: r, match: , action: drop}]')).toEqual([
      '2:19 rules[0].match: has no value | Write for example match: {protocol: udp, dport: 9999}',
    ]);
  });

  it('is one of at most 4096', () => {
    const rules = Array.from({ length: 4097 }, (_, i) => `- {name: r${i}, match: {}, action: count}`).join('\n');
    expect(problems(`rules:\n${rules}`)).toEqual(['3:1 rules: there are 4097 rules, at most 4096 fit | ']);
  });
});

describe('a filter', () => {
  it.each([
    ['[sanity, sanity]', 'filters[1]: sanity is there twice, first on line 2'],
    ['[rules, {rules: {}}]', 'filters[1]: rules is there twice, first on line 2'],
    ['[{sanity: {}, rules: {}}]', 'filters[0]: is sanity and rules at once'],
    ['[{}]', 'filters[0]: names no filter'],
    ['[{name: x}]', 'filters[0]: names no filter'],
    ['[{sanity: {checks: [lnad]}}]', 'filters[0].sanity.checks[0]: "lnad" is not one of'],
    ['[{sanity: {protocols: []}}]', 'filters[0].sanity.protocols: is an empty list, which lets no packet through'],
    ['[{rules: {}, options: {}}]', 'filters[0].options: goes with a module only'],
    ['[./nothing-here.ts]', 'filters[0]: there is no file /'],
    ['[{module: ./package.json}]', 'filters[0].module: is no JavaScript or TypeScript module'],
    ['[{module: /dev/null.js}]', 'filters[0].module: there is no file /dev/null.js'],
    ['[7]', 'filters[0]: is 7, not a map'],
  ])('%s', (text, expected) => {
    const found = problems(`filters: ${text}`);
    expect(found[0]).toContain(expected);
  });

  it('module has a name of its own', () => {
    const found = problems(
      'filters: [{module: ./vitest.config.ts}, {module: ./eslint.config.js, name: vitest.config}]',
    );
    expect(found).toEqual([
      expect.stringContaining('filters[1].name: there is another filter of the name vitest.config'),
    ]);
  });
});

describe('the control socket', () => {
  it('has a path of at most 107 bytes', () => {
    const path = (bytes: number): string => `/${'s'.repeat(bytes - 1)}`;
    expect(parseConfig(`interfaces: [a]\ncontrol: {socket: ${path(107)}}`).control.socket).toHaveLength(107);
    expect(problems(`control: {socket: ${path(108)}}`)[0]).toContain('takes at most 107 bytes, this one has 108');
  });
});

describe('a file', () => {
  let directory = '';
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-config-'));
  });
  afterAll(() => rmSync(directory, { recursive: true }));
  const load = (content: string | Buffer): string => {
    const file = join(directory, 'x.yaml');
    writeFileSync(file, content);
    return errorOf(() => loadConfig(file)).message.replaceAll(`${directory}/`, '');
  };

  it('that is not there, or a directory', () => {
    expect(errorOf(() => loadConfig(join(directory, 'none.yaml'))).message).toMatch(
      /none\.yaml: there is no such file\n {2}Give the path/,
    );
    expect(errorOf(() => loadConfig(directory)).message).toContain('is a directory');
  });

  it('that is empty, or only comments', () => {
    for (const text of ['', '\n\n', '# nothing\n', '---\n', '\ufeff', '~'])
      expect(load(text)).toContain('the file is empty');
    expect(load('hello')).toContain('x.yaml:1:1: is "hello", not a map');
    expect(load('- a')).toContain('is a list, not a map');
  });

  it('that is not UTF-8, with the line', () => {
    expect(load(Buffer.from('interfaces: [eth0]\n# caf\xe9\n', 'latin1'))).toBe(
      'x.yaml:2:1: is not UTF-8 text from here on\n  Save the file as UTF-8.',
    );
    expect(load(Buffer.from('interfaces: [eth0]\n', 'utf16le'))).not.toBe('');
    expect(load(Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from('interfaces: [eth0]\n', 'utf16le')]))).toContain(
      '1:1: is not UTF-8',
    );
  });

  it('that is huge, or has no end', () => {
    expect(load(Buffer.alloc(16 * 1024 * 1024 + 1, '#'))).toContain('is larger than 16 MiB');
    expect(errorOf(() => loadConfig('/dev/zero')).message).toContain('is larger than 16 MiB');
    expect(errorOf(() => parseConfig('é'.repeat(9 * 1024 * 1024))).message).toContain('is larger than 16 MiB');
  });
});
