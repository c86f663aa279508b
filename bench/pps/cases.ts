import { MODES, type Mode } from '../../src/bench/modes.js';
import { FIRST_RULE_PORT } from '../../src/bench/tables.js';
import { missing, PEERS, type PeerKind } from '../peers/peers.js';

/** What does the job: a program in the kernel, the reference in C, `sluice bench`, or something else that is to be had. */
export type Doer = 'kernel' | 'c' | 'typescript' | 'peer';
type Own = Exclude<Doer, 'peer'>;

export interface PpsCase {
  name: string;
  mode: Mode;
  by: Doer;
  /** Sleeps while there is nothing. */
  poll: boolean;
  /** Which one, where a peer does it. */
  peer?: PeerKind;
  /** Why it cannot be run here. */
  missing?: string;
}

/** Rules of `filter`; its packets are for the last of them. */
export const RULES = 100;
export const BACKENDS = 16;
/** Hardware addresses of the interfaces. */
export const MACS = {
  g0: '02:00:00:00:01:01',
  d0: '02:00:00:00:01:02',
  d1: '02:00:00:00:01:03',
  s0: '02:00:00:00:01:04',
};
/** Balanced address and port. */
export const VIP = '198.51.100.10';
export const PORT = 9;
export const SOURCES = '198.18.0.0/15';
export const FLOWS = 1024;
export const FRAME_BYTES = 64;
/** What the balancer puts in front of a packet. */
const OUTER_BYTES = 20;
const ETHERNET_BYTES = 14;
/** Packets a second that every case carries: what each of them costs there. */
export const PACED = 300_000;

const LABELS: Record<Own, string> = { kernel: 'XDP', c: 'C', typescript: 'sluice' };
/** Modes that an XDP program of some instructions does as well; txonly and the others have none. */
const IN_KERNEL: ReadonlySet<Mode> = new Set<Mode>(['rxdrop', 'l2fwd', 'forward']);

/** Cases of these modes, in their order; without those that sleep when `brief`, and with peers, also those that are not installed, when `peers`. */
export function ppsCases(modes: ReadonlySet<Mode>, brief: boolean, peers = false): PpsCase[] {
  return MODES.filter((mode) => modes.has(mode)).flatMap((mode) => {
    const all: { by: Own; poll: boolean }[] = [
      { by: 'c', poll: false },
      { by: 'typescript', poll: false },
    ];
    if (IN_KERNEL.has(mode)) all.unshift({ by: 'kernel', poll: false });
    if (!brief && mode !== 'txonly') all.push({ by: 'c', poll: true }, { by: 'typescript', poll: true });
    const own = all.map(({ by, poll }): PpsCase => {
      return { name: `${mode}: ${LABELS[by]}${poll ? ', sleeping' : ''}`, mode, by, poll };
    });
    const others = PEERS.filter((peer) => peers && peer.mode === mode).map((peer): PpsCase => {
      const why = missing(peer);
      return {
        name: `${mode}: ${peer.name}`,
        mode,
        by: 'peer',
        poll: false,
        peer: peer.kind,
        ...(why && { missing: why }),
      };
    });
    return [...own, ...others];
  });
}

/** Interface whose other end gets what the mode sends: d0 leads back to the generator, d1 to the sink. null: nothing leaves. */
export function leavesBy(mode: Mode): 'd0' | 'd1' | null {
  switch (mode) {
    case 'rxdrop':
    case 'filter':
      return null;
    case 'txonly':
    case 'l2fwd':
      return 'd0';
    case 'forward':
    case 'lb':
      return 'd1';
  }
}

/**
 * Bytes that veth counts for a packet that arrives (xdp_bytes): of the frame where that comes from another XDP program, without the Ethernet header where it comes
 * as an skb, which is how AF_XDP sends in copy mode.
 */
export function bytesCounted({ mode, by }: Pick<PpsCase, 'mode' | 'by'>): number {
  if (by === 'kernel' || leavesBy(mode) === null) return FRAME_BYTES;
  return FRAME_BYTES - ETHERNET_BYTES + (mode === 'lb' && by !== 'peer' ? OUTER_BYTES : 0);
}

export function destinationPort(mode: Mode): number {
  return mode === 'filter' ? FIRST_RULE_PORT + RULES - 1 : PORT;
}
