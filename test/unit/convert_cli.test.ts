import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { convertCommand } from '../../src/cli/commands/convert.js';
import { parseConfig } from '../../src/control/config/index.js';
import type { ConvertNote } from '../../src/control/convert/index.js';
import { FakeEnv, runCommand } from '../support/fake_env.js';

let directory: string;
let env: FakeEnv;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-convert-'));
  env = new FakeEnv();
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function convert(text: string, ...args: string[]): ReturnType<typeof runCommand> {
  const file = join(directory, 'table');
  writeFileSync(file, text);
  return runCommand(convertCommand(env), [file, ...args]);
}

const CLEAN = 'katranc -A -t 198.51.100.10:80\nkatranc -a -t 198.51.100.10:80 -r 10.0.0.11\n';
const LOSSY =
  '-A -t 198.51.100.10:80 -s wlc\n-a -t 198.51.100.10:80 -r 10.0.0.11:80 -m\n-a -t 198.51.100.10:80 -r 10.0.0.12:80 -m\n';

describe('sluice convert', () => {
  it('prints a configuration on stdout, and nothing else there', async () => {
    expect(await convert(CLEAN, '--interface', 'ens1f0')).toEqual({ code: 0, error: null });
    const { interfaces, services, warnings } = parseConfig(env.out);
    expect([interfaces[0].name, services.length, warnings]).toEqual(['ens1f0', 1, []]);
    expect(env.err).toBe('katran: 1 service with 1 backend; 0 lost, 0 changed\n');
  });

  it('prints notes of the same words once, with their lines and what to do', async () => {
    expect((await convert(LOSSY)).code).toBe(0);
    expect(env.err).toMatch(/table:2: lost: masquerading \(-m\).* \(lines 2, 3\)\n {2}Put the VIP/);
    expect(env.err).toMatch(/\nipvs: 1 service with 2 backends; 2 lost, 1 changed\n$/);
    expect(parseConfig(env.out).services).toHaveLength(1);
  });

  it('fails with --strict when something was lost, after printing all the same', async () => {
    expect(await convert(CLEAN, '--strict')).toEqual({ code: 0, error: null });
    env.out = '';
    const { code, error } = await convert(LOSSY, '--strict');
    expect([code, error?.message]).toEqual([1, '2 things could not be converted']);
    expect(parseConfig(env.out).services).toHaveLength(1);
    expect((await convert('-A -t 198.51.100.10:80 -s wlc\n', '--strict')).code).toBe(0);
  });

  it('prints all of it as JSON', async () => {
    expect((await convert(LOSSY, '--json')).code).toBe(0);
    expect(env.err).toBe('');
    const result = JSON.parse(env.out) as {
      from: string;
      yaml: string;
      lost: number;
      changed: number;
      notes: ConvertNote[];
    };
    expect([result.from, result.lost, result.changed, result.notes.length]).toEqual(['ipvs', 2, 1, 3]);
    expect(result.notes[1]).toEqual({
      file: join(directory, 'table'),
      line: 2,
      kind: 'lost',
      message: expect.stringContaining('masquerading'),
      remedy: expect.stringContaining('backend-agent'),
    });
    expect(parseConfig(result.yaml).services).toHaveLength(1);
  });

  it('reads what it is told to read it as', async () => {
    expect((await convert(CLEAN, '--from', 'ipvs')).code).toBe(1);
    expect((await convert(CLEAN, '--from', 'auto')).code).toBe(0);
    expect((await convert(CLEAN, '--from', 'haproxy')).code).toBe(2);
    expect((await convert(CLEAN, '--interface', 'a/b')).code).toBe(2);
  });

  it.each([
    ['', 'there is nothing in it', 'has no services'],
    ['IP Virtual Server version 1.2.1 (size=4096)\nTCP  198.51.100.10:80 rr\n', 'ipvsadm -L', 'ipvsadm -S -n'],
    ['virtual_server 198.51.100.10 80 {\n  lb_algo rr\n}\n', 'configuration of keepalived', 'ipvsadm -S -n'],
  ])('says what to give instead of %j', async (text, what, remedy) => {
    const { code, error } = await convert(text);
    expect(code).toBe(2);
    expect(error?.message).toContain(what);
    expect(error).toHaveProperty('remedy', expect.stringContaining(remedy));
  });

  it('says when it cannot tell whose it is, and when there is nothing to read', async () => {
    const { code, error } = await convert('hello\n');
    expect([code, error?.message]).toEqual([2, 'cannot tell whose configuration this is']);
    const absent = await runCommand(convertCommand(env), [join(directory, 'absent')]);
    expect(absent.code).toBe(1);
    expect(absent.error?.message).toContain('ENOENT');
  });

  it('lets nothing from the input steer the terminal', async () => {
    await convert(`${LOSSY}\u001b[2Jecho\n`);
    expect(env.err).toContain('is not a line of ipvsadm -S');
    expect(env.err).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/);
  });
});
