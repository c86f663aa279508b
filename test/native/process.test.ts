/** Memory, clock, identity, and what the environment's data does not leak. */
import { expect, test } from 'vitest';
import { native } from '../../src/native.js';
import { child } from './rig.js';

test('allocate gives zeroed memory of the size asked for', () => {
  for (const huge of [false, true]) {
    const buffer = native().allocate(100_001, huge);
    expect(buffer.byteLength).toBe(100_001);
    const bytes = new Uint8Array(buffer);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
    bytes.fill(0xff);
  }
});

test.each([0, -1, 1.5, NaN, 2 ** 40, '1'])('allocate(%s) throws', (bytes) => {
  expect(() => native().allocate(bytes as number, false)).toThrow(/bytes must be/);
});

test('allocated memory is freed when the buffer is collected', () => {
  const out = child(
    `(async () => {
      const rss = () => process.memoryUsage().rss / 2 ** 20;
      const start = rss();
      for (let i = 0; i < 40; i++) {
        new Uint8Array(addon.allocate(32 * 2 ** 20, false)).fill(1);
        global.gc(); await new Promise((r) => setTimeout(r, 2));
      }
      for (let i = 0; i < 5; i++) { global.gc(); await new Promise((r) => setTimeout(r, 5)); }
      console.log(Math.round(rss() - start));
    })();`,
    ['--expose-gc'],
  );
  expect(Number(out)).toBeLessThan(200); // 1280 MiB were touched
});

test('nowMs is a monotonic int32', () => {
  const first = native().nowMs();
  const hr = Number(process.hrtime.bigint() / 1_000_000n) | 0;
  expect(first | 0).toBe(first);
  const last = native().nowMs();
  // hrtime is the same clock, which was read between.
  expect((hr - first) | 0).toBeGreaterThanOrEqual(0);
  expect((last - hr) | 0).toBeGreaterThanOrEqual(0);
  expect((last - first) | 0).toBeLessThan(5000);
});

test('threadCpuNs32 is the low half of the CPU time of the thread', () => {
  const { threadCpuNs, threadCpuNs32 } = native();
  for (let i = 0; i < 100; i++) {
    const half = threadCpuNs32();
    const whole = threadCpuNs();
    expect(half | 0).toBe(half);
    const between = (whole - half) | 0;
    expect(between).toBeGreaterThanOrEqual(0);
    expect(between).toBeLessThan(1e9);
  }
});

test('dropPrivileges leaves no capability in any thread, for good', () => {
  const out = child(`
    const fs = require('node:fs');
    const { Worker } = require('node:worker_threads');
    const worker = new Worker('setInterval(() => {}, 1000)', { eval: true });
    worker.once('online', () => {
      addon.dropPrivileges(65534, 65534);
      // After a change of user the process is no longer "dumpable": its own /proc files belong to root, but stay readable.
      const of = (name) => new Set(fs.readdirSync('/proc/self/task').map((task) =>
        new RegExp(name + ':\\\\s+(\\\\S+)').exec(fs.readFileSync('/proc/self/task/' + task + '/status', 'utf8'))[1]));
      let back = 'impossible';
      try { process.setuid(0); back = 'possible'; } catch {}
      console.log(JSON.stringify({ uid: process.getuid(), gid: process.getgid(), groups: process.getgroups(),
        caps: [...of('CapEff')], permitted: [...of('CapPrm')], uids: [...of('Uid')],
        own: /NoNewPrivs:\\s+(\\d)/.exec(fs.readFileSync('/proc/thread-self/status', 'utf8'))[1], back }));
      process.exit(0);
    });`);
  expect(JSON.parse(out)).toEqual({
    uid: 65534,
    gid: 65534,
    groups: [65534],
    caps: ['0000000000000000'],
    permitted: ['0000000000000000'],
    uids: ['65534'],
    own: '1',
    back: 'impossible',
  });
});

test('dropPrivileges and enterNetns refuse wrong arguments and name what failed', () => {
  expect(() => native().dropPrivileges(-1, 0)).toThrow(/uid must be a whole number/);
  expect(() => native().dropPrivileges(1, 2 ** 32 - 1)).toThrow(/gid must be/);
  expect(() => native().enterNetns('/run/netns/nosuch')).toThrow(/open \/run\/netns\/nosuch: ENOENT/);
  expect(() => native().enterNetns('/dev/null')).toThrow(/setns \/dev\/null: EINVAL/);
  expect(() => native().enterNetns('a\0b')).toThrow(/must not contain NUL/);
  const out = child(
    "try { addon.dropPrivileges(1, 1) } catch (e) { console.log(e.code, e.syscall, '|', e.remedy) }",
    [],
    ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'],
  );
  expect(out).toMatch(/^EPERM setgroups \| .*CAP_SETGID/);
});

test('the addon loads in many environments, one after the other and at once', () => {
  const out = child(`
    const { Worker } = require('node:worker_threads');
    const path = ${JSON.stringify(`${process.cwd()}/build/Release/sluice.node`)};
    const body = 'const a = require(' + JSON.stringify(path) + '); const u = new a.Umem({ frameCount: 64, chunkSize: 2048 }); u.counts()';
    (async () => {
      for (let i = 0; i < 10; i++) {
        await Promise.all(Array.from({ length: 4 }, () => new Promise((resolve, reject) => {
          const worker = new Worker(body, { eval: true });
          worker.on('exit', (code) => code === 0 ? resolve() : reject(new Error('exit ' + code)));
        })));
      }
      console.log('forty');
    })();`);
  expect(out).toBe('forty');
});
