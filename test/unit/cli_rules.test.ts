import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { rulesCommand } from '../../src/cli/commands/rules.js';
import { callControl } from '../../src/control/api/client.js';
import type { ControlTarget, RuleListing } from '../../src/control/api/contract.js';
import { ControlServer } from '../../src/control/api/server.js';
import { buildStatus } from '../../src/control/api/status.js';
import { parseConfig } from '../../src/control/config/index.js';
import { FakeEnv, runInWords } from '../support/fake_env.js';
import { FakeRuleDaemon } from '../support/fake_rules.js';
import { fakeView } from '../support/fake_view.js';

const RULES = `
  - {name: a, match: {src: 192.0.2.0/24}, action: pass}
  - {name: b, match: udp src port 123, action: drop, mode: shadow}
  - {name: c, match: {protocol: tcp, dport: [80, 443]}, action: count, probability: 10%}`;

let directory: string;
let socketPath: string;
let daemon: FakeRuleDaemon;
let server: ControlServer;
let env: FakeEnv;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-rules-'));
  socketPath = join(directory, 'run', 'control.sock');
  daemon = new FakeRuleDaemon(RULES);
  const target: ControlTarget = {
    version: () => ({ version: '0.1.0', protocol: 1, node: process.version, pid: process.pid }),
    status: () => buildStatus(fakeView()),
    reload: () => Promise.reject(new Error('not here')),
    setBackend: () => Promise.reject(new Error('not here')),
    rules: daemon.control,
  };
  server = await ControlServer.listen(socketPath, target, daemon.log);
  env = new FakeEnv({ SLUICE_SOCKET: socketPath }, false, 200);
});

afterEach(async () => {
  daemon.control.close();
  await server.close();
  rmSync(directory, { recursive: true, force: true });
});

const run = (...args: string[]) => runInWords(env, rulesCommand(env), args);

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

/** The lines of the log that tell of changes. */
function audited(): { msg: string; rules: string[] }[] {
  const lines = daemon.logged.split('\n').filter((line) => line !== '');
  return lines
    .map((line) => JSON.parse(line) as { msg: string; rules: string[]; audit?: boolean })
    .filter(({ audit }) => audit);
}

