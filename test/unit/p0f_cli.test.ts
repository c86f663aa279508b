/** `sluice match` and `sluice rules compile` with p0f signatures and DNS names. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { matchCommand } from '../../src/cli/commands/match.js';
import { rulesCommand } from '../../src/cli/commands/rules.js';
import { readBytecode } from '../../src/shared/cbpf/bytecode_text.js';
import { p0fProgram } from '../../src/control/expression/p0f_program.js';
import { classicFile } from '../support/capture_bytes.js';
import { FakeEnv, runCommand } from '../support/fake_env.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';

const LINUX = [2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
const syn = (builder: PacketBuilder, ttl = 60): Uint8Array =>
  builder
    .ipv4({ ttl, id: 9, dontFragment: true })
    .tcp({ seq: 1, flags: TCP.SYN, window: 64240, options: LINUX })
    .build();
const query = (builder: PacketBuilder, name: string, type = 1): Uint8Array => {
  const labels = name.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]);
  const dns = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, type, 0, 1];
  return builder.udp({ sport: 4000, dport: 53 }).payload(Uint8Array.from(dns)).build();
};
const frames = [
  syn(new PacketBuilder().ethernet()),
  syn(new PacketBuilder().ethernet(), 128),
  syn(new PacketBuilder().ethernet().vlan(7)),
  syn(new PacketBuilder().ethernet().vlan(7, { tpid: 0x88a8 }).vlan(8)),
  query(new PacketBuilder().ethernet().ipv4({}), 'www.Example.com'),
  query(new PacketBuilder().ethernet().vlan(7).ipv6({}), 'a.b.example.com', 255),
  query(new PacketBuilder().ethernet().ipv6({}), 'example.com'),
  new PacketBuilder().ethernet().ipv4({}).udp({ sport: 1, dport: 53 }).payload(new Uint8Array(40)).build(),
  Uint8Array.from({ length: 13 }),
];

let directory: string;
let capture: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-p0f-'));
  capture = join(directory, 'a.pcap');
  writeFileSync(
    capture,
    classicFile(
      { little: true, nanoseconds: false },
      frames.map((data) => ({ seconds: 1, fraction: 0, data })),
    ),
  );
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const SIGNATURE = '4:64:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0';

describe('sluice match', () => {
  it.each([
    [
      ['--p0f', SIGNATURE],
      [0, 2, 3],
    ],
    [['--engine', 'interpreter', '--p0f', '*:128:0:*:*,*:mss,sok,ts,nop,ws:df,id+:0'], [1]],
    [
      ['--dns', '*.example.com'],
      [4, 5],
    ],
    [
      ['--dns', 'example.com', 'www.example.com'],
      [4, 6],
    ],
    [['--dns', '*', '--qtype', 'ANY'], [5]],
    [['--dns', '*', '--dns-response'], []],
    [['--dns-malformed'], [7]],
  ])('%j finds frames %j', async (options, wanted) => {
    const env = new FakeEnv({}, false, 200);
    const { code } = await runCommand(matchCommand(env), [capture, '--json', ...options]);
    expect(code).toBe(0);
    expect(JSON.parse(env.out)).toMatchObject({ ok: true, matches: wanted });
  });

  it.each([
    [['--p0f', '4:64'], 1, 'p0f signature: it is 2 fields, not 8'],
    [['--dns', 'a..b'], 1, 'has an empty label'],
    [['--qtype', 'ANY'], 2, '--qtype and --dns-response say what --dns means'],
    [['--p0f', SIGNATURE, '--dns', 'a'], 2, 'several of an expression, --p0f, --dns and --dns-malformed'],
    [['udp', '--p0f', SIGNATURE], 2, 'several of an expression, --p0f, --dns and --dns-malformed'],
    [['--expr-file', '-', '--p0f', SIGNATURE], 2, '--expr-file beside --p0f or --dns'],
  ])('%j is refused', async (options, wanted, message) => {
    const { code, error } = await runCommand(matchCommand(new FakeEnv({}, false, 200)), [capture, ...options]);
    expect(code).toBe(wanted);
    expect(error?.message).toContain(message);
  });
});

describe('sluice rules compile', () => {
  it('prints what a signature and a name compile to', async () => {
    const env = new FakeEnv({}, false, 200);
    await runCommand(rulesCommand(env), ['compile', '--only', 'bytecode', '--p0f', SIGNATURE]);
    expect(readBytecode(env.out.trim(), 'ip')).toEqual(p0fProgram(SIGNATURE));
    env.out = '';
    await runCommand(rulesCommand(env), ['compile', '--dns', 'example.com']);
    for (const title of ['cBPF, ', 'bytecode\n', 'JavaScript\n', 'eBPF\n']) expect(env.out).toContain(title);
    const { code, error } = await runCommand(rulesCommand(env), ['compile']);
    expect([code, error?.message]).toEqual([2, 'nothing to compile']);
  });
});
