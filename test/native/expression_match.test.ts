/** `sluice match` against `tcpdump -r`, over frames of all kinds, for the whole corpus. Needs no root. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { matchCommand } from '../../src/cli/commands/match.js';
import { packageRoot } from '../../src/native.js';
import { readCapture } from '../../src/pcap/capture.js';
import { PcapngWriter } from '../../src/pcap/pcapng_writer.js';
import { classicFile } from '../support/capture_bytes.js';
import { expressionFrames } from '../support/expression_frames.js';
import { EXPRESSIONS, EXPRESSIONS_FILE, METADATA, tcpdump } from '../support/expressions.js';
import { FakeEnv, runCommand } from '../support/fake_env.js';

type Line = { expr: string; ok: true; matches: number[] } | { expr: string; ok: false; error: string };

const frames = expressionFrames();
let directory: string;
let classic: string;
let pcapng: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-match-'));
  classic = join(directory, 'frames.pcap');
  pcapng = join(directory, 'frames.pcapng');
  // A frame's position is its time stamp: that is how tcpdump's output names it.
  const packets = frames.map(({ data, wireLength }, i) => ({ seconds: i, fraction: 0, data, original: wireLength }));
  writeFileSync(classic, classicFile({ little: true, nanoseconds: false, snapLength: 262144 }, packets));
  const writer = PcapngWriter.open(pcapng);
  const interfaceId = writer.addInterface({ name: 'a' });
  frames.forEach(({ data, wireLength }, i) =>
    writer.writePacket({ interfaceId, timestampNs: BigInt(i) * 1_000_000_000n, data, originalLength: wireLength }),
  );
  writer.close();
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

async function match(...args: string[]): Promise<{ code: number; out: string; error: string }> {
  const env = new FakeEnv();
  const { code, error } = await runCommand(matchCommand(env), args);
  return { code, out: env.out, error: error?.message ?? '' };
}

async function matchLines(...args: string[]): Promise<Line[]> {
  const { out } = await match(...args);
  return out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
}

/** Positions of the frames that tcpdump lets through, or null when it refuses the expression. */
async function theirs(file: string, expressions: readonly string[]): Promise<(number[] | null)[]> {
  const runs = await tcpdump(expressions.map((text) => ['-Z', 'root', '-r', file, '-w', '-', '--', text]));
  return runs.map(({ status, stdout }) => {
    if (status !== 0) return null;
    return [...readCapture(stdout)].map(({ timestampNs }) => Number(timestampNs / 1_000_000_000n));
  });
}

