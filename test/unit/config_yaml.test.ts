import { describe, expect, it } from 'vitest';
import { ConfigError, parseConfig } from '../../src/control/config/index.js';
import { readSource } from '../../src/control/config/source.js';
import { BELOW_QUADRATIC, growth } from '../support/growth.js';

function problems(text: string): string[] {
  try {
    parseConfig(text, 'f');
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as ConfigError).problems.map((p) => `${p.line}:${p.column} ${p.path}: ${p.message} | ${p.remedy}`);
  }
  throw new Error('the configuration was accepted');
}

describe('YAML that is not right', () => {
  it.each([
    ['interfaces: [eth0', '1:18 : is not YAML: '],
    ['interfaces: [eth0]\nlog: {level: "info}\n', 'is not YAML: missing closing "quote'],
    ['interfaces:\n\t- eth0\n', '2:1 : is indented with a tab | Indent with spaces.'],
    ['interfaces: [eth0]\nlog: level: info\n', '2:6 : has a second ": " on the line | Put the value in quotes'],
    [
      'interfaces: [eth0]\nhash_key: !mine x\n',
      '2:11 : starts with "!", which is a tag in YAML | Put the value in quotes if the "!" belongs to it.',
    ],
    ['interfaces: [eth0]\nhash_key: !!binary aGk=\n', 'which is a tag in YAML'],
    ['interfaces: [eth0]\nhash_key: `x`\n', '2:11 : a value cannot start with "`" | Put the value in quotes.'],
    ['interfaces: [eth0]\n---\nlog: {}\n', ': a second document starts here | Keep one document'],
    ['? [a]\n: b\n', 'a key must be a plain word'],
    ['%YAML 1.1\n---\ninterfaces: [eth0]\n', '1:1 : YAML 1.1 is not read'],
    ['interfaces: [eth0]\nlog: *nothing\n', '2:6 log: there is no anchor &nothing above'],
    ['interfaces: &a [*a]\n', '1:17 interfaces[0]: *a contains itself'],
  ])('%j', (text, expected) => {
    expect(
      problems(text).some((line) => line.includes(expected)),
      problems(text).join('\n'),
    ).toBe(true);
  });

  it('has a key twice: both lines are named, and the rest is checked all the same', () => {
    expect(problems('interfaces: [eth0]\nlog: {level: debug}\n\nlog: {level: nope}\nframes: {size: 1}\n')).toEqual([
      '4:1 log: is here twice, first on line 2 | Keep one of the two.',
      expect.stringContaining('5:16 frames.size'),
    ]);
    expect(problems('interfaces: [{name: a, "name": b}]')).toEqual([
      '1:24 interfaces[0].name: is here twice, first on line 1 | Keep one of the two.',
    ]);
  });

  it('is never read as something that YAML 1.1 would have made of it', () => {
    const config = parseConfig(
      'interfaces: [on, no]\nservices: [{name: y, vip: 198.51.100.1, port: 0o20}, {name: n, vip: 198.51.100.2, port: 0x1F90}]',
    );
    expect(config.interfaces.map((entry) => entry.name)).toEqual(['on', 'no']);
    expect(config.services.map((service) => service.ports[0].first)).toEqual([16, 8080]);
  });
});

describe('YAML that means harm', () => {
  const bomb = (levels: number): string => {
    let text = 'a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n';
    for (let i = 1; i < levels; i++)
      text += `a${i}: &a${i} [${Array(10)
        .fill(`*a${i - 1}`)
        .join(', ')}]\n`;
    return text;
  };

  it('of anchors that multiply is stopped', () => {
    const started = performance.now();
    expect(problems(`interfaces: [eth0]\n${bomb(12)}`).at(-1)).toContain('aliases add more than 1000000 values');
    expect(performance.now() - started).toBeLessThan(5000);
  });

  it('with some aliases is not', () => {
    const source = readSource(bomb(3));
    expect(source.problems).toEqual([]);
    expect((source.value as { a2: string[][][] }).a2.flat(2)).toHaveLength(1000);
  });

  it.each([
    ['brackets', '['.repeat(3_000_000)],
    ['braces', 'a: ' + '{a: '.repeat(1_000_000)],
    ['dashes', '- '.repeat(3_000_000)],
    ['question marks', '? '.repeat(1_000_000)],
    ['closed brackets', 'a: ' + '['.repeat(100) + ']'.repeat(100)],
    ['indentation', Array.from({ length: 200 }, (_, i) => `${' '.repeat(i)}a:`).join('\n')],
  ])('of nested %s is refused in no time', (_, text) => {
    const started = performance.now();
    expect(problems(text).some((line) => line.includes('nested too deeply'))).toBe(true);
    expect(performance.now() - started).toBeLessThan(3000);
  });

  it('of a map with very many keys takes no quadratic time', () => {
    const text = (keys: number): string => Array.from({ length: keys }, (_, i) => `k${i}: 1`).join('\n');
    const exponent = growth((keys) => void expect(problems(text(keys))).toHaveLength(200), 3_000, 24_000, 3);
    expect(exponent).toBeLessThan(BELOW_QUADRATIC);
  });
});

describe('an alias', () => {
  it('means the anchor that was last above it, and problems point to where it is used', () => {
    const source = readSource('a: &x {k: &y 1}\nb: &y 2\nc: *x\nd: *y\n');
    expect(source.problems).toEqual([]);
    expect(source.value).toEqual({ a: { k: 1 }, b: 2, c: { k: 1 }, d: 2 });
    expect(source.locate(['c'], 'value')).toEqual({ line: 3, column: 4 });
    expect(source.locate(['c', 'k'], 'key')).toEqual({ line: 1, column: 8 });
  });
});

describe('a place', () => {
  const source = readSource('a:\n  - b: 1\n    c: [x, y]\n  - \nd:\n');

  it('is that of the value, the key, or the nearest thing above what is not there', () => {
    expect(source.locate(['a', 0, 'c', 1], 'value')).toEqual({ line: 3, column: 12 });
    expect(source.locate(['a', 0, 'c'], 'key')).toEqual({ line: 3, column: 5 });
    expect(source.locate(['a', 0, 'c'], 'value')).toEqual({ line: 3, column: 8 });
    expect(source.locate(['a', 0, 'nope', 7], 'value')).toEqual({ line: 2, column: 5 });
    expect(source.locate(['d'], 'value')).toEqual({ line: 5, column: 1 });
    expect(source.locate(['zzz'], 'key')).toEqual({ line: 1, column: 1 });
  });
});
