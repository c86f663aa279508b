/** Rules in the kernel, by the daemon: what they drop and count is what the workers would have, and changes lose no packet. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, it } from 'vitest';
import { callControl } from '../../src/control/api/client.js';
import type { ListedRule, RuleListing } from '../../src/control/api/contract.js';
import { compiledProgram } from '../../src/playground/process.js';
import {
  bpfIdsOf,
  bpfObjects,
  CLIENT,
  cpuMs,
  daemonConfig,
  interfaceOf,
  lost,
  metric,
  pause,
  TestDaemon,
  VIP,
  Wire,
  xdpProgram,
  type Receiver,
  type Sender,
} from '../support/daemon.js';
import { expectGood } from '../support/good_through.js';

/** Nobody serves these ports of the VIP: what no rule drops there is left to the host. */
const [BAD, SMALL, TIMES] = [7777, 7778, 7779];

const SEE = { name: 'see', match: { protocol: 'udp', dport: '7000-7999' }, action: 'count' };
const SHADOW = { name: 'would', match: { protocol: 'udp', dport: [BAD, SMALL] }, action: 'drop', mode: 'shadow' };
const DROP = { name: 'bad', match: { protocol: 'udp', dport: BAD }, action: 'drop' };
const EXPR = { name: 'small', match: `udp dst port ${SMALL} and less 90`, action: 'drop' };
const CHANCE = { name: 'times', match: { dport: TIMES }, action: 'drop', probability: '99%' };
const SLOW = { name: 'slow', match: { dport: TIMES }, action: 'limit', limit: { rate: '1/day' } };
const RULES = [SEE, SHADOW, DROP, EXPR];

interface Rig {
  wire: Wire;
  receiver: Receiver;
  daemon: TestDaemon;
  good: Sender;
}

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

async function underTraffic(parts: Record<string, unknown>): Promise<Rig> {
  const wire = new Wire({ backend: true });
  const receiver = await wire.receive();
  const daemon = await TestDaemon.start(wire, daemonConfig(wire, { filters: ['sanity', 'rules'], ...parts }));
  return { wire, receiver, daemon, good: await wire.send({ ratePerSecond: 1000 }) };
}

function listing(daemon: TestDaemon): Promise<RuleListing> {
  return callControl(daemon.socket, 'rules.list', {}, 10_000);
}

async function rule(daemon: TestDaemon, name: string): Promise<ListedRule> {
  return (await listing(daemon)).rules.find((one) => one.name === name)!;
}

async function runs(daemon: TestDaemon): Promise<Record<string, string>> {
  return Object.fromEntries((await listing(daemon)).rules.map(({ name, runs }) => [name, runs]));
}

async function reload({ daemon, wire }: Rig, parts: Record<string, unknown>): Promise<void> {
  daemon.configure(daemonConfig(wire, { filters: ['sanity', 'rules'], ...parts }));
  expect(await daemon.reload()).toMatchObject({ applied: true });
}

/** [packets, bytes, acted, actedBytes] of each rule. */
async function counted(daemon: TestDaemon): Promise<Record<string, number[]>> {
  const { rules } = await listing(daemon);
  return Object.fromEntries(
    rules.map(({ name, packets, bytes, acted, actedBytes }) => [name, [packets, bytes, acted, actedBytes]]),
  );
}

