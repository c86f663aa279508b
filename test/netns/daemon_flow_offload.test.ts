/** Flows in the kernel, by the daemon: the same packets, the same counters, and back to user space whenever something changes. */
import { expect, it } from 'vitest';
import type { Status } from '../../src/control/api/contract.js';
import { daemonConfig, interfaceOf, TestDaemon, Wire, type Receiver } from '../support/daemon.js';


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
    const sender = await wire.send({ packets: 9000, ratePerSecond: 3000, flows: 8 });
    expect(await sender.sent()).toBe(9000);
    await expect.poll(async () => (await receiver.stats()).decap.decap_4in4, { timeout: 5000 }).toBe(9000);
    const { received, noRoom, badChecksum } = await receiver.stats();
    expect([received + noRoom, badChecksum]).toEqual([9000, 0]);
    await expect.poll(async () => (await daemon.status()).totals.rx, { timeout: 3000 }).toBe(9000);
    const status = await daemon.status();
    expect(status.violations).toEqual([]);
    seen.push(figures(status));
    const kernel = inKernel(status);
    if (flow_offload === 'off') expect(kernel).toBe(0);
    else expect(kernel).toBeGreaterThan(6000);
    const { seen: all, redirect, pass, drop, aborted, tx } = interfaceOf(status).xdp!;
    expect(all).toBe(redirect + pass + drop + aborted + tx);
    await daemon.stop();
  }
  expect(seen[1]).toEqual(seen[0]);
});
