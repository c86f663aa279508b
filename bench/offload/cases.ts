/** What is timed: who balances, which way packets leave, and how many flows they are of. */

/**
 * `xdp`: a program that only swaps the hardware addresses, which is the limit. `auto` and `off`: `sluice run` with flows in the kernel and without. `c`: the balancer
 * of bench/reference/ on AF_XDP. `nat`, `nat-stateless`: nftables, DNAT with conntrack, and the destination written without it.
 */
export type By = 'xdp' | 'auto' | 'off' | 'c' | 'nat' | 'nat-stateless';

/** Out of the interface that packets came in by (XDP_TX), or through, out of another (redirect). */
export type Way = 'back' | 'through';

export interface OffloadCase {
  name: string;
  by: By;
  way: Way;
  /** 0: a case that looks at no flow; it stands for any number. */
  flows: number;
}

/** Services' addresses: backends of the first are behind the interface that packets come in by, those of the second behind the other. */
export const VIPS: Readonly<Record<Way, string>> = { back: '198.51.100.10', through: '198.51.100.11' };
export const PORT = 9;
export const BACKENDS = 16;
/** Of flow i the source is the i-th address: 2^20 of them. */
export const SOURCES = '198.16.0.0/12';
/** Those of flows that nobody has seen before, 2^23 addresses with each source port. */
export const STRANGERS = '20.0.0.0/9';
export const STRANGERS_FLOWS = 2 ** 23;
export const FRAME_BYTES = 64;
/** What IP in IP puts in front of a packet. */
export const OUTER_BYTES = 20;

export const WAYS: readonly Way[] = ['back', 'through'];

const LABELS: Readonly<Record<By, string>> = {
  xdp: 'XDP',
  auto: 'sluice, auto',
  off: 'sluice, off',
  c: 'C on AF_XDP',
  nat: 'nftables, conntrack',
  'nat-stateless': 'nftables, stateless',
};

/** Most flows of the cases other than ours: what conntrack has room for, and where they no longer change anything. */
const OTHERS_FLOWS = 4096;

export function offloadCases(flowCounts: readonly number[]): OffloadCase[] {
  return WAYS.flatMap((way) => {
    const one = (by: By, flows: number): OffloadCase => ({
      name: `${way}${flows > 0 ? `, ${flows.toLocaleString('en')} flows` : ''}: ${by === 'xdp' ? (way === 'back' ? 'XDP_TX' : 'XDP_REDIRECT') : LABELS[by]}`,
      by,
      way,
      flows,
    });
    const rest = flowCounts.flatMap((flows) => {
      const ours = [one('auto', flows), one('off', flows), one('c', flows)];
      return flows > OTHERS_FLOWS ? ours : [...ours, one('nat', flows), one('nat-stateless', flows)];
    });
    return [one('xdp', 0), ...rest];
  });
}
