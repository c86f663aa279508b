/** Commands, in a Node that makes no functions of text: they say the same as in one that does. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { classicFile } from '../support/capture_bytes.js';
import { PacketBuilder } from '../support/packet_builder.js';

const FLAGS = ['--disallow-code-generation-from-strings'];
const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'sluice-no-codegen-'));
afterAll(() => rmSync(directory, { recursive: true }));

const udp = (dport: number) =>
  new PacketBuilder().ethernet().ipv4({ dst: '198.51.100.1' }).udp({ sport: 4000, dport }).payload(new Uint8Array(40));
const records = [53, 80, 53, 443].map((port) => ({ seconds: 1, fraction: 0, data: udp(port).build() }));
writeFileSync(join(directory, 'a.pcap'), classicFile({ little: true, nanoseconds: false }, records));
writeFileSync(
  join(directory, 'c.yaml'),
  `
interfaces: [eth0]
services:
  - { name: web, vip: 198.51.100.1, port: 443, protocol: udp, backends: [10.0.0.1] }
mitigation:
  limits: [{ name: l, match: udp dst port 80, rate: 1/s }]
rules:
  - { name: dns, match: udp dst port 53, action: drop }
  - { name: names, match: { dns: '*.example.com' }, action: drop }
`,
);

interface Run {
  code: number | string;
  out: string;
  err: string;
}

function run(flags: readonly string[], args: readonly string[]): Promise<Run> {
  return new Promise((resolve) => {
    execFile(process.execPath, [...flags, main, ...args], { cwd: directory }, (error, out, err) => {
      resolve({ code: error?.code ?? 0, out, err });
    });
  });
}

describe('without code generation', () => {
  it.each([
    ['match', 'a.pcap', '--engine', 'interpreter', 'udp dst port 53'],
    ['rules', 'compile', 'udp port 53'],
    ['rules', 'test', '--config', 'c.yaml', 'a.pcap'],
    ['explain', 'a.pcap#0', '--config', 'c.yaml'],
    ['replay', 'a.pcap', '--config', 'c.yaml', '--json'],
    ['check', 'c.yaml'],
  ])('sluice %s %s is as ever', async (...args) => {
    const [flagged, usual] = await Promise.all([run(FLAGS, args), run([], args)]);
    expect(flagged.code, flagged.err).toBe(0);
    expect(flagged.out).not.toBe('');
    expect(flagged).toEqual(usual);
  });

  it('sluice match interprets, and says so', async () => {
    const { code, out, err } = await run(FLAGS, ['match', 'a.pcap', 'udp port 53']);
    expect([code, out]).toEqual([0, '0\n2\n']);
    expect(err).toBe('sluice match: Node runs with --disallow-code-generation-from-strings: interpreted instead\n');
  });
});
