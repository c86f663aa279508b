import { describe, expect, it } from 'vitest';
import { restoreSets, saveSet, SetRegistry } from '../../src/control/sets/index.js';
import { SluiceError } from '../../src/errors.js';
import { maskWords } from '../../src/shared/addr.js';
import { random } from '../support/packets.js';

const seconds = (): number => 5000;

function restore(text: string, registry = new SetRegistry({ seconds })) {
  return { registry, ...restoreSets(text, registry, 'sets.save') };
}

function saved(registry: SetRegistry): string[] {
  return registry.names.flatMap((name) => [...saveSet(registry.get(name))]);
}

function refusal(text: string): { code?: string; message?: string; remedy?: string } {
  try {
    restore(text);
    return {};
  } catch (error) {
    return error as { code: string; message: string; remedy: string };
  }
}

const EXAMPLE = `create a hash:net,port family inet hashsize 1024 maxelem 100000 timeout 100 counters comment bucketsize 12 initval 0xd2513f06
add a 10.0.0.0/8,tcp:82 timeout 99 packets 3 bytes 180 comment "x y"
add a 10.0.0.4/31,icmp:network-unreachable timeout 0 packets 0 bytes 0
add a 10.1.0.0/16,tcp:80 timeout 99 nomatch packets 0 bytes 0
create b hash:ip family inet6 hashsize 1024 maxelem 65536 netmask 64 bucketsize 12 initval 0x751f9397
add b 2001:db8:1:2::
create c hash:ip,port family inet hashsize 64 maxelem 5 bucketsize 12 initval 0xea83edec forceadd bitmask 255.0.255.0
add c 10.0.1.0,ospf:0
`;

