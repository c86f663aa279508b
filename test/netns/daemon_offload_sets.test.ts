/** Sets and the allow list in the kernel, by the daemon: they drop and count what workers would, and go along with every change. */
import { expect, it } from 'vitest';
import { callControl } from '../../src/control/api/client.js';
import type { ListedSet, Status } from '../../src/control/api/contract.js';
import {
  bpfIdsOf,
  bpfObjects,
  daemonConfig,
  interfaceOf,
  metric,
  NODE,
  pause,
  TestDaemon,
  Wire,
  type Receiver,
  type Sender,
} from '../support/daemon.js';
import { expectGood } from '../support/good_through.js';

/** Addresses of the client, each with a VIP that it sends to and where nobody serves the port: what nothing drops is left to the host. */
const ONE = { address: '10.90.0.66', vip: '198.51.100.11' };
const TWO = { address: '10.90.0.67', vip: '198.51.100.12' };
const PORT = 7777;

const BLOCKED = { name: 'blocked', type: 'hash:net', timeout: 0, counters: true, entries: [ONE.address], drop: 'src' };
const SOCKETS = { name: 'sockets', type: 'hash:ip,port', entries: [`${TWO.address},udp:${PORT}`] };
const SPARE = { name: 'spare', type: 'hash:net', timeout: 0, counters: true, entries: ['10.99.0.0/16'] };
const RULE = { name: 'asked', match: { set: { name: 'sockets', key: 'src,dst' } }, action: 'drop' };
const PARTS = { filters: ['sanity', 'rules'], sets: [BLOCKED, SOCKETS, SPARE], rules: [RULE] };

interface Rig {
  wire: Wire;
  receiver: Receiver;
  daemon: TestDaemon;
  good: Sender;
}

function configOf(wire: Wire, parts: object): Record<string, unknown> {
  const config = daemonConfig(wire, { ...PARTS, ...parts });
  const others = [ONE, TWO].map(({ vip }, i) => ({ name: `other${i}`, vip, protocol: 'udp', port: 9, backends: [] }));
  return { ...config, services: [...(config.services as unknown[]), ...others] };
}

async function underTraffic(parts: object): Promise<Rig> {
  const wire = new Wire({ backend: true });
  for (const { address, vip } of [ONE, TWO]) {
    wire.client.ip(`address add ${address}/24 dev eth0`, `route add ${vip}/32 via ${NODE} src ${address}`);
  }
  const receiver = await wire.receive();
  const daemon = await TestDaemon.start(wire, configOf(wire, parts));
  return { wire, receiver, daemon, good: await wire.send({ ratePerSecond: 1000 }) };
}

async function reload({ daemon, wire }: Rig, parts: object): Promise<void> {
  daemon.configure(configOf(wire, parts));
  expect(await daemon.reload()).toMatchObject({ applied: true });
}

/** What `sluice set METHOD` asks the daemon. */
async function set(
  daemon: TestDaemon,
  method: 'add' | 'del' | 'flush' | 'swap' | 'restore',
  params: object,
): Promise<void> {
  await callControl(daemon.socket, `sets.${method}`, params as never, 10_000);
}

async function listed(daemon: TestDaemon, name: string): Promise<ListedSet> {
  const { sets } = await callControl(daemon.socket, 'sets.list', {}, 10_000);
  return sets.find((one) => one.name === name)!;
}

/** What became of packets for the VIPs that nobody serves. */
interface Fate {
  /** By XDP. */
  sets: number;
  rules: number;
  /** By workers. */
  dropped: number;
  left: number;
}

function fateOf(status: Status): Fate {
  const xdp = interfaceOf(status).xdp!;
  return { sets: xdp.sets, rules: xdp.rules, dropped: status.totals.drop, left: status.totals.pass };
}

/** Sends packets from one of the addresses, and waits until this became of them. */
async function send({ wire, daemon }: Rig, { vip }: typeof ONE, packets: number, fate: Partial<Fate>): Promise<void> {
  const before = fateOf(await daemon.status());
  await (await wire.send({ address: vip, port: PORT, packets, bytes: 64, flows: 4, ratePerSecond: 5000 })).sent();
  const moved = async (): Promise<Fate> => {
    const now = fateOf(await daemon.status());
    return {
      sets: now.sets - before.sets,
      rules: now.rules - before.rules,
      dropped: now.dropped - before.dropped,
      left: now.left - before.left,
    };
  };
  await expect.poll(moved).toEqual({ sets: 0, rules: 0, dropped: 0, left: 0, ...fate });
}