describe('sluice match', () => {
  it('has the frames of tcpdump -r, for every expression and with every engine', async () => {
    const wanted = await theirs(classic, EXPRESSIONS);
    for (const engine of ['interpreter', 'js']) {
      const lines = await matchLines('--engine', engine, '--expr-file', EXPRESSIONS_FILE, classic);
      const got = lines.map((line) => (line.ok ? line.matches : null));
      const differences = EXPRESSIONS.flatMap((text, i) => {
        const [ours, other] = [got[i] ?? [], wanted[i] ?? []];
        const odd = [...ours.filter((n) => !other.includes(n)), ...other.filter((n) => !ours.includes(n))];
        return odd.length === 0 && (got[i] === null) === (wanted[i] === null)
          ? []
          : [`${text}: frames ${odd.join(' ')}`];
      });
      expect(differences, engine).toEqual([]);
    }
    // The frames tell expressions apart: most of them match some frames, but not all.
    const telling = wanted.filter(
      (matches) => matches !== null && matches.length > 0 && matches.length < frames.length,
    );
    expect(telling.length).toBeGreaterThan(EXPRESSIONS.length * 0.8);
  }, 60_000);

  it('reads pcapng as pcap', async () => {
    const some = join(directory, 'some.txt');
    writeFileSync(some, EXPRESSIONS.filter((_, i) => i % 10 === 0).join('\n'));
    expect(await matchLines('--expr-file', some, pcapng)).toEqual(await matchLines('--expr-file', some, classic));
  });

  it('refuses what tcpdump refuses for a file', async () => {
    expect(await theirs(classic, METADATA)).toEqual(METADATA.map(() => null));
    for (const text of METADATA) expect(await match(classic, text)).toMatchObject({ code: 1, out: '' });
  });

  it('prints the numbers of the frames, one a line; several words are one expression', async () => {
    const [{ matches }] = (await matchLines('--json', classic, 'tcp port 80 and not vlan')) as { matches: number[] }[];
    expect(matches.length).toBeGreaterThan(3);
    const plain = { code: 0, out: matches.map((n) => `${n}\n`).join(''), error: '' };
    expect(await match(classic, 'tcp port 80 and not vlan')).toEqual(plain);
    expect(await match(classic, 'tcp', 'port', '80', 'and', 'not', 'vlan')).toEqual(plain);
    expect(await match(classic, 'tcp and arp')).toMatchObject({
      code: 1,
      out: '',
      error: '"tcp and arp": expression rejects all packets',
    });
    expect((await match(classic, '')).out.split('\n')).toHaveLength(frames.length + 1);
  });

  it('answers every line of a file, also an empty one and one that is wrong', async () => {
    const file = join(directory, 'mixed.txt');
    writeFileSync(file, 'arp\n\nfoo bar\r\nhost localhost\nless 64\n');
    const { code, out, error } = await match('--expr-file', file, classic);
    const lines = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Line);
    expect(lines.map(({ expr, ok }) => [expr, ok])).toEqual([
      ['arp', true],
      ['', true],
      ['foo bar', false],
      ['host localhost', false],
      ['less 64', true],
    ]);
    expect(lines[1]).toEqual({ expr: '', ok: true, matches: frames.map((_, i) => i) });
    expect(lines[2]).toEqual({ expr: 'foo bar', ok: false, error: 'syntax error at character 1: "foo"' });
    expect(code).toBe(1);
    expect(error).toMatch(/^2 of 5 do not compile; the first: "foo bar"/);
  });

  it('takes a file of expressions from Windows', async () => {
    const file = join(directory, 'windows.txt');
    writeFileSync(file, '\ufeffarp\r\nless 64\r\n');
    const lines = await matchLines('--expr-file', file, classic);
    expect(lines.map(({ expr, ok }) => [expr, ok])).toEqual([
      ['arp', true],
      ['less 64', true],
    ]);
  });

  it('reads the capture from standard input', async () => {
    const main = join(packageRoot, 'dist/cli/main.js');
    const run = (...args: string[]): [number | null, string] => {
      const { status, stdout } = spawnSync(process.execPath, [main, 'match', ...args], {
        input: readFileSync(classic),
      });
      return [status, stdout.toString()];
    };
    expect(run('-', 'arp')).toEqual([0, (await match(classic, 'arp')).out]);
    expect(run('--expr-file', '-', '-')).toEqual([2, '']);
  });

  it('ends where a packet sends libpcap in circles: an authentication header that leads to itself', async () => {
    const header = [0x45, 0, 0, 60, 0, 0, 0, 0, 64, 51, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    const data = Uint8Array.from([
      ...new Array<number>(12).fill(0),
      8,
      0,
      ...header,
      51,
      3,
      ...new Array<number>(38).fill(0),
    ]);
    const file = join(directory, 'circle.pcap');
    writeFileSync(file, classicFile({ little: true, nanoseconds: false }, [{ seconds: 0, fraction: 0, data }]));
    for (const engine of ['interpreter', 'js']) {
      expect(await match('--engine', engine, file, 'ip protochain 6')).toEqual({ code: 0, out: '', error: '' });
      expect(await match('--engine', engine, file, 'ip proto 51')).toEqual({ code: 0, out: '0\n', error: '' });
    }
  });

  it('shifts as the kernel: by the low five bits, where libpcap makes 0 of shifts by 32 and more', async () => {
    const header = [0x45, 0, 0, 60, 0, 0, 0, 0, 64, 33, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    const data = Uint8Array.from([...new Array<number>(12).fill(0), 8, 0, ...header, ...new Array<number>(40).fill(0)]);
    const file = join(directory, 'shift.pcap');
    writeFileSync(file, classicFile({ little: true, nanoseconds: false }, [{ seconds: 0, fraction: 0, data }]));
    // ttl 64, protocol 33.
    for (const engine of ['interpreter', 'js']) {
      expect((await match('--engine', engine, file, 'ip[8] << ip[9] = 128')).out).toBe('0\n');
      expect((await match('--engine', engine, file, 'ip[8] >> ip[9] = 32')).out).toBe('0\n');
    }
    expect(await theirs(file, ['ip[8] << ip[9] = 0', 'ip[8] << ip[9] = 128'])).toEqual([[0], []]);
  });

  it('has offsets beyond every packet match nothing, where the kernel would read something of its own', async () => {
    for (const offset of [0xffffffff, 0xfffff02c, 0xfff00000, 0xffe00000, 0x80000000]) {
      for (const text of [`ether[${offset}] = 0`, `ether[${offset}] != 0`]) {
        expect([text, await match(classic, text)]).toEqual([text, { code: 0, out: '', error: '' }]);
      }
    }
  });

  it.each([
    [[], /missing required argument/],
    [['FILE'], /no expression/],
    [['--expr-file', '/dev/null', 'FILE', 'tcp'], /both/],
    [['--expr-file', '/nonexistent', 'FILE'], /cannot read the expressions/],
    [['--engine', 'nosuch', 'FILE', 'tcp'], /Allowed choices are interpreter, js/],
    [['/nonexistent', 'tcp'], /cannot read the capture/],
  ])('is used wrongly with %j', async (args, problem) => {
    const { code, error } = await match(...args.map((arg) => (arg === 'FILE' ? classic : arg)));
    expect([code, error]).toEqual([2, expect.stringMatching(problem)]);
  });

  it('refuses other link types by name, and damage unless told otherwise', async () => {
    const file = join(directory, 'other.pcap');
    const packets = [{ seconds: 0, fraction: 0, data: frames[0].data }];
    writeFileSync(file, classicFile({ little: true, nanoseconds: false, linkType: 101 }, packets));
    expect(await match(file, '')).toMatchObject({ code: 1, error: expect.stringMatching(/link type 101/) as string });
    writeFileSync(file, classicFile({ little: true, nanoseconds: false }, [...packets, ...packets]).subarray(0, -1));
    const damaged = await runCommand(matchCommand(new FakeEnv()), [file, '']);
    expect(damaged).toMatchObject({ code: 1, error: { remedy: expect.stringMatching(/--no-strict/) as string } });
    const env = new FakeEnv();
    expect(await runCommand(matchCommand(env), ['--no-strict', file, ''])).toMatchObject({ code: 0 });
    expect([env.out, env.err]).toEqual(['0\n', expect.stringMatching(/^sluice match: damaged capture: .*packet 2/)]);
  });
});