describe('sluice rules list', () => {
  it('shows order, counters, rates, mode, what is left of the time, and what is matched', async () => {
    await run('add', 'x', '--expr', 'icmp', '--action', 'drop', '--ttl', '10m', '--first');
    daemon.counters.set('b', [1000, 64_000, 900, 57_600]);
    env.onSleep = () => {
      daemon.clockMs += 500;
      daemon.counters.set('b', [1250, 80_000, 1150, 73_600]);
    };
    const { out } = await run('list');
    const [title, ...lines] = out
      .trimEnd()
      .split('\n')
      .map((line) => line.split(/ {2,}/).map((cell) => cell.trim()));
    expect(title).toEqual([
      '#',
      'RULE',
      'ACTION',
      'MODE',
      'PACKETS',
      'A SECOND',
      'BYTES',
      'ACTED',
      'LEFT',
      'RUNS IN',
      'FROM',
      'MATCH',
    ]);
    expect(lines).toEqual([
      ['1', 'x', 'drop', 'enforce', '0', '0', '0 B', '0', '10m00s', 'user space', 'runtime', 'icmp'],
      ['2', 'a', 'pass', 'enforce', '0', '0', '0 B', '0', 'user space', 'config', 'src 192.0.2.0/24'],
      ['3', 'b', 'drop', 'shadow', '1,250', '500', '80.0 kB', '1,150', 'user space', 'config', 'udp src port 123'],
      ['4', 'c', 'count 10%', 'enforce', '0', '0', '0 B', '0', 'user space', 'config', 'protocol tcp, dport 80,443'],
    ]);
  });

  it('prints names and conditions whole but on a narrow terminal', async () => {
    const [name, match] = [
      'ntp-amplification-of-last-week',
      `udp src port 123 and (${'dst port 80 or '.repeat(9)}less 99)`,
    ];
    daemon.reload(`\n  - { name: ${name}, match: '${match}', action: drop }`);
    env.width = 80;
    const { out } = await run('list', '--no-rates');
    expect(out).toContain(` ${name} `);
    expect(out).toContain(` ${match}\n`);
    env = new FakeEnv({ SLUICE_SOCKET: socketPath }, true, 120);
    const { out: onTerminal } = await run('list', '--no-rates');
    expect(onTerminal).toContain(` ${name} `);
    expect(onTerminal).toContain('…\n');
  });

  it('shows conditions that have parts', async () => {
    daemon.reload(`
  - { name: one, match: { set: { name: bad, key: src } }, action: drop }
  - { name: two, match: { set: [bad, { name: other, key: dst }], dport: [53, 5353] }, action: drop }
  - { name: three, match: { dns: { names: a.b, response: true } }, action: drop }
sets: [{ name: bad, type: 'hash:ip' }, { name: other, type: 'hash:ip' }]`);
    const { out } = await run('list', '--no-rates');
    expect(out).toMatch(/ dns a\.b response\n/);
    expect(out).toMatch(/ set bad src\n/);
    expect(out).toMatch(/ dport 53,5353, set bad src,other dst\n/);
  });

  it('prints readings until it is enough, and names what is not in force', async () => {
    await run('remove', 'a', 'c');
    const { out } = await run('list', '--watch', '--count', '2');
    expect(out.match(/^#/gm)).toHaveLength(2);
    expect(out).toMatch(/removed, though the configuration has them: a, c\n/);
    const listing = JSON.parse((await run('list', '--json')).out) as RuleListing;
    expect(listing).toMatchObject({
      rules: [{ name: 'b', packets: 0, mode: 'shadow' }],
      absent: [{ name: 'a' }, { name: 'c' }],
    });
    await run('remove', 'b');
    expect((await run('list', '--no-rates')).out).toMatch(/^no rules\n/);
  });
});

describe('sluice rules add', () => {
  it('takes what DNS messages must be', async () => {
    const added = [
      await run('add', 'any', '--dns', 'a.b', '*.c', '--qtype', 'ANY', '--dns-response', '--action', 'drop'),
      await run('add', 'types', '--qtype', 'TXT', '64', '--action', 'drop'),
      await run('add', 'bad', '--dns-malformed', '--action', 'drop'),
      await run('add', 'names', '--dns', 'x\\032y.b', '--action', 'drop'),
    ];
    expect(added.map(({ code }) => code)).toEqual([0, 0, 0, 0]);
    const exported = parse((await run('export', '--added')).out) as { rules: { match: object }[] };
    expect(exported.rules.map(({ match }) => match)).toEqual([
      { dns: { names: ['a.b', '*.c'], qtype: ['ANY'], response: true } },
      { dns: { qtype: ['TXT', '64'] } },
      { dns: { malformed: true } },
      { dns: 'x\\032y.b' },
    ]);
    const both = await run('add', 'no', '--dns', 'a.b', '--dns-malformed', '--action', 'drop');
    expect([both.code, both.error]).toEqual([78, expect.stringMatching(/goes without malformed/)]);
  });

  it('takes the parts of a rule as options, and puts it in its place', async () => {
    const added = await run(
      ...[
        'add',
        'x',
        '--src',
        '10.0.0.0/8,192.0.2.1',
        '--protocol',
        'udp',
        '--dport',
        '53,1000-2000',
        '--length',
        '512-65535',
      ],
      ...[
        '--ip-ttl',
        '0-5',
        '--no-fragment',
        '--action',
        'drop',
        '--shadow',
        '--probability',
        '0.25',
        '--ttl',
        '90',
        '--before',
        'b',
      ],
    );
    expect(added).toEqual({ code: 0, error: '', out: 'x: added, 2 of 4\ngeneration 2, 4 rules in force\n' });
    expect(daemon.names).toEqual(['a', 'x', 'b', 'c']);
    const { rules } = await callControl(socketPath, 'rules.list', {});
    expect(rules[1]).toMatchObject({
      origin: 'runtime',
      ttlLeftMs: 90_000,
      rule: {
        name: 'x',
        match: {
          src: ['10.0.0.0/8', '192.0.2.1'],
          protocol: 'udp',
          dport: [53, '1000-2000'],
          length: '512-65535',
          ttl: '0-5',
          fragment: false,
        },
        action: 'drop',
        mode: 'shadow',
        probability: 0.25,
        ttl: '90s',
      },
    });
    expect(audited()).toMatchObject([
      { msg: 'control: rules added', rules: ['x'], place: { before: 'b' }, generation: 2 },
    ]);
  });

  it('takes the rules of a file, all or none', async () => {
    const good = file('good.yaml', '- {name: x, match: udp, action: drop}\n- {name: y, match: {}, action: count}\n');
    expect((await run('add', '-f', good, '--first')).code).toBe(0);
    expect(daemon.names).toEqual(['x', 'y', 'a', 'b', 'c']);
    const before = daemon.published.length;
    const bad = await run(
      'add',
      '-f',
      file(
        'bad.yaml',
        'rules:\n  - {name: p, match: {}, action: drop}\n  - {name: q, match: "udp prot 1", action: drop}\n',
      ),
    );
    expect([bad.code, bad.error]).toEqual([
      78,
      expect.stringMatching(/bad\.yaml:3:\d+: rules\[1\]\.match: .*syntax error/),
    ]);
    const taken = await run(
      'add',
      '-f',
      file('taken.yaml', '- {name: p, match: {}, action: drop}\n- {name: a, match: {}, action: drop}\n'),
    );
    expect([taken.code, taken.error]).toEqual([2, expect.stringContaining('there is a rule "a" already')]);
    expect(daemon.published).toHaveLength(before);
    expect(
      (await run('add', '-f', file('taken.yaml', '- {name: a, match: icmp, action: drop}'), '--replace')).code,
    ).toBe(0);
    expect(daemon.names).toEqual(['x', 'y', 'a', 'b', 'c']);
  });

  it.each([
    [
      ['add', 'x', '--action', 'drop'],
      2,
      'nothing says which packets match | Give --expr, --src, …; or --all for every packet.',
    ],
    [['add', '--all', '--action', 'drop'], 2, 'the rule has no name'],
    [['add', 'x', '--all'], 2, 'the rule has no action'],
    [['add', 'x', '--all', '--action', 'dorp'], 78, '"dorp" is not one of'],
    [['add', 'x', '--all', '--action', 'drop', '--first', '--last'], 2, 'cannot be used with'],
    [['add', 'x', '--expr', 'host example.com', '--action', 'drop'], 78, 'match.expr'],
    [['add', 'x', '--src', '1.2.3', '--action', 'drop'], 78, '"1.2.3" is not an IP address'],
    [['add', 'x', '--all', '--action', 'drop', '--ttl', '10x'], 78, '"10x" is not a time'],
    [['add', 'x', '--all', '--action', 'drop', '--before', 'zz'], 2, 'there is no rule "zz"'],
    [['add', 'a', '--all', '--action', 'drop'], 2, 'there is a rule "a" already'],
    [['add', 'x', '-f', 'rules.yaml'], 2, 'a file has all of its rules in it'],
    [['add', '-f', '/nonexistent.yaml'], 1, 'cannot read /nonexistent.yaml: ENOENT'],
  ])('refuses %j', async (args, code, words) => {
    const result = await run(...args);
    expect([result.code, result.error]).toEqual([code, expect.stringContaining(words)]);
    expect(daemon.names).toEqual(['a', 'b', 'c']);
    expect(daemon.published).toHaveLength(1);
  });
});

describe('changes of rules', () => {
  it('move, shadow, enforce, remove, reset, one after the other', async () => {
    expect((await run('move', 'c', '--first')).out).toBe('c: moved, 1 of 3\ngeneration 2, 3 rules in force\n');
    expect((await run('enforce', 'b')).out).toContain('b: enforced, 3 of 3');
    expect((await run('shadow', 'a', 'c')).code).toBe(0);
    expect(daemon.published.at(-1)).toMatchObject([
      { name: 'c', mode: 'shadow' },
      { name: 'a', mode: 'shadow' },
      { name: 'b' },
    ]);
    expect(daemon.published.at(-1)![2].mode).toBeUndefined();
    expect((await run('remove', 'a')).out).toBe('a: removed\ngeneration 5, 2 rules in force\n');
    daemon.reload(RULES);
    expect(daemon.names).toEqual(['c', 'b']);
    expect((await run('reset', 'c')).code).toBe(0);
    expect(daemon.names).toEqual(['b', 'c']);
    expect((await run('reset')).code).toBe(0);
    expect(daemon.published.at(-1)).toEqual(daemon.published[0]);
    expect(audited().map(({ msg, rules }) => [msg.slice(9), ...rules])).toEqual([
      ['rule moved', 'c'],
      ['rules set', 'b'],
      ['rules set', 'a', 'c'],
      ['rules removed', 'a'],
      ['rules reset', 'c'],
      ['rules reset', 'a', 'b'],
    ]);
  });

  it.each([
    [['move', 'a'], 'where to?'],
    [['move', 'z', '--first'], 'there is no rule "z"'],
    [['move', 'a', '--after', 'a'], 'cannot be put next to itself'],
    [['remove', 'a', 'zzz'], 'there is no rule "zzz"'],
    [['shadow', 'zzz'], 'there is no rule "zzz"'],
    [['reset', 'zzz'], 'there is no rule "zzz"'],
  ])('are refused with exit code 2: %j', async (args, words) => {
    const result = await run(...args);
    expect([result.code, result.error]).toEqual([2, expect.stringContaining(words)]);
    expect(daemon.names).toEqual(['a', 'b', 'c']);
  });

  it('at the same time go one after the other, and of two adds of one name one wins', async () => {
    const add = (name: string) =>
      callControl(socketPath, 'rules.add', { rules: [{ name, match: {}, action: 'count' }] });
    const results = await Promise.allSettled([add('x'), add('y'), add('x'), add('z')]);
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'fulfilled', 'fulfilled', 'rejected']);
    expect([...daemon.names].sort()).toEqual(['a', 'b', 'c', 'x', 'y', 'z']);
    // Each publication has one rule more than the one before.
    expect(daemon.published.map((rules) => rules.length)).toEqual([3, 4, 5, 6]);
  });

  it('that the workers refuse leave the rules as they were', async () => {
    daemon.refusal = new Error('worker 0 refuses it');
    const result = await run('remove', 'a');
    expect(result.code).toBe(1);
    expect(daemon.published.at(-1)).toEqual(daemon.published[0]);
    expect((await run('remove', 'b')).code).toBe(0);
    expect(daemon.names).toEqual(['a', 'c']);
  });

  it('are refused in words when a request is not what it should be', async () => {
    const ask = (method: string, params: object): Promise<unknown> =>
      callControl(socketPath, method as 'rules.add', params as never);
    await expect(ask('rules.add', { rules: 5 })).rejects.toThrow(/is 5, not a list/);
    await expect(ask('rules.add', {})).rejects.toThrow(/there are no rules in it/);
    await expect(ask('rules.add', { rules: [], replace: 1 })).rejects.toThrow('"replace" must be true or false');
    await expect(ask('rules.add', { rules: [], place: { befor: 'a' } })).rejects.toThrow(
      'there is no parameter "befor"',
    );
    await expect(ask('rules.move', { rule: 'a', place: { before: 'b', after: 'c' } })).rejects.toThrow('place must be');
    await expect(ask('rules.mode', { rules: ['a'], mode: 'off' })).rejects.toThrow('mode must be one of');
    await expect(ask('rules.remove', { rules: [] })).rejects.toThrow('must be a list of names');
    await expect(ask('rules.remove', { rules: ['a', 5] })).rejects.toThrow('must be a list of names');
    expect(daemon.published).toHaveLength(1);
  });
});

