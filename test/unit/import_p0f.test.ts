/** `sluice rules import p0f`. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { rulesCommand } from '../../src/cli/commands/rules.js';
import { parseConfig } from '../../src/control/config/index.js';
import { rulesFromText } from '../../src/control/config/read_rules.js';
import { FakeEnv, runCommand } from '../support/fake_env.js';

const FILE = `; a file in the syntax of p0f.fp
classes = win,unix,other
[mtu]
label = Ethernet or modem
sig   = 1500
[tcp:request]
label = s:unix:Linux:3.11 and newer
sys   = Linux,@unix
sig   = *:64:0:*:mss*20,10:mss,sok,ts,nop,ws:df,id+:0
sig   = *:64:0:*:mss*20,7:mss,sok,ts,nop,ws:df,id+:0
label = g:unix:Linux:2.2.x-3.x
sig   = *:64:0:*:*,*:mss,sok,ts,nop,ws:df,id+:0
label = s:!:NMap:SYN scan (1.x)
sig   = *:64-:0:1460:1024,0:mss::0
`;

const directory = mkdtempSync(join(tmpdir(), 'sluice-p0f-'));
afterAll(() => rmSync(directory, { recursive: true }));

async function run(text: string, ...args: string[]) {
  const file = join(directory, 'p0f.fp');
  writeFileSync(file, text);
  const env = new FakeEnv();
  const { code, error } = await runCommand(rulesCommand(env), ['import', 'p0f', file, ...args]);
  return { code, out: env.out, err: env.err, error: error?.message ?? '' };
}

describe('sluice rules import p0f', () => {
  it('makes a rule of each signature of a SYN, named by its label', async () => {
    const { code, out, err } = await run(FILE);
    expect([code, err]).toEqual([0, '4 rules; 0 lost, 0 changed; not of SYNs: 1 of mtu\n']);
    expect(parseConfig(out).rules).toMatchObject([
      { name: 'p0f-linux-3.11-and-newer', action: 'count', match: { program: { kind: 'p0f' } } },
      { name: 'p0f-linux-3.11-and-newer-2' },
      { name: 'p0f-linux-2.2.x-3.x', match: { program: { text: '*:64:0:*:*,*:mss,sok,ts,nop,ws:df,id+:0' } } },
      { name: 'p0f-nmap-syn-scan-1.x' },
    ]);
  });

  it.each([
    [['s:unix:Linux:*'], ['p0f-linux-3.11-and-newer', 'p0f-linux-3.11-and-newer-2']],
    [['*linux*'], ['p0f-linux-3.11-and-newer', 'p0f-linux-3.11-and-newer-2', 'p0f-linux-2.2.x-3.x']],
    [
      ['s:!:*', '*:2.2.x-3.x'],
      ['p0f-linux-2.2.x-3.x', 'p0f-nmap-syn-scan-1.x'],
    ],
    [['*(1.x)'], ['p0f-nmap-syn-scan-1.x']],
  ])('takes those with the labels %j', async (labels, names) => {
    const { code, out } = await run(FILE, '--rules-only', '--action', 'drop', '--label', ...labels);
    expect(code).toBe(0);
    const { rules } = rulesFromText(out, 'x.yaml');
    expect(rules.map(({ name }) => name)).toEqual(names);
    expect(rules.every(({ action }) => action === 'drop')).toBe(true);
  });

  it('says what was not understood, with its line', async () => {
    const wrong = FILE.replace('mss*20,7:mss', 'mss*20,7:mss,nope');
    const { code, err, out } = await run(wrong);
    expect(code).toBe(1);
    expect(err).toMatch(/p0f\.fp:10: lost: p0f signature: olayout is "nope"\n {2}Write /);
    expect(parseConfig(out).rules).toHaveLength(3);
    expect((await run(wrong, '--partial')).code).toBe(0);
    const json = JSON.parse((await run(wrong, '--json', '--partial')).out) as Record<string, unknown>;
    expect(json).toMatchObject({ lost: 1, changed: 0, others: { mtu: 1 }, rules: { length: 3 } });
  });

  it.each([
    [[FILE, '--label', 's:win:*'], /no signature has a label "s:win:\*"/],
    [[FILE, '--hook', 'input'], /--hook does not go with p0f/],
    [['[mtu]\nlabel = x\nsig = 1500\n'], /there is no signature of a SYN in /],
    [[FILE, '--action', 'limit'], /--action/],
  ])('is refused in words', async ([text, ...args], words) => {
    const { code, error, err } = await run(text, ...args);
    expect(code).not.toBe(0);
    expect(error + err).toMatch(words);
  });
});
