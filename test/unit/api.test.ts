import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { callControl } from '../../src/control/api/client.js';
import type { ControlTarget, ReloadResult } from '../../src/control/api/contract.js';
import { resolveBackend } from '../../src/control/api/resolve.js';
import { ControlServer } from '../../src/control/api/server.js';
import type { ControlLimits } from '../../src/control/api/server.js';
import { buildStatus } from '../../src/control/api/status.js';
import { createLog } from '../../src/control/log.js';
import { SluiceError } from '../../src/errors.js';
import { fakeView } from '../support/fake_view.js';
import { FakeRuleDaemon } from '../support/fake_rules.js';

let directory: string;
let socketPath: string;
let logged: string;
let servers: ControlServer[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-api-'));
  socketPath = join(directory, 'run', 'control.sock');
  logged = '';
  servers = [];
});

afterEach(async () => {
  await Promise.all(servers.map((server) => server.close()));
  rmSync(directory, { recursive: true, force: true });
});

const reloaded: ReloadResult = { applied: true, generation: 4, changes: ['service web: added'], problems: [] };

function fakeTarget(change: Partial<ControlTarget> = {}): ControlTarget {
  const view = fakeView();
  return {
    version: () => ({ version: '0.1.0', protocol: 1, node: process.version, pid: process.pid }),
    status: () => buildStatus(view),
    reload: () => Promise.resolve(reloaded),
    setBackend(service, backend, wanted) {
      const found = resolveBackend(view.services, service, backend);
      const before = { weight: found.backend.weight, state: found.backend.state };
      return Promise.resolve({ service, backend, before, after: { ...before, ...wanted }, generation: 5 });
    },
    rules: new FakeRuleDaemon().control,
    ...change,
  };
}

async function listen(
  options: ControlLimits & { target?: ControlTarget; socketPath?: string } = {},
): Promise<ControlServer> {
  const stream = new Writable({ write: (chunk, _, done) => ((logged += String(chunk)), done()) });
  const log = createLog({ level: 'info', format: 'json', stream });
  const server = await ControlServer.listen(
    options.socketPath ?? socketPath,
    options.target ?? fakeTarget(),
    log,
    options,
  );
  servers.push(server);
  return server;
}

/** Sends raw bytes and collects what comes back until the other side ends, or until `lines` lines came. */
function raw(bytes: string | Buffer, lines = Infinity): Promise<string[]> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(socketPath, () => socket.write(bytes));
    const done = (): void => {
      socket.destroy();
      resolve(text.split('\n').filter((line) => line !== ''));
    };
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (text.split('\n').length > lines) done();
    });
    socket.on('end', done);
    socket.on('error', done);
  });
}

async function errorOf(promise: Promise<unknown>): Promise<SluiceError> {
  try {
    await promise;
  } catch (error) {
    expect(error).toBeInstanceOf(SluiceError);
    return error as SluiceError;
  }
  throw new Error('it did not fail');
}

