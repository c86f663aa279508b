/** `sluice match --engine ebpf`: the kernel's answers through the command line. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { matchCommand } from '../../src/cli/commands/match.js';
import { rulesCommand } from '../../src/cli/commands/rules.js';
import { packageRoot } from '../../src/native.js';
import { classicFile } from '../support/capture_bytes.js';
import { expressionFrames } from '../support/expression_frames.js';
import { EXPRESSIONS_FILE } from '../support/expressions.js';
import { FakeEnv, runCommand } from '../support/fake_env.js';
import { PacketBuilder } from '../support/packet_builder.js';

let directory: string;
beforeAll(() => (directory = mkdtempSync(join(tmpdir(), 'sluice-ebpf-'))));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function capture(name: string, frames: readonly { data: Uint8Array; wireLength: number }[]): string {
  const file = join(directory, name);
  const packets = frames.map(({ data, wireLength }) => ({ seconds: 0, fraction: 0, data, original: wireLength }));
  writeFileSync(file, classicFile({ little: true, nanoseconds: false, snapLength: 262144 }, packets));
  return file;
}

async function match(...args: string[]): Promise<{ code: number; out: string; err: string; error: string }> {
  const env = new FakeEnv();
  const { code, error } = await runCommand(matchCommand(env), args);
  return { code, out: env.out, err: env.err, error: error?.message ?? '' };
}

const udp = (payload: number): Uint8Array =>
  new PacketBuilder().ethernet().ipv4().udp({ dport: 53 }).payload(payload).build();

describe('sluice match --engine ebpf', () => {
  it('prints what the interpreter prints, for the whole corpus', async () => {
    const file = capture('corpus.pcap', expressionFrames());
    const [kernel, interpreter] = [
      await match('--engine', 'ebpf', '--expr-file', EXPRESSIONS_FILE, file),
      await match('--engine', 'interpreter', '--expr-file', EXPRESSIONS_FILE, file),
    ];
    expect(kernel.out === interpreter.out).toBe(true);
    expect(kernel.code).toBe(0);
    expect(kernel.err).toMatch(/interpreted: the kernel runs no test with less than 14 or more than \d+ bytes/);
    expect(kernel.err).toMatch(/an expression is interpreted: it has a loop/);
  }, 60_000);

  it('reads the length on the wire of frames that the capture cut', async () => {
    const file = capture('cut.pcap', [
      { data: udp(100).subarray(0, 60), wireLength: udp(100).length },
      { data: udp(10), wireLength: udp(10).length },
    ]);
    expect(await match('--engine', 'ebpf', file, 'udp port 53 and greater 100')).toEqual({
      code: 0,
      out: '0\n',
      err: '',
      error: '',
    });
    expect((await match('--engine', 'ebpf', file, 'len = 52')).out).toBe('1\n');
  });

  it('says which frames the kernel does not run, and answers for them all the same', async () => {
    const short = new Uint8Array(13);
    const long = udp(4000);
    const file = capture(
      'odd.pcap',
      [short, udp(10), long, short].map((data) => ({ data, wireLength: data.length })),
    );
    expect(await match('--engine', 'ebpf', file, 'ether[0] = 0 or udp')).toMatchObject({
      code: 0,
      out: '0\n1\n2\n3\n',
    });
    const { out, err } = await match('--engine', 'ebpf', file, 'udp port 53');
    expect(out).toBe('1\n2\n');
    expect(err).toMatch(/^sluice match: 3 frames \(0, 2, 3\) interpreted: [^\n]+\n$/);
  });

  it('leaves no program in the kernel', async () => {
    const programs = (): number =>
      (JSON.parse(execFileSync('bpftool', ['-j', 'prog', 'list'], { encoding: 'utf8' })) as { name?: string }[]).filter(
        ({ name }) => name === 'sluice_match',
      ).length;
    const file = capture('one.pcap', [{ data: udp(10), wireLength: udp(10).length }]);
    await match('--engine', 'ebpf', file, 'udp');
    expect(programs()).toBe(0);
  });

  it('says what it needs when it may not', async () => {
    const file = capture('nobody.pcap', [{ data: udp(10), wireLength: udp(10).length }]);
    chmodSync(directory, 0o755);
    const cli = join(packageRoot, 'dist/cli/main.js');
    const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups', '--bounding-set=-all'];
    const run = (...args: string[]) =>
      spawnSync('setpriv', [...nobody, process.execPath, cli, 'match', ...args], { encoding: 'utf8' });
    const { status, stdout, stderr } = run('--engine', 'ebpf', file, 'udp');
    expect([status, stdout]).toEqual([77, '']);
    expect(stderr).toMatch(/the engine ebpf needs CAP_BPF and CAP_NET_ADMIN/);
    expect(stderr).toMatch(/root, or with --engine js/);
    expect(run('--engine', 'js', file, 'udp').stdout).toBe('0\n');
  });

  it('takes a second or two for a hundred thousand frames', async () => {
    const frame = { data: udp(10), wireLength: udp(10).length };
    const file = capture('many.pcap', Array<typeof frame>(100_000).fill(frame));
    const start = performance.now();
    const { out } = await match('--engine', 'ebpf', '--json', file, 'udp port 53');
    expect((JSON.parse(out) as { matches: number[] }).matches).toHaveLength(100_000);
    expect(performance.now() - start).toBeLessThan(15_000);
  }, 30_000);
});

describe('sluice rules compile', () => {
  it('prints the eBPF, or why there is none', async () => {
    const print = async (...args: string[]): Promise<string> => {
      const env = new FakeEnv();
      await runCommand(rulesCommand(env), ['compile', ...args]);
      return env.out;
    };
    const ebpf = await print('--only', 'ebpf', 'udp port 53');
    expect(ebpf).toMatch(/^ {3}0: \(7b\) \*\(u64 \*\)\(r10 -8\) = r1\n/);
    expect(ebpf).toMatch(/\(95\) exit\n$/);
    expect(await print('udp port 53')).toContain(`\neBPF\n${ebpf}`);
    expect((JSON.parse(await print('--json', 'udp port 53')) as { ebpf: string }).ebpf).toBe(ebpf.trimEnd());
    expect(await print('--only', 'ebpf', 'ip protochain 6')).toMatch(/^None: it has a loop/);
  });
});
