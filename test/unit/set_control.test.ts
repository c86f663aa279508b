/** Sets of a daemon without the daemon: configurations that come and go, failures that change nothing, and when memory may be used again. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/control/config/index.js';
import { SetReaders } from '../../src/control/manager/set_readers.js';
import { Uploads } from '../../src/control/manager/uploads.js';
import { IpSet } from '../../src/control/sets/index.js';
import type { Config } from '../../src/shared/config.js';
import { FakeSetDaemon } from '../support/fake_sets.js';

let directory = '';
let host: FakeSetDaemon;

function read(sets: string): Config {
  return parseConfig(`interfaces: [{ name: eth0, redirect: all }]\nsets: ${sets}`, join(directory, 'x.yaml'));
}

function texts(name: string): string[] {
  return host.control
    .entries(name)
    .map(({ text }) => text)
    .sort();
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-set-control-'));
});
afterEach(() => {
  host.control.close();
  rmSync(directory, { recursive: true });
});

describe('sets of a daemon', () => {
  it('change under the workers’ eyes without a new generation; growth makes one', async () => {
    host = new FakeSetDaemon(read('[{name: bad, type: hash:ip, maxelem: 100000, drop: src}]'));
    expect(host.tables.setDrops).toEqual([{ set: 0, sides: 0 }]);
    expect(await host.control.add('bad', ['192.0.2.1', '192.0.2.2'], {})).toEqual({
      set: 'bad',
      changed: 2,
      entries: 2,
      generation: 1,
    });
    expect([host.finds('bad', '192.0.2.1'), host.finds('bad', '192.0.2.3')]).toEqual([true, false]);
    await host.control.del('bad', ['192.0.2.1'], false);
    expect([host.finds('bad', '192.0.2.1'), host.publications]).toEqual([false, 1]);
    const many = Array.from({ length: 20_000 }, (_, i) => `10.0.${i >> 8}.${i & 255}`).filter(
      (text) => text !== '10.0.0.0',
    );
    await host.control.add('bad', many, {});
    expect(host.publications).toBe(2);
    expect(many.filter((address) => !host.finds('bad', address))).toEqual([]);
  });

  it('stop at the entry that is wrong, and keep those before it', async () => {
    host = new FakeSetDaemon(read('[{name: bad, type: hash:ip}]'));
    await expect(host.control.add('bad', ['192.0.2.1', 'wrong', '192.0.2.2'], {})).rejects.toThrow(
      /^entry 2 of 3: .*wrong.*; those before it were carried out$/,
    );
    expect(texts('bad')).toEqual(['192.0.2.1']);
    await expect(host.control.del('bad', ['192.0.2.7', '192.0.2.1'], false)).rejects.toThrow(
      /entry 1 of 2: .*none was carried out/,
    );
    await host.control.del('bad', ['192.0.2.7', '192.0.2.1'], true);
    expect(texts('bad')).toEqual([]);
    await expect(host.control.add('bat', ['192.0.2.1'], {})).rejects.toThrow('there is no set "bat"');
  });

  it('end entries by the clock of the bursts, also over its wrap', async () => {
    host = new FakeSetDaemon(read('[{name: bad, type: hash:ip, timeout: 0}]'));
    await host.control.add('bad', ['192.0.2.1', '192.0.2.2 timeout 20'], { timeout: 3 });
    host.nowMs = -2001;
    expect([host.finds('bad', '192.0.2.1'), host.finds('bad', '192.0.2.2')]).toEqual([true, true]);
    host.nowMs = -900;
    expect([host.finds('bad', '192.0.2.1'), host.finds('bad', '192.0.2.2')]).toEqual([false, true]);
    host.nowMs = 17_000;
    expect(host.finds('bad', '192.0.2.2')).toBe(false);
  });

  it('keep run-time changes over a reload unless their content in the configuration is another', async () => {
    const file = join(directory, 'a.txt');
    writeFileSync(file, '192.0.2.1\n');
    const sets = '[{name: a, type: hash:ip, file: a.txt}, {name: b, type: hash:ip, entries: [192.0.2.1]}]';
    host = new FakeSetDaemon(read(sets));
    await host.control.add('a', ['192.0.2.50'], {});
    await host.control.add('b', ['192.0.2.50'], {});
    await host.control.restore('create c hash:net\nadd c 10.0.0.0/8\n', null, false);
    const before = host.tables.sets;
    // Another drop is no other content.
    host.reload(read(sets.replace('[192.0.2.1]}', '[192.0.2.1], drop: dst}')));
    expect(host.tables.sets.every((table, i) => table === before[i])).toBe(true);
    expect(host.tables.setDrops).toEqual([{ set: 1, sides: 3 }]);
    writeFileSync(file, '192.0.2.9\n');
    host.reload(read(sets));
    expect([texts('a'), texts('b'), texts('c')]).toEqual([['192.0.2.9'], ['192.0.2.1', '192.0.2.50'], ['10.0.0.0/8']]);
    expect(host.control.list().sets.map(({ name, origin, changed }) => [name, origin, changed])).toEqual([
      ['a', 'config', false],
      ['b', 'config', true],
      ['c', 'runtime', true],
    ]);
    host.reload(read('[{name: b, type: hash:ip, entries: [192.0.2.1]}]'));
    expect(host.control.list().sets.map(({ name }) => name)).toEqual(['b', 'c']);
  });

  it('are as before when workers refuse a swap, a restore or a reload', async () => {
    host = new FakeSetDaemon(
      read('[{name: a, type: hash:ip, entries: [192.0.2.1]}, {name: b, type: hash:ip, entries: [192.0.2.2]}]'),
    );
    for (const change of [
      () => host.control.swap('a', 'b'),
      () => host.control.restore('create a hash:net\ncreate new hash:ip\n', null, false),
    ]) {
      host.refuses = true;
      await expect(change()).rejects.toThrow('refused');
      expect(host.control.save(null)).toMatch(
        /^# a6 is .*\ncreate a hash:ip family inet .*\ncreate a6 .*\nadd a 192\.0\.2\.1\n# b6 is .*\ncreate b /,
      );
      expect([host.finds('a', '192.0.2.1'), host.finds('b', '192.0.2.2')]).toEqual([true, true]);
    }
    host.control.prepare(read('[{name: a, type: hash:ip, entries: [192.0.2.77]}]'));
    host.control.discard();
    expect([texts('a'), texts('b')]).toEqual([['192.0.2.1'], ['192.0.2.2']]);
    await host.control.swap('a', 'b');
    expect([host.finds('a', '192.0.2.2'), texts('a'), texts('b')]).toEqual([true, ['192.0.2.2'], ['192.0.2.1']]);
    await expect(
      host.control.restore('create a hash:ip\nadd a 192.0.2.1\nadd z 192.0.2.2\n', null, false),
    ).rejects.toThrow(/:3: there is no set "z"/);
    expect(texts('a')).toEqual(['192.0.2.2']);
  });

  it('tell which entry decides', async () => {
    host = new FakeSetDaemon(read('[{name: n, type: hash:net, entries: [10.0.0.0/8, "10.1.0.0/16 nomatch"]}]'));
    expect(host.control.test('n', '10.2.0.1')).toMatchObject({ matches: true, entry: { text: '10.0.0.0/8' } });
    expect(host.control.test('n', '10.1.0.1')).toMatchObject({
      matches: false,
      entry: { text: '10.1.0.0/16', nomatch: true },
    });
    expect(host.control.test('n', '11.0.0.1')).toEqual({ set: 'n', matches: false, entry: null });
    expect(host.control.test('n', '10.0.0.0/8')).toMatchObject({ matches: true, entry: { text: '10.0.0.0/8' } });
    await host.control.flush('n');
    expect(host.control.test('n', '10.2.0.1')).toEqual({ set: 'n', matches: false, entry: null });
  });

  it('count matches by name, whatever set has it, and by worker', async () => {
    host = new FakeSetDaemon(
      read('[{name: a, type: hash:ip, counters: true}, {name: b, type: hash:ip, counters: true}]'),
    );
    const [a] = host.tables.sets;
    expect([a.matches.length, a.counters.map((one) => one !== null)]).toEqual([3, [true, false, true]]);
    new Float64Array(a.matches[0]).set([5, 500]);
    new Float64Array(a.matches[2]).set([2, 200]);
    await host.control.swap('a', 'b');
    expect(host.tables.sets[0].matches).toEqual(a.matches);
    expect(host.control.list().sets.map(({ packets, packetBytes }) => [packets, packetBytes])).toEqual([
      [7, 700],
      [0, 0],
    ]);
  });
});

describe('readers of a set', () => {
  it('have passed when each has ended its burst and has the buffers of the version at the mark', () => {
    const set = new IpSet({ name: 'x', type: 'hash:ip' }, { seconds: () => 0 });
    const one = { thread: {} as object | null, beats: 10, generation: 1 };
    const two = { thread: {} as object | null, beats: 0x7fffffff, generation: 1 };
    const readers = new SetReaders(set, () => [one, two]);
    // Nobody has it yet.
    expect(readers.passed(readers.mark())).toBe(true);
    readers.publishes(set.version, 2);
    const mark = readers.mark();
    expect(readers.passed(mark)).toBe(false);
    one.beats += 2;
    two.beats = -0x7fffffff;
    expect(readers.passed(mark)).toBe(false);
    one.generation = two.generation = 2;
    expect(readers.passed(mark)).toBe(true);
    // A thread that began with older tables, after the mark.
    two.thread = {};
    two.generation = 1;
    expect(readers.passed(mark)).toBe(false);
    two.thread = null;
    expect(readers.passed(mark)).toBe(true);
    for (let i = 1; !readers.behind; i++) set.add(`10.0.${i >> 8}.${i & 255}`);
    const later = readers.mark();
    one.beats += 2;
    expect(readers.passed(later)).toBe(false);
    readers.publishes(set.version, 3);
    expect([readers.behind, readers.passed(later)]).toEqual([false, false]);
    one.generation = 3;
    expect(readers.passed(later)).toBe(true);
    host = new FakeSetDaemon(read('[]'));
  });
});

describe('uploads', () => {
  it('come together in order, each under its own name', () => {
    host = new FakeSetDaemon(read('[]'));
    const uploads = new Uploads();
    const { upload } = uploads.take('a', null, true) as { upload: string };
    const other = uploads.take('x', null, true) as { upload: string };
    expect(other.upload).not.toBe(upload);
    expect(uploads.take('b', upload, true)).toEqual({ upload });
    expect(uploads.take('c', upload, false)).toBe('abc');
    expect(() => uploads.take('d', upload, false)).toThrow('there is no upload of that name');
    expect(uploads.take('y', other.upload, false)).toBe('xy');
    expect(uploads.take('whole', null, false)).toBe('whole');
    uploads.close();
  });
});
