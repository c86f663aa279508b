/** Sets in a configuration: from files of ipset, lists and entries, with what is wrong named by its place. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { diffConfig, parseConfig, type ConfigError } from '../../src/control/config/index.js';
import { makeSets } from '../../src/control/set_content.js';
import type { Config } from '../../src/shared/config.js';

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-sets-'));
  file(
    'bad.ipset',
    'create bad hash:net family inet maxelem 1000 timeout 60\nadd bad 192.0.2.0/24\nadd bad 10.0.0.0/8 nomatch\n',
  );
  file(
    'all.ipset',
    '# Generated\ncreate a hash:ip family inet\nadd a 192.0.2.1\ncreate b hash:net family inet6 counters\nadd b 2001:db8::/32\n' +
      'create c bitmap:port range 0-10\nadd c 5\n',
  );
  file('list.txt', '; a feed\n192.0.2.7\n2001:db8::7 # here\n\n10.1.0.0/16\n');
  file('wrong.txt', '192.0.2.7\nexample.com\n');
  file('wrong.ipset', 'create w hash:ip\nadd w 192.0.2.1\nadd w 192.0.2.1\n');
});
afterAll(() => rmSync(directory, { recursive: true }));

function file(name: string, text: string): void {
  writeFileSync(join(directory, name), text);
}

function read(text: string): Config {
  return parseConfig(`interfaces: [{ name: eth0, redirect: all }]\n${text}`, join(directory, 'sluice.yaml'));
}

/** "line path: message | remedy" of all that is wrong. */
function problems(text: string): string[] {
  try {
    read(text);
  } catch (error) {
    return (error as ConfigError).problems.map(
      ({ line, path, message, remedy }) => `${line} ${path}: ${message.replaceAll(directory, '.')} | ${remedy}`,
    );
  }
  throw new Error('no problem was found');
}

/** Entries of each set, as the daemon would make them. */
function contents({ sets }: Config): Record<string, string[]> {
  const made = makeSets(sets, { seconds: () => 0 });
  return Object.fromEntries([...made].map(([name, set]) => [name, [...set.list()].map(({ text }) => text).sort()]));
}

