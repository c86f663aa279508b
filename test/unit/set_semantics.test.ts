import { describe, expect, it } from 'vitest';
import { IpSet, SetRegistry, addList, type SetOptions } from '../../src/control/sets/index.js';
import { entryOf, NO_ENTRY, SecondsClock, SetSides, SetView, type SetType } from '../../src/shared/sets/index.js';
import { parsed } from '../support/packets.js';
import { PacketBuilder } from '../support/packet_builder.js';

let now = 1000;
const seconds = (): number => now;

function setOf(type: SetType, options: Partial<SetOptions> = {}): IpSet {
  return new IpSet({ name: 'it', type, ...options }, { seconds });
}

const texts = (set: IpSet): string[] => [...set.list()].map(({ text }) => text).sort();

function refusal(act: () => void): { code?: string; message?: string; remedy?: string } {
  try {
    act();
    return {};
  } catch (error) {
    return error as { code: string; message: string; remedy: string };
  }
}

describe('adding', () => {
  it.each<[SetType, Partial<SetOptions>, string, string[]]>([
    ['hash:ip', {}, '10.0.0.0/30', ['10.0.0.0', '10.0.0.1', '10.0.0.2', '10.0.0.3']],
    ['hash:ip', {}, '10.0.0.3-10.0.0.1', ['10.0.0.1', '10.0.0.2', '10.0.0.3']],
    ['hash:ip', {}, '255.255.255.254-255.255.255.255', ['255.255.255.254', '255.255.255.255']],
    ['hash:ip', {}, '[2001:db8::1]', ['2001:db8::1']],
    ['hash:ip', { mask4: [-256, 0, 0, 0] }, '10.11.0.5-10.11.2.3', ['10.11.0.0', '10.11.1.0', '10.11.2.0']],
    ['hash:ip', { mask6: [-1, -1, 0, 0] }, '2001:db8:1:2:3::4', ['2001:db8:1:2::']],
    ['hash:net', {}, '1.2.3.4/8', ['1.0.0.0/8']],
    ['hash:net', {}, '10.0.0.5-10.0.0.17', ['10.0.0.16/31', '10.0.0.5', '10.0.0.6/31', '10.0.0.8/29']],
    ['hash:net', {}, '0.0.0.0-127.255.255.255', ['0.0.0.0/1']],
    ['hash:net', {}, '2001:db8::1/32', ['2001:db8::/32']],
    ['hash:ip,port', {}, '10.0.0.1,80', ['10.0.0.1,tcp:80']],
    [
      'hash:ip,port',
      {},
      '10.0.0.0/31,udp:5-4',
      ['10.0.0.0,udp:4', '10.0.0.0,udp:5', '10.0.0.1,udp:4', '10.0.0.1,udp:5'],
    ],
    ['hash:ip,port', {}, '10.0.0.1,icmp:Network-Unreachable', ['10.0.0.1,icmp:3/0']],
    ['hash:ip,port', {}, '2001:db8::1,ipv6-icmp:packet-too-big', ['2001:db8::1,icmpv6:2/0']],
    ['hash:ip,port', {}, '10.0.0.1,gre:0', ['10.0.0.1,47:0']],
    ['hash:net,port', {}, '10.0.0.0-10.0.0.9,sctp:7', ['10.0.0.0/29,sctp:7', '10.0.0.8/31,sctp:7']],
  ])('%s %# expands as ipset does', (type, options, text, expected) => {
    const set = setOf(type, options);
    set.add(text);
    expect(texts(set)).toEqual(expected);
    for (const one of expected) expect(set.test(one)).toBe(true);
    set.del(text);
    expect(set.count).toBe(0);
  });

  it.each<[SetType, Partial<SetOptions>, string, string, string]>([
    ['hash:ip', {}, '0.0.0.0', '0.0.0.0 cannot be in a set of hash:ip', ''],
    ['hash:ip', {}, '::', ':: cannot be', ''],
    ['hash:ip,port', {}, '0.0.0.0,tcp:80', 'cannot be', ''],
    ['hash:ip', { mask4: [-256, 0, 0, 0] }, '0.0.0.5', '0.0.0.0 cannot be', ''],
    ['hash:net', {}, '0.0.0.0/0', 'sets have no prefix length 0', '0.0.0.0/1 and 128.0.0.0/1'],
    ['hash:net', {}, '::/0', 'sets have no prefix length 0', '8000::/1'],
    ['hash:net', {}, '0.0.0.0-255.255.255.255', 'is every address', '128.0.0.0/1'],
    ['hash:net', {}, '::1-::5', 'is a range', 'prefixes'],
    ['hash:net', {}, '10.0.0.0/33', 'from 1 to 32', ''],
    ['hash:net', {}, 'example.net', 'is not an IP address', 'Names are not looked up'],
    ['hash:net', {}, '010.0.0.1', 'starts with 0', ''],
    ['hash:ip', {}, '2001:db8::/64', 'single IPv6 addresses', 'hash:net'],
    ['hash:ip', {}, '1.2.3.4,5', 'has two parts', 'Leave out'],
    ['hash:ip,port', {}, '1.2.3.4', 'has no port', 'tcp:80'],
    ['hash:ip,port', {}, '1.2.3.4,tcp:http', 'is not a port', 'not looked up'],
    ['hash:ip,port', {}, '1.2.3.4,tcp:65536', 'is not a port', ''],
    ['hash:ip,port', {}, '1.2.3.4,gre:5', 'has no ports', 'gre:0'],
    ['hash:ip,port', {}, '1.2.3.4,0:0', 'is not a protocol', ''],
    ['hash:ip,port', {}, '1.2.3.4,icmp:8', 'ICMP type and code', '8/0'],
    ['hash:ip,port', {}, '1.2.3.4,icmp:256/0', 'ICMP type and code', ''],
    ['hash:ip,port', {}, '1.2.3.4,icmpv6:1/0', 'in an element of IPv4', ''],
    ['hash:ip', { family: 'inet' }, '::1', 'has family inet', ''],
    ['hash:ip', {}, `1${'0'.repeat(200)}`, 'more than 128 characters', ''],
  ])('%s %# refuses what ipset refuses', (type, options, text, message, remedy) => {
    const set = setOf(type, options);
    const found = refusal(() => set.add(text));
    expect(found.code).toBe('SLUICE_FORMAT');
    expect(found.message).toContain(message);
    expect(found.remedy).toContain(remedy);
    expect(set.count).toBe(0);
  });

  it('refuses what the set was not made for', () => {
    for (const [fields, word] of [
      [{ timeout: 5 }, 'without timeout'],
      [{ packets: 1 }, 'without counters'],
      [{ comment: 'x' }, 'without comment'],
      [{ nomatch: true }, 'for networks'],
    ] as const) {
      expect(refusal(() => setOf('hash:ip').add('10.0.0.1', fields)).message).toContain(word);
    }
    expect(refusal(() => setOf('hash:ip', { timeout: 5 }).add('10.0.0.1', { timeout: 2_147_484 })).message).toContain(
      '2147483',
    );
    expect(refusal(() => setOf('hash:net', { mask4: [-1, 0, 0, 0] })).message).toContain('no netmask');
    expect(refusal(() => setOf('hash:ip', { name: 'x'.repeat(32) })).message).toContain('not a name');
    expect(refusal(() => setOf('hash:ip', { maxelem: 0 })).message).toContain('maxelem');
  });

  it('stops at an entry that is there, unless told that it may be', () => {
    const set = setOf('hash:ip');
    set.add('10.0.0.2');
    expect(refusal(() => set.add('10.0.0.1-10.0.0.3')).message).toContain('10.0.0.2 is already in set it');
    expect(texts(set)).toEqual(['10.0.0.1', '10.0.0.2']);
    set.add('10.0.0.1-10.0.0.3', {}, true);
    expect(set.count).toBe(3);
    expect(refusal(() => set.del('10.0.0.9')).message).toContain('is not in set it');
    set.del('10.0.0.9', true);
    set.del('10.0.0.0/30', true);
    expect(set.count).toBe(0);
  });

  it('ends when the set is full, or some entry gives way to a new one', () => {
    const set = setOf('hash:ip', { maxelem: 3 });
    expect(refusal(() => set.add('10.0.0.1-10.0.0.9')).message).toContain('full: it has 3 entries');
    expect(set.count).toBe(3);
    const giving = setOf('hash:net', { maxelem: 3, forceadd: true });
    giving.add('10.0.0.1-10.0.0.9');
    giving.add('2001:db8::/32');
    expect(giving.count).toBe(3);
    expect(giving.test('2001:db8::1')).toBe(true);
  });

  it('reads lists with comments, and names the line that is wrong', () => {
    const set = setOf('hash:net');
    expect(addList('# feed\n10.0.0.0/8 ; SBL1\r\n\n 2001:db8::/32\n10.0.0.0/8\n', set, 'drop.txt')).toBe(3);
    expect(texts(set)).toEqual(['10.0.0.0/8', '2001:db8::/32']);
    const found = refusal(() => addList('192.0.2.1\nnonsense here', set, 'drop.txt'));
    expect(found.message).toContain('drop.txt:2: "nonsense here" is not an IP address');
    expect(set.test('192.0.2.1')).toBe(true);
  });
});