describe('a request', () => {
  beforeEach(() => listen().then());

  it('gets its answer, under its id', async () => {
    const [line] = await raw('{"id":"x-7","method":"version"}\n', 1);
    expect(JSON.parse(line)).toEqual({
      id: 'x-7',
      result: { version: '0.1.0', protocol: 1, node: process.version, pid: process.pid },
    });
  });

  it('is carried out by the target, and each change is audited', async () => {
    expect(await callControl(socketPath, 'reload', {})).toEqual(reloaded);
    const change = await callControl(socketPath, 'backend.set', {
      service: 'web',
      backend: '10.1.0.1',
      weight: 0,
      state: 'draining',
      reason: 'disk',
    });
    expect(change).toMatchObject({
      before: { weight: 3, state: 'active' },
      after: { weight: 0, state: 'draining' },
      generation: 5,
    });
    const audits = logged
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(audits).toHaveLength(2);
    expect(audits[0]).toMatchObject({ level: 'info', audit: true, msg: 'control: reload', applied: true });
    expect(audits[1]).toMatchObject({ audit: true, service: 'web', backend: '10.1.0.1', reason: 'disk' });
    expect(audits[1]).toMatchObject({ after: { state: 'draining' } });
  });

  it('is answered whole and logged in brief when it is large', async () => {
    const changes = Array.from({ length: 20_000 }, (_, i) => `services[s${i}]: added`);
    const target = fakeTarget({ reload: () => Promise.resolve({ ...reloaded, changes }) });
    const path = join(directory, 'large.sock');
    await listen({ target, socketPath: path });
    expect((await callControl(path, 'reload', {})).changes).toHaveLength(20_000);
    expect(logged.length).toBeLessThan(5000);
    expect(logged).toContain('services[s0]: added');
    expect(logged).toContain('and 19950 more');
  });

  it('may come in pieces, with others in one write, and after an empty line; answers keep their order', async () => {
    const socket = connect(socketPath);
    const lines: string[] = [];
    socket.on('data', (chunk: Buffer) => lines.push(...chunk.toString().trim().split('\n')));
    socket.write('{"id":1,"met');
    await new Promise((resolve) => setTimeout(resolve, 20));
    socket.write(
      'hod":"version"}\n\n{"id":2,"method":"nope"}\r\n{"id":3,"method":"version","params":{}}\n{"id":4,"method":"version"',
    );
    socket.end('}\n');
    await new Promise((resolve) => socket.on('close', resolve));
    expect(lines.map((line) => (JSON.parse(line) as { id: number }).id)).toEqual([1, 2, 3, 4]);
  });

  it.each<[string, string, string, RegExp]>([
    ['no JSON', '{"id":1,', 'SLUICE_FORMAT', /not JSON/],
    ['an array', '[1]', 'SLUICE_FORMAT', /not a JSON object/],
    ['null', 'null', 'SLUICE_FORMAT', /not a JSON object/],
    ['no method', '{"id":1}', 'SLUICE_USAGE', /names no method/],
    ['a misspelt method', '{"id":1,"method":"stauts"}', 'SLUICE_USAGE', /Did you mean "status"/],
    ['a method of Object', '{"id":1,"method":"constructor"}', 'SLUICE_USAGE', /methods are: version, status/],
    ['__proto__', '{"id":1,"method":"__proto__"}', 'SLUICE_USAGE', /no method/],
    ['params that are none', '{"method":"status","params":[]}', 'SLUICE_FORMAT', /params is not/],
    ['an unknown parameter', '{"method":"reload","params":{"force":1}}', 'SLUICE_USAGE', /no parameter "force"/],
    ['no service', '{"method":"backend.set","params":{"backend":"x","weight":1}}', 'SLUICE_USAGE', /"service" must be/],
    [
      'nothing to set',
      '{"method":"backend.set","params":{"service":"web","backend":"10.1.0.1"}}',
      'SLUICE_USAGE',
      /nothing/,
    ],
    [
      'a weight of -1',
      '{"method":"backend.set","params":{"service":"web","backend":"10.1.0.1","weight":-1}}',
      'SLUICE_USAGE',
      /integer from 0 to 65535, not -1/,
    ],
    [
      'a state that is none',
      '{"method":"backend.set","params":{"service":"web","backend":"10.1.0.1","state":"drain"}}',
      'SLUICE_USAGE',
      /active, draining, inactive, not "drain"/,
    ],
    [
      'a misspelt service',
      '{"method":"backend.set","params":{"service":"wbe","backend":"10.1.0.1","weight":1}}',
      'SLUICE_USAGE',
      /no service "wbe".*Did you mean "web"/,
    ],
    [
      'a misspelt backend',
      '{"method":"backend.set","params":{"service":"web","backend":"10.1.0.11","weight":1}}',
      'SLUICE_USAGE',
      /no backend "10.1.0.11".*Did you mean "10.1.0.1"/,
    ],
  ])('with %s is refused by name and the connection lives on', async (_, line, code, text) => {
    const [first, second] = await raw(`${line}\n{"id":9,"method":"version"}\n`, 2);
    const { error } = JSON.parse(first) as { error: { code: string; message: string; remedy: string } };
    expect(error.code).toBe(code);
    expect(`${error.message} ${error.remedy}`).toMatch(text);
    expect(JSON.parse(second)).toHaveProperty('result.version');
  });

  it('longer than a megabyte is refused, and the daemon goes on', async () => {
    const lines = await raw(Buffer.alloc((1 << 20) + 10, 'x'));
    expect(JSON.parse(lines[0])).toMatchObject({ error: { message: 'a request is longer than 1048576 bytes' } });
    await expect(callControl(socketPath, 'version', {})).resolves.toHaveProperty('pid');
  });

  it('of garbage bytes never brings the daemon down', async () => {
    let seed = 7;
    const random = (): number => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) >>> 24;
    for (let round = 0; round < 50; round++) {
      const bytes = Buffer.from(Array.from({ length: 200 }, random));
      const [line] = await raw(Buffer.concat([bytes.map((byte) => (byte === 10 ? 11 : byte)), Buffer.from('\n')]), 1);
      expect(JSON.parse(line)).toHaveProperty('error.code', 'SLUICE_FORMAT');
    }
    await expect(callControl(socketPath, 'version', {})).resolves.toHaveProperty('pid');
  });
});

