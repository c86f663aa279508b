/** A trial of a peer in the pps bench: arranged, loaded, accounted for packet by packet, and taken back. */
import type { LoadResult } from '../../src/generator/engine.js';
import { ChildError } from '../process.js';
import { since } from '../pps/account.js';
import { BACKENDS, bytesCounted, MACS, PACED, PORT, VIP, type PpsCase } from '../pps/cases.js';
import type { LinkCounts, PpsRig } from '../pps/rig.js';
import { arrange, clear, ipCounts, nftRules, type LinuxPeer, type LinuxPlan } from './linux.js';
import type { PeerKind } from './peers.js';
import { readTestpmd, testpmdCommand, testpmdReady, type TestpmdCounts } from './testpmd.js';
import { writeFileSync } from 'node:fs';

/** How long each load of a trial takes, ms; pacedMs 0: none at a rate that all carry. */
export interface PeerEffort {
  warmMs: number;
  ms: number;
  pacedMs: number;
}

/** As a trial of the other programs. */
export interface PeerTrial {
  offered: number;
  done: number;
  paced: { carried: number; cpuNs: number } | null;
}

/** What d0's driver handed on: to a socket (redirect), or not, as there was no room (drops); a peer without XDP has neither. */
export interface ReceivedCounts {
  packets: number;
  redirected: number;
  drops: number;
}

/** Of one load. `discarded`: by IP, for a reason that it counts. */
export interface PeerCounts extends ReceivedCounts {
  discarded: number;
  load: Pick<LoadResult, 'packets' | 'sent' | 'dropped'>;
  peer: LinkCounts;
}

/** What is wrong with the account of a load; '' when each packet is in it. */
export function accountPeer(kind: PeerKind, wanted: Pick<PpsCase, 'mode' | 'by'>, counts: PeerCounts): string {
  const { load, peer, packets, redirected, drops, discarded } = counts;
  if (load.sent + load.dropped !== load.packets) return 'the interface did not get all packets that were made';
  if (packets !== load.sent) return 'not all that was sent came in';
  if (peer.packets === 0) return 'nothing arrived';
  if (peer.bytes !== peer.packets * bytesCounted(wanted)) return 'packets arrived that do not have the right length';
  if (peer.drops !== peer.packets) return 'the sink did not drop all that arrived';
  const left = peer.packets + peer.txDropped;
  if (!kind.startsWith('testpmd')) return left + discarded === load.sent ? '' : 'packets came in that did not leave';
  if (redirected + drops !== load.sent) return 'packets were neither given to the socket nor dropped at its ring';
  return left <= redirected ? '' : 'more left than was received';
}

/** The same of the life of a testpmd, by its own counters. */
export function accountTestpmd(said: TestpmdCounts, given: ReceivedCounts, peer: LinkCounts): string {
  if (said.received !== given.redirected) return 'it did not receive all that its socket was given';
  if (said.sent + said.dropped !== said.received) return 'packets were received that did not leave';
  return peer.packets + peer.txDropped === said.sent ? '' : 'packets left that did not arrive';
}

/** @throws ChildError when it does not run, or a packet is missing */
export async function peerTrial(rig: PpsRig, wanted: PpsCase, kind: PeerKind, effort: PeerEffort): Promise<PeerTrial> {
  if (kind === 'testpmd-io' || kind === 'testpmd-mac') return testpmdTrial(rig, wanted, kind, effort);
  const plan: LinuxPlan = { vip: VIP, port: PORT, backends: BACKENDS, nextHop: MACS.s0, d0: MACS.d0 };
  return linuxTrial(rig, wanted, kind, plan, effort);
}

async function linuxTrial(
  rig: PpsRig,
  wanted: PpsCase,
  kind: LinuxPeer,
  plan: LinuxPlan,
  effort: PeerEffort,
): Promise<PeerTrial> {
  const rules = rig.path('peer.nft');
  if (kind === 'nft-dnat' || kind === 'nft-stateless') writeFileSync(rules, nftRules(kind, plan));
  arrange(rig.node, kind, plan, rules);
  try {
    return await loads(rig, wanted, kind, effort);
  } finally {
    clear(rig.node, kind, plan);
  }
}

async function testpmdTrial(
  rig: PpsRig,
  wanted: PpsCase,
  kind: 'testpmd-io' | 'testpmd-mac',
  effort: PeerEffort,
): Promise<PeerTrial> {
  const before = { given: received(rig), peer: rig.peer(wanted) };
  const program = rig.start(wanted.name, ...testpmdCommand(kind === 'testpmd-io' ? 'io' : 'mac', ['d0', 'd1']));
  const output: string[] = [];
  program.on('line', (line) => output.push(line));
  let trial: PeerTrial;
  try {
    await testpmdReady(program);
    trial = await loads(rig, wanted, kind, effort);
  } finally {
    await program.stop();
  }
  const said = readTestpmd(output);
  const given = since(before.given, received(rig));
  const peer = since(before.peer, await rig.settledPeer(wanted));
  const wrong = said === null ? 'it ended without its statistics' : accountTestpmd(said, given, peer);
  if (wrong !== '') throw new ChildError(`${wanted.name}: ${wrong}: ${JSON.stringify({ said, given, peer })}`);
  return trial;
}

async function loads(rig: PpsRig, wanted: PpsCase, kind: PeerKind, effort: PeerEffort): Promise<PeerTrial> {
  await measure(rig, wanted, kind, effort.warmMs, 0);
  const { load, peer } = await measure(rig, wanted, kind, effort.ms, 0);
  const seconds = load.elapsedMs / 1000;
  const trial = { offered: load.packets / seconds, done: peer.packets / seconds };
  if (effort.pacedMs === 0) return { ...trial, paced: null };
  const slow = await measure(rig, wanted, kind, effort.pacedMs, PACED);
  return { ...trial, paced: { carried: slow.peer.packets / slow.load.packets, cpuNs: 0 } };
}

interface Measured {
  load: LoadResult;
  peer: LinkCounts;
}

async function measure(rig: PpsRig, wanted: PpsCase, kind: PeerKind, ms: number, rate: number): Promise<Measured> {
  const before = { received: received(rig), peer: await rig.settledPeer(wanted), ip: ipCounts(rig.node) };
  const load = await rig.send(wanted, ms, rate);
  const peer = since(before.peer, await rig.settledPeer(wanted));
  const { discarded } = since(before.ip, ipCounts(rig.node));
  const counts = { ...since(before.received, received(rig)), discarded, load, peer };
  const wrong = accountPeer(kind, wanted, counts);
  if (wrong !== '') throw new ChildError(`${wanted.name}: ${wrong}: ${JSON.stringify(counts)}`);
  return { load, peer };
}

function received(rig: PpsRig): ReceivedCounts {
  const said = rig.node.exec('ethtool', '-S', 'd0');
  const counter = (name: string): number => Number(new RegExp(`rx_queue_0_${name}: (\\d+)`).exec(said)?.[1]);
  return { packets: counter('xdp_packets'), redirected: counter('xdp_redirect'), drops: counter('drops') };
}