describe('sluice rules export', () => {
  it('prints what is in force for the configuration, which then takes the added rules over', async () => {
    await run('add', 'x', '--expr', 'icmp', '--action', 'drop', '--first');
    await run('enforce', 'b');
    await run('remove', 'c');
    const yaml = (await run('export')).out;
    expect(yaml).toBe(
      'rules:\n  - name: x\n    match: {expr: icmp}\n    action: drop\n' +
        '  - name: a\n    match: {src: 192.0.2.0/24}\n    action: pass\n' +
        '  - name: b\n    match: {expr: udp src port 123}\n    action: drop\n',
    );
    const inForce = daemon.published.at(-1);
    expect(parseConfig(`interfaces: [eth0]\n${yaml}`).rules).toEqual(inForce);
    daemon.reload(JSON.stringify(JSON.parse((await run('export', '--json')).out)));
    expect(daemon.published.at(-1)).toEqual(inForce);
    const { rules, absent } = await callControl(socketPath, 'rules.list', {});
    expect(rules.map(({ origin, changed }) => [origin, changed])).toEqual(Array(3).fill(['config', '']));
    expect(absent).toEqual([]);
    expect((await run('export', '--added')).out).toBe('rules: []\n');
  });
});

describe('a rule with a time to live', () => {
  it('is gone when it is over, and that is logged and counted', async () => {
    await run('add', 'x', '--expr', 'icmp', '--action', 'drop', '--ttl', '1');
    daemon.counters.set('x', [7, 700, 7, 700]);
    daemon.clockMs = 1000;
    await expect.poll(() => daemon.names).toEqual(['a', 'b', 'c']);
    expect(daemon.control.list()).toMatchObject({ expired: 1, absent: [] });
    expect(daemon.logged).toMatch(
      /"msg":"rule’s time is over"|"rule":"x","action":"drop","ttl":1,"packets":7,"acted":7/,
    );
  });
});