describe('sets of a configuration', () => {
  it('come from a file of ipset, under the name that the configuration gives', () => {
    const config = read('sets: [{name: evil, file: bad.ipset, drop: src}]');
    expect(config.sets).toMatchObject([
      { name: 'evil', type: 'hash:net', family: 'inet', maxelem: 1000, timeout: 60, drop: 'src' },
    ]);
    expect(config.sets[0].source).toMatchObject({
      kind: 'file',
      path: join(directory, 'bad.ipset'),
      format: 'save',
      nameInFile: 'bad',
    });
    expect(contents(config)).toEqual({ evil: ['10.0.0.0/8', '192.0.2.0/24'] });
  });

  it('are all that a file holds when none is named; what sluice has not is a warning with its line', () => {
    const config = read('sets: [{file: all.ipset}]');
    expect(config.sets.map(({ name, family, counters }) => [name, family, counters])).toEqual([
      ['a', 'inet', false],
      ['b', 'inet6', true],
    ]);
    expect(contents(config)).toEqual({ a: ['192.0.2.1'], b: ['2001:db8::/32'] });
    expect(config.warnings.map(({ line, path, message }) => [line, path, message.replaceAll(directory, '.')])).toEqual([
      [
        2,
        'sets[0].file',
        './all.ipset:6: type bitmap:port is not understood: set c is left out, with 2 lines about it',
      ],
    ]);
    expect(read('sets: [{name: b, file: all.ipset}]').sets.map(({ name }) => name)).toEqual(['b']);
  });

  it('come from a plain list, with what the configuration says of them', () => {
    const config = read(
      'sets: [{name: feed, type: hash:net, file: list.txt, timeout: 10m, counters: true, maxelem: 5}]',
    );
    expect(config.sets).toMatchObject([
      {
        type: 'hash:net',
        family: 'both',
        timeout: 600,
        counters: true,
        maxelem: 5,
        drop: null,
        source: { format: 'list' },
      },
    ]);
    expect(contents(config)).toEqual({ feed: ['10.1.0.0/16', '192.0.2.7', '2001:db8::7'] });
  });

  it('come from entries, which may say what ipset’s add says; or begin empty', () => {
    const config = read(
      'sets: [{name: e, type: "hash:ip,port", timeout: 0, entries: ["192.0.2.1,tcp:80 timeout 30", "192.0.2.1,udp:53"]}, {name: none, type: hash:ip}]',
    );
    expect(contents(config)).toEqual({ e: ['192.0.2.1,tcp:80', '192.0.2.1,udp:53'], none: [] });
  });

  it('are asked by rules: by name for the source, with a key, several together', () => {
    const [one, two, three] = read(
      `sets: [{name: bad, type: hash:net}, {name: ports, type: "hash:ip,port"}]
rules:
  - {name: a, match: {set: bad}, action: drop}
  - {name: b, match: {set: {name: ports, key: "src, dst"}, protocol: tcp}, action: drop}
  - {name: c, match: {set: [bad, {name: bad, key: dst}]}, action: drop}`,
    ).rules;
    expect(one.match).toEqual({ sets: [{ name: 'bad', key: 'src' }] });
    expect(two.match).toEqual({ sets: [{ name: 'ports', key: 'src,dst' }], protocol: 6 });
    expect(three.match.sets).toEqual([
      { name: 'bad', key: 'src' },
      { name: 'bad', key: 'dst' },
    ]);
  });

  it.each([
    [
      '{name: x, file: absent.txt, type: hash:ip}',
      '2 sets[0].file: there is no file ./absent.txt | Paths are relative to the directory of the configuration.',
    ],
    ['{name: x, file: wrong.txt, type: hash:ip}', /^2 sets\[0\]\.file: \.\/wrong\.txt:2: .*example\.com/],
    ['{file: wrong.ipset}', /^2 sets\[0\]\.file: \.\/wrong\.ipset:3: 192\.0\.2\.1 is already in set w/],
    [
      '{file: bad.ipset, timeout: 5}',
      '2 sets[0].timeout: is said by the file, which is text of ipset save | Take it out, or change the create line.',
    ],
    ['{name: x, file: all.ipset}', '2 sets[0].file: has no set x | It has a, b.'],
    ['{name: x, file: list.txt}', '2 sets[0].type: is missing | Write for example type: hash:net'],
    ['{type: hash:ip}', '2 sets[0].name: is missing | Write for example name: bad'],
    [
      '{name: x, type: hash:net, file: list.txt, maxelem: 2}',
      /^2 sets\[0\]\.file: \.\/list\.txt:5: set x is full: it has 2 entries/,
    ],
    ['{name: x, type: hash:ip, entries: [192.0.2.1, 192.0.2.300]}', /^2 sets\[0\]\.entries\[1\]: /],
    [
      '{name: x, type: hash:ip, entries: ["192.0.2.1 timeout 5"]}',
      /^2 sets\[0\]\.entries\[0\]: set x was made without timeout/,
    ],
    [
      '{name: x, type: hash:ip, entries: ["192.0.2.1 colour red"]}',
      /^2 sets\[0\]\.entries\[0\]: option "colour red" is not understood/,
    ],
    [
      '{name: x, type: hash:ip, file: list.txt, entries: []}',
      '2 sets[0].entries: goes without file | Put the entries into the file, or make two sets.',
    ],
    [
      '{name: x, type: hash:ip, drop: dport}',
      '2 sets[0].drop: "dport" is not what a set is asked for | Write src or dst, or for address and port src,dst.',
    ],
    ['{name: x, type: hash:ip, timeout: }', '2 sets[0].timeout: has no value | Write one, or leave the key out.'],
    ['{name: x, type: hash:ip, drop: , entries: }', '2 sets[0].drop: has no value | Write one, or leave the key out.'],
    ['{name: x y, type: hash:ip}', /^2 sets\[0\]\.name: "x y" is not a name for a set/],
    [
      '{name: a, type: hash:ip}, {file: all.ipset}',
      '2 sets[1]: there is another set of the name a, on line 2 | Give each its own name.',
    ],
  ])('[%s] is refused', (text, wanted) => {
    const [first] = problems(`sets: [${text}]`);
    expect(first).toEqual(typeof wanted === 'string' ? wanted : expect.stringMatching(wanted));
  });

  it('must be there when a rule asks for them', () => {
    expect(problems('sets: [{name: bad, type: hash:ip}]\nrules: [{name: r, match: {set: bat}, action: drop}]')).toEqual(
      ['3 rules[0].match.set: there is no set bat | Did you mean bad?'],
    );
  });

  it('change with the bytes of their file, whatever its time', () => {
    const text = 'sets: [{name: x, type: hash:ip, file: change.txt}]';
    file('change.txt', '192.0.2.1\n');
    const [one, same] = [read(text), read(text)];
    expect(diffConfig(one, same)).toEqual({ restart: [], live: [] });
    file('change.txt', '192.0.2.2\n');
    const other = read(text);
    expect(diffConfig(one, other).live).toEqual(['sets[x]: changed']);
    expect(() => makeSets(one.sets, { seconds: () => 0 })).toThrow(
      /change\.txt was changed while set x was made of it/,
    );
    expect(contents(other)).toEqual({ x: ['192.0.2.2'] });
  });

  it('that drop where no rules run get a warning', () => {
    const { warnings } = read('filters: [sanity]\nsets: [{name: x, type: hash:ip, drop: src}]');
    expect(warnings.map(({ path, message }) => `${path} ${message}`)).toEqual([
      'sets drop nothing: the filters do not have "rules" among them',
    ]);
  });
});
