/** `sluice set` over a control socket. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { setCommand } from '../../src/cli/commands/set.js';
import { callControl } from '../../src/control/api/client.js';
import type { ControlTarget, SetListing } from '../../src/control/api/contract.js';
import { ControlServer } from '../../src/control/api/server.js';
import { buildStatus } from '../../src/control/api/status.js';
import { parseConfig } from '../../src/control/config/index.js';
import { FakeEnv, runInWords } from '../support/fake_env.js';
import { FakeRuleDaemon } from '../support/fake_rules.js';
import { FakeSetDaemon } from '../support/fake_sets.js';
import { fakeView } from '../support/fake_view.js';

const SETS = `interfaces: [{ name: eth0, redirect: all }]
sets:
  - {name: bad, type: hash:net, timeout: 0, comment: true, drop: src, entries: [203.0.113.0/24]}
  - {name: ports, type: 'hash:ip,port', family: inet, counters: true}`;

let directory: string;
let socketPath: string;
let daemon: FakeSetDaemon;
let rules: FakeRuleDaemon;
let server: ControlServer;
let env: FakeEnv;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-set-'));
  socketPath = join(directory, 'run', 'control.sock');
  daemon = new FakeSetDaemon(parseConfig(SETS));
  rules = new FakeRuleDaemon();
  const target: ControlTarget = {
    version: () => ({ version: '0.1.0', protocol: 1, node: process.version, pid: process.pid }),
    status: () => buildStatus(fakeView()),
    reload: () => Promise.reject(new Error('not here')),
    setBackend: () => Promise.reject(new Error('not here')),
    rules: rules.control,
    sets: daemon.control,
  };
  server = await ControlServer.listen(socketPath, target, daemon.log);
  env = new FakeEnv({ SLUICE_SOCKET: socketPath }, false, 200);
});

afterEach(async () => {
  process.exitCode = 0;
  daemon.control.close();
  rules.control.close();
  await server.close();
  rmSync(directory, { recursive: true, force: true });
});

const run = (...args: string[]) => runInWords(env, setCommand(env), args);

async function out(...args: string[]): Promise<string> {
  const { code, error, out } = await run(...args);
  expect([code, error]).toEqual([0, '']);
  return out;
}

function audited(): Record<string, unknown>[] {
  const lines = daemon.logged.split('\n').filter((line) => line !== '');
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>).filter(({ audit }) => audit);
}

describe('sluice set', () => {
  it('lists the sets, and the entries of one as ipset takes them', async () => {
    await out('add', 'ports', '192.0.2.1,tcp:80-81', '192.0.2.2,icmp:8/0');
    await out('add', 'bad', '192.0.2.0/25', '--nomatch', '--timeout', '10m', '--comment', 'a friend');
    const [title, bad, ports] = (await out('list'))
      .trimEnd()
      .split('\n')
      .map((line) => line.replace(/ +/g, ' '));
    expect(title).toBe('SET TYPE FAMILY ENTRIES MEMORY TIMEOUT MATCHES DROPS FROM');
    expect(bad).toMatch(/^bad hash:net both 2 \S+ \S+ none 0 src config \(changed\)$/);
    expect(ports).toMatch(/^ports hash:ip,port inet 3 \S+ \S+ 0 config \(changed\)$/);
    expect((await out('list', 'bad')).trimEnd().split('\n').sort()).toEqual([
      '192.0.2.0/25 timeout 600 nomatch comment "a friend"',
      '203.0.113.0/24 timeout 0',
    ]);
    const listing = JSON.parse(await out('list', '--json')) as SetListing;
    expect(listing.sets[1]).toMatchObject({ name: 'ports', entries: 3, counters: true, origin: 'config', drop: null });
    expect(JSON.parse(await out('list', 'ports', '--json'))).toMatchObject({
      set: 'ports',
      entries: expect.arrayContaining([
        expect.objectContaining({ text: '192.0.2.2,icmp:8/0', counters: { packets: 0, bytes: 0 } }),
      ]) as unknown,
    });
  });

  it('adds and deletes, and says what is wrong', async () => {
    expect(await out('add', 'bad', '10.0.0.0/8', '2001:db8::/32')).toBe('bad: 2 lines added, 3 entries now\n');
    expect(await out('add', 'bad', '10.0.0.0/8')).toBe('bad: 1 line added, 3 entries now\n');
    expect(await out('del', 'bad', '10.0.0.0/8')).toBe('bad: 1 line deleted, 2 entries now\n');
    expect((await run('del', 'bad', '10.0.0.0/8')).error).toBe('10.0.0.0/8 is not in set bad');
    expect(await out('del', 'bad', '10.0.0.0/8', '--exist')).toBe('bad: 1 line deleted, 2 entries now\n');
    expect((await run('add', 'bad', 'example.com')).error).toMatch(/example\.com/);
    expect((await run('add', 'bat', '10.0.0.1')).error).toBe('there is no set "bat" | Sets: bad, ports.');
    expect((await run('add', 'bad', '10.0.0.1', '--timeout', 'soon')).code).toBe(2);
    expect(audited().map(({ msg, number }) => [msg, number])).toEqual([
      ['control: set entries added', 2],
      ['control: set entries added', 1],
      ['control: set entries deleted', 1],
      ['control: set entries deleted', 1],
    ]);
  });

  it('takes lines of stdin as they come, in one line of the audit log', async () => {
    let seen = -1;
    env.stdin = Readable.from(
      (async function* () {
        yield '# a feed\n192.0.2.1 timeout 60\n192.0.2.2\n192.0';
        // What has a whole line is in force before the rest is there.
        await expect.poll(() => daemon.control.entries('bad').length).toBe(3);
        seen = daemon.control.entries('bad').length;
        yield '.2.3 ; the last\n';
        yield Array.from({ length: 12_000 }, (_, i) => `10.0.${i >> 8}.${i & 255}`).join('\n');
      })(),
    );
    expect(await out('add', 'bad', '-')).toBe('bad: 12,003 lines added, 12,004 entries now\n');
    expect(seen).toBe(3);
    expect(audited()).toMatchObject([{ msg: 'control: set entries added', set: 'bad', number: 12_003 }]);
    env.stdin = Readable.from(['192.0.2.1\nwrong\n192.0.2.3\n']);
    expect((await run('del', 'bad', '-')).error).toMatch(/^entry 2 of 3: .*"wrong"/);
    expect(daemon.control.test('bad', '192.0.2.1').matches).toBe(false);
  });

  it('tests: exit code 0 or 1, and which entry decides', async () => {
    expect(await out('test', 'bad', '203.0.113.9')).toBe('203.0.113.9 is in set bad: 203.0.113.0/24 timeout 0\n');
    expect(process.exitCode).not.toBe(1);
    expect(await out('test', 'bad', '192.0.2.9', '--json')).toBe(
      `${JSON.stringify({ set: 'bad', matches: false, entry: null }, null, 2)}\n`,
    );
    expect(process.exitCode).toBe(1);
  });

  it('saves what it restores, in parts when it is long, and swaps', async () => {
    const lines = Array.from({ length: 20_000 }, (_, i) => `add big 10.${i >> 16}.${(i >> 8) & 255}.${i & 255}/32`);
    const file = join(directory, 'big.ipset');
    writeFileSync(
      file,
      `create big hash:net family inet maxelem 100000\n${lines.join('\n')}\ncreate odd bitmap:ip range 10.0.0.0/24\n`,
    );
    expect(await out('restore', file)).toBe('big: restored, 20,000 lines added, generation 2\n');
    expect(env.err).toBe(`${file}:20002: type bitmap:ip is not understood: set odd is left out, with this line\n`);
    const saved = await out('save', 'big');
    expect(saved.split('\n').length).toBe(20_002);
    env.stdin = Readable.from([saved.replaceAll(' big ', ' again ')]);
    expect(await out('restore', '-')).toBe('again: restored, 20,000 lines added, generation 3\n');
    await out('flush', 'again');
    expect(await out('swap', 'big', 'again')).toBe('big and again: swapped, generation 4\n');
    expect([daemon.finds('big', '10.0.0.1'), daemon.finds('again', '10.0.0.1')]).toEqual([false, true]);
    expect((await run('swap', 'big', 'ports')).error).toMatch(/^sets big and ports cannot be swapped/);
    writeFileSync(file, 'create z hash:ip\nadd z 10.0.0.300\n');
    expect((await run('restore', file)).error).toMatch(new RegExp(`^${file}:2: `));
    expect(audited().map(({ msg }) => msg)).toEqual([
      'control: sets restored',
      'control: sets restored',
      'control: set flushed',
      'control: sets swapped',
    ]);
  });

  it.each([
    ['sets.add', { set: 'bad', entries: [1] }, 'parameter "entries" must be a list of entries'],
    ['sets.add', { set: 'bad', entries: [], timeout: -1 }, 'parameter "timeout" must be a whole number of seconds'],
    ['sets.add', { set: 'bad', entries: [], colour: 1 }, 'there is no parameter "colour"'],
    ['sets.del', { set: 'bad', entries: ['x'], exist: 'y' }, 'parameter "exist" must be true or false'],
    ['sets.restore', { text: 5 }, 'parameter "text" must be a string'],
    ['sets.restore', { text: '', upload: 'x' }, 'there is no upload of that name'],
    ['sets.test', { set: 'bad' }, 'parameter "entry" must be a non-empty string'],
  ] as const)('%s refuses %j', async (method, params, message) => {
    await expect(callControl(socketPath, method, params as never)).rejects.toThrow(message);
  });
});