describe('entries that end', () => {
  it('match until then, and not one second later, collected or not', () => {
    for (const type of ['hash:ip', 'hash:net'] as const) {
      const set = setOf(type, { timeout: 10 });
      set.add('10.0.0.1');
      set.add('10.0.0.2', { timeout: 0 });
      set.add('10.0.0.3', { timeout: 2_147_483 });
      set.add('2001:db8::1', { timeout: 20 });
      now += 10;
      expect(set.test('10.0.0.1')).toBe(true);
      now += 1;
      expect(set.test('10.0.0.1')).toBe(false);
      expect(texts(set)).toEqual(['10.0.0.2', '10.0.0.3', '2001:db8::1']);
      expect([set.count, set.expire(), set.count]).toEqual([4, 1, 3]);
      set.add('10.0.0.1');
      now += 2_147_000;
      expect(set.expire()).toBe(2);
      expect(texts(set)).toEqual(['10.0.0.2', '10.0.0.3']);
      now += 483;
      expect(texts(set)).toEqual(['10.0.0.2']);
    }
  });

  it('leave the next shorter network to decide, which may be an exception', () => {
    const set = setOf('hash:net', { timeout: 0 });
    set.add('10.0.0.0/8');
    set.add('10.1.0.0/16', { nomatch: true, timeout: 100 });
    set.add('10.1.2.0/24', { timeout: 50 });
    set.add('10.1.2.3', { nomatch: true, timeout: 10 });
    const test = (): boolean => set.test('10.1.2.3');
    expect(test()).toBe(false);
    now += 11;
    expect(test()).toBe(true);
    now += 40;
    expect(test()).toBe(false);
    now += 50;
    expect(test()).toBe(true);
    expect(set.expire()).toBe(3);
    expect(test()).toBe(true);
  });

  it('get a new time by being added again, and make room in a full set', () => {
    const set = setOf('hash:ip', { timeout: 5, maxelem: 2 });
    set.add('10.0.0.1');
    now += 4;
    set.add('10.0.0.1', {}, true);
    set.add('10.0.0.2', { timeout: 60 });
    now += 4;
    expect(set.test('10.0.0.1')).toBe(true);
    expect(refusal(() => set.add('10.0.0.3')).message).toContain('full');
    now += 4;
    set.add('10.0.0.3');
    expect(texts(set)).toEqual(['10.0.0.2', '10.0.0.3']);
  });

  it('go by seconds that outlive the milliseconds', () => {
    const clock = new SecondsClock(100, 2 ** 31 - 500);
    let ms = 2 ** 31 - 500;
    for (let day = 0; day < 400; day++) {
      ms = (ms + 86_400_000) | 0;
      expect(clock.advance(ms)).toBe(100 + 86_400 * (day + 1));
    }
    expect(clock.advance((ms - 5000) | 0)).toBe(100 + 86_400 * 400);
    expect(clock.advance((ms + 999) | 0)).toBe(100 + 86_400 * 400);
    expect(clock.advance((ms + 1000) | 0)).toBe(101 + 86_400 * 400);
  });
});