describe('a failure in the daemon', () => {
  it('is told without its stack, and logged with it', async () => {
    await listen({
      target: fakeTarget({ status: () => ({}) as never, reload: () => Promise.reject(new Error('boom /src/x.ts')) }),
    });
    const error = await errorOf(callControl(socketPath, 'reload', {}));
    expect(error.code).toBe('SLUICE_STATE');
    expect(JSON.stringify({ ...error, message: error.message })).not.toMatch(/boom|\.ts/);
    expect(logged).toMatch(/boom.*api\.test\.ts/);
  });

  it('of the kernel keeps its sentence and gets a code with the right exit', async () => {
    const busy = Object.assign(new Error('bind: EBUSY'), {
      code: 'EBUSY',
      errno: 16,
      syscall: 'bind',
      remedy: 'Wait.',
    });
    await listen({ target: fakeTarget({ reload: () => Promise.reject(busy) }) });
    expect(await errorOf(callControl(socketPath, 'reload', {}))).toMatchObject({
      code: 'SLUICE_DEVICE',
      message: 'bind: EBUSY',
      remedy: 'Wait.',
    });
  });
});

describe('connections', () => {
  it('above the limit are told so', async () => {
    await listen({ maxConnections: 2 });
    const held: Socket[] = [connect(socketPath), connect(socketPath)];
    await Promise.all(held.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
    const error = await errorOf(callControl(socketPath, 'version', {}));
    expect(error.message).toBe('the control socket serves 2 connections already');
    held.forEach((socket) => socket.destroy());
    await expect.poll(() => callControl(socketPath, 'version', {}).catch(() => null)).toHaveProperty('pid');
  });

  it('that stay idle are closed; one whose request is under way is not', async () => {
    const slow = (): Promise<ReloadResult> => new Promise((resolve) => setTimeout(() => resolve(reloaded), 800));
    await listen({ idleTimeoutMs: 400, target: fakeTarget({ reload: slow }) });
    const idle = connect(socketPath);
    const closed = new Promise((resolve) => idle.on('close', resolve));
    idle.resume();
    await closed;
    expect(await callControl(socketPath, 'reload', {})).toEqual(reloaded);
  });

  it('whose client does not read are closed after the idle time, with one answer buffered at most', async () => {
    let calls = 0;
    const big = { ...buildStatus(fakeView()), configPath: 'x'.repeat(4 << 20) };
    await listen({ idleTimeoutMs: 200, target: fakeTarget({ status: () => (calls++, big) }) });
    const socket = connect(socketPath);
    socket.on('error', () => undefined);
    socket.pause();
    socket.write('{"method":"status"}\n'.repeat(20));
    await new Promise((resolve) => setTimeout(resolve, 700));
    socket.resume();
    await new Promise((resolve) => socket.on('close', resolve));
    expect(calls).toBe(1);
  });
});

describe('the client', () => {
  it('says when there is no socket, when nobody listens, and when no answer comes', async () => {
    const absent = await errorOf(callControl(join(directory, 'none.sock'), 'version', {}));
    expect(absent.code).toBe('SLUICE_CONTROL');
    expect(absent.message).toContain('there is no control socket');
    expect(absent.remedy).toContain('Is sluice running?');

    const stale = join(directory, 'stale.sock');
    abandonSocket(stale);
    expect((await errorOf(callControl(stale, 'version', {}))).message).toContain('nobody listens');

    const mute = createServer(() => undefined);
    const muteSocket = join(directory, 'mute.sock');
    await new Promise<void>((resolve) => mute.listen(muteSocket, resolve));
    expect((await errorOf(callControl(muteSocket, 'version', {}, 100))).message).toContain('within 100 ms');
    mute.close();
  });

  it('says when it is cut off, and when the answer is no answer', async () => {
    let answer = '';
    const odd = createServer((socket) => socket.end(answer));
    const path = join(directory, 'odd.sock');
    await new Promise<void>((resolve) => odd.listen(path, resolve));
    expect((await errorOf(callControl(path, 'version', {}))).message).toContain('ended without an answer');
    answer = 'hello\n';
    expect((await errorOf(callControl(path, 'version', {}))).message).toContain('not JSON');
    odd.close();
  });

  it.skipIf(process.getuid?.() !== 0)(
    'says when the socket is somebody else’s (needs root to become nobody)',
    async () => {
      await listen();
      chmodSync(directory, 0o755);
      chmodSync(join(directory, 'run'), 0o755);
      const result = spawnSync(
        process.execPath,
        ['-e', `require('net').connect(${JSON.stringify(socketPath)}).on('error', (e) => console.log(e.code))`],
        { uid: 65534, gid: 65534, encoding: 'utf8', cwd: '/' },
      );
      expect(result.stdout.trim()).toBe('EACCES');
    },
  );
});

/** A socket file whose process is dead. */
function abandonSocket(path: string): void {
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', script]);
  expect(lstatSync(path).isSocket()).toBe(true);
}

describe('the place of the socket', () => {
  it('is a directory 0700 with a socket 0600, whatever the umask, and the umask is put back', async () => {
    const umask = process.umask(0o000);
    try {
      await listen();
      expect(process.umask()).toBe(0o000);
    } finally {
      process.umask(umask);
    }
    expect(statSync(join(directory, 'run')).mode & 0o7777).toBe(0o700);
    expect(statSync(socketPath).mode & 0o7777).toBe(0o600);
  });

  it('is left without a socket by close(), which may be called twice', async () => {
    const server = await listen();
    await server.close();
    await server.close();
    expect(existsSync(socketPath)).toBe(false);
    await listen();
  });

  it('is refused when others may write to it, when it is a link, and when it is somebody else’s', async () => {
    mkdirSync(join(directory, 'run'), { mode: 0o700 });
    chmodSync(join(directory, 'run'), 0o770);
    const open = await errorOf(listen());
    expect(open.code).toBe('SLUICE_PERMISSION');
    expect(open.message).toMatch(/others may write .* \(mode 770\)/);

    symlinkSync(join(directory, 'run'), join(directory, 'link'));
    expect((await errorOf(listen({ socketPath: join(directory, 'link', 's') }))).message).toContain('not a directory');
    expect((await errorOf(listen({ socketPath: '/proc/self/nope/s' }))).code).toBe('SLUICE_STATE');
  });

  it.skipIf(process.getuid?.() !== 0)('is refused when another user owns it (needs root for chown)', async () => {
    mkdirSync(join(directory, 'run'), { mode: 0o755 });
    spawnSync('chown', ['65534', join(directory, 'run')]);
    expect((await errorOf(listen())).message).toMatch(/belongs to user 65534/);
  });

  it('is refused when the path is too long for the kernel', async () => {
    const error = await errorOf(listen({ socketPath: join(directory, 'x'.repeat(120)) }));
    expect(error.code).toBe('SLUICE_CONFIG');
    expect(error.remedy).toContain('at most 107 bytes');
  });

  it('is taken over from a daemon that died', async () => {
    mkdirSync(join(directory, 'run'), { mode: 0o700 });
    abandonSocket(socketPath);
    await listen();
    await expect(callControl(socketPath, 'version', {})).resolves.toHaveProperty('pid');
  });

  it('is never taken from a living daemon, nor from a file that is no socket', async () => {
    const first = await listen();
    const second = await errorOf(listen());
    expect(second.code).toBe('SLUICE_STATE');
    expect(second.message).toContain('another sluice runs');
    await expect(callControl(socketPath, 'version', {})).resolves.toHaveProperty('pid');
    await first.close();

    // One that holds no lock, as if the lock file had been removed under it.
    const bare = createServer((socket) => socket.end());
    await new Promise<void>((resolve) => bare.listen(socketPath, resolve));
    expect((await errorOf(listen())).message).toContain('another sluice runs');
    await new Promise((resolve) => bare.close(resolve));

    writeFileSync(socketPath, 'precious');
    expect((await errorOf(listen())).message).toContain('is not a socket');
    expect(existsSync(socketPath)).toBe(true);
  });

  it('is locked until the process dies, even by SIGKILL', async () => {
    mkdirSync(join(directory, 'run'), { mode: 0o700 });
    const holder = spawn('flock', ['--no-fork', `${socketPath}.lock`, 'sleep', '20']);
    await expect
      .poll(() =>
        errorOf(listen()).then(
          (error) => error.message,
          () => '',
        ),
      )
      .toContain('another sluice runs');
    holder.kill('SIGKILL');
    await expect
      .poll(() =>
        listen().then(
          () => 'listening',
          (error: Error) => error.message,
        ),
      )
      .toBe('listening');
  });
});
