/** Whether all packets of a trial are accounted for: only then it is a number. */
import { FRAME_BYTES, OUTER_BYTES, type By } from './cases.js';
import type { DaemonCounts } from './daemon.js';
import type { LinkCounts } from './links.js';
import type { SenderResult } from './sender.js';

const ETHERNET_BYTES = 14;

/**
 * Bytes that veth counts for a packet that arrives: of the frame where that comes from an XDP program, without the Ethernet header where it comes as an
 * skb, which is how AF_XDP sends in copy mode and how the kernel forwards. Least and most.
 */
export function bytesCounted(by: By): readonly [number, number] {
  const wrapped = FRAME_BYTES + OUTER_BYTES;
  switch (by) {
    case 'xdp':
      return [FRAME_BYTES, FRAME_BYTES];
    case 'auto':
      return [wrapped - ETHERNET_BYTES, wrapped];
    case 'off':
    case 'c':
      return [wrapped - ETHERNET_BYTES, wrapped - ETHERNET_BYTES];
    default:
      return [FRAME_BYTES - ETHERNET_BYTES, FRAME_BYTES - ETHERNET_BYTES];
  }
}

export type Sent = Pick<SenderResult, 'packets' | 'sent' | 'dropped'>;

/**
 * What of a trial's packets is missing, or too much; '' when all is well. Counts are those of the trial.
 *
 * @param lost packets that the balancer says it lost, on the way to user space or for want of room on the way out
 */
export function account(by: By, load: Sent, peer: LinkCounts, lost: number): string {
  if (load.sent + load.dropped !== load.packets) return 'the interface did not get all packets that were made';
  if (peer.packets === 0) return 'nothing arrived';
  if (peer.packets + peer.txDropped + lost !== load.sent)
    return 'packets were sent that neither arrived nor were lost by anybody’s count';
  const [least, most] = bytesCounted(by);
  if (peer.bytes < least * peer.packets || peer.bytes > most * peer.packets)
    return 'packets arrived that do not have the right length';
  return peer.drops === peer.packets ? '' : 'the peer did not drop all that arrived';
}

/** The same of the daemon's own counters. */
export function accountDaemon(by: By, load: Sent, did: DaemonCounts): string {
  if (did.rx + did.lost !== load.sent) return 'sluice has not counted all packets that were sent';
  if (did.service + did.dropped !== did.rx) return 'sluice had packets in hand that it neither balanced nor dropped';
  if (did.backends !== did.service) return 'counters of the backends do not add up to that of their service';
  if (by === 'off' && did.inWorkers !== did.rx) return 'the kernel sent packets, which was meant not to';
  return '';
}

/** Counts since then. */
export function since<T extends object>(before: T, after: T): T {
  const former = before as Record<string, number>;
  return Object.fromEntries(
    Object.entries(after).map(([name, value]) => [name, (value as number) - former[name]]),
  ) as T;
}
