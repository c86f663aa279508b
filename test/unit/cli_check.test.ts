import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkCommand } from '../../src/cli/commands/check.js';
import type { Config, ConfigProblem } from '../../src/shared/config.js';
import { FakeEnv, runCommand } from '../support/fake_env.js';

let directory: string;
let env: FakeEnv;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-check-'));
  env = new FakeEnv();
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function check(text: string, ...args: string[]): ReturnType<typeof runCommand> {
  const file = join(directory, 'sluice.yaml');
  writeFileSync(file, text);
  return runCommand(checkCommand(env), [file, ...args]);
}

const example = readFileSync(new URL('../../examples/minimal.yaml', import.meta.url), 'utf8');

describe('sluice check', () => {
  it('says what a right file means', async () => {
    expect(await check(example)).toEqual({ code: 0, error: null });
    expect(env.out.split('\n')[0]).toBe(`${join(directory, 'sluice.yaml')}: ok`);
    for (const name of ['interface', 'frames', 'services', 'filters', 'rules', 'metrics', 'control']) {
      expect(env.out).toMatch(new RegExp(`^  ${name} `, 'm'));
    }
    for (const line of env.out.split('\n').slice(1)) expect(line.length).toBeLessThanOrEqual(100);
  });

  it('counts rules by what they do, and those that only count', async () => {
    const rules = [
      '{name: a, match: udp, action: drop}',
      '{name: b, match: tcp, action: drop, mode: shadow}',
      '{name: c, match: {}, action: pass}',
    ];
    await check(`interfaces: [eth0]\nrules:\n${rules.map((rule) => `  - ${rule}\n`).join('')}`);
    expect(env.out).toMatch(/^ {2}rules +3: 2 drop, 1 pass, 1 of them in shadow mode$/m);
  });

  it('names every problem with file, line and path on stderr, and exits 78', async () => {
    const { code, error } = await check(`${example}\nbogus: 1\ncontrol: 5\n`);
    expect(code).toBe(78);
    expect(error?.message).toMatch(/sluice\.yaml has 2 problems$/);
    const lines = example.split('\n').length;
    expect(env.err).toMatch(new RegExp(`sluice\\.yaml:${lines + 1}:\\d+: bogus`));
    expect(env.err).toMatch(new RegExp(`sluice\\.yaml:${lines + 2}:\\d+: control`));
    expect(env.out).toBe('');
  });

  it('prints the whole as JSON in both cases', async () => {
    expect((await check(example, '--json')).code).toBe(0);
    const good = JSON.parse(env.out) as { ok: boolean; config: Config; problems: ConfigProblem[] };
    expect([good.ok, good.problems.length]).toEqual([true, 0]);
    expect(good.config.interfaces.length).toBeGreaterThan(0);
    env.out = '';
    expect((await check('bogus: 1\n', '--json')).code).toBe(78);
    const bad = JSON.parse(env.out) as { ok: boolean; config: null; problems: ConfigProblem[] };
    expect([bad.ok, bad.config]).toEqual([false, null]);
    expect(bad.problems.some(({ line, path }) => line === 1 && path === 'bogus')).toBe(true);
    expect(env.err).toBe('');
  });

  it('says when there is no such file, and when none is given', async () => {
    const { code } = await runCommand(checkCommand(env), [join(directory, 'absent.yaml')]);
    expect(code).toBe(78);
    expect(env.err).toContain('there is no such file');
    expect((await runCommand(checkCommand(env), [])).code).toBe(2);
  });
});
