import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ConfigError, parseConfig } from '../../src/control/config/index.js';

/** Without its comments: mutations are to hit something. */
const VALID = readFileSync(new URL('../../examples/sluice.yaml', import.meta.url), 'utf8')
  .replace(/ *#.*/g, '')
  .replace(/\n+/g, '\n')
  .trimStart();
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000_007);

/** Mulberry32. */
function generator(state: number): (below: number) => number {
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** Pieces that YAML or the schema may take offence at. */
const PIECES = [
  ':',
  ' ',
  '\n',
  '\n\n',
  '- ',
  '[',
  ']',
  '{',
  '}',
  '"',
  "'",
  '#',
  '&a ',
  '*a',
  '*web',
  '!',
  '|',
  '>',
  '%',
  '@',
  '`',
  '\t',
  ',',
  '?',
  '~',
  'null',
  '-1',
  '70000',
  '1e999',
  '.nan',
  '.inf',
  '0x',
  'true',
  'off',
  '::1',
  '1.2.3.4/33',
  '__proto__: 1\n',
  'constructor: {}\n',
  '<<: *web\n',
  '---\n',
  '...\n',
  '\u0000',
  '\ud800',
  '\ufeff',
  '\u2028',
  'é',
  '\r',
  '  ',
  '1'.repeat(400),
  'any',
  '10.0.0.11',
  'name: web\n',
  '[[[[',
  '{{',
  '2001:db8::',
  '!!set ',
];

function mutate(text: string, random: (below: number) => number): string {
  const lines = text.split('\n');
  for (let edits = 1 + random(3); edits > 0; edits--) {
    const at = random(lines.length);
    const line = lines[at];
    const column = random(line.length + 1);
    switch (random(7)) {
      case 0: // cut a line
        lines.splice(at, 1);
        break;
      case 1: // copy a line somewhere
        lines.splice(random(lines.length), 0, line);
        break;
      case 2: // put a piece in
        lines[at] = line.slice(0, column) + PIECES[random(PIECES.length)] + line.slice(column);
        break;
      case 3: // cut some characters
        lines[at] = line.slice(0, column) + line.slice(column + 1 + random(6));
        break;
      case 4: // another indentation
        lines[at] = ' '.repeat(random(9)) + line.trimStart();
        break;
      case 5: // another value
        lines[at] = line.replace(/: .*/, () => `: ${PIECES[random(PIECES.length)]}`);
        break;
      default: // another character
        lines[at] =
          line.slice(0, column) + String.fromCharCode(random(random(4) === 0 ? 65536 : 128)) + line.slice(column + 1);
    }
  }
  return lines.join('\n');
}

describe('a valid file, changed at random', () => {
  it(`is either a configuration or a ConfigError that points into it: 2,000 times, seed ${seed}`, () => {
    const random = generator(seed);
    let accepted = 0;
    let refused = 0;
    const started = performance.now();
    for (let i = 0; i < 2000; i++) {
      const text = mutate(VALID, random);
      try {
        const config = parseConfig(text);
        accepted++;
        if (config.interfaces.length === 0) throw new Error(`seed ${seed}, round ${i}: no interface\n${text}`);
      } catch (error) {
        if (!(error instanceof ConfigError))
          throw new Error(`seed ${seed}, round ${i}: ${String(error)}\n${text}`, { cause: error });
        refused++;
        const lines = text.split('\n').length;
        const astray = error.problems.find((p) => p.line < 1 || p.line > lines + 1 || p.column < 1 || p.message === '');
        if (error.problems.length === 0 || astray)
          throw new Error(`seed ${seed}, round ${i}: astray\n${text}`, { cause: error });
      }
    }
    const seconds = (performance.now() - started) / 1000;
    console.log(`seed ${seed}: ${accepted} accepted, ${refused} refused, ${seconds.toFixed(1)} s`);
    // Both ways out were taken, or the mutations are no test.
    expect(accepted).toBeGreaterThan(50);
    expect(refused).toBeGreaterThan(500);
  }, 60_000);
});

describe('a very large file', () => {
  it('of 10,000 services with 4 backends each is read in seconds', () => {
    let text = 'interfaces: [eth0]\nservices:\n';
    for (let i = 0; i < 10_000; i++) {
      text += `  - name: s${i}\n    vip: 198.18.${i >> 8}.${i & 255}\n    port: [80, 443]\n    backends: [10.0.0.1, 10.0.0.2, 10.0.0.3, {address: 10.0.0.4, weight: 2}]\n`;
    }
    const started = performance.now();
    const config = parseConfig(text);
    const seconds = (performance.now() - started) / 1000;
    console.log(`${(text.length / 1e6).toFixed(1)} MB, 10,000 services, 40,000 backends: ${seconds.toFixed(1)} s`);
    expect(config.services).toHaveLength(10_000);
    expect(config.services[9999]).toMatchObject({ name: 's9999', ports: [{ first: 80 }, { first: 443 }] });
    // A fraction of it on an idle machine; the bound is to catch what grows with the square.
    expect(seconds).toBeLessThan(20);
  }, 60_000);

  it('of more services, or backends, than fit is refused in words', () => {
    const services = Array.from(
      { length: 16_385 },
      (_, i) => `- {name: s${i}, vip: 198.18.${i >> 8}.${i & 255}, port: 1}`,
    ).join('\n');
    expect(() => parseConfig(`interfaces: [eth0]\nservices:\n${services}`)).toThrow(
      'there are 16385 services, at most 16384 fit',
    );
    const backends = Array.from({ length: 65_536 }, (_, i) => `10.1.${i >> 8}.${i & 255}`).join(', ');
    const two = `- {name: a, vip: 198.18.0.1, port: 1, ring_size: 655373, backends: &all [${backends}]}\n- {name: b, vip: 198.18.0.2, port: 1, ring_size: 655373, backends: *all}\n- {name: c, vip: 198.18.0.3, port: 1, backends: [10.0.0.1]}`;
    let message = '';
    try {
      parseConfig(`interfaces: [eth0]\nservices:\n${two}`);
    } catch (error) {
      message = (error as ConfigError).message;
    }
    expect(message).toContain('there are 131073 backends, at most 131072 fit');
    expect(message).toContain('services[0].backends: there are 65536 backends, a service takes at most 65535');
  }, 60_000);
});