describe('test', () => {
  it('asks for the match of an address, for the very entry of a network, and for exceptions', () => {
    const set = setOf('hash:net');
    set.add('10.0.0.0/8');
    set.add('10.0.0.4/30', { nomatch: true });
    expect([set.test('10.0.0.1'), set.test('10.0.0.5'), set.test('10.0.0.5', true)]).toEqual([true, false, true]);
    expect([set.test('10.0.0.4/30'), set.test('10.0.0.4/30', true)]).toEqual([false, true]);
    expect([set.test('10.0.0.0/8'), set.test('10.0.0.0/9'), set.test('10.0.0.1', true)]).toEqual([true, false, false]);
    set.add('10.0.0.4/30', {}, true);
    expect(set.test('10.0.0.5')).toBe(true);
    set.add('10.0.0.4/30', { nomatch: true }, true);
    expect(set.test('10.0.0.5')).toBe(false);
    set.flush();
    expect([set.count, set.test('10.0.0.1')]).toEqual([0, false]);
  });
});

describe('packets', () => {
  const tcp = parsed(
    new PacketBuilder()
      .ethernet()
      .ipv4({ src: '192.0.2.1', dst: '198.51.100.1' })
      .tcp({ sport: 1234, dport: 80 })
      .build(),
  );
  const view = (set: IpSet, worker?: number): SetView =>
    new SetView(set.buffers, worker === undefined ? null : set.countersFor(worker));

  it('are looked up by the sides that the rule names', () => {
    const set = setOf('hash:ip,port');
    set.add('192.0.2.1,tcp:80');
    set.add('198.51.100.1,tcp:1234');
    set.add('198.51.100.1,udp:80');
    const found = [SetSides.source, SetSides.portDestination, SetSides.addressDestination, SetSides.destination].map(
      (sides) => view(set).lookup(tcp, sides, now) > 0,
    );
    expect(found).toEqual([false, true, true, false]);
  });

  it('count the entry that decided, per worker and in sum', () => {
    const set = setOf('hash:net', { counters: true });
    set.add('192.0.2.0/24', { packets: 5, bytes: 600 });
    set.add('192.0.2.1', { nomatch: true });
    const views = [view(set, 0), view(set, 1)];
    for (const one of views) expect(one.match(tcp, SetSides.source, now)).toBeLessThan(NO_ENTRY);
    const result = views[0].match(tcp, SetSides.source, now);
    expect(set.entry(4, entryOf(result))).toMatchObject({
      text: '192.0.2.1',
      counters: { packets: 3, bytes: 3 * tcp.l3Length },
    });
    set.del('192.0.2.1');
    expect(views[1].match(tcp, SetSides.source, now)).toBeGreaterThan(0);
    const [entry] = [...set.list()];
    expect(entry.counters).toEqual({ packets: 6, bytes: 600 + tcp.l3Length });
    // A new entry under the number of the old one begins at zero, and adding again begins anew.
    set.add('192.0.2.7');
    expect([...set.list()].map(({ counters }) => counters!.packets)).toEqual(expect.arrayContaining([6, 0]));
    set.add('192.0.2.0/24', {}, true);
    expect([...set.list()].map(({ counters }) => counters!.packets)).toEqual([0, 0]);
  });

  it('that are not IP, or of a family that the set has not, match nothing', () => {
    const set = setOf('hash:net', { family: 'inet6' });
    set.add('::/1');
    expect(view(set).lookup(tcp, SetSides.source, now)).toBe(NO_ENTRY);
    expect(view(setOf('hash:net')).lookup(parsed(new Uint8Array(60)), SetSides.source, now)).toBe(NO_ENTRY);
  });
});

describe('the registry', () => {
  it('swaps, renames and destroys', () => {
    const registry = new SetRegistry({ seconds });
    const one = registry.create({ name: 'one', type: 'hash:net' });
    const two = registry.create({ name: 'two', type: 'hash:net', counters: true });
    one.add('10.0.0.0/8');
    registry.swap('one', 'two');
    expect([registry.get('two'), registry.get('one')]).toEqual([one, two]);
    expect(one.options.name).toBe('two');
    registry.create({ name: 'ports', type: 'hash:net,port' });
    expect(refusal(() => registry.swap('one', 'ports')).message).toContain('cannot be swapped');
    registry.rename('ports', 'p');
    expect(refusal(() => registry.rename('p', 'one')).message).toContain('is there already');
    expect(refusal(() => registry.get('ports'))).toMatchObject({
      message: 'there is no set "ports"',
      remedy: 'Sets: one, two, p.',
    });
    expect(registry.create({ name: 'p', type: 'hash:net,port' }, true)).toBe(registry.get('p'));
    expect(refusal(() => registry.create({ name: 'p', type: 'hash:net,port', maxelem: 5 }, true)).message).toContain(
      'other options',
    );
    registry.destroy('p');
    expect(registry.names).toEqual(['one', 'two']);
  });
});
