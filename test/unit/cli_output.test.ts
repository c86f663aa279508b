import { describe, expect, it } from 'vitest';
import {
  bytes,
  count,
  cut,
  duration,
  paint,
  plain,
  plural,
  table,
  wantsColour,
  tableWidth,
} from '../../src/cli/output.js';
import { controlSocket, processEnv, sleepUnless } from '../../src/cli/env.js';
import { FakeEnv } from '../support/fake_env.js';

describe('numbers', () => {
  it.each<[number, string]>([
    [0, '0'],
    [999, '999'],
    [1234567, '1,234,567'],
    [9_999_999, '9,999,999'],
    [12_345_678, '12.35M'],
    [2 ** 53, '9.007P'],
    [NaN, '-'],
  ])('%d packets are shown as %s', (value, text) => expect(count(value)).toBe(text));

  it('take six characters at most where room is short', () => {
    const shown = [99_999, 100_000, 123_456, 1e6, 2 ** 53].map((value) => count(value, 1e5));
    expect(shown).toEqual(['99,999', '100.0k', '123.5k', '1.000M', '9.007P']);
  });

  it.each<[number, string]>([
    [0, '0 B'],
    [999, '999 B'],
    [1500, '1.50 kB'],
    [999_499, '999 kB'],
    [999_600, '1.00 MB'],
    [1.5e12, '1.50 TB'],
    [2 ** 60, '1153 PB'],
  ])('%d bytes are shown as %s', (value, text) => expect(bytes(value)).toBe(text));

  it.each<[number, string]>([
    [-1, '0s'],
    [59.9, '59s'],
    [723, '12m03s'],
    [11_040, '3h04m'],
    [1_047_600, '12d03h'],
  ])('%d seconds are shown as %s', (value, text) => expect(duration(value)).toBe(text));

  it('take a plural', () => {
    expect([plural(0, 'rule'), plural(1, 'rule'), plural(1200, 'rule')]).toEqual(['0 rules', '1 rule', '1,200 rules']);
  });
});

describe('a table', () => {
  const columns = [
    { title: 'NAME', shrinkTo: 6 },
    { title: 'N', align: 'right' as const },
  ];

  it('lines columns up and leaves no blanks at the end of a line', () => {
    expect(
      table(
        columns,
        [
          ['web', '5'],
          ['database', '1,200'],
        ],
        80,
        paint(false),
      ),
    ).toEqual(['NAME          N', 'web           5', 'database  1,200']);
  });

  it('cuts what may be cut to fit, and no more', () => {
    const lines = table(columns, [['a-very-long-name-of-a-service', '1,200']], 20, paint(false));
    expect(lines[1]).toBe('a-very-long-…  1,200');
    expect(table(columns, [['a-very-long-name', '1,200']], 5, paint(false))[1]).toBe('a-ver…  1,200');
  });

  it('cuts names last', () => {
    const named = [
      { title: 'RULE', shrinkTo: 3, last: true },
      { title: 'MATCH', shrinkTo: 6 },
    ];
    const rows = [['ntp-amplification', 'src 10.0.0.0/8']];
    expect(table(named, rows, 28, paint(false))[1]).toBe('ntp-amplification  src 10.0…');
    expect(table(named, rows, 25, paint(false))[1]).toBe('ntp-amplification  src 1…');
    expect(table(named, rows, 20, paint(false))[1]).toBe('ntp-amplifi…  src 1…');
  });

  it('is as wide as the terminal, and without one as it needs', () => {
    expect(tableWidth(new FakeEnv({}, true, 70))).toBe(70);
    expect(tableWidth(new FakeEnv({}, false, 70))).toBe(Infinity);
  });

  it('colours cells without moving them, and never puts an escape of the data’s own on the screen', () => {
    const ink = paint(true);
    const [, row] = table([{ title: 'S', colour: () => ink.red }, { title: 'T' }], [['a\u001b[2J', 'b']], 80, ink);
    expect(row).toBe('\u001b[31ma\ufffd[2J\u001b[0m  b');
  });
});

describe('colour', () => {
  it('is for terminals that want it', () => {
    expect(wantsColour(new FakeEnv({}, true))).toBe(true);
    expect(wantsColour(new FakeEnv({}, false))).toBe(false);
    expect(wantsColour(new FakeEnv({ NO_COLOR: '1' }, true))).toBe(false);
    expect(wantsColour(new FakeEnv({ TERM: 'dumb' }, true))).toBe(false);
    expect(paint(false).red('x')).toBe('x');
  });
});

describe('texts', () => {
  it('are cut with a mark, and cleaned of control characters', () => {
    expect([cut('abcdef', 6), cut('abcdef', 4), cut('ab', 1)]).toEqual(['abcdef', 'abc…', 'a']);
    expect(plain('a\nb\u009bc\u2028d')).toBe('a\ufffdb\ufffdc\ufffdd');
  });
});

describe('the environment', () => {
  it('finds the control socket by option, variable and default, in this order', () => {
    expect(controlSocket(new FakeEnv({ SLUICE_SOCKET: '/v' }), '/o')).toBe('/o');
    expect(controlSocket(new FakeEnv({ SLUICE_SOCKET: '/v' }), undefined)).toBe('/v');
    expect(controlSocket(new FakeEnv(), undefined)).toBe('/run/sluice/control.sock');
  });

  it('sleeps until the time is up or the command is to end', async () => {
    const controller = new AbortController();
    const env = processEnv(controller.signal);
    const start = env.nowMs();
    setTimeout(() => controller.abort(), 20);
    await env.sleep(10_000);
    await sleepUnless(controller.signal, 10_000);
    expect(env.nowMs() - start).toBeLessThan(2000);
  });
});
