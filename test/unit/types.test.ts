/** The library's declarations, as somebody else's project sees them. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { installConsumer, type Consumer } from '../types/consumer_program.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const IS_ANY = 'type IsAny<T> = 0 extends 1 & T ? true : false;\n';

describe('the library, for a consumer with strict, isolatedModules and no skipLibCheck', { timeout: 90_000 }, () => {
  const entry = join(root, 'src/index.ts');
  let consumer: Consumer;

  beforeAll(() => {
    expect(existsSync(entry), 'src/index.ts is the library').toBe(true);
    consumer = installConsumer(root, entry);
  }, 90_000);
  afterAll(() => consumer?.dispose());

  it('has declarations without errors, and no export of type any', () => {
    expect(consumer.values.length).toBeGreaterThan(0);
    const checks = consumer.values.map((name, i) => `export const check${i}: IsAny<typeof sluice.${name}> = false;\n`);
    expect(consumer.compile(`import * as sluice from 'sluice';\n${IS_ANY}${checks.join('')}`)).toEqual([]);
  });

  it('opens a port with its documented options, and gives something with a type', () => {
    expect(consumer.exports).toContain('openPort');
    const source = `import * as sluice from 'sluice';\n${IS_ANY}
      type Options = Parameters<typeof sluice.openPort>[0];
      export const open = (options: Options) => sluice.openPort(options);
      export const typed: IsAny<ReturnType<typeof sluice.openPort>> = false;
      export const optionsTyped: IsAny<Options> = false;
    `;
    expect(consumer.compile(source)).toEqual([]);
  });

  it('gives verdicts that a consumer can write', () => {
    expect(consumer.values).toContain('Verdict');
    expect(
      consumer.compile(
        "import { Verdict } from 'sluice';\nexport const verdicts: number[] = [Verdict.Drop, Verdict.Tx, Verdict.Pass];\n",
      ),
    ).toEqual([]);
  });
});

describe('the consumer program itself', { timeout: 90_000 }, () => {
  let directory: string;
  let consumer: Consumer;

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-types-sample-'));
    const source =
      'export const enum Bad { x = 1 }\nexport enum Good { x = 1 }\nexport interface Shape { a: number }\nexport const loose: any = 1;\n';
    writeFileSync(join(directory, 'index.ts'), source);
    writeFileSync(join(directory, 'package.json'), '{"type":"module"}');
    consumer = installConsumer(root, join(directory, 'index.ts'));
  }, 90_000);
  afterAll(() => {
    consumer?.dispose();
    rmSync(directory, { recursive: true, force: true });
  });

  it('sees exports, and which of them are values', () => {
    expect(consumer.exports).toEqual(['Bad', 'Good', 'Shape', 'loose']);
    expect(consumer.values).toEqual(['Bad', 'Good', 'loose']);
  });

  it('accepts what is right and refuses a const enum, a wrong type and an any', () => {
    expect(
      consumer.compile("import { Good, type Shape } from 'sluice';\nexport const s: Shape = { a: Good.x };\n"),
    ).toEqual([]);
    expect(consumer.compile("import { Bad } from 'sluice';\nexport const b: number = Bad.x;\n").join()).toContain(
      'TS2748',
    );
    expect(
      consumer.compile("import type { Shape } from 'sluice';\nexport const s: Shape = { a: '1' };\n").join(),
    ).toContain('TS2322');
    expect(
      consumer
        .compile(`import * as s from 'sluice';\n${IS_ANY}export const c: IsAny<typeof s.loose> = false;\n`)
        .join(),
    ).toContain('TS2322');
  });
});