describe('sluice rules import', () => {
  const saved =
    '*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p udp -m udp --sport 19 -j DROP\n-A INPUT -i eth1 -j DROP\nCOMMIT\n';

  it('prints a configuration, tells what was lost with its line, and fails for it unless told not to', async () => {
    const path = file('saved', saved);
    const result = await run('import', 'iptables', path, '-i', 'eth7');
    expect([result.code, result.error]).toEqual([
      1,
      '1 thing could not be imported | The notes say which; --partial takes the rest.',
    ]);
    expect(parseConfig(result.out)).toMatchObject({
      interfaces: [{ name: 'eth7' }],
      rules: [{ name: 'input-1', action: 'drop' }],
    });
    expect(env.err).toBe(
      `${path}:4: lost: not understood: -i eth1: -A INPUT -i eth1 -j DROP\n1 rule; 1 lost, 0 changed\n`,
    );
    const partial = await run('import', 'iptables', path, '--partial', '--rules-only');
    expect([partial.code, partial.out]).toEqual([
      0,
      'rules:\n  - name: input-1\n    match: {family: 4, protocol: udp, sport: 19}\n    action: drop\n',
    ]);
    expect((await run('add', '-f', file('rules.yaml', partial.out))).code).toBe(0);
    expect(daemon.names).toEqual(['a', 'b', 'c', 'input-1']);
    expect(JSON.parse((await run('import', 'iptables', path, '--json', '--partial')).out)).toMatchObject({
      lost: 1,
      changed: 0,
      notes: [{ line: 4 }],
    });
  });

  it('refuses what it does not know', async () => {
    expect((await run('import', 'nftables', 'x')).code).toBe(2);
    expect(await run('import', 'iptables', '/nonexistent')).toMatchObject({
      code: 1,
      error: 'cannot read /nonexistent: ENOENT',
    });
  });
});