it('count and drop the same in the kernel as in the workers, at less cost', async () => {
  const rig = await underTraffic({ rules: RULES });
  const { daemon, wire } = rig;
  const waves = [
    { port: BAD, packets: 6000, bytes: 64 },
    { port: SMALL, packets: 300, bytes: 20 },
    { port: SMALL, packets: 200, bytes: 100 },
    { port: TIMES, packets: 100, bytes: 64 },
  ];
  const frames = (wave: number): number => waves[wave].packets * (42 + waves[wave].bytes);
  const [all, allBytes] = [6600, frames(0) + frames(1) + frames(2) + frames(3)];
  const marked = [6500, frames(0) + frames(1) + frames(2)];
  const expected = {
    see: [all, allBytes, 0, 0],
    would: [...marked, ...marked],
    bad: [6000, frames(0), 6000, frames(0)],
    small: [300, frames(1), 300, frames(1)],
  };
  let before = await counted(daemon);
  for (const offload of ['off', 'auto', 'off', 'auto'] as const) {
    await reload(rig, { rules: RULES, offload });
    const from = { status: await daemon.status(), cpu: cpuMs(daemon.pid), ms: performance.now() };
    for (const wave of waves) await (await wire.send({ flows: 4, ratePerSecond: 10_000, ...wave })).sent();
    const moved = async (): Promise<Record<string, number[]>> => {
      const now = await counted(daemon);
      return Object.fromEntries(
        Object.entries(now).map(([name, counts]) => [name, counts.map((n, i) => n - before[name][i])]),
      );
    };
    await expect.poll(moved).toEqual(expected);
    before = await counted(daemon);
    const status = await daemon.status();
    const [byWorkers, byKernel] = [
      status.drops.rule - (from.status.drops.rule ?? 0),
      interfaceOf(status).xdp!.rules - interfaceOf(from.status).xdp!.rules,
    ];
    expect([byWorkers, byKernel]).toEqual(offload === 'off' ? [6300, 0] : [0, 6300]);
    const cpu = cpuMs(daemon.pid) - from.cpu;
    console.log(
      `offload ${offload}: ${all} bad packets, daemon took ${cpu} ms of CPU in ${Math.round(performance.now() - from.ms)} ms`,
    );
  }
  expect(await runs(daemon)).toEqual({ see: 'both', would: 'both', bad: 'kernel', small: 'kernel' });
  expect(daemon.cli('rules', 'list', '--no-rates').stdout).toMatch(
    /in both, because it is counted in the kernel when a later rule drops the packet there: see, would/,
  );
  const { body } = daemon.metrics();
  expect(metric(body, 'sluice_rule_kernel_packets_total{rule="bad"}')).toBe(12_000);
  expect(metric(body, 'sluice_rule_acted_packets_total{rule="bad"}')).toBe(24_000);
  expect(metric(body, 'sluice_xdp_packets_total{interface="in0",action="rules"}')).toBe(12_600);
  await expectGood(rig, rig.good);
});

it('drop a flood: what either way does with it, in turn', async () => {
  const rig = await underTraffic({ rules: [DROP] });
  const { daemon, wire, good } = rig;
  const file = fileURLToPath(new URL('../support/raw_flood.mjs', import.meta.url));
  const addresses = { mac: '02:00:00:00:90:02', from: '02:00:00:00:90:01', src: CLIENT, dst: VIP };
  const options = { interface: 'eth0', ...addresses, family: 4, protocol: 17, port: BAD, sport: 0, perSecond: 1e6 };
  for (const offload of ['off', 'auto', 'off', 'auto'] as const) {
    await reload(rig, { rules: [DROP], offload });
    const [before, from] = [await rule(daemon, 'bad'), await daemon.status()];
    const cpu = cpuMs(daemon.pid);
    const flood = wire.playground.start(wire.client, process.execPath, [file, JSON.stringify(options)], {
      label: 'flood',
    });
    await once(flood, 'line');
    await pause(700);
    flood.send('stop');
    const [sent] = (await once(flood, 'line')) as [string];
    // By the rule's own account, and the kernel's part of it by two.
    const drops = async (): Promise<number[]> => {
      const [now, status] = [await rule(daemon, 'bad'), await daemon.status()];
      const rules = interfaceOf(status).xdp!.rules - interfaceOf(from).xdp!.rules;
      return [now.acted - before.acted, now.kernelPackets - before.kernelPackets, rules];
    };
    const settled = async (): Promise<boolean> => {
      const [all, ...parts] = await drops();
      return all > 1000 && parts.every((part) => part === (offload === 'auto' ? all : 0));
    };
    await pause(200);
    await expect.poll(settled).toBe(true);
    const [[dropped], status] = [await drops(), await daemon.status()];
    expect(status.violations).toEqual([]);
    const cost = (((cpuMs(daemon.pid) - cpu) * 1e6) / dropped).toFixed(0);
    console.log(
      `offload ${offload}: ${sent} sent, ${dropped} dropped by the rule, ${lost(status) - lost(from)} lost before; ${cost} ns of the daemon a drop`,
    );
  }
  await good.stop();
});