describe('the text of ipset save', () => {
  it('is read with all options of these types, and written back', () => {
    const { registry, notes, created, added } = restore(EXAMPLE);
    expect([notes, created, added]).toEqual([[], ['a', 'b', 'c'], 5]);
    expect(registry.get('c').test('10.77.1.9,89:0')).toBe(true);
    const lines = saved(registry);
    expect(lines.sort()).toEqual(
      [
        'create a hash:net,port family inet maxelem 100000 timeout 100 counters comment',
        'add a 10.0.0.0/8,tcp:82 timeout 99 packets 3 bytes 180 comment "x y"',
        'add a 10.0.0.4/31,icmp:3/0 timeout 0 packets 0 bytes 0',
        'add a 10.1.0.0/16,tcp:80 timeout 99 nomatch packets 0 bytes 0',
        'create b hash:ip family inet6 maxelem 65536 netmask 64',
        'add b 2001:db8:1:2::',
        'create c hash:ip,port family inet maxelem 5 bitmask 255.0.255.0 forceadd',
        'add c 10.0.1.0,89:0',
      ].sort(),
    );
    expect(saved(restore(saved(restore(EXAMPLE).registry).join('\n')).registry).length).toBe(lines.length);
  });

  it('of a set of both families is that of two sets, which are one again when it is read', () => {
    const registry = new SetRegistry({ seconds });
    const set = registry.create({ name: 'both', type: 'hash:ip,port', mask6: maskWords(64) });
    set.add('10.0.0.1,udp:53');
    set.add('2001:db8::1,tcp:0');
    const lines = [...saveSet(set)];
    expect(lines).toEqual([
      '# both6 is the IPv6 part of both',
      'create both hash:ip,port family inet maxelem 65536',
      'create both6 hash:ip,port family inet6 maxelem 65536 netmask 64',
      'add both 10.0.0.1,udp:53',
      'add both6 2001:db8::,tcp:0',
    ]);
    const again = restore([...lines, 'add both6 2001:db8:1::,tcp:1', 'del both6 2001:db8:1::,tcp:1'].join('\n'));
    expect([again.created, again.registry.names, again.registry.get('both').options]).toEqual([
      ['both'],
      ['both'],
      set.options,
    ]);
    expect(saved(again.registry)).toEqual(lines);
    // Without the comment, as ipset has it.
    expect(restore(lines.slice(1).join('\n')).registry.names).toEqual(['both', 'both6']);
  });

  it('of all sets has no name twice', () => {
    const registry = new SetRegistry({ seconds });
    const names = ['a', 'a6', `${'x'.repeat(30)}1`, `${'x'.repeat(30)}6`];
    for (const name of names) registry.create({ name, type: 'hash:ip' }).add('2001:db8::1');
    const taken = new Set(registry.names);
    const text = registry.names.flatMap((name) => [...saveSet(registry.get(name), taken)]).join('\n');
    const again = restore(text).registry;
    expect(again.names).toEqual(names);
    for (const name of names) expect(again.get(name).test('2001:db8::1')).toBe(true);
    expect(text.match(/^create \S+/gm)!.every((line, i, all) => line.length <= 38 && all.indexOf(line) === i)).toBe(
      true,
    );
  });

  it('may do what ipset restore does', () => {
    const { registry } = restore(`
      # comment
      -N new hash:net family inet
      n old hash:net
      -A old 10.0.0.0/8
      add new 192.0.2.0/24 -exist
      -exist add new 192.0.2.0/24
      add new 198.51.100.0/24
      del new 198.51.100.0/24
      -! del new 198.51.100.0/24
      swap new old
      create gone hash:ip
      destroy gone
      rename old kept
      flush new
      COMMIT
    `);
    expect(registry.names).toEqual(['new', 'kept']);
    expect([...saveSet(registry.get('kept'))].slice(1)).toEqual(['add kept 192.0.2.0/24']);
    expect(registry.get('new').count).toBe(0);
  });

  it('has what is not understood listed with its lines', () => {
    const { notes, registry, added } = restore(`create m hash:mac
add m 00:11:22:33:44:55
add m 00:11:22:33:44:56
create l list:set size 8
create s hash:ip skbinfo frobnicate 7 counters
add s 10.0.0.1 skbmark 0x1/0xff
add s 10.0.0.2 packets 1 sparkle yes bytes 2
add s 10.0.0.3 skbmark 0x2
swap l s
`);
    expect(notes).toEqual([
      { line: 1, message: 'type hash:mac is not understood: set m is left out, with 3 lines about it' },
      { line: 4, message: 'type list:set is not understood: set l is left out, with 2 lines about it' },
      { line: 5, message: 'option "frobnicate 7" is not understood: it is left out' },
      { line: 5, message: 'skbinfo is not understood: marks and classes are left out' },
      { line: 6, message: 'skbmark is not understood: it is left out (2 lines, this is the first)' },
      { line: 7, message: 'option "sparkle yes" is not understood: it is left out' },
    ]);
    expect(added).toBe(3);
    expect(registry.get('s').entry(4, 2)?.counters).toEqual({ packets: 1, bytes: 2 });
  });

  it('is read with the names of ipset 4', () => {
    const { registry, notes } = restore('-N a iphash -6\ncreate b nethash\n-N c ipporthash -4\n-A a 2001:db8::1\n');
    expect(notes).toEqual([]);
    expect(saved(registry).map((line) => line.split(' maxelem')[0])).toEqual([
      'create a hash:ip family inet6',
      'add a 2001:db8::1',
      'create b hash:net family inet',
      'create c hash:ip,port family inet',
    ]);
  });

  it.each([
    ['create a hash:nets', ':1: "hash:nets" is not a set type', 'hash:net,port'],
    ['create a', ':1: create without a type', 'create NAME'],
    ['add a 10.0.0.1', ':1: there is no set "a"', 'none'],
    ['create a hash:ip\n\nadd a 10.0.0.300', ':3: "10.0.0.300" is not an IP address', ''],
    ['create a hash:ip\nadd a', ':2: a set and an element are expected', 'add NAME'],
    ['create a hash:ip\nadd a 10.0.0.1\nadd a 10.0.0.1', ':3: 10.0.0.1 is already in set a', ''],
    ['create a hash:ip\nadd a 10.0.0.1 timeout 5', ':2: set a was made without timeout', ''],
    ['create a hash:ip timeout', ':1: timeout without a value', ''],
    ['create a hash:ip timeout 2147484', ':1: timeout "2147484": a number from 0 to 2147483', ''],
    ['create a hash:ip family inet7', ':1: family "inet7" is not inet or inet6', ''],
    ['create a hash:ip netmask 33', ':1: netmask "33"', ''],
    ['create a hash:ip bitmask ::1', ':1: bitmask "::1" is not an IPv4 address', ''],
    ['create a hash:net netmask 24', ':1: hash:net has no netmask', ''],
    ['create a hash:ip netmask 24 bitmask 255.0.0.0', ':1: netmask and bitmask exclude', ''],
    ['create a hash:ip comment\nadd a 10.0.0.1 comment "x', ':2: a quotation mark', ''],
    [`create a hash:ip comment\nadd a 10.0.0.1 comment ${'x'.repeat(256)}`, ':2: a comment of more than 255', ''],
    ['create a hash:ip\ncreate a hash:ip', ':2: set a is there already', ''],
    ['create a hash:ip\nswap a', ':2: a name is missing', ''],
    ['create a hash:ip\nflush a b', ':2: "b" is one word too many', ''],
    ['list', ':1: "list" is not a command of ipset restore', 'ipset save'],
    ['x'.repeat(5000), ':1: a line of more than 4096', ''],
    ['\u0000\u0001', ':1: ', ''],
  ])('%# names file, line and remedy', (text, message, remedy) => {
    const found = refusal(text);
    expect(found.code).toBe('SLUICE_FORMAT');
    expect(found.message).toContain(`sets.save${message}`);
    expect(found.remedy).toContain(remedy);
  });

  it('reads 100,000 lines in a second or so, and hostile ones in no more', () => {
    const lines = Array.from({ length: 100_000 }, (_, i) => `add n 10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
    const started = performance.now();
    const { registry } = restore(`create n hash:net maxelem 200000\n${lines.join('\n')}`);
    expect(registry.get('n').count).toBe(100_000);
    expect(registry.get('n').test('10.1.1.1')).toBe(true);
    for (const hostile of [
      '"'.repeat(4000),
      ' '.repeat(4000) + 'x',
      'add '.repeat(1000),
      'create a hash:ip ' + 'b '.repeat(1900),
    ]) {
      refusal(hostile);
    }
    expect(performance.now() - started).toBeLessThan(5000);
  });
});

/** A failure names its seed, and the seed makes the text again. */
function randomness(seed: number): (limit: number) => number {
  const next = random(seed);
  return (limit) => Math.floor(next() * limit);
}

const WORDS = (
  'create create add add add del flush swap rename destroy -exist -! n a d x e w COMMIT # a a b b c hash:ip hash:net hash:ip,port hash:net,port ' +
  'hash:mac bitmap:port list:set family inet inet6 maxelem 3 65536 0 timeout 5 2147483 2147484 counters comment forceadd skbinfo netmask 24 64 ' +
  'bitmask 255.0.255.0 ffff:: hashsize 1024 bucketsize 12 initval 0xd2513f06 nomatch packets bytes 18446744073709551615 -1 1e9 NaN "x y" " \' ' +
  '10.0.0.1 10.0.0.0/8 10.0.0.0/30 10.0.0.5-10.0.0.1 0.0.0.0 0.0.0.0/0 255.255.255.255 2001:db8::1 ::/1 ::ffff:1.2.3.4 10.0.0.1,80 10.0.0.0/31,udp:1-3 ' +
  '10.0.0.1,icmp:8/0 2001:db8::1,icmpv6:128/0 10.0.0.1,tcp:0-65535 10.0.0.1,gre:0 1.2.3.4, ,80 [10.0.0.1] [::1],tcp:1 / - , : , ,,, constructor __proto__'
).split(' ');

/** Lines that are right when the sets are there. */
const LINES = [
  '-! add a 10.0.0.1',
  '-! add a 10.0.0.0/29 timeout 3 comment "x y"',
  '-! add a 10.0.0.8/31,udp:5-9 packets 3 bytes 4',
  '-! add a 10.0.0.0/24,tcp:443 nomatch',
  '-! add b 2001:db8::1',
  '-! add b 2001:db8::/33 nomatch',
  '-! add b 2001:db8::7,icmpv6:packet-too-big',
  '-! del a 10.0.0.2',
  'flush a',
  'create c hash:net counters',
  'create d hash:mac',
  '-! add d 00:11:22:33:44:55',
  'swap a c',
];

describe('whatever the text', () => {
  it('sets come out that can be saved and read again, or an error with its place', () => {
    const outcome = { done: 0, refused: 0 };
    for (let seed = 1; seed <= 3000; seed++) {
      const pick = randomness(seed);
      const lines = Array.from({ length: 1 + pick(5) }, () =>
        pick(2) === 0
          ? LINES[pick(LINES.length)]
          : Array.from({ length: 1 + pick(7) }, () => WORDS[pick(WORDS.length)]).join(' '),
      );
      if (pick(3) > 0) lines.splice(0, lines.length, ...lines.map((line) => (line.startsWith('-!') ? line : 'COMMIT')));
      const type = ['hash:ip', 'hash:net', 'hash:ip,port', 'hash:net,port'][pick(4)];
      lines.unshift(`create a ${type} maxelem 200 counters comment timeout 9`, `create b ${type} family inet6`);
      const text = lines.join('\n');
      const registry = new SetRegistry({ seconds });
      try {
        const { notes } = restoreSets(text, registry, 'f');
        for (const { line, message } of notes) {
          expect(message, `seed ${seed}`).not.toBe('');
          expect(line).toBeGreaterThan(0);
          expect(line).toBeLessThanOrEqual(lines.length);
        }
        outcome.done++;
      } catch (error) {
        if (!(error instanceof SluiceError))
          throw new Error(`seed ${seed}: ${String(error)}\n${text}`, { cause: error });
        expect(error.message, `seed ${seed}`).toMatch(/^f:\d+: ./);
        outcome.refused++;
      }
      const again = new SetRegistry({ seconds });
      expect(restoreSets(saved(registry).join('\n'), again).notes, `seed ${seed}`).toEqual([]);
      expect(saved(again).sort(), `seed ${seed}`).toEqual(saved(registry).sort());
    }
    expect(outcome.done).toBeGreaterThan(300);
    expect(outcome.refused).toBeGreaterThan(1000);
  });

  it('also what is no text of anybody', () => {
    for (let seed = 1; seed <= 500; seed++) {
      const pick = randomness(seed);
      const text = Array.from({ length: pick(200) }, () =>
        String.fromCharCode(pick(3) === 0 ? pick(0x3000) : pick(128)),
      ).join('');
      expect(() => {
        try {
          restore(text);
        } catch (error) {
          if (!(error instanceof SluiceError)) throw error;
        }
      }, `seed ${seed}`).not.toThrow();
    }
  });
});
