/** Flows in the kernel, by the daemon: the same packets, the same counters, and back to user space whenever something changes. */
import { expect, it } from 'vitest';
import type { Status } from '../../src/control/api/contract.js';
import { BACKEND, daemonConfig, interfaceOf, pause, TestDaemon, VIP, Wire, type Receiver } from '../support/daemon.js';

interface Rig {
  wire: Wire;
  daemon: TestDaemon;
  receiver: Receiver;
}

function configOf(wire: Wire, parts: Record<string, unknown>): Record<string, unknown> {
  const interfaces = ['in0', 'out0'].map((name) => ({ name, checksum: 'trust' }));
  return daemonConfig(wire, { interfaces, ...parts });
}

async function start(parts: Record<string, unknown>): Promise<Rig> {
  const wire = new Wire({ backend: true });
  wire.client.exec('ethtool', '-K', 'eth0', 'tx', 'off');
  const receiver = await wire.receive();
  const daemon = await TestDaemon.start(wire, configOf(wire, parts));
  return { wire, receiver, daemon };
}

/** Packets that the kernel sent. */
const inKernel = (status: Status): number => status.totals.rx - status.workers.reduce((sum, { rx }) => sum + rx, 0);

const figures = ({ totals, services }: Status): unknown => ({
  totals: { rx: totals.rx, rxBytes: totals.rxBytes, redirect: totals.redirect, tx: totals.tx, txBytes: totals.txBytes },
  flows: totals.flowHit + totals.flowMiss,
  services: services.map(({ name, packets, bytes, backends }) => [
    name,
    packets,
    bytes,
    backends.map((backend) => [backend.packets, backend.bytes]),
  ]),
});

it('sends and counts the same with auto as with off, and most of it in the kernel', async () => {
  const seen: unknown[] = [];
  for (const flow_offload of ['off', 'auto']) {
    const { wire, daemon, receiver } = await start({ flow_offload });
    const sender = await wire.send({ packets: 6000, ratePerSecond: 3000, flows: 8 });
    expect(await sender.sent()).toBe(6000);
    await expect.poll(async () => (await receiver.stats()).decap.decap_4in4).toBe(6000);
    const { received, noRoom, badChecksum } = await receiver.stats();
    expect([received + noRoom, badChecksum]).toEqual([6000, 0]);
    await expect.poll(async () => (await daemon.status()).totals.rx).toBe(6000);
    const status = await daemon.status();
    expect(status.violations).toEqual([]);
    seen.push(figures(status));
    const kernel = inKernel(status);
    if (flow_offload === 'off') expect(kernel).toBe(0);
    else expect(kernel).toBeGreaterThan(2000);
    const { seen: all, redirect, pass, drop, aborted, tx } = interfaceOf(status).xdp!;
    expect(all).toBe(redirect + pass + drop + aborted + tx);
    await daemon.stop();
  }
  expect(seen[1]).toEqual(seen[0]);
});

it('goes back to user space for what only that can do, and loses nothing on the way', async () => {
  const flowsOf = { slots: 16384, timeouts: { udp: '2s' } };
  const { wire, daemon, receiver } = await start({ flow_offload: 'auto', flows: flowsOf });
  const reload = async (parts: Record<string, unknown>): Promise<void> => {
    daemon.configure(configOf(wire, { flow_offload: 'auto', flows: flowsOf, ...parts }));
    expect(await daemon.reload()).toMatchObject({ applied: true });
  };
  const sender = await wire.send({ ratePerSecond: 3000, flows: 8 });
  /** Whether the kernel sends nearly all that comes in half a second. */
  const isOffloaded = async (): Promise<boolean> => {
    const before = await daemon.status();
    await pause(500);
    const after = await daemon.status();
    return inKernel(after) - inKernel(before) > 0.9 * (after.totals.rx - before.totals.rx);
  };
  const flows = async () => (await daemon.status()).flowOffload!;
  await expect.poll(isOffloaded).toBe(true);
  const inside = async () => (await flows()).interfaces.find(({ name }) => name === 'in0');
  await expect.poll(inside).toMatchObject({ why: '', flows: 8 });

  // Longer than it takes to forget a flow that is idle.
  await pause(3000);

  const count = { name: 'see', match: { protocol: 'udp' }, action: 'count' };
  await reload({ rules: [count] });
  // It may match each of the flows, so all of them are void, and none comes back.
  const from = inKernel(await daemon.status());
  await pause(500);
  const counted = await daemon.status();
  expect((await inside())!.why).toBe('');
  // Of 1,500; a status reads totals and workers one after the other.
  expect(Math.abs(inKernel(counted) - from)).toBeLessThan(50);
  expect(counted.totals.flowMiss).toBe(8);
  const drop = { name: 'bad', match: { protocol: 'udp', dport: 7777 }, action: 'drop' };
  await reload({ rules: [drop] });
  // This one may match none.
  await expect.poll(isOffloaded).toBe(true);
  await reload({ rules: [{ ...drop, match: { protocol: 'udp', length: '1000-1500' } }] });
  expect(await isOffloaded()).toBe(false);
  await reload({ rules: [{ ...drop, match: { protocol: 'udp', length: '1000-1500' } }], offload: 'auto' });
  await expect.poll(isOffloaded).toBe(true);

  // Flows stay with a backend that drains, in the kernel too. With another encapsulation they are gone for 20 ms.
  await daemon.setBackend({ state: 'draining' });
  expect(await isOffloaded()).toBe(true);
  await daemon.setBackend({ state: 'active' });
  await reload({ encapsulation: 'gue' });
  await expect.poll(isOffloaded).toBe(true);
  await reload({ flow_offload: 'off' });
  expect((await flows()).why).toBe('flow_offload is off');
  expect(await isOffloaded()).toBe(false);

  const sent = await sender.stop();
  await expect
    .poll(
      async () => ((await receiver.stats()).decap.decap_4in4 ?? 0) + ((await receiver.stats()).decap.decap_gue1 ?? 0),
    )
    .toBe(sent);
  await expect.poll(async () => (await daemon.status()).totals.rx).toBe(sent);
  const status = await daemon.status();
  expect([status.totals.redirect, status.services[0].packets, status.violations]).toEqual([sent, sent, []]);
});

