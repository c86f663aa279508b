/** The worked attack of docs/mitigation.md: every command as it is printed, in order, under the flood that it is about, with each piece of configuration in the file. */
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { packageRoot } from '../../src/native.js';
import { compiledProgram } from '../../src/playground/process.js';
import { Attacked, type Flood } from '../support/attacked.js';
import type { ConfigDocument } from '../support/daemon.js';
import { startDnsServer, startGoodTraffic } from '../support/good_traffic.js';
import { TCP } from '../support/packet_builder.js';

interface Block {
  section: string;
  kind: 'sh' | 'yaml';
  text: string;
}

/** Code of the section, in order. */
function blocksOf(page: string): Block[] {
  const worked = page.split(/^## /m).find((part) => part.startsWith('An attack, worked'))!;
  return worked.split(/^### /m).flatMap((part) =>
    [...part.matchAll(/^( *)```(sh|yaml)\n([^]*?)^ *```$/gm)].map(([, indent, kind, text]) => ({
      section: part.slice(0, part.indexOf('\n')),
      kind: kind as Block['kind'],
      text: text.replace(new RegExp(`^${indent}`, 'gm'), ''),
    })),
  );
}

const FLOODS: Readonly<Record<string, Flood>> = {
  Amplification: { protocol: 17, sport: 123, port: 443, payload: '17'.repeat(440), perSecond: 1500 },
  'SYN flood': { flags: TCP.SYN, perSecond: 2000 },
  Mixed: { flags: TCP.ACK, perSecond: 1500 },
};

/** No command takes so long that ends at all, ms. */
const STUCK_MS = 20_000;

/** Runs a block as a person would paste it, by lines. */
async function paste(net: Attacked, directory: string, block: string): Promise<Map<string, string>> {
  const env = { ...process.env, PATH: `${directory}/bin:${process.env.PATH}`, SLUICE_SOCKET: net.daemon.socket };
  const said = new Map<string, string>();
  for (const line of block.trim().split('\n')) {
    const begin = performance.now();
    const child = spawn('bash', ['-c', `set -o pipefail; ${line}`], { cwd: directory, env, timeout: STUCK_MS });
    let [out, errors] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect([line, code], `${out}${errors}`).toEqual([line, 0]);
    expect(performance.now() - begin, line).toBeLessThan(STUCK_MS);
    said.set(line, out);
  }
  return said;
}

/** The file with a piece of the page: maps by their keys, all else as it is there. */
function merged(file: ConfigDocument, piece: ConfigDocument): ConfigDocument {
  const isMap = (value: unknown): value is ConfigDocument =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  const entries = Object.entries(piece).map(([key, value]) => {
    const before = file[key];
    return [key, isMap(before) && isMap(value) ? merged(before, value) : value];
  });
  return { ...file, ...(Object.fromEntries(entries) as ConfigDocument) };
}

it('can be followed word by word', async () => {
  const blocks = blocksOf(readFileSync(join(packageRoot, 'docs', 'mitigation.md'), 'utf8'));
  expect([...new Set(blocks.map(({ section }) => section))]).toEqual(Object.keys(FLOODS));
  // Nobody waits for 15 minutes here.
  let parts: ConfigDocument = { mitigation: { tcp_state: { learn: '100ms' } } };
  const net = await Attacked.start(parts, 1024);
  await startDnsServer(net);
  const directory = net.topology.playground.path('operator');
  mkdirSync(join(directory, 'bin'), { recursive: true });
  writeFileSync(
    join(directory, 'bin', 'sluice'),
    `#!/bin/sh\nexec ${process.execPath} ${compiledProgram('cli/main')} "$@"\n`,
  );
  chmodSync(join(directory, 'bin', 'sluice'), 0o755);

  const said = new Map<string, string[]>();
  for (const [section, flood] of Object.entries(FLOODS)) {
    const traffic = await startGoodTraffic(net);
    const running = await net.flood(flood);
    for (const { kind, text } of blocks.filter((block) => block.section === section)) {
      if (kind === 'yaml') {
        parts = merged(parts, parse(text) as ConfigDocument);
        net.daemon.configure(net.config(parts));
        continue;
      }
      for (const [line, out] of await paste(net, directory, text)) said.set(line, [...(said.get(line) ?? []), out]);
    }
    await running.stop();
    const { kinds } = await traffic.stop();
    for (const [kind, { sent, answered }] of Object.entries(kinds)) {
      expect([section, kind, answered]).toEqual([section, kind, sent]);
    }
  }

  const heard = (line: string): string[] => said.get(line) ?? [];
  const [matches] = heard("sluice match attack.pcapng 'udp src port 123 and greater 200' | wc -l");
  expect(Number(matches)).toBeGreaterThan(400);
  expect(heard('tcpdump -nn -r attack.pcapng -c 25')[0]).toMatch(/\.123 > 198\.51\.100\.10\.443: NTPv2/);
  const lists = heard('sluice rules list');
  expect(lists[0]).toMatch(/ntp-ampl.* shadow/);
  expect(lists[1]).not.toMatch(/ntp-ampl.* shadow/);
  expect(lists[2]).toMatch(/ntp-ampl.* kernel/);
  expect(lists[3]).toMatch(/syn-rate/);
  expect(lists.at(-1)).not.toMatch(/ntp-ampl|look/);
  const statuses = heard('sluice status');
  expect(statuses[0]).toMatch(/rule +[\d,]{4,}/);
  expect(statuses[1]).toMatch(/SYN challenge on for \d+ destinations?: [\d,]+ asked/);
  expect(heard("sluice capture --expr 'tcp[tcpflags] == tcp-syn' -c 10")[0].match(/tcp \[S\]/g)).toHaveLength(10);
  expect(heard('sluice capture --reason tcp_not_found -c 10')[0].match(/reason=tcp_not_found/g)).toHaveLength(10);
  expect(parse(heard('sluice rules export --added')[0])).toMatchObject({ rules: [{ name: 'ntp-amplification', action: 'drop' }] }); // prettier-ignore
  expect((await net.daemon.status()).violations).toEqual([]);
});
