/** Flows in the kernel while something changes around them. */
import { writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { BACKEND, bpfIdsOf, bpfObjects, pause, xdpProgram } from '../support/daemon.js';
import { FlowRig, inKernel } from '../support/flow_daemon.js';

const RATE = { ratePerSecond: 2000, flows: 8 };

it('a capture sees every packet while it runs, one of dropped packets takes nothing out, and the mode can be switched', async () => {
  const rig = await FlowRig.start();
  const { wire, daemon } = rig;
  const sender = await wire.send(RATE);
  await rig.offloaded();
  const file = wire.playground.path('all.pcap');
  const all = daemon.cli('capture', '-c', '1500', '-w', file, '--interface', 'in0');
  expect([all.code, all.stderr]).toEqual([0, expect.stringContaining('1,500 frames captured')]);
  await rig.offloaded();
  const { installed } = await rig.flowsOn();
  const dropped = daemon.cli('capture', '--verdict', 'drop', '--duration', '1', '-w', file);
  expect(dropped.code).toBe(0);
  expect((await rig.flowsOn()).installed).toBe(installed);
  expect(await rig.share()).toBeGreaterThan(0.9);

  for (const flow_offload of ['off', 'auto', 'off', 'auto']) {
    await rig.reload({ flow_offload });
    if (flow_offload === 'auto') await rig.offloaded();
    else expect(await rig.share()).toBeLessThan(0.02);
  }
  const sent = await sender.stop();
  await expect.poll(() => rig.received()).toBe(sent);
  await expect.poll(async () => (await daemon.status()).totals.rx).toBe(sent);
  const status = await daemon.status();
  expect([status.totals.redirect, status.services[0].packets, status.violations]).toEqual([sent, sent, []]);
});

it('the next hop has another hardware address: packets go there, and none is lost but those on their way', async () => {
  const rig = await FlowRig.start();
  const { wire, daemon } = rig;
  const sender = await wire.send(RATE);
  await rig.offloaded();
  const before = inKernel(await daemon.status());
  wire.backend!.ip('link set eth0 address 02:00:00:00:91:77');
  wire.node.ip(`neigh replace ${BACKEND} lladdr 02:00:00:00:91:77 dev out0 nud reachable`);
  await pause(500);
  const from = await rig.received();
  await rig.offloaded();
  await pause(500);
  // From then on all arrive, though a wrong address would be dropped there.
  const to = await rig.received();
  expect(to - from).toBeGreaterThan(1200);
  expect(inKernel(await daemon.status()) - before).toBeGreaterThan(1200);
  const sent = await sender.stop();
  await pause(300);
  const status = await daemon.status();
  expect(status.services[0].packets).toBe(sent);
  expect(sent - (await rig.received())).toBeLessThan(sent / 2);
  expect(status.violations).toEqual([]);
});

it('a service that goes takes its flows out; it ends with nothing left', async () => {
  const rig = await FlowRig.start();
  const { wire, daemon } = rig;
  const ids = bpfIdsOf(daemon.pid);
  const sender = await wire.send(RATE);
  await rig.offloaded();
  expect(bpfIdsOf(daemon.pid).length).toBeGreaterThanOrEqual(ids.length);
  const held = bpfIdsOf(daemon.pid);
  const other = { name: 'other', vip: '198.51.100.11', protocol: 'udp', port: 5000, backends: [{ address: BACKEND }] };
  await rig.reload({ services: [other] });
  await pause(100);
  const gone = await rig.received();
  await pause(400);
  expect(await rig.received()).toBe(gone);
  const udp = { name: 'udp', vip: '198.51.100.10', protocol: 'udp', port: 5000, backends: [{ address: BACKEND }] };
  await rig.reload({ services: [other, udp] });
  await rig.offloaded();

  expect(await daemon.stop()).toEqual({ code: 0, signal: null });
  expect([xdpProgram(wire.node), xdpProgram(wire.node, 'out0')]).toEqual([null, null]);
  expect(daemon.logged('frames are missing')).toEqual([]);
  await expect.poll(() => bpfObjects().filter((id) => held.includes(id))).toEqual([]);
  await sender.stop();
});

it('an interface that goes and comes back has its flows in the kernel again', async () => {
  const rig = await FlowRig.start();
  const { wire, daemon } = rig;
  const first = await wire.send(RATE);
  await rig.offloaded();
  await first.stop();
  wire.node.ip('link del in0');
  await daemon.until(({ ready }) => !ready, 'it notices');
  await expect.poll(async () => (await rig.flowsOn()).why).toBe('the interface is not there');
  const kernel = inKernel(await daemon.status());
  expect(kernel).toBeGreaterThan(0);
  wire.connect();
  wire.client.exec('ethtool', '-K', 'eth0', 'tx', 'off');
  await daemon.until(({ ready }) => ready, 'it serves again');
  const second = await wire.send(RATE);
  await rig.offloaded();
  // The counts of the cache that is gone stay.
  expect(inKernel(await daemon.status())).toBeGreaterThan(kernel);
  const sent = await second.stop();
  expect(sent).toBeGreaterThan(0);
  expect((await daemon.status()).violations).toEqual([]);
});

/** Preloaded in every thread: a worker ends when the file is there, and takes it away. */
const CRASH = (file: string): string => `
  const { isMainThread } = require('node:worker_threads');
  const fs = require('node:fs');
  if (!isMainThread) {
    const load = Atomics.load;
    let calls = 0;
    Atomics.load = (words, at) => {
      if ((++calls & 63) === 0 && fs.existsSync(${JSON.stringify(file)})) {
        try { fs.unlinkSync(${JSON.stringify(file)}); process.exit(9); } catch {}
      }
      return load(words, at);
    };
  }`;

it('a worker that dies leaves its flows to the kernel, which goes on; two workers have theirs side by side', async () => {
  const crash = { file: '', script: '' };
  // The path is known before the daemon starts: it is in the playground of the wire.
  const nodeOptions: string[] = [];
  const rig = await FlowRig.start({
    queues: 2,
    nodeOptions,
    prepare: (wire) => {
      crash.file = wire.playground.path('crash');
      crash.script = wire.playground.path('crash.cjs');
      writeFileSync(crash.script, CRASH(crash.file));
      nodeOptions.push('--require', crash.script);
    },
  });
  const { wire, daemon } = rig;
  const sender = await wire.send({ ...RATE, flows: 16 });
  await rig.offloaded();
  await expect.poll(async () => (await rig.flowsOn()).flows).toBe(16);
  const { workers } = await daemon.status();
  expect(workers.map(({ rx }) => rx > 0)).toEqual([true, true]);

  const before = await rig.received();
  writeFileSync(crash.file, '');
  await daemon.until(({ workers: all }) => all.some(({ restarts }) => restarts === 1), 'a worker is started again');
  expect(await rig.share()).toBeGreaterThan(0.9);
  expect(await rig.received()).toBeGreaterThan(before + 300);
  await daemon.until(({ ready }) => ready, 'all are ready');
  // Those that begin now are taken in too.
  const { installed } = await rig.flowsOn();
  const more = await wire.send({ ...RATE, flows: 16 });
  await expect.poll(async () => (await rig.flowsOn()).installed).toBeGreaterThanOrEqual(installed + 16);
  const sent = (await sender.stop()) + (await more.stop());
  await pause(300);
  // What waited in the rings of the one that died is lost; flows in the kernel lose nothing.
  expect(sent - (await rig.received())).toBeLessThan(500);
  expect((await daemon.status()).violations).toEqual([]);
});
