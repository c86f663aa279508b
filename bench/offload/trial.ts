/** One load of one balancer, from rest to rest, and all its packets accounted for. */
import { setTimeout as pause } from 'node:timers/promises';
import { since as sinceReport } from '../pps/account.js';
import { ChildError } from '../process.js';
import { account, accountDaemon, since } from './account.js';
import type { OffloadCase } from './cases.js';
import type { LinkCounts } from './links.js';
import type { OffloadRig } from './rig.js';
import type { SenderResult } from './sender.js';

export interface OffloadTrial {
  /** Packets a second: made by the sender, and arrived at the end of the way. */
  offered: number;
  done: number;
  /** CPU time of the sending thread a packet that it made, ns: with it the XDP programs and, one way or the other, what the kernel does for packets that leave. */
  senderNs: number;
  /** CPU time of the daemon a packet that arrived, ns; 0 for others. */
  daemonNs: number;
  /** Part of the packets sent here that the kernel sent on by itself: all or none but with `auto`. */
  inKernel: number;
}

export async function trial(rig: OffloadRig, wanted: OffloadCase, warmMs: number, ms: number): Promise<OffloadTrial> {
  switch (wanted.by) {
    case 'auto':
    case 'off':
      return daemonTrial(rig, wanted, wanted.by, warmMs, ms);
    case 'c':
      return cTrial(rig, wanted, warmMs, ms);
    case 'xdp':
      await rig.limit(wanted.way);
      return kernelTrial(rig, wanted, ms);
    default:
      // For conntrack to know the flows.
      await rig.send(wanted.by, wanted.way, { flows: wanted.flows, durationMs: warmMs });
      return kernelTrial(rig, wanted, ms);
  }
}

async function kernelTrial(rig: OffloadRig, wanted: OffloadCase, ms: number): Promise<OffloadTrial> {
  const { by, way, flows } = wanted;
  const before = await rig.settledPeer(by, way);
  const load = await rig.send(by, way, { flows: flows || 64, durationMs: ms });
  const peer = since(before, await rig.settledPeer(by, way));
  return result(wanted, load, peer, 0, { daemonNs: 0, inKernel: 1 });
}

async function daemonTrial(
  rig: OffloadRig,
  wanted: OffloadCase,
  mode: 'auto' | 'off',
  warmMs: number,
  ms: number,
): Promise<OffloadTrial> {
  const { way, flows } = wanted;
  const daemon = rig.daemons[mode];
  // Code of workers is as they run it all the time, and caches are warm.
  await rig.send(mode, way, { flows, durationMs: warmMs });
  const before = { did: await daemon.settled(way), peer: await rig.settledPeer(mode, way) };
  const cpuBefore = daemon.cpuNs();
  const load = await rig.send(mode, way, { flows, durationMs: ms });
  // For what is still in the ring.
  await pause(20);
  const cpuNs = daemon.cpuNs() - cpuBefore;
  const did = since(before.did, await daemon.settled(way));
  const peer = since(before.peer, await rig.settledPeer(mode, way));
  const wrong = accountDaemon(mode, load, did);
  if (wrong !== '') throw new ChildError(`${wanted.name}: ${wrong}: ${JSON.stringify({ load, did, peer })}`);
  const inKernel = (did.rx - did.inWorkers) / load.sent;
  return result(wanted, load, peer, did.lost + did.dropped, { daemonNs: cpuNs / peer.packets, inKernel });
}

async function cTrial(rig: OffloadRig, wanted: OffloadCase, warmMs: number, ms: number): Promise<OffloadTrial> {
  const { by, way, flows } = wanted;
  const subject = await rig.startC(way);
  try {
    await rig.send(by, way, { flows, durationMs: warmMs });
    const before = { did: await subject.settled(), peer: await rig.settledPeer(by, way) };
    const load = await rig.send(by, way, { flows, durationMs: ms });
    const did = sinceReport(before.did, await subject.settled());
    const peer = since(before.peer, await rig.settledPeer(by, way));
    return result(wanted, load, peer, did.missed + did.txLost + did.dropped, { daemonNs: 0, inKernel: 0 });
  } finally {
    await subject.end();
  }
}

function result(
  { name, by }: OffloadCase,
  load: SenderResult,
  peer: LinkCounts,
  lost: number,
  more: Pick<OffloadTrial, 'daemonNs' | 'inKernel'>,
): OffloadTrial {
  const wrong = account(by, load, peer, lost);
  if (wrong !== '') throw new ChildError(`${name}: ${wrong}: ${JSON.stringify({ load, peer, lost })}`);
  const seconds = load.elapsedMs / 1000;
  const senderNs = (load.cpuMs * 1e6) / load.packets;
  return { offered: load.packets / seconds, done: peer.packets / seconds, senderNs, ...more };
}