it('change under traffic: no good packet is lost, and no bad one passes or is dropped after the word', async () => {
  const rig = await underTraffic({ rules: [SEE], offload: 'auto' });
  const { daemon, wire } = rig;
  const bad = await wire.send({ port: BAD, ratePerSecond: 2000, flows: 4 });
  const passed = async (): Promise<number> => (await daemon.status()).totals.pass;
  let objects = 0;
  for (let i = 0; i < 8; i++) {
    await callControl(daemon.socket, 'rules.add', { rules: [DROP] });
    const [before, dropped] = [await passed(), (await rule(daemon, 'bad')).kernelPackets];
    if (i % 4 === 1) await reload(rig, { rules: [SEE, { ...EXPR, name: `new${i}` }], offload: 'auto' });
    // Another redirect program, with other counters of its own.
    if (i % 4 === 2) {
      const interfaces = [{ name: 'in0', fallback: i === 2 ? 'drop' : 'pass' }, { name: 'out0' }];
      await reload(rig, { rules: [SEE], offload: 'auto', interfaces });
    }
    const more = async (): Promise<number> => (await rule(daemon, 'bad')).kernelPackets - dropped;
    await expect.poll(more).toBeGreaterThan(200);
    expect([await passed(), (await rule(daemon, 'bad')).runs]).toEqual([before, 'kernel']);
    await callControl(daemon.socket, 'rules.remove', { rules: ['bad'] });
    const { rules } = interfaceOf(await daemon.status()).xdp!;
    const after = await passed();
    await expect.poll(passed).toBeGreaterThan(after + 100);
    expect(interfaceOf(await daemon.status()).xdp!.rules).toBe(rules);
    if (i === 0) objects = bpfIdsOf(daemon.pid).length;
  }
  // Programs and maps that were replaced are gone.
  await expect.poll(() => bpfIdsOf(daemon.pid).length).toBe(objects);
  await callControl(daemon.socket, 'rules.add', { rules: [DROP] });
  const sent = await bad.stop();
  // Each bad packet is the host's or the rule's, and the rule that counts saw them all.
  const sums = async (): Promise<number[]> => {
    const { bad: one, see } = await counted(daemon);
    return [see[0], one[2] + (await passed())];
  };
  await expect.poll(sums).toEqual([sent, sent]);
  await expectGood(rig, rig.good);
});