it('lets user space send where the other end of a veth does not take what XDP sends', async () => {
  const wire = new Wire({ backend: true });
  wire.client.exec('ethtool', '-K', 'eth0', 'tx', 'off');
  wire.backend!.exec('ethtool', '-K', 'eth0', 'gro', 'off');
  const daemon = await TestDaemon.start(wire, configOf(wire, { flow_offload: 'auto' }));
  const sender = await wire.send({ packets: 4000, ratePerSecond: 2000, flows: 4 });
  expect(await sender.sent()).toBe(4000);
  const status = await daemon.status();
  expect(inKernel(status)).toBeGreaterThan(0);
  // Of 4,000: those until it was noticed.
  expect(inKernel(status)).toBeLessThan(2000);
  expect(daemon.log.map(({ msg }) => msg)).toContain(
    'flows by this interface stay in user space: it drops what XDP sends',
  );
});

/** Echoes on the VIP. */
const SERVER = `
  const server = require('net').createServer((socket) => {
    socket.on('data', (data) => socket.write(data));
    socket.on('end', () => socket.end());
    socket.on('error', () => undefined);
  });
  server.listen(7000, '198.51.100.10', () => console.log(JSON.stringify({ type: 'ready' })));`;

/** Connections one after the other from the same port, of 2,500 round trips each; most end with a reset, after which the port can be used at once. */
const CLIENT_PROGRAM = `
  const net = require('net');
  const connection = (number) => new Promise((resolve, reject) => {
    const socket = net.connect({ host: '198.51.100.10', port: 7000, localPort: 33000 + (number >> 2), noDelay: true });
    let left = 2500;
    socket.on('error', reject);
    socket.on('connect', () => socket.write('x'));
    socket.on('data', () => {
      if (--left > 0) return void socket.write('x');
      if (number % 4 < 3) { socket.on('close', () => resolve()); socket.resetAndDestroy(); }
      else { socket.on('close', () => resolve()); socket.end(); }
    });
  });
  (async () => {
    for (let i = 0; i < 8; i++) await connection(i);
    console.log(8);
  })().catch((error) => { console.log(String(error)); process.exit(1); });`;

it('carries connections from the first SYN to the last ACK, and the next from the same port', async () => {
  const service = { name: 'tcp', vip: VIP, protocol: 'tcp', port: 7000, backends: [{ address: BACKEND }] };
  const { wire, daemon } = await start({ flow_offload: 'auto', services: [service] });
  wire.backend!.exec('ethtool', '-K', 'eth0', 'tx', 'off');
  // Answers come back through the node.
  wire.node.sysctl({ 'net/ipv4/ip_forward': 1 });
  const server = wire.playground.start(wire.backend!, process.execPath, ['-e', SERVER], { label: 'server' });
  await server.message<{ type: string }>((message) => message.type === 'ready', 10_000);
  const warm = await wire.send({ packets: 1, ratePerSecond: 1000, flows: 1 });
  await warm.sent();
  const said: string = wire.client.exec('timeout', '60', process.execPath, '-e', CLIENT_PROGRAM);
  expect(said.trim()).toBe('8');
  const status = await daemon.status();
  expect(status.violations).toEqual([]);
  expect(inKernel(status)).toBeGreaterThan(100);
});
