/** The whole daemon, zero-copy on two drivers at once. */
import assert from 'node:assert/strict';
import { native } from '../../../src/native.js';
import { PacketBuilder } from '../../support/packet_builder.js';
import { CLIENT, Daemon, deadlyDatagram, NODE } from './daemon_rig.js';
import { note, test } from './harness.js';
import { carrier, command, hardwareAddress } from './pairs.js';

const modes = (status: { interfaces: { name: string; mode: string | null; zeroCopy: boolean | null }[] }) =>
  status.interfaces.map(({ name, mode, zeroCopy }) => `${name} ${mode} ${zeroCopy}`);
const ZERO_COPY = ['vnear native true', 'gnear native true'];

/** What no frame may be left in once there is nothing to do. */
function assertQuiet(status: Awaited<ReturnType<Daemon['status']>>): void {
  assert.deepEqual([status.violations, status.drops, status.totals.aborted], [[], {}, 0]);
  for (const { frames, kernelLost } of status.workers) {
    assert.equal(frames.free + frames.fill + frames.rx + frames.tx + frames.held, frames.total);
    assert.equal(kernelLost, 0);
  }
}

/** One daemon for the tests but the last: to start it takes seconds on this machine. */
let first: Daemon | undefined;

async function running(): Promise<Daemon> {
  if (first === undefined) {
    first = await Daemon.start({ deadly: true });
  }
  first.connect();
  return first;
}

test('sluice run: balances from virtio_net to igb, every byte right, and the host keeps its own', async () => {
  const daemon = await running();
  const before = await daemon.status();
  assert.deepEqual(modes(before), ZERO_COPY);
  await daemon.carries(0, 500);
  const after = await daemon.until(({ totals }) => totals.redirect === 500, 'all are counted');
  assert.equal(after.totals.rx, 500);
  assertQuiet(after);
  // What is not for the VIP stays with the kernel, which answers through the same driver.
  const ping = new PacketBuilder()
    .ethernet({ src: hardwareAddress('vfar'), dst: hardwareAddress('vnear') })
    .ipv4({ src: CLIENT, dst: NODE })
    .icmp({ type: 8, rest: 7 })
    .payload('zero-copy')
    .build();
  daemon.client.send([ping]);
  const [pong] = daemon.client.expect(1);
  assert.deepEqual([pong[23], pong[34], Buffer.from(pong.subarray(42, 51)).toString()], [1, 0, 'zero-copy']);
});

test('sluice run: goes on after a dead worker, a link that was down and a kill', async () => {
  const daemon = await running();
  daemon.client.send([deadlyDatagram()]);
  const begin = performance.now();
  const restarted = await daemon.until(
    ({ workers, ready }) => ready && workers[0].restarts === 1,
    'it has a new worker',
  );
  note(`worker back after ${Math.round(performance.now() - begin)} ms`);
  assert.deepEqual(modes(restarted), ZERO_COPY);
  carrier('gnear', 'gfar', 'vnear', 'vfar');
  await daemon.carries(1000, 100);

  command('ip', 'link', 'set', 'vnear', 'down');
  const down = await daemon.until(({ ready }) => !ready, 'it says that a link is down');
  assert.deepEqual(down.missing, ['interface vnear is down']);
  command('ip', 'link', 'set', 'vnear', 'up');
  await daemon.until(({ ready }) => ready, 'the link is back');
  command('ip', 'neigh', 'replace', CLIENT, 'lladdr', hardwareAddress('vfar'), 'dev', 'vnear', 'nud', 'permanent');
  await daemon.carries(2000, 100);
  const status = await daemon.status();
  assert.deepEqual([status.violations, modes(status)], [[], ZERO_COPY]);
  assert.equal(status.workers[0].restarts, 1);

  await daemon.kill();
  first = undefined;
  for (const name of ['vnear', 'gnear']) assert.equal(native().queryXdp(native().linkInfo(name).ifindex), null);
});

test('sluice run: starts after a kill, and flows that the kernel takes over leave as the same bytes', async () => {
  const daemon = await Daemon.start({ flow_offload: 'auto' });
  daemon.connect();
  // A flow is offered to the kernel after its 16th packet on the short way.
  for (let part = 0; part < 3; part++) await daemon.carries(part * 400, 400);
  const status = await daemon.until(
    ({ flowOffload }) => flowOffload!.interfaces[0].flows >= 16,
    'flows are in the kernel',
  );
  const byWorkers = status.workers.reduce((sum, worker) => sum + worker.redirect, 0);
  await daemon.carries(3000, 300);
  const after = await daemon.until(({ totals }) => totals.redirect >= 1500, 'all are counted');
  const later = after.workers.reduce((sum, worker) => sum + worker.redirect, 0) - byWorkers;
  note(`${300 - later} of 300 packets were the kernel's`);
  assert.ok(later < 60, `${later} of 300 packets came to the worker`);
  assert.deepEqual([after.totals.redirect, after.violations, modes(after)], [1500, [], ZERO_COPY]);
  await daemon.stop();
  for (const name of ['vnear', 'gnear']) assert.equal(native().queryXdp(native().linkInfo(name).ifindex), null);
});