it('come out of the kernel for a capture of what they drop, and go back', async () => {
  const rig = await underTraffic({ rules: [...RULES, CHANCE], offload: 'auto' });
  const { daemon, wire } = rig;
  const all = { see: 'both', would: 'both', bad: 'kernel', small: 'kernel', times: 'kernel' };
  expect(await runs(daemon)).toEqual(all);
  for (const [args, inKernel] of [
    [['--rule', 'bad'], { ...all, bad: 'user space' }],
    [['--verdict', 'drop'], Object.fromEntries(Object.keys(all).map((name) => [name, 'user space']))],
  ] as const) {
    const begun = daemon.logged('capture begins').length;
    const main = [compiledProgram('cli/main'), 'capture', '--socket', daemon.socket, ...args];
    const child = spawn(process.execPath, main, { stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    await expect.poll(() => daemon.logged('capture begins').length).toBe(begun + 1);
    expect(await runs(daemon)).toEqual(inKernel);
    await pause(150);
    await (await wire.send({ port: BAD, packets: 300, flows: 4, ratePerSecond: 3000 })).sent();
    await expect
      .poll(() => text.split('\n').filter((line) => line.includes(`.${BAD}`) || line.includes(`:${BAD}`)).length, {
        timeout: 5000,
      })
      .toBe(300);
    child.kill('SIGINT');
    await expect.poll(() => runs(daemon)).toEqual(all);
  }
  const before = await rule(daemon, 'bad');
  expect([before.acted, before.kernelPackets]).toEqual([600, 0]);
  await (await wire.send({ port: BAD, packets: 200, flows: 4 })).sent();
  await expect.poll(async () => (await rule(daemon, 'bad')).kernelPackets).toBe(200);
  await expectGood(rig, rig.good);
});

it('are there again after the interface was gone, in generic mode too, with their counters', async () => {
  const wire = new Wire();
  const interfaces = [{ name: 'in0', mode: 'generic' }];
  const daemon = await TestDaemon.start(wire, daemonConfig(wire, { interfaces, rules: [DROP], offload: 'auto' }));
  const drop = async (all: number): Promise<void> => {
    await (await wire.send({ port: BAD, packets: 300, flows: 4 })).sent();
    const dropped = async (): Promise<number[]> => {
      const { acted, kernelPackets, runs } = await rule(daemon, 'bad');
      return runs === 'kernel' ? [acted, kernelPackets] : [];
    };
    await expect.poll(dropped).toEqual([all, all]);
    expect(metric(daemon.metrics().body, 'sluice_xdp_packets_total{interface="in0",action="rules"}')).toBe(all);
  };
  await drop(300);
  wire.node.ip('link del in0');
  await daemon.until(({ ready }) => !ready, 'it notices', 5000);
  expect((await rule(daemon, 'bad')).acted).toBe(300);
  wire.connect();
  // Its socket comes after its program and the rules.
  await expect.poll(() => daemon.logged('port opened').length).toBe(1);
  await drop(600);
  expect((await daemon.status()).violations).toEqual([]);
});

it('are refused with `require` when they cannot be there, by name; and a killed daemon leaves nothing', async () => {
  const wire = new Wire();
  const config = (parts: object) => daemonConfig(wire, { filters: ['sanity', 'rules'], offload: 'require', ...parts });
  const { code, said } = await TestDaemon.fails(wire, config({ rules: [DROP, SLOW] }), { name: 'refused' });
  expect(code).not.toBe(0);
  expect(said).toMatch(
    /rule slow cannot run in the kernel, which offload: require asks for: it has a limit whose burst takes too long/,
  );

  const daemon = await TestDaemon.start(wire, config({ rules: [SEE, DROP] }));
  expect(await runs(daemon)).toEqual({ see: 'both', bad: 'kernel' });
  const added = daemon.cli('rules', 'add', 'chain', '--expr', 'ip6 protochain 17', '--action', 'drop');
  expect(added.code).not.toBe(0);
  expect(added.stderr).toMatch(/rule chain cannot run in the kernel.*matches a program with a loop/);
  const decapsulate = { addresses: '10.91.0.1', from: '10.91.0.0/16' };
  daemon.configure(config({ rules: [DROP], decapsulate }));
  expect(await daemon.reload()).toMatchObject({
    applied: false,
    problems: [
      { message: expect.stringMatching(/rule bad cannot run.*packets are decapsulated before the rules/) as string },
    ],
  });
  expect(await runs(daemon)).toEqual({ see: 'both', bad: 'kernel' });
  // With auto the same is taken, and says why.
  daemon.configure(config({ rules: [DROP], decapsulate, offload: 'auto' }));
  expect(await daemon.reload()).toMatchObject({ applied: true });
  expect(await rule(daemon, 'bad')).toMatchObject({
    runs: 'user space',
    why: 'packets are decapsulated before the rules',
  });
  daemon.configure(config({ rules: [DROP], offload: 'auto' }));
  expect(await daemon.reload()).toMatchObject({ applied: true });
  expect(await rule(daemon, 'bad')).toMatchObject({ runs: 'kernel', why: '' });

  const ids = bpfIdsOf(daemon.pid);
  await daemon.killHard();
  await expect.poll(() => bpfObjects().filter((id) => ids.includes(id))).toEqual([]);
  expect(xdpProgram(wire.node)).toBeNull();
});
