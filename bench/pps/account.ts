/** Whether all packets of a trial are accounted for: only then it is a number. */
import type { BenchCounts } from '../../src/bench/modes.js';
import type { LoadResult } from '../../src/generator/engine.js';
import { bytesCounted, leavesBy, type PpsCase } from './cases.js';
import type { LinkCounts } from './rig.js';

type Sent = Pick<LoadResult, 'packets' | 'sent' | 'dropped'>;

/** What of the packets that a program in user space had to do with is not right; '' when all is well. Counts are those of the trial. */
export function account(
  wanted: Pick<PpsCase, 'mode' | 'by'>,
  load: Sent | null,
  did: BenchCounts,
  peer: LinkCounts,
): string {
  const { mode } = wanted;
  if (load !== null) {
    if (load.sent + load.dropped !== load.packets) return 'the interface did not get all packets that were made';
    if (did.rx + did.missed !== load.sent) return 'packets were neither received nor missed';
    if (did.rx === 0) return 'nothing was received';
  }
  if (leavesBy(mode) === null) return did.dropped === did.rx ? '' : 'packets were received that were not dropped';
  if (load !== null && did.tx + did.txLost + did.dropped !== did.rx) return 'packets were received that did not leave';
  if (did.dropped !== 0) return 'packets were dropped that were to leave';
  if (peer.packets === 0) return 'nothing arrived';
  if (peer.packets + peer.txDropped !== did.tx)
    return 'packets left that neither arrived nor were dropped by the interface';
  if (peer.bytes !== peer.packets * bytesCounted(wanted)) return 'packets arrived that do not have the right length';
  return peer.drops === peer.packets ? '' : 'the peer did not drop all that arrived';
}

/** The same of an XDP program that does the job. What the other end's ring had no room for is in no counter: it may be less that arrives. */
export function accountKernel(wanted: Pick<PpsCase, 'mode' | 'by'>, load: Sent, peer: LinkCounts): string {
  if (load.sent + load.dropped !== load.packets) return 'the interface did not get all packets that were made';
  if (peer.packets === 0) return 'nothing arrived';
  if (peer.bytes !== peer.packets * bytesCounted(wanted)) return 'packets arrived that do not have the right length';
  if (peer.drops !== peer.packets) return 'packets arrived that were not dropped';
  if (leavesBy(wanted.mode) === null && peer.packets !== load.sent) return 'packets were sent that did not arrive';
  return peer.packets <= load.sent ? '' : 'more arrived than was sent';
}

/** Counts since then. */
export function since<T extends object>(before: T, after: T): T {
  const entries = Object.entries(after).filter((entry): entry is [string, number] => typeof entry[1] === 'number');
  const former = before as Record<string, number>;
  return Object.fromEntries(entries.map(([name, value]) => [name, value - former[name]])) as T;
}