it('drop and count in the kernel as in the workers', async () => {
  const rig = await underTraffic({ offload: 'off' });
  const { daemon } = rig;
  const counted = async () => {
    const { packets, packetBytes } = await listed(daemon, 'blocked');
    const asked = await listed(daemon, 'sockets');
    const entry = (await callControl(daemon.socket, 'sets.entries', { set: 'blocked' }, 10_000)).entries[0].counters!;
    const { body } = daemon.metrics();
    const rule = metric(body, 'sluice_rule_packets_total{rule="asked"}');
    expect(metric(body, 'sluice_set_match_packets_total{set="blocked"}')).toBe(packets);
    return [packets, packetBytes, asked.packets, asked.packetBytes, entry.packets, entry.bytes, rule];
  };
  let before = await counted();
  for (const offload of ['off', 'auto'] as const) {
    await reload(rig, { offload });
    await send(rig, ONE, 500, offload === 'off' ? { dropped: 500 } : { sets: 500 });
    await send(rig, TWO, 300, offload === 'off' ? { dropped: 300 } : { rules: 300 });
    const now = await counted();
    const bytes = 64 + 28;
    expect(now.map((n, i) => n - before[i])).toEqual([500, 500 * bytes, 300, 300 * bytes, 500, 500 * bytes, 300]);
    before = now;
    const inKernel = async (name: string) => (await listed(daemon, name)).kernel;
    expect(await Promise.all(['blocked', 'sockets', 'spare'].map(inKernel))).toEqual(
      offload === 'off' ? [null, null, null] : ['', '', null],
    );
  }
  expect(daemon.cli('set', 'list').stdout).toMatch(/IN KERNEL[^]*blocked .* src +yes/);
  expect(daemon.cli('rules', 'list').stdout).toMatch(/asked .*kernel/);
  expect(metric(daemon.metrics().body, 'sluice_xdp_packets_total{interface="in0",action="sets"}')).toBe(500);
  await expectGood(rig, rig.good);
});

it('go along with changes at run time, swaps, reloads, and the allow list', async () => {
  const rig = await underTraffic({ offload: 'require' });
  const { daemon } = rig;
  await send(rig, ONE, 200, { sets: 200 });
  await set(daemon, 'del', { set: 'blocked', entries: [ONE.address] });
  await send(rig, ONE, 200, { left: 200 });
  await set(daemon, 'add', { set: 'blocked', entries: [ONE.address], timeout: 2 });
  const addedMs = performance.now();
  await send(rig, ONE, 200, { sets: 200 });
  // At least two seconds, at most three.
  await pause(3050 - (performance.now() - addedMs));
  await send(rig, ONE, 200, { left: 200 });
  await set(daemon, 'add', { set: 'blocked', entries: ['10.90.0.64/29', `${ONE.address} nomatch`] });
  await send(rig, ONE, 200, { left: 200 });
  await send(rig, TWO, 200, { sets: 200 });
  await set(daemon, 'swap', { set: 'blocked', with: 'spare' });
  await send(rig, TWO, 200, { rules: 200 });
  await set(daemon, 'swap', { set: 'blocked', with: 'spare' });
  await send(rig, TWO, 200, { sets: 200 });
  await set(daemon, 'flush', { set: 'blocked' });
  await send(rig, ONE, 200, { left: 200 });
  await reload(rig, { offload: 'require', sets: [{ ...BLOCKED, entries: [TWO.address] }, SOCKETS] });
  await send(rig, TWO, 200, { sets: 200 });
  await reload(rig, { offload: 'require', allow: [TWO.address] });
  await send(rig, TWO, 200, { left: 200 });
  await send(rig, ONE, 200, { sets: 200 });
  const allowed = { name: 'friends', type: 'hash:ip', entries: [ONE.address] };
  await reload(rig, { offload: 'require', allow: ['set:friends'], sets: [BLOCKED, SOCKETS, allowed] });
  await send(rig, ONE, 200, { left: 200 });
  await set(daemon, 'del', { set: 'friends', entries: [ONE.address] });
  await send(rig, ONE, 200, { sets: 200 });
  await expectGood(rig, rig.good);
  const ids = bpfIdsOf(daemon.pid);
  expect((await daemon.stop()).code).toBe(0);
  await expect.poll(() => bpfObjects().filter((id) => ids.includes(id))).toEqual([]);
});

it('are never empty while others take their place, and are gone from the kernel when nothing needs them', async () => {
  const rig = await underTraffic({ offload: 'auto' });
  const { daemon, wire } = rig;
  const kernelMaps = () => bpfIdsOf(daemon.pid).length;
  const before = { fate: fateOf(await daemon.status()), maps: kernelMaps() };
  const bad = await wire.send({ address: ONE.vip, port: PORT, bytes: 64, flows: 4, ratePerSecond: 3000 });
  for (let i = 0; i < 20; i++) {
    const others = Array.from({ length: 2000 }, (_, k) => `add blocked 10.${100 + i}.${k >> 8}.${k & 255}`);
    await set(daemon, 'restore', {
      text: ['create blocked hash:net timeout 0 counters', `add blocked ${ONE.address}`, ...others].join('\n'),
    });
    await pause(50);
  }
  const sent = await bad.stop();
  expect(sent).toBeGreaterThan(1500);
  // The first packets of a new set may meet it in the workers: dropped by either, and by no means let through.
  const gone = async () => {
    const { sets, dropped, left } = fateOf(await daemon.status());
    return [sets - before.fate.sets + dropped - before.fate.dropped, left - before.fate.left];
  };
  await expect.poll(gone).toEqual([sent, 0]);
  expect((await listed(daemon, 'blocked')).packets).toBe(sent);
  // Each restored set had maps of its own.
  await expect.poll(kernelMaps).toBe(before.maps);
  await reload(rig, { offload: 'auto', sets: [SOCKETS], rules: [] });
  await expect.poll(kernelMaps).toBeLessThan(before.maps);
  await expectGood(rig, rig.good);
});
