/** Has flows put into the kernel, as the daemon admits them: some thousands a second. */
import { setTimeout as pause } from 'node:timers/promises';
import { ChildError } from '../process.js';
import { SOURCES, type Way } from './cases.js';
import type { OffloadRig } from './rig.js';

/** Packets of each flow, above the 16 after which it is offered. */
const PACKETS_EACH = 20;
/** A worker's ring has 1,024 places and is read every 50 ms. */
const RATE = 15_000 * PACKETS_EACH;
/** Announced in one turn, put in force in the next, 50 ms each. */
const TURNS_MS = 200;
/** Tries. */
const PATIENCE = 16;
const AGAIN_EACH = 64;
const AGAIN_RATE = 1_000_000;
const LONG_MS = 60_000;
/** Flows of a thousand that may stay in user space: their set of four is full of others, which chance says of 1.6 of 10,000 sets that 131,072 flows of both ways share. */
const HOMELESS = 1;

/** What came of it. */
export interface Installed {
  way: Way;
  /** Flows that were put in force. */
  flows: number;
  /** Of those, in the time in which each was offered once. Offers come at 15,000 a second, blocks of them one after the other. */
  perSecond: number;
  /** CPU time of the daemon for each in that time, with the packets that it balanced until then, ns. */
  daemonNs: number;
}

/** Each flow of a way, once. @throws ChildError when after some tries more of them than chance explains still come to user space */
export async function install(rig: OffloadRig, way: Way, flows: number): Promise<Installed> {
  const { auto } = rig.daemons;
  const before = await auto.settled(way);
  // The first alone proves that the interface sends; until then no other is let in.
  for (let packets = 0; packets < 2; packets++) {
    await sendAll(rig, way, 1);
    await pause(TURNS_MS);
  }
  const first = await auto.settled(way);
  const [startedMs, cpuBefore] = [performance.now(), auto.cpuNs()];
  await sendAll(rig, way, flows);
  const [elapsedMs, cpuNs] = [performance.now() - startedMs, auto.cpuNs() - cpuBefore];
  await pause(TURNS_MS);
  const once = (await auto.settled(way)).installed - first.installed;
  for (let tries = 0; tries < PATIENCE; tries++) {
    if (tries > 0) await sendAgain(rig, way, flows);
    await pause(TURNS_MS);
    const from = await auto.settled(way);
    await rig.send('auto', way, { flows, packets: flows, durationMs: LONG_MS, packetsPerSecond: RATE });
    const to = await auto.settled(way);
    const homeless = to.inWorkers - from.inWorkers;
    if (homeless <= (flows * HOMELESS) / 1000 && to.rx > from.rx) {
      const each = { perSecond: (once * 1000) / elapsedMs, daemonNs: once > 0 ? cpuNs / once : 0 };
      return { way, flows: to.installed - before.installed, ...each };
    }
  }
  throw new ChildError(`${way}: too many of ${flows} flows stay in user space`);
}

/** In blocks of consecutive addresses, so that what is offered at a time fits the ring. */
async function sendAll(rig: OffloadRig, way: Way, flows: number): Promise<void> {
  const block = Math.min(flows, BLOCK);
  for (let first = 0; first < flows; first += block) {
    const source = `${addressAt(first)}/${32 - Math.log2(BLOCK)}`;
    await rig.send('auto', way, { source, flows: Math.min(block, flows - first), packets: PACKETS_EACH * block, durationMs: LONG_MS, packetsPerSecond: RATE }); // prettier-ignore
  }
}

/** What was refused is offered again after 240 packets more. Most are sent by the kernel, so they may come faster. */
async function sendAgain(rig: OffloadRig, way: Way, flows: number): Promise<void> {
  await rig.send('auto', way, {
    flows,
    packets: AGAIN_EACH * flows,
    durationMs: LONG_MS,
    packetsPerSecond: AGAIN_RATE,
  });
}

const BLOCK = 512;

/** The n-th source. */
function addressAt(n: number): string {
  const [first, second] = SOURCES.split('.').map(Number);
  const value = ((first << 24) | (second << 16)) + n;
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.');
}
