import { MODES, type Mode } from '../../src/bench/modes.js';
import { FIRST_RULE_PORT } from '../../src/bench/tables.js';

/** What does the job: a program in the kernel, the reference in C, `sluice bench`. */
export type Doer = 'kernel' | 'c' | 'typescript';

export interface PpsCase {
  name: string;
  mode: Mode;
  by: Doer;
  /** Sleeps while there is nothing. */
  poll: boolean;
}

/** Rules of `filter`; its packets are for the last of them. */
export const RULES = 100;
export const BACKENDS = 16;
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

const LABELS: Record<Doer, string> = { kernel: 'XDP', c: 'C', typescript: 'sluice' };
/** Modes that an XDP program of some instructions does as well; txonly and the others have none. */
const IN_KERNEL: ReadonlySet<Mode> = new Set<Mode>(['rxdrop', 'l2fwd', 'forward']);

/** Cases of these modes, in their order; without those that sleep when `brief`. */
export function ppsCases(modes: ReadonlySet<Mode>, brief: boolean): PpsCase[] {
  return MODES.filter((mode) => modes.has(mode)).flatMap((mode) => {
    const all: Omit<PpsCase, 'name' | 'mode'>[] = [
      { by: 'c', poll: false },
      { by: 'typescript', poll: false },
    ];
    if (IN_KERNEL.has(mode)) all.unshift({ by: 'kernel', poll: false });
    if (!brief && mode !== 'txonly') all.push({ by: 'c', poll: true }, { by: 'typescript', poll: true });
    return all.map(({ by, poll }) => ({ name: `${mode}: ${LABELS[by]}${poll ? ', sleeping' : ''}`, mode, by, poll }));
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
  return FRAME_BYTES - ETHERNET_BYTES + (mode === 'lb' ? OUTER_BYTES : 0);
}

export function destinationPort(mode: Mode): number {
  return mode === 'filter' ? FIRST_RULE_PORT + RULES - 1 : PORT;
}
