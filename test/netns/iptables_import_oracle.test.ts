/**
 * `sluice rules import iptables` against the kernel: random rule sets, loaded by iptables-restore, count packets off a wire; the rules that are made of them
 * count the same packets in `sluice rules test`. Where the importer says that nothing was lost, each rule must have the same number.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { rulesCommand } from '../../src/cli/commands/rules.js';
import { packageRoot } from '../../src/native.js';
import type { Namespace, Playground } from '../../src/playground/netns.js';
import { classicFile } from '../support/capture_bytes.js';
import { randomSource } from '../support/cbpf_programs.js';
import { FakeEnv, runCommand } from '../support/fake_env.js';
import { testPlayground } from '../support/netns.js';
import { FIRST, IPV4, IPV6, randomFrame, randomTable, type Family } from '../support/random_iptables.js';

/** Rule sets of a family, those of them that must be comparable, and packets for all. */
const TABLES = 24;
const COMPARED = 12;
const FRAMES = 300;
const MAC = '02:00:00:00:97:02';

/** A host behind a wire on which nobody answers, so that it gets what is sent here and nothing else. */
function wire({ host }: Family): { playground: Playground; left: Namespace; right: Namespace } {
  const playground = testPlayground();
  const left = playground.namespace('left');
  const right = playground.namespace('right');
  playground.veth({ namespace: left, name: 'eth0' }, { namespace: right, name: 'eth0' });
  left.sysctl({ 'net/ipv6/conf/eth0/disable_ipv6': 1 });
  right.sysctl({ 'net/ipv4/conf/all/rp_filter': 0, 'net/ipv4/conf/eth0/rp_filter': 0 });
  const address = host.includes(':') ? `${host}/64 dev eth0 nodad` : `${host}/24 dev eth0`;
  left.ip('link set eth0 up');
  right.ip(`link set eth0 address ${MAC}`, `address add ${address}`, 'link set eth0 up');
  return { playground, left, right };
}

/** Sends all frames each time that it is called. */
function sender(playground: Playground, from: Namespace, frames: readonly Uint8Array[]): () => Promise<void> {
  const file = playground.path('frames.json');
  writeFileSync(file, JSON.stringify(frames.map((frame) => Buffer.from(frame).toString('hex'))));
  const native = pathToFileURL(join(packageRoot, 'dist/native.js')).href;
  const script = `import { readFileSync } from 'node:fs'; import { createInterface } from 'node:readline'; import { native } from '${native}';
    const frames = JSON.parse(readFileSync('${file}', 'utf8')).map((frame) => Buffer.from(frame, 'hex'));
    const socket = new (native().PacketSocket)({ interface: 'eth0' });
    for await (const _ of createInterface({ input: process.stdin })) {
      for (const frame of frames) socket.send(frame);
      console.log('sent');
    }`;
  const child = spawn('ip', from.commandLine(process.execPath, ['--input-type=module', '-e', script]), {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.stdin.end());
  const lines = createInterface({ input: child.stdout });
  return async () => {
    const sent = once(lines, 'line');
    child.stdin.write('go\n');
    await sent;
  };
}

/** Packets by rule, once all have come to the first one. */
function kernelCounts(host: Namespace, { command }: Family): Map<string, number> {
  for (const end = performance.now() + 15_000; ;) {
    const counts = new Map<string, number>();
    for (const line of host.exec(`${command}-save`, '-c').split('\n')) {
      const found = /^\[(\d+):\d+\] .*--comment "?(\w+)/.exec(line);
      if (found !== null) counts.set(found[2], Number(found[1]));
    }
    if (counts.get(FIRST) === FRAMES || performance.now() > end) return counts;
  }
}

/** What our rules count; one of iptables' may be several of ours, "r7", "r7-2". Null where something was lost. */
async function ourCounts(playground: Playground, saved: string, pcap: string): Promise<Map<string, number> | null> {
  const run = async (...args: string[]): Promise<string> => {
    const env = new FakeEnv();
    const { error } = await runCommand(rulesCommand(env), args);
    if (error !== null) throw error;
    return env.out;
  };
  const [file, config] = [playground.path('saved.txt'), playground.path('made.yaml')];
  writeFileSync(file, saved);
  const { lost } = JSON.parse(await run('import', 'iptables', file, '--partial', '--json')) as { lost: number };
  if (lost > 0) return null;
  writeFileSync(config, `${await run('import', 'iptables', file, '--partial')}\nfilters: [rules]\n`);
  const { rules } = JSON.parse(await run('test', '-c', config, pcap, '--json')) as {
    rules: { name: string; packets: number }[];
  };
  const counts = new Map<string, number>();
  for (const { name, packets } of rules) {
    const [own] = /^\w+/.exec(name)!;
    counts.set(own, (counts.get(own) ?? 0) + packets);
  }
  return counts;
}

it.each([IPV4, IPV6])(
  'rules from $command count what the kernel counts',
  async (family) => {
    const random = randomSource(Number(process.env.SEED ?? 20261121));
    const { playground, left, right } = wire(family);
    const frames = Array.from({ length: FRAMES }, () => randomFrame(random, family, MAC));
    const pcap = playground.path('frames.pcap');
    const packets = frames.map((data, i) => ({ seconds: 1 + i, fraction: 0, data }));
    writeFileSync(pcap, classicFile({ little: true, nanoseconds: false }, packets));
    const send = sender(playground, left, frames);
    const file = playground.path('table.txt');
    let [compared, rules, hits] = [0, 0, 0];
    for (let i = 0; i < TABLES; i++) {
      const table = randomTable(random, family);
      writeFileSync(file, table);
      right.exec(`${family.command}-restore`, file);
      await send();
      const kernel = kernelCounts(right, family);
      expect(kernel.get(FIRST), 'all packets have arrived').toBe(FRAMES);
      const counts = await ourCounts(playground, right.exec(`${family.command}-save`), pcap);
      if (counts === null) continue;
      compared++;
      // A rule that can never match is left out of ours.
      const ours = new Map([...kernel.keys()].map((name) => [name, counts.get(name) ?? 0]));
      expect(ours, table).toEqual(kernel);
      rules += kernel.size - 1;
      hits += [...kernel.values()].filter((packets) => packets > 0).length - 1;
    }
    console.log(
      `${family.command}: ${compared} of ${TABLES} rule sets compared, ${rules} rules, ${hits} of them with packets`,
    );
    expect(compared).toBeGreaterThanOrEqual(COMPARED);
    expect(hits).toBeGreaterThan(rules / 3);
  },
  30_000,
);
